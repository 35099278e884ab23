"""Log-odds made into masks, as a Triton kernel."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from livos_kernels.maps import on_device

__all__ = ["decide_masks"]

DECIDE_COLUMNS = 512  # four neighbours a thread, whose results are stored at once


@triton.jit
def _enlarged(source, top, bottom, left, right, share_y, share_x, inside):
    """Bilinear mean of four neighbours."""
    a = tl.load(source + top + left, mask=inside, other=0.0)
    b = tl.load(source + top + right, mask=inside, other=0.0)
    c = tl.load(source + bottom + left, mask=inside, other=0.0)
    d = tl.load(source + bottom + right, mask=inside, other=0.0)
    upper = a * (1.0 - share_x) + b * share_x
    lower = c * (1.0 - share_x) + d * share_x
    return upper * (1.0 - share_y) + lower * share_y


@triton.jit(do_not_specialize=["channels", "rows", "columns", "odds_b", "odds_m", "odds_y"])
def _decide_kernel(
    odds, odds_b, odds_m, odds_y, odds_x,
    soft, decided,
    channels, rows, columns,
    SCALE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Some columns of one row of the frame: upsample every channel twice, keep none."""
    blocks = tl.cdiv(columns * SCALE, BLOCK)
    y = tl.program_id(0) // blocks
    x = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1).to(tl.int64)
    width = columns * SCALE
    height = rows * SCALE
    inside = x < width
    # Bilinear, align_corners False: the centre of output i is at (i + 0.5) / SCALE - 0.5.
    from_y = tl.maximum((y + 0.5) / SCALE - 0.5, 0.0)
    from_x = tl.maximum((x.to(tl.float32) + 0.5) / SCALE - 0.5, 0.0)
    top = tl.minimum(from_y.to(tl.int32), rows - 1)
    left = tl.minimum(from_x.to(tl.int32), columns - 1)
    share_y = from_y - top.to(tl.float32)
    share_x = from_x - left.to(tl.float32)
    bottom = tl.minimum(top + 1, rows - 1).to(tl.int64) * odds_y
    right = tl.minimum(left + 1, columns - 1).to(tl.int64) * odds_x
    top = top.to(tl.int64) * odds_y
    left = left.to(tl.int64) * odds_x
    largest = tl.full([BLOCK], -float("inf"), dtype=tl.float32)
    best = tl.zeros([BLOCK], dtype=tl.int32)
    total = tl.zeros([BLOCK], dtype=tl.float32)
    source = odds + b * odds_b
    for channel in range(channels):
        value = _enlarged(source, top, bottom, left, right, share_y, share_x, inside)
        best = tl.where(value > largest, channel, best)
        now = tl.maximum(largest, value)
        total = total * tl.exp(largest - now) + tl.exp(value - now)
        largest = now
        source += odds_m
    pixel = y.to(tl.int64) * width + x
    size = height.to(tl.int64) * width
    tl.store(decided + b * size + pixel, best.to(tl.uint8), mask=inside)
    source = odds + b * odds_b
    soft += b * (channels - 1) * size
    for _ in range(1, channels):
        source += odds_m
        value = _enlarged(source, top, bottom, left, right, share_y, share_x, inside)
        tl.store(
            soft + pixel,
            (tl.exp(value - largest) / total).to(soft.dtype.element_ty),
            mask=inside,
        )
        soft += size


def decide_masks(log_odds_BMHW: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """See `livos_kernels.decide_masks`."""
    batch, channels, rows, columns = log_odds_BMHW.shape
    height, width = rows * 4, columns * 4
    device = log_odds_BMHW.device
    soft = torch.empty(batch, channels - 1, height, width, dtype=dtype, device=device)
    decided = torch.empty(batch, height, width, dtype=torch.uint8, device=device)
    with on_device(log_odds_BMHW):
        _decide_kernel[(height * triton.cdiv(width, DECIDE_COLUMNS), batch)](
            log_odds_BMHW, *log_odds_BMHW.stride(), soft, decided,
            channels, rows, columns,
            SCALE=4, BLOCK=DECIDE_COLUMNS, num_warps=4,
        )  # fmt: skip
    return soft, decided
