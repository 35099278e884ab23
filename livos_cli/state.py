"""What a tracker's saved state must look like before it is believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

import torch
from torch import Tensor

from livos_cli.framing import padding_of, working_size
from livos_cli.network.model import STRIDE, LiVOS, Memory

__all__ = ["TENSORS", "check_state"]

# Sizes by the letters of `livos_cli.network`; h and w are of the 1/16 grid, X the embedding and its
# area. "network" stands for the network's own precision. What is new in Memory gets a row here.
TENSORS: dict[str, tuple[str, torch.dtype | str]] = {
    "ids": ("N", torch.int64),
    "frame_size": ("2", torch.int64),
    "max_size": ("", torch.int64),
    "memory.state": ("1 N K V", torch.float32),
    "memory.key_sum": ("1 G K h w", torch.float32),
    "memory.group": ("N", torch.int64),
    "memory.sensory": ("1 N S h w", "network"),
    "memory.objects": ("1 N Q X", torch.float32),
    "memory.masks": ("1 N h w", torch.float32),
}
LARGEST = 1 << 16  # pixels of a frame's side


def check_state(state: Mapping[str, Tensor], model: LiVOS, max_size: int) -> None:
    """Compare each tensor with its row.

    Raises:
        ValueError: a tensor is missing, unknown, of another shape or type, or holds what is no
            number; ids are not distinct; or it was taken with other weights or sizes.
    """
    whole = {f"memory.{field.name}" for field in fields(Memory)}
    needed = {name for name in TENSORS if not name.startswith("memory.")}
    if whole & set(state):
        needed |= whole
    if missing := sorted(needed - set(state)):
        raise ValueError(f"{missing[0]} is missing")
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
    row = TENSORS.get(name)
    if row is not None:
        want = tuple(sizes[letter] if letter in sizes else int(letter) for letter in row[0].split())
        dtype = network if row[1] == "network" else row[1]
        if tuple(tensor.shape) != want or tensor.dtype != dtype:
            raise ValueError(
                f"{name} ({tuple(tensor.shape)}, {tensor.dtype}) was taken with other weights or "
                f"precision than these ({want}, {dtype})"
            )
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        raise ValueError(f"{name} holds what is no number")
