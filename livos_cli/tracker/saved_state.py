"""A tracker's saved state: its memory as tensors, and what it must look like to be believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from livos_cli.network.livos import STRIDE, LiVOS, Memory
from livos_cli.tracker.certainty import COLOURS
from livos_cli.tracker.resize import padding_of, working_size

__all__ = ["TENSORS", "Row", "check_state", "load_memory", "save_memory"]


@dataclass(frozen=True)
class Row:
    """What a tensor must be like."""

    shape: str  # sizes, or letters for them
    dtype: torch.dtype | None  # None: the network's own precision
    finite: bool = True  # no infinities, and nothing that is no number


# Sizes by the letters of `livos_cli.network`; h and w are of the 1/16 grid, X is an embedding and
# its area. What is before the stop is a group: all of it is there, or none. Whoever
# adds to a state adds a row.
TENSORS = {
    "ids": Row("N", torch.int64),
    "frame_size": Row("2", torch.int64),
    "max_size": Row("", torch.int64),
    "memory.state": Row("1 N K V", torch.float32),
    "memory.key_sum": Row("1 G K h w", torch.float32),
    "memory.group": Row("N", torch.int64),
    "memory.sensory": Row("1 N S h w", None),
    "memory.objects": Row("1 N Q X", torch.float32),
    "memory.masks": Row("1 N h w", torch.float32),
    "memory.given_state": Row("1 N K V", torch.float32),
    "memory.given_key_sum": Row("1 G K h w", torch.float32),
    "certainty.colours": Row(
        f"N {COLOURS}", torch.float32, finite=False
    ),  # of some nothing is known
    "certainty.means": Row("N 2", torch.float64),
}
LARGEST = 1 << 16  # pixels of a frame's side


def save_memory(memory: Memory) -> dict[str, Tensor]:
    """The memory's tensors by the names of `TENSORS`, copies on the CPU."""
    saved = {}
    for field in fields(Memory):
        tensor: Tensor = getattr(memory, field.name)
        saved[f"memory.{field.name}"] = tensor.detach().to("cpu", copy=True).contiguous()
    return saved


def load_memory(state: Mapping[str, Tensor], model: LiVOS) -> Memory | None:
    """The memory that a checked state holds, on the model's device; None if it holds none."""
    if "memory.state" not in state:
        return None
    parts: dict[str, Any] = {
        field.name: state[f"memory.{field.name}"].to(model.device, copy=True)
        for field in fields(Memory)
    }
    # As the network lays it out, so that what follows has the same bits.
    parts["sensory"] = model.lay_out(parts["sensory"])
    return Memory(**parts)


def check_state(state: Mapping[str, Tensor], model: LiVOS, max_size: int) -> None:
    """Compare each tensor with its row.

    Raises:
        ValueError: a tensor is missing, unknown, of another shape or type, or holds what is no
            number; ids are not distinct; or it was taken with other weights or sizes.
    """
    groups = {_group(name) for name in state} | {""}
    needed = {name for name in TENSORS if _group(name) in groups}
    whole = {name for name in TENSORS if _group(name) == "memory"}
    if missing := sorted(needed - set(state)):
        raise ValueError(f"{missing[0]} is missing: another version of livos may have taken it")
    if unknown := sorted(set(state) - needed):
        raise ValueError(f"{unknown[0]} is unknown")
    for name in ("max_size", "frame_size", "ids"):
        _check_tensor(name, state[name], {"N": state["ids"].numel()}, model.dtype)
    if int(state["max_size"]) != max_size:
        raise ValueError(
            f"the state was taken at max_size {int(state['max_size'])}, not {max_size}"
        )
    ids = state["ids"].tolist()
    if len(set(ids)) != len(ids) or 0 in ids:
        raise ValueError("its ids are not those of objects")
    height, width = state["frame_size"].tolist()
    if not (0 <= height <= LARGEST and 0 <= width <= LARGEST and bool(height) == bool(width)):
        raise ValueError(f"frames of {width}x{height}")
    if bool(ids) != bool(whole & set(state)) or (ids and not height):
        raise ValueError("its objects and its memory do not belong together")
    if ids:
        _check_memory(state, model, working_size(height, width, max_size))


def _group(name: str) -> str:
    return name.rpartition(".")[0]


def _check_memory(state: Mapping[str, Tensor], model: LiVOS, size: tuple[int, int]) -> None:
    config = model.config
    left, right, top, bottom = padding_of(*size)
    key_sum = state["memory.key_sum"]
    groups = key_sum.shape[1] if key_sum.ndim > 1 else 0
    sizes = {
        "N": state["ids"].numel(),
        "G": groups,
        "K": config.key,
        "V": config.value,
        "S": config.sensory,
        "Q": config.queries,
        "X": config.embed + 1,
        "h": (size[0] + top + bottom) // STRIDE,
        "w": (size[1] + left + right) // STRIDE,
    }
    for name in state:
        _check_tensor(name, state[name], sizes, model.dtype)
    group = state["memory.group"]
    if not 0 <= int(group.min()) <= int(group.max()) < groups:
        raise ValueError("memory.group points to no key sum")


def _check_tensor(
    name: str, tensor: Tensor, sizes: Mapping[str, int], network: torch.dtype
) -> None:
    row = TENSORS[name]
    letters = row.shape.split()
    want = tuple(sizes.get(one, one) for one in letters)
    dtype = network if row.dtype is None else row.dtype
    fits = len(letters) == tensor.ndim and all(
        str(size) == str(wanted) for size, wanted in zip(tensor.shape, want, strict=True)
    )
    if not fits or tensor.dtype != dtype:
        shown = ", ".join(map(str, want))
        raise ValueError(
            f"{name} ({tuple(tensor.shape)}, {tensor.dtype}) was taken with other weights or "
            f"precision than these (({shown}), {dtype})"
        )
    if row.finite and tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        raise ValueError(f"{name} holds what is not a number")
