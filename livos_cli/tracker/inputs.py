"""Frames and masks as callers give them, checked and made tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["frame_tensor", "mask_tensor"]


def frame_tensor(frame: np.ndarray | Tensor, size: tuple[int, int] | None) -> Tensor:
    """A frame as a tensor, where it is.

    Args:
        frame: (H, W, 3) uint8 RGB.
        size: (H, W) of the frames before; None for the first.

    Raises:
        ValueError: another shape, type or size.
    """
    if isinstance(frame, np.ndarray):
        # BGR[..., ::-1] has a stride that torch refuses; it shares no memory that it may not write.
        frame = np.require(frame, requirements=["C", "W"])
    image = torch.as_tensor(frame)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != torch.uint8:
        raise ValueError(f"a frame must be (H, W, 3) uint8, not {tuple(image.shape)} {image.dtype}")
    got = (int(image.shape[0]), int(image.shape[1]))
    if size not in (None, got):
        raise ValueError(f"frame of {got} after frames of {size}")
    return image


def mask_tensor(mask: np.ndarray | Tensor, size: tuple[int, int], device: torch.device) -> Tensor:
    """A mask as (H, W) int64 on a device.

    Args:
        mask: (H, W) integers of any width, or booleans.
        size: (H, W) of its frame.
        device: where it goes.

    Raises:
        ValueError: another shape, or no integers.
    """
    if isinstance(mask, np.ndarray) and mask.dtype.kind in "bui":
        mask = mask.astype(np.int64)  # torch's wide unsigned types lack most operations
    elif isinstance(mask, np.ndarray):
        mask = np.require(mask, requirements=["W"])
    given = torch.as_tensor(mask)
    if given.shape != size or given.is_floating_point():
        raise ValueError(f"a mask must be {size} integers, not {tuple(given.shape)} {given.dtype}")
    return given.to(device, torch.int64)
