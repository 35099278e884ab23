"""The sensory memory renewed, as a Triton kernel."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from livos_kernels.maps import alignment, empty_like, on_device, pixels_of

__all__ = ["gated_recurrent_update"]

GATE_PIXELS, GATE_CHANNELS = 32, 64


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


@triton.jit(
    do_not_specialize=[
        "pixels",
        "objects",
        "gates_b",
        "gates_n",
        "old_b",
        "old_n",
        "out_b",
        "out_n",
    ]
)
def _gate_kernel(
    gates, gates_b, gates_n, gates_c, gates_p,
    old, old_b, old_n, old_c, old_p,
    out, out_b, out_n, out_c, out_p,
    pixels, channels, objects,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """forget * sensory * (1 - update) + update * new, element by element."""
    b = (tl.program_id(2) // objects).to(tl.int64)
    n = (tl.program_id(2) % objects).to(tl.int64)
    p = (tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P))[:, None]
    c = (tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C).to(tl.int64))[None, :]
    inside = (p < pixels) & (c < channels)
    gates += tl.multiple_of(b * gates_b + n * gates_n, ALIGN)
    old += tl.multiple_of(b * old_b + n * old_n, ALIGN)
    out += tl.multiple_of(b * out_b + n * out_n, ALIGN)
    where = p * gates_p + c * gates_c
    step = channels.to(tl.int64) * gates_c
    forget = _sigmoid(tl.load(gates + where, mask=inside, other=0.0).to(tl.float32))
    update = _sigmoid(tl.load(gates + where + step, mask=inside, other=0.0).to(tl.float32))
    new = _tanh(tl.load(gates + where + 2 * step, mask=inside, other=0.0).to(tl.float32))
    before = tl.load(old + p * old_p + c * old_c, mask=inside, other=0.0).to(tl.float32)
    after = forget * before * (1.0 - update) + update * new
    tl.store(out + p * out_p + c * out_c, after.to(out.dtype.element_ty), mask=inside)


def gated_recurrent_update(gates_BNCHW: Tensor, sensory_BNSHW: Tensor) -> Tensor:
    """See `livos_kernels.gated_recurrent_update`."""
    batch, objects, channels, _, _ = sensory_BNSHW.shape
    new = empty_like(gates_BNCHW, tuple(sensory_BNSHW.shape), sensory_BNSHW.dtype)
    gates, old = pixels_of(gates_BNCHW), pixels_of(sensory_BNSHW)
    after = pixels_of(new)
    pixels = gates.shape[-1]
    grid = (
        triton.cdiv(pixels, GATE_PIXELS),
        triton.cdiv(channels, GATE_CHANNELS),
        batch * objects,
    )
    with on_device(gates):
        _gate_kernel[grid](
            gates, *gates.stride(), old, *old.stride(), after, *after.stride(),
            pixels, channels, objects,
            BLOCK_P=GATE_PIXELS, BLOCK_C=GATE_CHANNELS, ALIGN=alignment(gates, old, after),
            num_warps=4,
        )  # fmt: skip
    return new
