"""The state updated by a frame, as Triton kernels."""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from livos_kernels.maps import DOT, alignment, interpreted, on_device, pixels_of

__all__ = ["update_state"]

# Pixels a product, the most value channels a program has, and its warps: the fastest of eighteen on
# an H100. Half of the published networks' value channels each, which read the key twice; a program
# with all of them takes a quarter longer.
HALF, SINGLE = (64, 128, 4), (32, 64, 8)
PER_PROCESSOR = 1  # programs; with two, there are twice as many partial sums to add up
REDUCE, AT_ONCE = 128, 32  # values a program of the second launch, and partial sums it adds at once


@triton.jit(do_not_specialize=["pixels", "objects", "loops", "key_b", "value_b", "value_n"])
def _update_kernel(
    key, key_b, key_k, key_p,
    value, value_b, value_n, value_v, value_p,
    partial,
    pixels, channels, values, objects, loops,
    BLOCK_P: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr, DOT: tl.constexpr,
    ALIGN: tl.constexpr,
):  # fmt: skip
    """Sum of key value^T over some pixels and value channels of one object."""
    b = (tl.program_id(2) // objects).to(tl.int64)
    n = (tl.program_id(2) % objects).to(tl.int64)
    k = tl.arange(0, BLOCK_K).to(tl.int64)
    v = tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V).to(tl.int64)
    first = tl.program_id(0).to(tl.int64) * BLOCK_P * loops
    key += tl.multiple_of(b * key_b, ALIGN)
    value += tl.multiple_of(b * value_b + n * value_n, ALIGN)
    added = tl.zeros([BLOCK_K, BLOCK_V], dtype=tl.float32)
    for loop in range(loops):
        p = first + loop * BLOCK_P + tl.arange(0, BLOCK_P)
        now = tl.load(
            key + k[:, None] * key_k + p[None, :] * key_p,
            mask=(k[:, None] < channels) & (p[None, :] < pixels),
            other=0.0,
        )
        seen = tl.load(
            value + p[:, None] * value_p + v[None, :] * value_v,
            mask=(p[:, None] < pixels) & (v[None, :] < values),
            other=0.0,
        )
        added += tl.dot(now, seen, input_precision=DOT)
    row = (tl.program_id(0).to(tl.int64) * tl.num_programs(2) + tl.program_id(2)) * channels
    tl.store(
        partial + (row + k[:, None]) * values + v[None, :],
        added,
        mask=(k[:, None] < channels) & (v[None, :] < values),
    )


@triton.jit(do_not_specialize=["partials", "size", "per_image"])
def _reduce_kernel(
    state, gate, gate_b, gate_v, partial, out, partials, size, values, per_image,
    BLOCK: tl.constexpr, AT_ONCE: tl.constexpr,
):  # fmt: skip
    """State times gate, plus the partial sums, in an order that is always the same."""
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offs < size
    image = offs // per_image
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, partials, AT_ONCE):
        part = start + tl.arange(0, AT_ONCE).to(tl.int64)
        some = tl.load(
            partial + part[:, None] * size + offs[None, :],
            mask=(part[:, None] < partials) & inside[None, :],
            other=0.0,
        )
        total += tl.sum(some, axis=0)
    kept = tl.load(gate + image * gate_b + (offs % values) * gate_v, mask=inside, other=0.0)
    old = tl.load(state + offs, mask=inside, other=0.0)
    tl.store(out + offs, old * kept.to(tl.float32) + total, mask=inside)


@functools.cache
def _programs(device: torch.device) -> int:
    """How many programs fill a device."""
    if device.type != "cuda":
        return 4
    return PER_PROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count


def update_state(
    state_BNKV: Tensor, key_BKHW: Tensor, value_BNVHW: Tensor, gate_BV: Tensor
) -> Tensor:
    """See `livos_kernels.update_state`."""
    batch, objects, channels, values = state_BNKV.shape
    # Triton's interpreter takes bfloat16 for whole numbers in a product.
    wrong = interpreted() and torch.bfloat16 in (key_BKHW.dtype, value_BNVHW.dtype)
    if wrong or key_BKHW.dtype != value_BNVHW.dtype:
        key_BKHW, value_BNVHW = key_BKHW.float(), value_BNVHW.float()
    key, value = pixels_of(key_BKHW), pixels_of(value_BNVHW)
    pixels = key.shape[-1]
    state = state_BNKV.contiguous()
    new = torch.empty_like(state)
    block_p, most, warps = SINGLE if key.dtype == torch.float32 else HALF
    block_v = max(16, min(most, triton.next_power_of_2(values)))
    columns = triton.cdiv(values, block_v)
    products = triton.cdiv(pixels, block_p)
    shares = max(1, _programs(key.device) // max(1, batch * objects * columns))
    loops = triton.cdiv(products, shares)
    blocks = triton.cdiv(products, loops)
    partial = torch.empty(blocks, *state.shape, device=key.device)
    with on_device(key):
        _update_kernel[(blocks, columns, batch * objects)](
            key, *key.stride(), value, *value.stride(), partial,
            pixels, channels, values, objects, loops,
            BLOCK_P=block_p, BLOCK_K=max(16, triton.next_power_of_2(channels)), BLOCK_V=block_v,
            DOT=DOT, ALIGN=alignment(key, value), num_warps=warps, num_stages=3,
        )  # fmt: skip
        _reduce_kernel[(triton.cdiv(state.numel(), REDUCE),)](
            state, gate_BV, *gate_BV.stride(), partial, new, blocks, state.numel(), values,
            objects * channels * values, BLOCK=REDUCE, AT_ONCE=AT_ONCE, num_warps=4,
        )  # fmt: skip
    return new
