"""What is computed once a frame: image features, and the value of each object's mask."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from livos_cli.network.config import LiVOSConfig
from livos_cli.network.convolve import convolve
from livos_cli.network.exporting import is_exporting
from livos_cli.network.layers import (
    Fuser,
    PositionalEncoding,
    SensoryUpdater,
    joined,
    others_of,
)
from livos_cli.network.resnet import BasicBlock, ResNet
from livos_cli.network.strips import STRIDE, Strip, in_strips, mask_encoder_halo

__all__ = [
    "GateProjector",
    "KeyProjector",
    "MaskEncoder",
    "Normalised",
    "ObjectSummarizer",
    "PixelProjector",
]

Normalised = Callable[[Strip], Tensor]  # normalised RGB (B, 3, rows, W) of a strip


class KeyProjector(nn.Module):
    """f16 -> raw key (B, K, h, w); its softmax over channels is taken by the matching."""

    def __init__(self, config: LiVOSConfig) -> None:
        super().__init__()
        self.layer1 = nn.Conv2d(config.feature_widths[0], config.pixel, 1)
        self.layer2 = nn.Conv2d(config.pixel, config.key, 3, padding=1)

    def forward(self, f16: Tensor) -> Tensor:
        return convolve(self.layer2, convolve(self.layer1, f16))


class PixelProjector(nn.Module):
    """f16 -> pixel feature (B, C, h, w)."""

    def __init__(self, config: LiVOSConfig) -> None:
        super().__init__()
        self.layer = nn.Conv2d(config.feature_widths[0], config.pixel, 1)

    def forward(self, f16: Tensor) -> Tensor:
        return convolve(self.layer, f16)


class GateProjector(nn.Module):
    """f16 -> gate (B, V) in (0, 1): how much of the state each value channel keeps.

    The mean over pixels is taken over columns here and over rows by whoever has all of them.
    """

    def __init__(self, config: LiVOSConfig) -> None:
        super().__init__()
        self.layer = nn.Conv2d(config.feature_widths[0], config.value, 1)

    def forward(self, f16: Tensor) -> Tensor:
        """-> (B, V, h, 1) float32."""
        return convolve(self.layer, f16).sigmoid_().mean(dim=3, keepdim=True, dtype=torch.float32)


class MaskEncoder(ResNet):
    """Image, own mask and the others' masks -> value and renewed sensory memory, an object."""

    def __init__(self, config: LiVOSConfig) -> None:
        super().__init__(5, BasicBlock, config.stem, config.stages, config.mask_depths)
        self.halo = mask_encoder_halo(config)
        self.fuser = Fuser(config.pixel, config.stages[2], config.value)
        self.sensory_updater = SensoryUpdater(config.value, config.sensory)

    def encode(
        self,
        image: Normalised,
        pixel_BCHW: Tensor,
        sensory: Tensor,
        masks: Tensor,
        some: slice,
        rows: int,
    ) -> tuple[Tensor, Tensor]:
        """For some of the objects: sensory (B, N, S, h, w); masks (B, N, H, W) are of all."""
        outer = sensory.shape[:2]

        def features(strip: Strip) -> tuple[Tensor, ...]:
            part = strip.take(masks, STRIDE)
            rgb = image(strip)
            own, others = (
                m[:, some].flatten(0, 1).unsqueeze(1).to(rgb.dtype) for m in (part, others_of(part))
            )
            if is_exporting() or outer[1] > 1:
                rgb = rgb.repeat_interleave(outer[1], dim=0)
            f16, _, _ = ResNet.forward(self, joined([rgb, own, others], self.conv1.weight.shape[1]))
            return (strip.keep(f16),)

        height = pixel_BCHW.shape[-2]
        (f16,) = in_strips(features, height, rows, self.halo)
        value = self.fuser(pixel_BCHW, f16.unflatten(0, outer))
        return value, self.sensory_updater(value, sensory, rows)

    def forward(  # type: ignore[override]
        self,
        image: Normalised,
        pixel_BCHW: Tensor,
        sensory_BNSHW: Tensor,
        masks_BNHW: Tensor,
        chunk: int = 0,
        rows: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """-> value (B, N, V, h, w), sensory memory (B, N, S, h, w).

        Args:
            image: gives the normalised RGB of a strip.
            pixel_BCHW: pixel feature of the same frame.
            sensory_BNSHW: sensory memory before this frame's mask.
            masks_BNHW: soft masks in [0, 1].
            chunk: objects encoded at a time, 0 for all; bounds memory, changes nothing else.
            rows: of the 1/16 grid, encoded at a time, likewise.
        """
        step = chunk or masks_BNHW.shape[1]
        if step >= masks_BNHW.shape[1]:
            return self.encode(image, pixel_BCHW, sensory_BNSHW, masks_BNHW, slice(None), rows)
        parts = [
            self.encode(image, pixel_BCHW, sensory, masks_BNHW, slice(start, start + step), rows)
            for start, sensory in zip(
                range(0, masks_BNHW.shape[1], step), sensory_BNSHW.split(step, 1), strict=True
            )
        ]
        return torch.cat([v for v, _ in parts], dim=1), torch.cat([s for _, s in parts], dim=1)


class ObjectSummarizer(nn.Module):
    """Value and mask -> a frame's contribution to the object memory, (B, N, Q, embed + 1)."""

    def __init__(self, config: LiVOSConfig) -> None:
        super().__init__()
        width = config.embed
        self.pos_enc = PositionalEncoding(config.value)
        self.input_proj = nn.Linear(config.value, width)
        self.feature_pred = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        )
        self.weights_pred = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, config.queries)
        )

    def forward(self, value_BNVHW: Tensor, mask_BNHW: Tensor) -> Tensor:
        """Sums of weighted features and, last, the weights' area; sums in float32.

        Args:
            value_BNVHW: value of the frame.
            mask_BNHW: masks averaged to the same h x w.
        """
        height, width = value_BNVHW.shape[-2:]
        position = self.pos_enc(height, width)
        pixels = value_BNVHW.flatten(3).transpose(2, 3)
        z = self.input_proj(pixels)
        z = z + position.to(z.dtype)
        features = self.feature_pred(z).float()
        logits = self.weights_pred(z).float()
        mask = mask_BNHW.float().flatten(2).unsqueeze(-1)
        half = logits.shape[-1] // 2
        weights = logits.sigmoid() * torch.cat(
            [mask.expand(-1, -1, -1, half), (1 - mask).expand(-1, -1, -1, half)], dim=-1
        )
        with torch.autocast(weights.device.type, enabled=False):
            sums = weights.transpose(2, 3) @ features
        return torch.cat([sums, weights.sum(dim=2).unsqueeze(-1)], dim=-1)
