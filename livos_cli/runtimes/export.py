"""The network as three graphs in files: ONNX, OpenVINO's or PyTorch's own format."""

from __future__ import annotations

import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from livos_cli.errors import UsageError
from livos_cli.extras import install_hint
from livos_cli.files.atomic import write_whole
from livos_cli.network.exporting import exporting
from livos_cli.network.livos import LiVOS
from livos_cli.runtimes.steps import STEPS, Step, examples

__all__ = ["DESCRIPTION", "FORMATS", "OPSET", "check_format", "export"]

OPSET = 20  # of ONNX
DESCRIPTION = "livos.json"


def export(model: LiVOS, folder: Path, form: str) -> list[Path]:
    """Write encode, read and write, and what their inputs and outputs are.

    Args:
        model: from `load_model`, float32 on the CPU.
        folder: is there; files of the same names in it are replaced.
        form: one of `FORMATS`.

    Returns:
        The files, those to open first.

    Raises:
        UsageError: another format, or packages that are missing.
        OutputError: a file that cannot be written.
    """
    check_format(form)
    model = model.eval().requires_grad_(False)
    given = examples(model)
    written = []
    for step, kind in STEPS:
        shapes = tuple(_dynamic(dims) for dims in step.inputs.values())
        with torch.no_grad(), exporting(), _quietly():
            program = torch.export.export(
                kind(model), given[step.name], dynamic_shapes=shapes, strict=False
            )
            written += FORMATS[form](program, step, folder)
    path = folder / DESCRIPTION
    write_whole(path, json.dumps(_description(model, form), indent=1).encode())
    return [*written, path]


def check_format(form: str) -> None:
    """Raise UsageError for another format, or one whose packages are missing, before any work."""
    if form not in FORMATS:
        raise UsageError(f"unknown format '{form}'", f"--format takes {', '.join(FORMATS)}")
    needs = {"onnx": ("onnx", "onnxscript"), "openvino": ("onnx", "onnxscript", "openvino")}
    missing = [name for name in needs.get(form, ()) if find_spec(name) is None]
    if missing:
        extra = "openvino" if form == "openvino" else "export"
        raise UsageError(
            f"--format {form} needs the extra '{extra}' ({', '.join(missing)})", install_hint(extra)
        )


def _dynamic(dims: str) -> dict[int, Dim] | None:
    found = {axis: Dim.DYNAMIC for axis, letter in enumerate(dims) if letter != "."}
    return found or None


def _description(model: LiVOS, form: str) -> dict[str, object]:
    config = model.config
    return {
        "format": form,
        "opset": OPSET if form == "onnx" else None,
        "steps": {
            step.name: {"inputs": list(step.inputs), "outputs": list(step.outputs)}
            for step, _ in STEPS
        },
        "size": config.size,
        "normaliser": config.normaliser,
        "key": config.key,
        "value": config.value,
        "sensory": config.sensory,
        "queries": config.queries,
        "embed": config.embed,
    }


@contextmanager
def _quietly() -> Iterator[None]:
    """Exporters talk of their progress and of packages that nobody asked for."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export")]
    before = [logger.level for logger in loggers]
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)


def _onnx_bytes(program: ExportedProgram, step: Step) -> bytes:
    graph = torch.onnx.export(
        program,
        input_names=list(step.inputs),
        output_names=list(step.outputs),
        opset_version=OPSET,
        dynamo=True,
        optimize=False,  # fails on `read` (onnxscript 0.7.2); runtimes do it when they load
        verbose=False,
    )
    assert graph is not None
    proto = graph.model_proto
    for node in proto.graph.node:
        node.ClearField("metadata_props")  # where in which file it was made
    data: bytes = proto.SerializeToString()
    return data


def _to_onnx(program: ExportedProgram, step: Step, folder: Path) -> list[Path]:
    path = folder / f"{step.name}.onnx"
    write_whole(path, _onnx_bytes(program, step))
    return [path]


def _to_openvino(program: ExportedProgram, step: Step, folder: Path) -> list[Path]:
    import openvino

    graph = openvino.Core().read_model(_onnx_bytes(program, step), b"")
    paths = []
    with tempfile.TemporaryDirectory(prefix="livos-") as there:
        openvino.save_model(graph, Path(there) / f"{step.name}.xml", compress_to_fp16=False)
        for ending in ("xml", "bin"):
            paths.append(folder / f"{step.name}.{ending}")
            write_whole(paths[-1], (Path(there) / paths[-1].name).read_bytes())
    return paths


def _to_torch(program: ExportedProgram, step: Step, folder: Path) -> list[Path]:
    data = io.BytesIO()
    torch.export.save(program, data)
    path = folder / f"{step.name}.pt2"
    write_whole(path, data.getvalue())
    return [path]


FORMATS: dict[str, Callable[[ExportedProgram, Step, Path], list[Path]]] = {
    "onnx": _to_onnx,
    "openvino": _to_openvino,
    "torch": _to_torch,
}
