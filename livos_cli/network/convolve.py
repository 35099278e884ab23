"""A convolution and what follows it, in as few passes over the map as the device allows.

On a GPU in half precision, PyTorch adds the bias, then a shortcut, then applies the activation,
each in a pass of its own over a map that may have a gigabyte: 43 of the 114 ms of a frame of 4096p.
"""

from __future__ import annotations

import functools
from typing import Literal

import torch
import torch.nn.functional as F
from livos_kernels import finish_convolution, runs_on
from torch import Tensor, nn

__all__ = ["Activation", "convolve"]

Activation = Literal["none", "relu", "relu6", "gelu"]
FUSED_KERNEL = 3  # of larger ones, cuDNN's fused form is slower (pytorch/pytorch#68506)


def convolve(
    layer: nn.Conv2d,
    x_BCHW: Tensor,
    activation: Activation = "none",
    *,
    norm: nn.Module | None = None,
    added: Tensor | None = None,
) -> Tensor:
    """activation(norm(layer(x)) + added).

    Args:
        layer: may leave out as many rows and columns of its result as its attribute `cut` says.
        x_BCHW: (B, C, h, w).
        activation: what comes last.
        norm: batch norm; None, or an identity, where it has been folded into the layer.
        added: (B, C', h', w'), such as a shortcut.
    """
    cut = getattr(layer, "cut", 0)
    if norm is None or isinstance(norm, nn.Identity):
        half = x_BCHW.is_cuda and _in_half_precision(layer, x_BCHW)
        if half and not cut and runs_on(x_BCHW.device):
            return _fused(layer, x_BCHW, activation, added)
        out = layer(x_BCHW)
    else:
        out = norm(layer(x_BCHW))
    if added is not None:
        out += added
    if activation == "relu":
        return F.relu_(out)
    if activation == "relu6":
        return F.relu6(out, inplace=not cut)  # else it makes one piece of what was cut
    return F.gelu(out) if activation == "gelu" else out


def _in_half_precision(layer: nn.Conv2d, x: Tensor) -> bool:
    """And for good: nothing is trained, no autocast is at work."""
    weight = layer.weight
    return x.dtype == weight.dtype != torch.float32 and not weight.requires_grad


def _fused(layer: nn.Conv2d, x: Tensor, activation: Activation, added: Tensor | None) -> Tensor:
    weight, bias = layer.weight, layer.bias
    plain = activation == "none" and added is None
    if bias is None:
        if plain:
            return layer(x)
        bias = weight.new_zeros(len(weight))
    rows = x.movedim(1, -1)
    pointwise = layer.kernel_size == layer.stride == (1, 1) and layer.groups == 1
    if plain and pointwise and len(weight) > 1 and rows.is_contiguous():
        return F.linear(rows, weight[:, :, 0, 0], bias).movedim(-1, 1)
    padding = layer.padding
    assert not isinstance(padding, str)
    where = (layer.stride, padding, layer.dilation, layer.groups)
    small = max(layer.kernel_size) <= FUSED_KERNEL
    if activation == "relu" and small and _cudnn_fuses(x.device, x.dtype):
        if added is None:
            return torch.cudnn_convolution_relu(x, weight, bias, *where)
        return torch.cudnn_convolution_add_relu(x, weight, added, 1.0, bias, *where)
    out = F.conv2d(x, weight, None, *where)
    return finish_convolution(out, bias, added, activation)


@functools.cache
def _cudnn_fuses(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether cuDNN's convolution with bias, sum and ReLU runs here and is right: tried once."""
    steps = torch.linspace(-1, 1, 576, device=device)
    weight, x, bias = steps.view(8, 8, 3, 3), steps[:128].view(1, 8, 4, 4), steps[::72]
    x, weight = (t.to(dtype).contiguous(memory_format=torch.channels_last) for t in (x, weight))
    bias, where = bias.to(dtype), ((1, 1), (1, 1), (1, 1), 1)
    try:
        once = torch.cudnn_convolution_relu(x, weight, bias, *where)
        twice = torch.cudnn_convolution_add_relu(x, weight, once, 1.0, bias, *where)
    except RuntimeError:
        return False
    convolved = F.conv2d(x.float(), weight.float(), bias.float(), *where)
    return all(
        torch.allclose(got.float(), F.relu(want), rtol=0.02, atol=0.02)
        for got, want in ((once, convolved), (twice, convolved + once.float()))
    )
