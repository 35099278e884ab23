"""livos export: the network as graphs for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from livos_cli.cli.common import Json, Overwrite, say, say_terms, short, stderr_console
from livos_cli.errors import OutputError

__all__ = ["export"]

EXAMPLES = """\b
Examples:
  livos export lite graphs
  livos export weights.safetensors graphs --format openvino
  python examples/run_exported.py graphs clip.mp4 first.png out"""


def export(
    weights: Annotated[
        str, typer.Argument(metavar="WEIGHTS", help="As for `livos segment --weights`.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make.")],
    form: Annotated[
        str, typer.Option("--format", metavar="NAME", help="onnx, openvino or torch.")
    ] = "onnx",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write the network's step as three graphs: encode, read, write.

    Any height and width that are multiples of 16, any number of objects, float32. What goes in and
    what comes out is in OUT/livos.json; examples/run_exported.py runs them without livos.
    """
    if out.exists() and not (overwrite and out.is_dir()):
        raise OutputError(f"{out} exists already", "use -y to replace the graphs in it")
    from livos_cli.runtimes.export import check_format, export
    from livos_cli.weights.load import load_located

    check_format(form)
    model, path = load_located(weights, device="cpu", precision="fp32", backend="torch")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: {error.strerror}", "choose another folder") from None
    paths = export(model, out, form)
    say_terms(stderr_console(), weights, path)
    if as_json:
        print(json.dumps({"format": form, "files": [str(path) for path in paths]}))
        return
    for path in paths:
        say(short(path))
