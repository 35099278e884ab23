"""The same operations as Triton kernels, for CUDA devices, and for CPUs in Triton's interpreter.

Pixels (h * w, or H * W) are one axis p: a map may be contiguous or channels-last, and is read by
its strides as it is. Arithmetic is float32, cast at load and store. Every reduction has a fixed
order, so the same inputs give the same bits: sums over pixels are made in blocks of a fixed size,
whose partial sums a second launch adds up in order. Block sizes are constants of this file.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["decide_masks", "gated_recurrent_update", "interpreted", "read_state", "update_state"]

COUNT_PIXELS = 128  # pixels a program of the key sum
READ_PIXELS = 64  # pixels a product of the readout
READ_LOOPS = 4  # products a program, so that the state is fetched once for all of them
READ_VALUES = 64  # value channels a program of the readout
UPDATE_PIXELS = 64  # pixels a product of the update
UPDATE_LOOPS = 8  # products a program of the update: each leaves a partial sum of K x V
UPDATE_VALUES = 64  # value channels a program of the update
REDUCE = 1024  # values a program of the update's second launch
GATE_PIXELS, GATE_CHANNELS = 32, 64
DECIDE_COLUMNS = 256
NORM_BLOCK = 1024  # partial norms added at a time

# Products of float32 on tensor cores, as three of TF32: as precise as float32 to its last bits.
_DOT = "tf32x3"


def interpreted() -> bool:
    """Whether the kernels run in Triton's interpreter, which needs no GPU."""
    return not isinstance(_count_kernel, triton.JITFunction)


def _on(tensor: Tensor) -> AbstractContextManager[object]:
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _pixels(map_: Tensor, *, written: bool = False) -> Tensor:
    """(..., h, w) with any strides -> (..., P); a copy only where rows do not follow each other.

    Raises:
        ValueError: such a map is to be written to.
    """
    if map_.shape[-1] > 1 and map_.shape[-2] > 1:
        joined = map_.stride(-2) == map_.stride(-1) * map_.shape[-1]
    else:
        joined = map_.shape[-1] == 1 or map_.shape[-2] == 1
    if not joined:
        if written:
            raise ValueError("the rows of an output must follow each other in memory")
        map_ = map_.contiguous()
    if map_.shape[-1] == 1:  # then the stride between rows is that between pixels
        return map_[..., 0]
    if map_.shape[-2] == 1:
        return map_[..., 0, :]
    size, stride = map_.shape[:-2], map_.stride()[:-2]
    return map_.as_strided(
        (*size, map_.shape[-2] * map_.shape[-1]), (*stride, map_.stride(-1)), map_.storage_offset()
    )


