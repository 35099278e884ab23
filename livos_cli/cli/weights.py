"""livos weights: list, download, convert, push, card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from livos_cli.cli.common import Json, Overwrite, human, say, short
from livos_cli.weights.registry import DEFAULT

app = typer.Typer(
    help="List, fetch, convert and publish weights.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("list")
def list_weights(as_json: Json = False) -> None:
    """The weights that have a name: how to get each, its terms of use."""
    from livos_cli.weights.registry import HUB_VARIABLE, REGISTRY

    for name, entry in REGISTRY.items():
        where = "built in"
        if entry.file is None:
            where = f"Hub: {entry.mirror}" if entry.mirror else "Google Drive"
        if as_json:
            told = {"name": name, "where": where, "summary": entry.summary, "terms": entry.terms}
            print(json.dumps(told))
        else:
            say(f"{name:22}{where:16}{entry.terms:32}{entry.summary}")
    if not as_json:
        print(f"\nFiles and Hub repositories work too. {HUB_VARIABLE}=owner/repo sets a mirror.")


@app.command()
def download(
    weights: Annotated[
        str, typer.Argument(metavar="WEIGHTS", help="A name, or owner/repo[@revision][:file].")
    ],
) -> None:
    """Fetch weights into the local cache, and print where they are."""
    from livos_cli.weights.locate import locate

    say(str(locate(weights)))


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A published .pth, or .safetensors.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The .safetensors to write.")],
    size: Annotated[
        Optional[int],
        typer.Option(
            help="Shorter side the weights were trained for. [default: as in the file, or 480]",
            min=16,
            show_default=False,
        ),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store float16.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Import a checkpoint: check it, and write safetensors that carry their configuration."""
    from dataclasses import replace

    from livos_cli.errors import UsageError
    from livos_cli.weights.convert import read_calibration, write_safetensors
    from livos_cli.weights.load import load_checked
    from livos_cli.weights.terms import read_terms

    if target.suffix != ".safetensors":
        raise UsageError(f"{target} does not end in .safetensors", "convert writes only that")
    tensors, config = load_checked(source)
    if size is not None:
        config = replace(config, size=size)
    write_safetensors(
        tensors, config, target, half=half, overwrite=overwrite,
        calibration=read_calibration(source), terms=read_terms(source),
    )  # fmt: skip
    say(f"{short(target)} ({human(target.stat().st_size)})")


@app.command()
def push(
    repo: Annotated[
        str, typer.Argument(metavar="REPO", help="owner/repo on the Hugging Face Hub.")
    ],
    weights: Annotated[str, typer.Option("--weights", "-w", help="What to publish.")] = DEFAULT,
    private: Annotated[
        bool, typer.Option("--private", help="Create the repository private.")
    ] = False,
) -> None:
    """Publish weights with a model card. Needs HF_TOKEN with write access."""
    from livos_cli.weights.publish import push as publish

    say(publish(weights, repo, private=private))


@app.command()
def card(
    weights: Annotated[str, typer.Argument(metavar="WEIGHTS", help="A name or a file.")] = DEFAULT,
) -> None:
    """Print the model card: data and terms, recipe, figures."""
    from livos_cli.weights.publish import card_of

    print(card_of(weights))
