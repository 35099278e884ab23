"""Each object's state read at every pixel, as Triton kernels."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from livos_kernels.maps import DOT, empty_like, on_device, pixels_of, softmax_key

__all__ = ["read_state"]

COUNT_PIXELS = 128  # pixels a program of the key sum
READ_PIXELS = 64  # pixels a product of the readout
READ_LOOPS = 4  # products a program, so that the state is fetched once for all of them
READ_VALUES = 64  # value channels a program of the readout
NORM_BLOCK = 1024  # partial norms added at a time


@triton.jit
def _count_kernel(
    key, key_b, key_k, key_p,
    old, old_b, old_g, old_k, old_p,
    new, new_b, new_g, new_k, new_p,
    decay, partial,
    pixels, channels, groups,
    HAS_DECAY: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """New key sum, and a block's part of the norm: the sum of key times the old key sum."""
    block = tl.program_id(0)
    b = (tl.program_id(1) // groups).to(tl.int64)
    g = (tl.program_id(1) % groups).to(tl.int64)
    offs_p = block.to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    offs_k = tl.arange(0, BLOCK_K).to(tl.int64)
    inside = (offs_p[:, None] < pixels) & (offs_k[None, :] < channels)
    soft = softmax_key(key + b * key_b, offs_p, offs_k, key_k, key_p, pixels, channels)
    total = tl.load(
        old + b * old_b + g * old_g + offs_p[:, None] * old_p + offs_k[None, :] * old_k,
        mask=inside,
        other=0.0,
    )
    norm = tl.sum(tl.sum(soft * total, axis=1), axis=0)
    tl.store(partial + tl.program_id(1).to(tl.int64) * tl.num_programs(0) + block, norm)
    if HAS_DECAY:
        total = total * tl.load(decay + b)
    tl.store(
        new + b * new_b + g * new_g + offs_p[:, None] * new_p + offs_k[None, :] * new_k,
        total + soft,
        mask=inside,
    )


@triton.jit
def _read_kernel(
    key, key_b, key_k, key_p,
    state, group, partial, partials,
    out, out_b, out_n, out_v, out_p,
    pixels, channels, values, objects, groups,
    BLOCK_P: tl.constexpr, LOOPS: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
    NORM: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Readout of some pixels and value channels of one object."""
    b = (tl.program_id(2) // objects).to(tl.int64)
    n = (tl.program_id(2) % objects).to(tl.int64)
    g = tl.load(group + n)
    norms = tl.zeros([NORM], dtype=tl.float32)
    for start in range(0, partials, NORM):
        offs = start + tl.arange(0, NORM)
        norms += tl.load(
            partial + (b * groups + g) * partials + offs, mask=offs < partials, other=0.0
        )
    norm = tl.sum(norms, axis=0)
    offs_k = tl.arange(0, BLOCK_K).to(tl.int64)
    offs_v = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V).to(tl.int64)
    memory = tl.load(
        state + ((b * objects + n) * channels + offs_k[:, None]) * values + offs_v[None, :],
        mask=(offs_k[:, None] < channels) & (offs_v[None, :] < values),
        other=0.0,
    )
    memory = memory / norm
    first = tl.program_id(0).to(tl.int64) * BLOCK_P * LOOPS
    for loop in range(LOOPS):
        offs_p = first + loop * BLOCK_P + tl.arange(0, BLOCK_P)
        soft = softmax_key(key + b * key_b, offs_p, offs_k, key_k, key_p, pixels, channels)
        tl.store(
            out + b * out_b + n * out_n + offs_p[:, None] * out_p + offs_v[None, :] * out_v,
            tl.dot(soft, memory, input_precision=DOT).to(out.dtype.element_ty),
            mask=(offs_p[:, None] < pixels) & (offs_v[None, :] < values),
        )


def read_state(
    key_BKHW: Tensor,
    state_BNKV: Tensor,
    key_sum_BGKHW: Tensor,
    group_N: Tensor,
    decay_B: Tensor | None,
    dtype: torch.dtype,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """See `livos_kernels.read_state`. `out` takes the new key sum and may be the old one."""
    batch, channels, height, width = key_BKHW.shape
    objects, values = state_BNKV.shape[1], state_BNKV.shape[3]
    groups, pixels = key_sum_BGKHW.shape[1], height * width
    new_sum = (
        empty_like(key_BKHW, tuple(key_sum_BGKHW.shape), torch.float32) if out is None else out
    )
    readout = empty_like(key_BKHW, (batch, objects, values, height, width), dtype)
    key, old = pixels_of(key_BKHW), pixels_of(key_sum_BGKHW)
    new, read = pixels_of(new_sum, written=True), pixels_of(readout, written=True)
    blocks = triton.cdiv(pixels, COUNT_PIXELS)
    partial = torch.empty(batch * groups, blocks, device=key.device)
    decay = partial if decay_B is None else decay_B.float().contiguous()
    block_k = max(16, triton.next_power_of_2(channels))
    with on_device(key):
        _count_kernel[(blocks, batch * groups)](
            key, *key.stride(), old, *old.stride(), new, *new.stride(), decay, partial,
            pixels, channels, groups,
            HAS_DECAY=decay_B is not None, BLOCK_P=COUNT_PIXELS, BLOCK_K=block_k, num_warps=8,
        )  # fmt: skip
        grid = (
            triton.cdiv(pixels, READ_PIXELS * READ_LOOPS),
            triton.cdiv(values, READ_VALUES),
            batch * objects,
        )
        _read_kernel[grid](
            key, *key.stride(), state_BNKV.contiguous(), group_N, partial, blocks,
            read, *read.stride(), pixels, channels, values, objects, groups,
            BLOCK_P=READ_PIXELS, LOOPS=READ_LOOPS, BLOCK_K=block_k, BLOCK_V=READ_VALUES,
            NORM=NORM_BLOCK, DOT=DOT, num_warps=4, num_stages=2,
        )  # fmt: skip
    return readout, new_sum
