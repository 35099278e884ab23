"""What the kernels share: maps as rows of pixels."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import triton
from torch import Tensor

__all__ = ["DOT", "alignment", "empty_like", "interpreted", "on_device", "pixels_of"]

# Products of float32 on tensor cores, as three of TF32: as precise as float32 to its last bits.
DOT = "tf32x3"


@triton.jit
def _nothing():
    pass


def interpreted() -> bool:
    """Whether the kernels run in Triton's interpreter, which needs no GPU."""
    return not isinstance(_nothing, triton.JITFunction)


def on_device(tensor: Tensor) -> AbstractContextManager[object]:
    """Launches inside go to the tensor's device."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def pixels_of(map_: Tensor) -> Tensor:
    """(..., h, w) with any strides -> (..., P); a copy only where rows do not follow each other."""
    if map_.shape[-1] > 1 and map_.shape[-2] > 1:
        joined = map_.stride(-2) == map_.stride(-1) * map_.shape[-1]
    else:
        joined = map_.shape[-1] == 1 or map_.shape[-2] == 1
    if not joined:
        map_ = map_.contiguous()
    if map_.shape[-1] == 1:  # then the stride between rows is that between pixels
        return map_[..., 0]
    if map_.shape[-2] == 1:
        return map_[..., 0, :]
    size, stride = map_.shape[:-2], map_.stride()[:-2]
    return map_.as_strided(
        (*size, map_.shape[-2] * map_.shape[-1]), (*stride, map_.stride(-1)), map_.storage_offset()
    )


def alignment(*maps: Tensor) -> int:
    """What all steps from image to image and from object to object are multiples of: 8 or 1.

    Triton loads several values at once where it knows that their address allows it. Of strides
    that are not specialised it knows nothing, so the kernels are told.

    Args:
        maps: (..., C, P), from `pixels_of`.
    """
    return 8 if all(step % 8 == 0 for map_ in maps for step in map_.stride()[:-2]) else 1


def empty_like(map_: Tensor, size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An empty (B, X, C, h, w), channels-last if `map_`, (..., C', h, w), is."""
    channels_last = map_.stride(-3) == 1 and map_.shape[-3] > 1
    if not channels_last:
        return torch.empty(size, dtype=dtype, device=map_.device)
    *outer, channels, height, width = size
    empty = torch.empty((*outer, height, width, channels), dtype=dtype, device=map_.device)
    return empty.movedim(-1, -3)
