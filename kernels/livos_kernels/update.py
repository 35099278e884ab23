"""The state updated by a frame, as Triton kernels."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from livos_kernels.maps import DOT, on_device, pixels_of, softmax_key

__all__ = ["update_state"]

UPDATE_PIXELS = 64  # pixels a product of the update
UPDATE_LOOPS = 8  # products a program of the update: each leaves a partial sum of K x V
UPDATE_VALUES = 64  # value channels a program of the update
REDUCE = 1024  # values a program of the update's second launch


@triton.jit
def _update_kernel(
    key, key_b, key_k, key_p,
    value, value_b, value_n, value_v, value_p,
    partial,
    pixels, channels, values, objects,
    BLOCK_P: tl.constexpr, LOOPS: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr,
    DOT: tl.constexpr,
):  # fmt: skip
    """Sum of key value^T over some pixels and value channels of one object."""
    b = (tl.program_id(2) // objects).to(tl.int64)
    n = (tl.program_id(2) % objects).to(tl.int64)
    offs_k = tl.arange(0, BLOCK_K).to(tl.int64)
    offs_v = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V).to(tl.int64)
    first = tl.program_id(0).to(tl.int64) * BLOCK_P * LOOPS
    added = tl.zeros([BLOCK_K, BLOCK_V], dtype=tl.float32)
    for loop in range(LOOPS):
        offs_p = first + loop * BLOCK_P + tl.arange(0, BLOCK_P)
        soft = softmax_key(key + b * key_b, offs_p, offs_k, key_k, key_p, pixels, channels)
        seen = tl.load(
            value + b * value_b + n * value_n
            + offs_p[:, None] * value_p + offs_v[None, :] * value_v,
            mask=(offs_p[:, None] < pixels) & (offs_v[None, :] < values),
            other=0.0,
        ).to(tl.float32)  # fmt: skip
        added += tl.dot(tl.trans(soft), seen, input_precision=DOT)
    row = (tl.program_id(0).to(tl.int64) * tl.num_programs(2) + tl.program_id(2)) * channels
    tl.store(
        partial + (row + offs_k[:, None]) * values + offs_v[None, :],
        added,
        mask=(offs_k[:, None] < channels) & (offs_v[None, :] < values),
    )


@triton.jit
def _reduce_kernel(
    state, gate, gate_b, gate_v, partial, out, partials, size, values, per_image,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """State times gate, plus the partial sums in the order of the pixels."""
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offs < size
    image = offs // per_image
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for _ in range(partials):
        total += tl.load(partial + offs, mask=inside, other=0.0)
        partial += size
    kept = tl.load(gate + image * gate_b + (offs % values) * gate_v, mask=inside, other=0.0)
    old = tl.load(state + offs, mask=inside, other=0.0)
    tl.store(out + offs, old * kept.to(tl.float32) + total, mask=inside)


def update_state(
    state_BNKV: Tensor,
    key_BKHW: Tensor,
    value_BNVHW: Tensor,
    gate_BV: Tensor,
    out: Tensor | None = None,
) -> Tensor:
    """See `livos_kernels.update_state`. `out` may be the state itself."""
    batch, objects, channels, values = state_BNKV.shape
    key, value = pixels_of(key_BKHW), pixels_of(value_BNVHW)
    pixels = key.shape[-1]
    state = state_BNKV.contiguous()
    new = torch.empty_like(state) if out is None else out
    blocks = triton.cdiv(pixels, UPDATE_PIXELS * UPDATE_LOOPS)
    partial = torch.empty(blocks, *state.shape, device=key.device)
    with on_device(key):
        _update_kernel[(blocks, triton.cdiv(values, UPDATE_VALUES), batch * objects)](
            key, *key.stride(), value, *value.stride(), partial,
            pixels, channels, values, objects,
            BLOCK_P=UPDATE_PIXELS, LOOPS=UPDATE_LOOPS,
            BLOCK_K=max(16, triton.next_power_of_2(channels)), BLOCK_V=UPDATE_VALUES,
            DOT=DOT, num_warps=4, num_stages=2,
        )  # fmt: skip
        _reduce_kernel[(triton.cdiv(state.numel(), REDUCE),)](
            state, gate_BV, *gate_BV.stride(), partial, new, blocks, state.numel(), values,
            objects * channels * values, BLOCK=REDUCE, num_warps=4,
        )  # fmt: skip
    return new
