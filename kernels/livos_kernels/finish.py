"""What follows a convolution, in one pass over its result, as a Triton kernel."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from livos_kernels.maps import alignment, on_device, pixels_of

__all__ = ["finish_convolution"]

VALUES, MOST_CHANNELS = 4096, 256  # a program


@triton.jit(do_not_specialize=["pixels", "map_b", "added_b"])
def _finish_kernel(
    map_, map_b, map_c, map_p,
    bias,
    added, added_b, added_c, added_p,
    pixels, channels,
    HAS_ADDED: tl.constexpr, ACTIVATION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """activation(map + bias + added), in place."""
    b = tl.program_id(2).to(tl.int64)
    p = (tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P))[:, None]
    c = (tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C).to(tl.int64))[None, :]
    inside = (p < pixels) & (c < channels)
    map_ += tl.multiple_of(b * map_b, ALIGN)
    x = tl.load(map_ + p * map_p + c * map_c, mask=inside, other=0.0).to(tl.float32)
    x += tl.load(bias + c, mask=c < channels, other=0.0).to(tl.float32)
    if HAS_ADDED:
        added += tl.multiple_of(b * added_b, ALIGN)
        x += tl.load(added + p * added_p + c * added_c, mask=inside, other=0.0).to(tl.float32)
    if ACTIVATION == "relu" or ACTIVATION == "relu6":
        x = tl.maximum(x, 0.0)
    if ACTIVATION == "relu6":
        x = tl.minimum(x, 6.0)
    if ACTIVATION == "gelu":
        x = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    tl.store(map_ + p * map_p + c * map_c, x.to(map_.dtype.element_ty), mask=inside)


def finish_convolution(
    map_BCHW: Tensor, bias_C: Tensor, added_BCHW: Tensor | None, activation: str
) -> Tensor:
    """See `livos_kernels.finish_convolution`."""
    channels = map_BCHW.shape[1]
    map_ = pixels_of(map_BCHW)
    if map_.data_ptr() != map_BCHW.data_ptr():
        raise ValueError(f"a map of strides {map_BCHW.stride()} cannot be changed in place")
    added = map_ if added_BCHW is None else pixels_of(added_BCHW)
    block_c = min(MOST_CHANNELS, triton.next_power_of_2(channels))
    block_p = VALUES // block_c
    grid = (
        triton.cdiv(map_.shape[-1], block_p),
        triton.cdiv(channels, block_c),
        map_BCHW.shape[0],
    )
    with on_device(map_):
        _finish_kernel[grid](
            map_, *map_.stride(), bias_C.contiguous(), added, *added.stride(),
            map_.shape[-1], channels,
            HAS_ADDED=added_BCHW is not None, ACTIVATION=activation,
            BLOCK_P=block_p, BLOCK_C=block_c, ALIGN=alignment(map_, added), num_warps=4,
        )  # fmt: skip
    return map_BCHW
