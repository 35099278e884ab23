"""From a network as it is trained and saved to one that runs fast."""

from __future__ import annotations

import torch
from torch import nn

from livos_cli.network.livos import LiVOS
from livos_cli.network.resnet import fold_batch_norm

__all__ = ["lay_out_channels_last", "to_device"]


def lay_out_channels_last(model: nn.Module) -> None:
    """Give the convolutions the layout that oneDNN and tensor cores want, in place."""
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def to_device(model: LiVOS, device: torch.device, dtype: torch.dtype) -> LiVOS:
    """Bring a network to where and how it will run: evaluation mode, no gradients.

    Batch norm is folded into the convolutions, so the result can neither be trained nor saved.
    The mean and standard deviation of images stay as precise as they are: a frame is normalised
    in float32 and rounded once.
    On CUDA, float32 is made to mean float32 for the whole process: PyTorch's convolutions would
    round its operands to TF32.
    """
    if device.type == "cuda" and dtype == torch.float32:
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    model = model.eval().requires_grad_(False)
    fold_batch_norm(model)
    model.pixel_fuser.fold()
    mean, std = model.mean, model.std
    model = model.to(device, dtype)
    model.mean, model.std = mean.to(device), std.to(device)
    if device.type in ("cpu", "cuda"):
        lay_out_channels_last(model)
    return model
