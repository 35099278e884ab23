"""Weights as a network that another program than PyTorch runs."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from pathlib import Path

import torch

from livos_cli.device import fast_bfloat16
from livos_cli.errors import UsageError
from livos_cli.files.cache import cache_folder
from livos_cli.network.inference import to_device
from livos_cli.runtimes.engines import ENGINES
from livos_cli.runtimes.export import DESCRIPTION, check_format, export
from livos_cli.runtimes.model import GraphLiVOS
from livos_cli.version import VERSION
from livos_cli.weights.convert import read_calibration
from livos_cli.weights.load import build, read_weights
from livos_cli.weights.locate import sha256_of
from livos_cli.weights.registry import REGISTRY

__all__ = ["kept_graphs", "load_graphs"]

log = logging.getLogger(__name__)


def load_graphs(weights: str | Path, precision: str, backend: str) -> tuple[GraphLiVOS, Path]:
    """Like `weights.load.load_located`, for the CPU.

    Args:
        weights: as for `load_model`.
        precision: auto, fp32, bf16 (OpenVINO alone) or int8 (weights that have it).
        backend: a key of `ENGINES`.

    Raises:
        WeightsError: as `load_model`.
        UsageError: a precision that is not to be had, or packages that are missing.
    """
    if precision == "auto":
        precision = "bf16" if backend == "openvino" and fast_bfloat16() else "fp32"
    ENGINES[backend].check(precision)
    tensors, config, path = read_weights(weights)
    model = build(tensors, config, path, kind=GraphLiVOS)
    to_device(model, torch.device("cpu"), torch.float32)
    model.calibration = read_calibration(path)
    folder = _int8_of(weights) if precision == "int8" else kept_graphs(model, path)
    engine = ENGINES[backend](folder, precision, torch.get_num_threads())
    model.attach(engine, f"{precision}, {backend}")
    return model, path


def _int8_of(weights: str | Path) -> Path:
    entry = REGISTRY.get(str(weights))
    if entry is None or entry.int8 is None:
        there = [name for name, one in REGISTRY.items() if one.int8]
        raise UsageError(
            f"{weights} has no int8 form; {', '.join(there)} has", "use --precision auto"
        )
    return entry.int8


def kept_graphs(model: GraphLiVOS, path: Path) -> Path:
    """The folder of the weights' graphs, made once for each version of what makes them."""
    name = f"{sha256_of(path)[:16]}-{VERSION}-{torch.__version__}"
    try:
        folder = cache_folder() / "graphs" / name
    except RuntimeError:
        raise UsageError("graphs are kept in ~/.cache, and there is no home", "set HOME") from None
    if (folder / DESCRIPTION).is_file():
        return folder
    check_format("onnx")
    log.warning("making graphs of %s: half a minute, once", path.name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
    try:
        export(model, fresh, "onnx")
        with contextlib.suppress(OSError):  # another has been faster
            fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder
