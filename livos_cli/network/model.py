"""The network as pure functions of a frame and a memory: `encode_image`, `read`, `write`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from livos_kernels import read_state, start_key_sum, update_state
from torch import Tensor, nn

from livos_cli.network.config import LiVOSConfig
from livos_cli.network.decoder import MaskDecoder
from livos_cli.network.encoders import (
    GateProjector,
    KeyProjector,
    MaskEncoder,
    ObjectSummarizer,
    PixelProjector,
)
from livos_cli.network.layers import aggregate, area_average, others_of
from livos_cli.network.resnet import ResNet, block_of
from livos_cli.network.transformer import ObjectTransformer, PixelFuser

__all__ = ["STRIDE", "Features", "LiVOS", "Memory"]

STRIDE = 16  # frame sizes the network takes are multiples of this


@dataclass(frozen=True)
class Features:
    """What one frame gives, whatever its objects."""

    image: Tensor  # (B, 3, H, W), normalised
    f8: Tensor  # (B, C, H/8, W/8)
    f4: Tensor  # (B, C, H/4, W/4)
    pixel: Tensor  # (B, C, h, w)
    key: Tensor  # (B, K, h, w), before its softmax
    gate: Tensor  # (B, V) in (0, 1)


@dataclass(frozen=True)
class Memory:
    """All that is carried from frame to frame; its size does not depend on the video's length.

    Objects that entered together share a key sum: `group[n]` is the row of `key_sum` that
    normalises object n.
    """

    state: Tensor  # (B, N, K, V) float32
    key_sum: Tensor  # (B, G, K, h, w) float32
    group: Tensor  # (N,) int64
    sensory: Tensor  # (B, N, S, h, w), network's precision
    objects: Tensor  # (B, N, Q, embed + 1) float32
    masks: Tensor  # (B, N, H, W) float32, the last frame's soft masks


class LiVOS(nn.Module):
    """LiVOS (CVPR 2025, arXiv 2411.02818). Holds weights, no memory; downloads nothing."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: LiVOSConfig) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = ResNet(
            3, block_of(config.image_block), config.stem, config.stages, config.image_depths
        )
        self.mask_encoder = MaskEncoder(config)
        self.key_projector = KeyProjector(config)
        self.pix_projector = PixelProjector(config)
        self.gate_projector = GateProjector(config)
        self.mask_decoder = MaskDecoder(config)
        self.pixel_fuser = PixelFuser(config)
        self.object_transformer = ObjectTransformer(config)
        self.object_summarizer = ObjectSummarizer(config)
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """The network's precision."""
        return self.pix_projector.layer.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.pix_projector.layer.weight.device

    def encode_image(self, rgb_B3HW: Tensor) -> Features:
        """Args: rgb_B3HW: float RGB in [0, 1], sides multiples of 16."""
        if rgb_B3HW.shape[-1] % STRIDE or rgb_B3HW.shape[-2] % STRIDE:
            raise ValueError(f"frame sides must be multiples of {STRIDE}, not {rgb_B3HW.shape}")
        image = ((rgb_B3HW - self.mean.to(rgb_B3HW)) / self.std.to(rgb_B3HW)).to(self.dtype)
        if image.device.type != "cuda":
            # Channels last is what oneDNN's convolutions want; weights are laid out alike.
            image = image.contiguous(memory_format=torch.channels_last)
        f16, f8, f4 = self.image_encoder(image)
        return Features(
            image=image,
            f8=f8,
            f4=f4,
            pixel=self.pix_projector(f16),
            key=self.key_projector(f16),
            gate=self.gate_projector(f16),
        )

    def read(
        self,
        features: Features,
        memory: Memory,
        *,
        chunk: int = 0,
        collect: list[Tensor] | None = None,
    ) -> tuple[Tensor, Memory]:
        """Find the objects in a new frame.

        Returns:
            Log-odds (B, N+1, H, W) float32, background first, and the memory with this frame's
            key counted and the sensory memory renewed. Its masks are still the last frame's.
        """
        decay = features.gate.float().mean(dim=1) if self.config.normaliser == "gated" else None
        readout, key_sum = read_state(
            features.key, memory.state, memory.key_sum, memory.group, decay
        )
        small = area_average(memory.masks, STRIDE)
        # "others" is clamped at full size, so it is averaged for itself.
        others = area_average(others_of(memory.masks), STRIDE)
        fused = self.pixel_fuser(
            features.pixel, readout.to(features.pixel.dtype), memory.sensory, small, others
        )
        refined = self.object_transformer(fused, memory.objects, collect)
        logits, sensory = self.mask_decoder(
            refined, features.f8, features.f4, memory.sensory, chunk
        )
        log_odds = aggregate(logits.float().sigmoid())
        log_odds = F.interpolate(log_odds, scale_factor=4, mode="bilinear")
        return log_odds, replace(memory, key_sum=key_sum, sensory=sensory)

    def write(
        self, features: Features, memory: Memory, masks_BNHW: Tensor, *, chunk: int = 0
    ) -> Memory:
        """Remember a frame with its masks (float32 in [0, 1]; as many as `memory` has objects)."""
        value, sensory = self.mask_encoder(
            features.image, features.pixel, memory.sensory, masks_BNHW, chunk
        )
        summary = self.object_summarizer(value, area_average(masks_BNHW, STRIDE))
        return replace(
            memory,
            state=update_state(memory.state, features.key, value, features.gate),
            sensory=sensory,
            objects=memory.objects + summary,
            masks=masks_BNHW,
        )

    def enter(self, features: Features, memory: Memory | None, count: int) -> Memory:
        """Make room for `count` objects that enter at this frame, after it has been read.

        Their memories are empty but for the key sum, which starts with this frame's key; `write`
        fills the rest. New objects come last.
        """
        config, key = self.config, features.key
        batch, _, height, width = key.shape
        fresh = Memory(
            state=key.new_zeros(batch, count, config.key, config.value, dtype=torch.float32),
            key_sum=start_key_sum(key),
            group=torch.zeros(count, dtype=torch.int64, device=key.device),
            sensory=features.pixel.new_zeros(batch, count, config.sensory, height, width),
            objects=key.new_zeros(
                batch, count, config.queries, config.embed + 1, dtype=torch.float32
            ),
            masks=key.new_zeros(batch, count, height * STRIDE, width * STRIDE, dtype=torch.float32),
        )
        if memory is None:
            return fresh
        return Memory(
            state=torch.cat([memory.state, fresh.state], dim=1),
            key_sum=torch.cat([memory.key_sum, fresh.key_sum], dim=1),
            group=torch.cat([memory.group, fresh.group + memory.key_sum.shape[1]]),
            sensory=torch.cat([memory.sensory, fresh.sensory], dim=1),
            objects=torch.cat([memory.objects, fresh.objects], dim=1),
            masks=torch.cat([memory.masks, fresh.masks], dim=1),
        )
