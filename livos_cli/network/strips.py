"""Horizontal strips of a frame: the same result in less memory.

A convolution's result at a row depends on few rows around it. So a stage may run on some rows at
a time, if each strip brings along, as its halo, the rows that its own reach into; what was
computed for the halo is thrown away. Zero padding stays where the frame ends, and only there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from livos_cli.network.config import LITE0, LiVOSConfig

__all__ = ["DECODER_HALO", "Strip", "encoder_halo", "in_strips", "mask_encoder_halo", "split"]

STRIDE = 16  # frame sizes are multiples of it; strips are counted in rows of the 1/16 grid
# The decoder's reach, from fine to coarse: two 3x3 convolutions at 1/4 and the bilinear doubling
# make 2 rows of 1/8; two more and a doubling again make 3 of 1/16.
DECODER_HALO = 3
# EfficientNet-Lite0, in pixels: 2 + 2 to 1/2, 4 + 4 to 1/4, 12 + 16 to 1/8, 16 + 32 to 1/16, and
# its three 5x5 convolutions there 96: 184; and the key's 3x3 convolution 16.
LITE0_HALO = 13


@dataclass(frozen=True)
class Strip:
    """Rows of the 1/16 grid: [top, bottom) are wanted, [first, last) are computed."""

    top: int
    bottom: int
    first: int
    last: int

    def take(self, map_: Tensor, scale: int = 1) -> Tensor:
        """The rows to compute of a map (..., scale * h, w); a view."""
        return map_[..., self.first * scale : self.last * scale, :]

    def keep(self, map_: Tensor, scale: int = 1) -> Tensor:
        """The wanted rows of what was computed, (..., scale * (last - first), w); a view."""
        start = (self.top - self.first) * scale
        return map_[..., start : start + (self.bottom - self.top) * scale, :]


def split(height: int, rows: int, halo: int) -> Iterator[Strip]:
    """Strips of at most `rows` of `height` rows; 0 rows: all in one."""
    rows = rows or height
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        yield Strip(top, bottom, max(0, top - halo), min(height, bottom + halo))


def in_strips(
    function: Callable[[Strip], tuple[Tensor, ...]], height: int, rows: int, halo: int
) -> tuple[Tensor, ...]:
    """Run a stage strip by strip and join what it gives.

    Args:
        function: from a strip to maps (B, C, scale * (bottom - top), w), each with its own scale.
        height: of the 1/16 grid.
        rows: of that grid, wanted at a time; 0 for all, which copies nothing.
        halo: rows of that grid that the stage reaches beyond those wanted.
    """
    if not rows or rows >= height:
        return function(Strip(0, height, 0, height))
    joined: list[Tensor] = []
    for strip in split(height, rows, halo):
        parts = function(strip)
        wanted = strip.bottom - strip.top
        if not joined:
            joined = [_enlarge(part, height * part.shape[2] // wanted) for part in parts]
        for whole, part in zip(joined, parts, strict=True):
            scale = part.shape[2] // wanted
            whole[:, :, strip.top * scale : strip.bottom * scale] = part
        del parts, part  # before the next strip is computed, not after
    return tuple(joined)


def _enlarge(part: Tensor, height: int) -> Tensor:
    batch, channels, _, width = part.shape
    last = part.stride(1) == 1 and channels > 1
    return torch.empty(
        (batch, channels, height, width),
        dtype=part.dtype,
        device=part.device,
        memory_format=torch.channels_last if last else torch.contiguous_format,
    )


def encoder_halo(config: LiVOSConfig) -> int:
    """Rows of 1/16 that image features reach beyond their own.

    10 for ResNet-50: 133 pixels for its features, one row for the key's 3x3 convolution.
    """
    if config.image_block == LITE0:
        return LITE0_HALO
    convolutions = 2 if config.image_block == "basic" else 1
    return _halo(config.image_depths, convolutions, 1)


def mask_encoder_halo(config: LiVOSConfig) -> int:
    """Rows of 1/16 that the value's features reach beyond their own."""
    return _halo(config.mask_depths, 2, 0)


def _halo(depths: tuple[int, int, int], convolutions: int, after: int) -> int:
    """Args: convolutions: 3x3 ones in a block; after: 3x3 ones at 1/16 behind the encoder."""
    reach = 3 + 2  # the 7x7 convolution of the frame, 3x3 pooling of its half
    stride = 4
    for stage, depth in enumerate(depths):
        blocks = depth
        if stage > 0:  # the first block halves: its first 3x3 convolution reads the finer map
            reach += stride
            stride *= 2
            reach += (convolutions - 1) * stride
            blocks -= 1
        reach += blocks * convolutions * stride
    return -(-(reach + after * STRIDE) // STRIDE)
