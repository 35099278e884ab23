"""Pieces shared by the encoders, the transformer and the decoder."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from livos_kernels import gated_recurrent_update
from torch import Tensor, nn

from livos_cli.network.convolve import convolve
from livos_cli.network.exporting import is_exporting
from livos_cli.network.strips import Strip, in_strips

__all__ = [
    "AttentionResBlock",
    "Fuser",
    "PositionalEncoding",
    "SensoryUpdater",
    "aggregate",
    "area_average",
    "joined",
    "upsample",
    "merge",
    "others_of",
]


def others_of(masks_BNHW: Tensor) -> Tensor:
    """For each object, the sum of all other objects' masks, clamped to [0, 1]."""
    return (masks_BNHW.sum(dim=1, keepdim=True) - masks_BNHW).clamp(0, 1)


def aggregate(prob_BNHW: Tensor) -> Tensor:
    """Independent object probabilities -> log-odds with a background, (B, N+1, H, W) float32.

    Float32 whatever comes in: the rounding and saturation of the clamp are part of the result
    (1 - 1e-7 is 1 in bfloat16, and its log-odds are infinite).
    """
    prob = prob_BNHW.float()
    background = (1 - prob).prod(dim=1, keepdim=True)
    prob = torch.cat([background, prob], dim=1).clamp(1e-7, 1 - 1e-7)
    return torch.log(prob / (1 - prob))


def merge(x_BNCHW: Tensor) -> Tensor:
    """(B, N, C, h, w) -> (B * N, C, h, w), a view that is known as channels-last if it is.

    PyTorch tells the layout by strides, that of a batch of one included, which views and sums
    leave at anything; taken for channels-first, a map would be copied by every convolution.
    """
    x = x_BNCHW.flatten(0, 1)
    if is_exporting():  # into a graph, of which strides are no part
        return x
    count, channels, _, width = x.shape
    if count == 1 and channels > 1 and x.stride()[1:] == (1, width * channels, channels):
        x = x.as_strided(x.shape, (x.numel(), 1, width * channels, channels))
    return x


def joined(parts: list[Tensor], channels: int) -> Tensor:
    """Maps (B, C, h, w) joined along channels, then channels of zeros up to so many.

    As many as the weights of the convolution after it have: see `inference.pad_channels`.
    """
    missing = channels - sum(part.shape[1] for part in parts)
    if missing:
        count, _, height, width = parts[0].shape
        zeros = torch.empty(
            (count, missing, height, width),
            dtype=parts[0].dtype,
            device=parts[0].device,
            memory_format=torch.channels_last,
        )
        parts = [*parts, zeros.zero_()]
    return torch.cat(parts, dim=1)


def area_average(x: Tensor, factor: int) -> Tensor:
    """Mean over squares of `factor` pixels, (B, N, h, w) or (B, N, C, h, w)."""
    if x.ndim == 4:
        return F.avg_pool2d(x, factor)
    return F.avg_pool2d(merge(x), factor).unflatten(0, x.shape[:2])


def upsample(log_odds: Tensor) -> Tensor:
    """From the decoder's size to the frame's, (B, M, H/4, W/4) -> (B, M, H, W)."""
    return F.interpolate(log_odds, scale_factor=4, mode="bilinear")


class AttentionResBlock(nn.Module):
    """Residual block whose branch is weighted by channel attention (ECA, Wang et al. 2020)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        taps = int((math.log2(width) + 1) // 2)
        taps += 1 - taps % 2
        self.conv = nn.Conv1d(1, 1, taps, padding=taps // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        out = convolve(self.conv2, convolve(self.conv1, F.relu(x), "relu"))
        attention = self.conv(out.mean(dim=(2, 3)).unsqueeze(1)).sigmoid()
        return torch.addcmul(x, out, attention.transpose(1, 2).unsqueeze(-1))


class Fuser(nn.Module):
    """Joins a map shared by all objects with a map of each object."""

    def __init__(self, width_x: int, width_y: int, width: int) -> None:
        super().__init__()
        self.x_transform = nn.Conv2d(width_x, width, 1)
        self.y_transform = nn.Conv2d(width_y, width, 1)
        self.layer1 = AttentionResBlock(width)
        self.layer2 = AttentionResBlock(width)

    def forward(self, x_BCHW: Tensor, y_BNCHW: Tensor) -> Tensor:
        """-> (B, N, width, h, w)."""
        y = convolve(self.y_transform, merge(y_BNCHW)).unflatten(0, y_BNCHW.shape[:2])
        return self.join(x_BCHW, y)

    def join(self, x_BCHW: Tensor, y_BNCHW: Tensor) -> Tensor:
        """As `forward`, from a map that is transformed already, which it changes."""
        y_BNCHW += convolve(self.x_transform, x_BCHW).unsqueeze(1)  # in place: keeps y's layout
        return self.layer2(self.layer1(merge(y_BNCHW))).unflatten(0, y_BNCHW.shape[:2])


class SensoryUpdater(nn.Module):
    """The gated rule by which a map renews the sensory memory."""

    def __init__(self, width: int, sensory: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(width + sensory, 3 * sensory, 3, padding=1)

    def forward(self, x_BNCHW: Tensor, sensory_BNSHW: Tensor, rows: int = 0) -> Tensor:
        """-> the new sensory memory, (B, N, S, h, w); `rows` at a time, 0 for all."""
        outer, height = x_BNCHW.shape[:2], x_BNCHW.shape[-2]

        def renew(strip: Strip) -> tuple[Tensor, ...]:
            old = strip.take(sensory_BNSHW)
            # Of four dimensions, so that it stays channels-last.
            joined = torch.cat([merge(strip.take(x_BNCHW)), merge(old)], dim=1)
            gates = convolve(self.transform, joined).unflatten(0, outer)
            renewed = gated_recurrent_update(strip.keep(gates), strip.keep(old))
            return (merge(renewed),)

        (renewed,) = in_strips(renew, height, rows, halo=1)
        return renewed.unflatten(0, outer)


class PositionalEncoding(nn.Module):
    """Sines and cosines of a pixel's column (first half of the channels) and row (second half).

    The frequencies are a buffer because published checkpoints carry them. They stay float32
    whatever the module is cast to.
    """

    inv_freq: Tensor
    SCALE = 32.0
    TEMPERATURE = 128.0

    def __init__(self, width: int) -> None:
        super().__init__()
        per_axis = width // 2
        steps = torch.arange(0, per_axis, 2, dtype=torch.float32, device="cpu")
        self.register_buffer("inv_freq", 1.0 / self.TEMPERATURE ** (steps / per_axis))

    def _apply(self, fn, recurse: bool = True):  # type: ignore[no-untyped-def]
        # nn.Module's own hook for .to(): follow the device, keep the precision.
        return super()._apply(lambda t: fn(t).to(t.dtype), recurse)

    def forward(self, height: int, width: int) -> Tensor:
        """-> (height * width, C) float32."""
        y, x = self._axis(height), self._axis(width)
        half = y.shape[1]
        grid = torch.cat(
            [
                x.unsqueeze(0).expand(height, width, half),
                y.unsqueeze(1).expand(height, width, half),
            ],
            dim=2,
        )
        return grid.flatten(0, 1)

    def _axis(self, length: int) -> Tensor:
        position = torch.arange(length, device=self.inv_freq.device, dtype=torch.float32)
        position = position / (position[-1] + 1e-6) * self.SCALE
        angle = position.unsqueeze(1) * self.inv_freq
        return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)