def _like(map_: Tensor, size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An empty (B, X, C, h, w), channels-last if `map_`, (..., C', h, w), is."""
    channels_last = map_.stride(-3) == 1 and map_.shape[-3] > 1
    if not channels_last:
        return torch.empty(size, dtype=dtype, device=map_.device)
    *outer, channels, height, width = size
    empty = torch.empty((*outer, height, width, channels), dtype=dtype, device=map_.device)
    return empty.movedim(-1, -3)


@triton.jit
def _softmax_key(key, offs_p, offs_k, stride_k, stride_p, pixels, channels):
    """Softmax over channels of some pixels, (BLOCK_P, BLOCK_K) float32; 0 where there is none."""
    inside = (offs_p[:, None] < pixels) & (offs_k[None, :] < channels)
    raw = tl.load(
        key + offs_p[:, None] * stride_p + offs_k[None, :] * stride_k, mask=inside, other=0.0
    ).to(tl.float32)
    raw = tl.where(offs_k[None, :] < channels, raw, -float("inf"))
    raw = tl.exp(raw - tl.max(raw, axis=1)[:, None])
    return tl.where(inside, raw / tl.sum(raw, axis=1)[:, None], 0.0)


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
    soft = _softmax_key(key + b * key_b, offs_p, offs_k, key_k, key_p, pixels, channels)
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
        soft = _softmax_key(key + b * key_b, offs_p, offs_k, key_k, key_p, pixels, channels)
        tl.store(
            out + b * out_b + n * out_n + offs_p[:, None] * out_p + offs_v[None, :] * out_v,
            tl.dot(soft, memory, input_precision=DOT).to(out.dtype.element_ty),
            mask=(offs_p[:, None] < pixels) & (offs_v[None, :] < values),
        )


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
        soft = _softmax_key(key + b * key_b, offs_p, offs_k, key_k, key_p, pixels, channels)
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


@triton.jit
def _sigmoid(x):
    # exp of what is never positive: no overflow, whatever comes in.
    small = tl.exp(-tl.abs(x))
    return tl.where(x < 0, small, 1.0) / (1.0 + small)


@triton.jit
def _tanh(x):
    small = tl.exp(-2.0 * tl.abs(x))
    size = (1.0 - small) / (1.0 + small)
    return tl.where(x < 0, -size, size)


@triton.jit
def _gate_kernel(
    gates, gates_b, gates_n, gates_c, gates_p,
    old, old_b, old_n, old_c, old_p,
    out, out_b, out_n, out_c, out_p,
    pixels, channels, objects,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """forget * sensory * (1 - update) + update * new, element by element."""
    b = (tl.program_id(2) // objects).to(tl.int64)
    n = (tl.program_id(2) % objects).to(tl.int64)
    p = (tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P))[:, None]
    c = (tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C).to(tl.int64))[None, :]
    inside = (p < pixels) & (c < channels)
    gates += b * gates_b + n * gates_n
    where = p * gates_p + c * gates_c
    step = channels.to(tl.int64) * gates_c
    forget = _sigmoid(tl.load(gates + where, mask=inside, other=0.0).to(tl.float32))
    update = _sigmoid(tl.load(gates + where + step, mask=inside, other=0.0).to(tl.float32))
    new = _tanh(tl.load(gates + where + 2 * step, mask=inside, other=0.0).to(tl.float32))
    before = tl.load(
        old + b * old_b + n * old_n + p * old_p + c * old_c, mask=inside, other=0.0
    ).to(tl.float32)
    after = forget * before * (1.0 - update) + update * new
    tl.store(
        out + b * out_b + n * out_n + p * out_p + c * out_c,
        after.to(out.dtype.element_ty),
        mask=inside,
    )


@triton.jit
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
    new_sum = _like(key_BKHW, tuple(key_sum_BGKHW.shape), torch.float32) if out is None else out
    readout = _like(key_BKHW, (batch, objects, values, height, width), dtype)
    key, old = _pixels(key_BKHW), _pixels(key_sum_BGKHW)
    new, read = _pixels(new_sum, written=True), _pixels(readout, written=True)
    blocks = triton.cdiv(pixels, COUNT_PIXELS)
    partial = torch.empty(batch * groups, blocks, device=key.device)
    decay = partial if decay_B is None else decay_B.float().contiguous()
    block_k = max(16, triton.next_power_of_2(channels))
    with _on(key):
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
            NORM=NORM_BLOCK, DOT=_DOT, num_warps=4, num_stages=2,
        )  # fmt: skip
    return readout, new_sum


def update_state(
    state_BNKV: Tensor,
    key_BKHW: Tensor,
    value_BNVHW: Tensor,
    gate_BV: Tensor,
    out: Tensor | None = None,
) -> Tensor:
    """See `livos_kernels.update_state`. `out` may be the state itself."""
    batch, objects, channels, values = state_BNKV.shape
    key, value = _pixels(key_BKHW), _pixels(value_BNVHW)
    pixels = key.shape[-1]
    state = state_BNKV.contiguous()
    new = torch.empty_like(state) if out is None else out
    blocks = triton.cdiv(pixels, UPDATE_PIXELS * UPDATE_LOOPS)
    partial = torch.empty(blocks, *state.shape, device=key.device)
    with _on(key):
        _update_kernel[(blocks, triton.cdiv(values, UPDATE_VALUES), batch * objects)](
            key, *key.stride(), value, *value.stride(), partial,
            pixels, channels, values, objects,
            BLOCK_P=UPDATE_PIXELS, LOOPS=UPDATE_LOOPS,
            BLOCK_K=max(16, triton.next_power_of_2(channels)), BLOCK_V=UPDATE_VALUES,
            DOT=_DOT, num_warps=4, num_stages=2,
        )  # fmt: skip
        _reduce_kernel[(triton.cdiv(state.numel(), REDUCE),)](
            state, gate_BV, *gate_BV.stride(), partial, new, blocks, state.numel(), values,
            objects * channels * values, BLOCK=REDUCE, num_warps=4,
        )  # fmt: skip
    return new


def gated_recurrent_update(
    gates_BNCHW: Tensor, sensory_BNSHW: Tensor, out: Tensor | None = None
) -> Tensor:
    """See `livos_kernels.gated_recurrent_update`. `out` may be the old sensory memory."""
    batch, objects, channels, _, _ = sensory_BNSHW.shape
    new = (
        _like(gates_BNCHW, tuple(sensory_BNSHW.shape), sensory_BNSHW.dtype) if out is None else out
    )
    gates, old = _pixels(gates_BNCHW), _pixels(sensory_BNSHW)
    after = _pixels(new, written=True)
    pixels = gates.shape[-1]
    grid = (
        triton.cdiv(pixels, GATE_PIXELS),
        triton.cdiv(channels, GATE_CHANNELS),
        batch * objects,
    )
    with _on(gates):
        _gate_kernel[grid](
            gates, *gates.stride(), old, *old.stride(), after, *after.stride(),
            pixels, channels, objects,
            BLOCK_P=GATE_PIXELS, BLOCK_C=GATE_CHANNELS, num_warps=4,
        )  # fmt: skip
    return new


def decide_masks(log_odds_BMHW: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """See `livos_kernels.decide_masks`."""
    batch, channels, rows, columns = log_odds_BMHW.shape
    height, width = rows * 4, columns * 4
    device = log_odds_BMHW.device
    soft = torch.empty(batch, channels - 1, height, width, dtype=dtype, device=device)
    decided = torch.empty(batch, height, width, dtype=torch.uint8, device=device)
    with _on(log_odds_BMHW):
        _decide_kernel[(height * triton.cdiv(width, DECIDE_COLUMNS), batch)](
            log_odds_BMHW, *log_odds_BMHW.stride(), soft, decided,
            channels, rows, columns,
            SCALE=4, BLOCK=DECIDE_COLUMNS, num_warps=4,
        )  # fmt: skip
    return soft, decided
