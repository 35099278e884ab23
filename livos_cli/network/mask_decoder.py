"""Reading the frame, second half: from 1/16 to mask logits at 1/4."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from livos_cli.network.config import LiVOSConfig
from livos_cli.network.convolve import convolve
from livos_cli.network.layers import SensoryUpdater, area_average, joined, merge
from livos_cli.network.strips import DECODER_HALO, Strip, in_strips

__all__ = ["MaskDecoder"]


class UpsampleBlock(nn.Module):
    """Twice the size, a skip added, a residual pair of 3x3 convolutions."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width_out, 3, padding=1)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1)
        self.linear_proj = (
            nn.Identity() if width_in == width_out else nn.Conv2d(width_in, width_out, 1)
        )

    def forward(self, x_BNCHW: Tensor, skip_BCHW: Tensor) -> Tensor:
        """(B, N, C, h, w) and (B, C, 2h, 2w) -> (B, N, C', 2h, 2w)."""
        batch, objects = x_BNCHW.shape[:2]
        x = F.interpolate(merge(x_BNCHW), scale_factor=2, mode="bilinear")
        # In place, which keeps the layout: a sum of five dimensions would leave channels-last.
        x.unflatten(0, (batch, objects)).add_(skip_BCHW.unsqueeze(1))
        branch = convolve(self.conv2, convolve(self.conv1, x, "gelu"), "gelu")
        proj = self.linear_proj
        branch += convolve(proj, x) if isinstance(proj, nn.Conv2d) else x
        return branch.unflatten(0, (batch, objects))


class DecoderSensoryUpdater(SensoryUpdater):
    """Renews the sensory memory from the decoder's maps at three sizes."""

    def __init__(self, config: LiVOSConfig) -> None:
        super().__init__(config.sensory, config.sensory)
        width16, width8, width4 = config.decoder
        self.g16_conv = nn.Conv2d(width16, config.sensory, 1)
        self.g8_conv = nn.Conv2d(width8, config.sensory, 1)
        self.g4_conv = nn.Conv2d(width4 + 1, config.sensory, 1)

    def mix(self, v16: Tensor, v8: Tensor, v4: Tensor, logits: Tensor) -> Tensor:
        """What the memory is renewed from, (B * N, S, h, w)."""
        fine = [merge(area_average(v4, 4)), area_average(logits, 4).flatten(0, 1)[:, None]]
        return (
            convolve(self.g16_conv, merge(v16))
            + convolve(self.g8_conv, merge(area_average(v8, 2)))
            + convolve(self.g4_conv, joined(fine, self.g4_conv.weight.shape[1]))
        )


class MaskDecoder(nn.Module):
    """The transformer's map and the image's skips -> logits at 1/4, renewed sensory memory."""

    def __init__(self, config: LiVOSConfig) -> None:
        super().__init__()
        width16, width8, width4 = config.decoder
        _, f8, f4 = config.feature_widths
        self.linear_proj_f8 = nn.Conv2d(f8, width16, 1)
        self.linear_proj_f4 = nn.Conv2d(f4, width8, 1)
        self.upsample_16_to_8 = UpsampleBlock(width16, width8)
        self.upsample_8_to_4 = UpsampleBlock(width8, width4)
        self.pred = nn.Conv2d(width4, 1, 1)
        self.sensory_updater = DecoderSensoryUpdater(config)

    def project(self, f8: Tensor, f4: Tensor) -> tuple[Tensor, Tensor]:
        """Image features at 1/8 and 1/4 -> the skips, once a frame for all objects."""
        return convolve(self.linear_proj_f8, f8), convolve(self.linear_proj_f4, f4)

    def decode(
        self, v16: Tensor, skip8: Tensor, skip4: Tensor, sensory: Tensor, rows: int
    ) -> tuple[Tensor, Tensor]:
        """For some of the objects."""
        outer = v16.shape[:2]

        def decode_strip(strip: Strip) -> tuple[Tensor, ...]:
            coarse = strip.take(v16)
            v8 = self.upsample_16_to_8(coarse, strip.take(skip8, 2))
            v4 = self.upsample_8_to_4(v8, strip.take(skip4, 4))
            logits = self.pred(merge(v4))
            seen = logits.squeeze(1).unflatten(0, outer)
            mixed = self.sensory_updater.mix(coarse, v8, v4, seen)
            return strip.keep(logits, 4), strip.keep(mixed)

        logits, mixed = in_strips(decode_strip, v16.shape[-2], rows, DECODER_HALO)
        renewed = self.sensory_updater(mixed.unflatten(0, outer), sensory, rows)
        return logits.squeeze(1).unflatten(0, outer), renewed

    def forward(
        self,
        v16_BNCHW: Tensor,
        skip8_BCHW: Tensor,
        skip4_BCHW: Tensor,
        sensory_BNSHW: Tensor,
        chunk: int = 0,
        rows: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """-> logits (B, N, 4h, 4w), sensory memory (B, N, S, h, w).

        Args:
            v16_BNCHW: the transformer's map.
            skip8_BCHW: from `project`, at 1/8.
            skip4_BCHW: from `project`, at 1/4.
            sensory_BNSHW: sensory memory before this frame.
            chunk: objects decoded at a time, 0 for all; bounds memory, changes nothing else.
            rows: of the 1/16 grid, decoded at a time, likewise.
        """
        step = chunk or v16_BNCHW.shape[1]
        if step >= v16_BNCHW.shape[1]:
            return self.decode(v16_BNCHW, skip8_BCHW, skip4_BCHW, sensory_BNSHW, rows)
        parts = [
            self.decode(v16, skip8_BCHW, skip4_BCHW, sensory, rows)
            for v16, sensory in zip(
                v16_BNCHW.split(step, 1), sensory_BNSHW.split(step, 1), strict=True
            )
        ]
        return torch.cat([x for x, _ in parts], dim=1), torch.cat([s for _, s in parts], dim=1)
