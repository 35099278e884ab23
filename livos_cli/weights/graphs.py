"""Weights as a network that another program than PyTorch runs."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import time
from pathlib import Path

import torch

from livos_cli.errors import LivosError, OutputError, UsageError
from livos_cli.files.cache import cache_folder
from livos_cli.network.inference import to_device
from livos_cli.runtimes.engines import ENGINES, precision_for
from livos_cli.runtimes.export import DESCRIPTION, check_format, export
from livos_cli.runtimes.model import GraphLiVOS
from livos_cli.version import VERSION
from livos_cli.weights.convert import read_calibration
from livos_cli.weights.load import build, read_weights
from livos_cli.weights.locate import sha256_of
from livos_cli.weights.registry import REGISTRY

__all__ = ["kept_graphs", "load_graphs"]

log = logging.getLogger(__name__)

GRAPHS = 2  # how they are made: those of another number are not used
UNFINISHED, DAY = ".making-", 86400.0


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
    precision = precision_for(backend, precision)
    int8 = _int8_of(weights) if precision == "int8" else None
    tensors, config, path = read_weights(weights)
    model = build(tensors, config, path, kind=GraphLiVOS)
    to_device(model, torch.device("cpu"), torch.float32)
    model.calibration = read_calibration(path)
    folder = int8 or kept_graphs(model, path)
    threads = torch.get_num_threads()
    try:
        engine = ENGINES[backend](folder, precision, threads)
    except LivosError:
        raise
    except Exception:  # each runtime has its own types for a file that is damaged
        if int8:
            raise
        log.warning("the graphs in %s cannot be read", folder)
        shutil.rmtree(folder, ignore_errors=True)
        engine = ENGINES[backend](kept_graphs(model, path), precision, threads)
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
    """The folder of the weights' graphs, made once for each version of what makes them.

    Raises:
        UsageError: packages that are missing, or no home to keep them in.
        OutputError: the folder cannot be made.
    """
    name = f"{sha256_of(path)[:16]}-{GRAPHS}-{VERSION}-{torch.__version__}"
    try:
        folder = cache_folder() / "graphs" / name
    except RuntimeError:
        raise UsageError("graphs are kept in ~/.cache, and there is no home", "set HOME") from None
    if (folder / DESCRIPTION).is_file():
        return folder
    check_format("onnx")
    log.warning("making graphs of %s: half a minute, once", path.name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder.parent)
        fresh = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder.parent))
    except OSError as error:
        raise OutputError(
            f"graphs cannot be kept in {folder.parent}: {error.strerror}",
            "set XDG_CACHE_HOME to a folder that can be written to",
        ) from None
    try:
        export(model, fresh, "onnx")
        if not (folder / DESCRIPTION).is_file():  # else another has been faster
            shutil.rmtree(folder, ignore_errors=True)  # what a broken disk has left of it
            with contextlib.suppress(OSError):  # another has been faster by now
                fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _remove_leftovers(folder: Path) -> None:
    """Of runs that were killed a day ago or earlier."""
    for path in folder.glob(f"{UNFINISHED}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > DAY:
                shutil.rmtree(path, ignore_errors=True)
