"""From weights to a network ready to run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from livos_cli.device import give_back_memory, resolve_device, resolve_precision
from livos_cli.errors import UsageError, WeightsError
from livos_cli.network.config import LiVOSConfig
from livos_cli.network.inference import to_device
from livos_cli.network.livos import LiVOS
from livos_cli.options import BACKENDS
from livos_cli.weights.convert import (
    check_shapes,
    read_calibration,
    read_checkpoint,
    shapes_of,
)
from livos_cli.weights.locate import locate
from livos_cli.weights.registry import DEFAULT, REGISTRY

__all__ = [
    "backend_of",
    "build",
    "load_checked",
    "load_located",
    "load_model",
    "read_weights",
]


# How PyTorch says that tensors are not those of a network.
_MISFITS = ("size mismatch", "Missing key", "Unexpected key")

Network = TypeVar("Network", bound=LiVOS)


def read_weights(weights: str | Path) -> tuple[dict[str, torch.Tensor], LiVOSConfig, Path]:
    """Tensors and configuration of some weights, and the file they came from."""
    path = locate(weights)
    tensors, config = read_checkpoint(path)
    entry = REGISTRY.get(str(weights))
    if entry is not None and entry.size is not None:
        config = replace(config, size=entry.size)
    return tensors, config, path


def build(
    tensors: dict[str, torch.Tensor], config: LiVOSConfig, path: Path, kind: type[Network]
) -> Network:
    """A float32 network with these weights; strictly: nothing missing, nothing left over."""
    there = {name: tensor.shape for name, tensor in tensors.items()}
    check_shapes(there, shapes_of(config), path)
    model = kind(config)
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        if not any(said in str(error) for said in _MISFITS):
            raise  # PyTorch itself does not work here
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise WeightsError(
            f"{path} does not fit its own configuration ({lines[0][:160] if lines else error})",
            "the file is damaged or of another network",
        ) from None
    return model


def load_checked(path: Path) -> tuple[dict[str, torch.Tensor], LiVOSConfig]:
    """Read a checkpoint file and make sure that a network of its configuration takes it."""
    tensors, config = read_checkpoint(path)
    build(tensors, config, path, LiVOS)
    return tensors, config


def load_model(
    weights: str | Path = DEFAULT,
    *,
    device: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
) -> LiVOS:
    """Load a network, ready for `Tracker`.

    Args:
        weights: a name (`livos weights list`), a path to `.safetensors` or `.pth`, or
            `owner/repo[@revision][:file]` on the Hugging Face Hub.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, fp32, fp16, bf16 or int8. Memories stay float32 whatever it is.
        backend: what computes the frames: auto, torch, onnxruntime or openvino; the last two on
            the CPU. auto: onnxruntime for int8, else torch.

    Returns:
        A network to run, not to train or save: its batch norm has been folded into its
        convolutions.

    Raises:
        WeightsError: the weights cannot be found, fetched, read or trusted.
        UsageError: a device or precision that is not to be had here.

    Examples:
        >>> from livos_cli import load_model
        >>> load_model("lite", device="cpu", precision="fp32").dtype
        torch.float32
    """
    return load_located(weights, device=device, precision=precision, backend=backend)[0]


def load_located(
    weights: str | Path, *, device: str = "auto", precision: str = "auto", backend: str = "auto"
) -> tuple[LiVOS, Path]:
    """Like `load_model`; also the file that the weights came from."""
    if (chosen := backend_of(backend, device, precision)) != "torch":
        from livos_cli.weights.graphs import load_graphs

        return load_graphs(weights, precision, chosen)
    target = resolve_device(device)
    dtype = resolve_precision(precision, target)
    tensors, config, path = read_weights(weights)
    model = to_device(build(tensors, config, path, LiVOS), target, dtype)
    model.calibration = read_calibration(path)
    del tensors
    give_back_memory(target)  # of the copies on the way
    return model, path


def backend_of(name: str, device: str, precision: str) -> str:
    """What computes the frames. Raises UsageError for what does not go together."""
    if name not in BACKENDS:
        raise UsageError(f"unknown backend '{name}'", f"--backend takes {', '.join(BACKENDS)}")
    if name == "auto":
        name = "onnxruntime" if precision == "int8" else "torch"
    if name == "torch" and precision == "int8":
        raise UsageError("PyTorch does not compute in int8 here", "use --backend onnxruntime")
    if name != "torch" and device not in ("auto", "cpu"):
        raise UsageError(f"{name} computes on the CPU", "use --device cpu, or --backend torch")
    return name
