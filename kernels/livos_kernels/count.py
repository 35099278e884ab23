"""A frame's key counted, and the norm of its readout, as a Triton kernel."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from livos_kernels.maps import alignment, empty_like, on_device, pixels_of

__all__ = ["count_key"]

COUNT_PIXELS, COUNT_WARPS = 32, 8  # a program


@triton.jit(do_not_specialize=["pixels", "groups", "key_b", "old_b", "old_g", "new_b", "new_g"])
def _count_kernel(
    key, key_b, key_k, key_p,
    old, old_b, old_g, old_k, old_p,
    new, new_b, new_g, new_k, new_p,
    decay, partial,
    pixels, channels, groups,
    HAS_DECAY: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_K: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """New key sum, and a block's part of the norm: the sum of key times the old key sum."""
    b = (tl.program_id(1) // groups).to(tl.int64)
    g = (tl.program_id(1) % groups).to(tl.int64)
    p = (tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P))[:, None]
    k = tl.arange(0, BLOCK_K).to(tl.int64)[None, :]
    inside = (p < pixels) & (k < channels)
    key += tl.multiple_of(b * key_b, ALIGN)
    old += tl.multiple_of(b * old_b + g * old_g, ALIGN)
    new += tl.multiple_of(b * new_b + g * new_g, ALIGN)
    now = tl.load(key + p * key_p + k * key_k, mask=inside, other=0.0).to(tl.float32)
    total = tl.load(old + p * old_p + k * old_k, mask=inside, other=0.0)
    norm = tl.sum(tl.sum(now * total, axis=1), axis=0)
    tl.store(partial + tl.program_id(1).to(tl.int64) * tl.num_programs(0) + tl.program_id(0), norm)
    if HAS_DECAY:
        total = total * tl.load(decay + b)
    tl.store(new + p * new_p + k * new_k, total + now, mask=inside)


def count_key(
    key_BKHW: Tensor, key_sum_BGKHW: Tensor, decay_B: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See `livos_kernels.count_key`."""
    batch, channels = key_BKHW.shape[:2]
    groups = key_sum_BGKHW.shape[1]
    new_sum = empty_like(key_BKHW, tuple(key_sum_BGKHW.shape), torch.float32)
    key, old = pixels_of(key_BKHW), pixels_of(key_sum_BGKHW)
    new = pixels_of(new_sum)
    pixels = key.shape[-1]
    blocks = triton.cdiv(pixels, COUNT_PIXELS)
    partial = torch.empty(batch * groups, blocks, device=key.device)
    decay = partial if decay_B is None else decay_B.float().contiguous()
    with on_device(key):
        _count_kernel[(blocks, batch * groups)](
            key, *key.stride(), old, *old.stride(), new, *new.stride(), decay, partial,
            pixels, channels, groups,
            HAS_DECAY=decay_B is not None, BLOCK_P=COUNT_PIXELS,
            BLOCK_K=max(16, triton.next_power_of_2(channels)), ALIGN=alignment(key, old, new),
            num_warps=COUNT_WARPS,
        )  # fmt: skip
    return partial.sum(dim=1).view(batch, groups), new_sum
