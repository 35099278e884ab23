"""From a network as it is trained and saved to one that runs fast."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from livos_cli.network.livos import LiVOS
from livos_cli.network.resnet import fold_batch_norm

__all__ = ["lay_out_channels_last", "pad_channels", "to_device"]

ALIGNED = 8  # input channels, in half precision


def lay_out_channels_last(model: nn.Module) -> None:
    """Give the convolutions the layout that oneDNN and tensor cores want, in place."""
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def pad_channels(model: LiVOS) -> None:
    """Give convolutions that read 258, 129 and 5 channels more of them, of zeros, in place.

    Tensor cores multiply eight at a time; `layers.joined` fills up what the weights expect.
    """

    def padded(weight: Tensor) -> Tensor:
        return F.pad(weight, (0, 0, 0, 0, 0, -weight.shape[1] % ALIGNED))

    for layer in (model.mask_encoder.conv1, model.mask_decoder.sensory_updater.g4_conv):
        layer.weight = nn.Parameter(padded(layer.weight), requires_grad=False)
    fuser = model.pixel_fuser
    if fuser.joined_weight is not None:
        fuser.joined_weight = padded(fuser.joined_weight)


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
    if device.type == "cuda" and dtype != torch.float32:
        pad_channels(model)
    model = model.to(device, dtype)
    model.mean, model.std = mean.to(device), std.to(device)
    if device.type in ("cpu", "cuda"):
        lay_out_channels_last(model)
    return model
