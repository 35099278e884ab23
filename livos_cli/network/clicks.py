"""A small network that makes a mask of clicks, on the features of a frozen image encoder.

In the manner of K. Sofiiuk et al., "Reviving Iterative Training with Mask Guidance for Interactive
Segmentation" (ICIP 2022): clicks are discs in maps beside the last mask. What depends on the
picture alone is computed once, and a click costs the decoder.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from livos_cli.errors import WeightsError
from livos_cli.network.efficientnet import ALL_TAPS
from livos_cli.network.livos import LiVOS
from livos_cli.network.strips import STRIDE, Strip

__all__ = ["GUIDES", "ClickConfig", "ClickFeatures", "ClickNet", "draw_guides", "trunk_features"]

GUIDES = 6  # maps: positive and negative discs, positive and negative glow, box, last mask
DISC = 2.0  # radius of a click, cells of 1/4
GLOW = 12.0  # cells of 1/4 at which a click's glow has fallen to 1/e
WIDEST = 1024


@dataclass(frozen=True)
class ClickConfig:
    """What must be known beside the tensors."""

    features: tuple[int, int, int, int] = (112, 40, 24, 16)  # channels at 1/16, 1/8, 1/4, 1/2
    widths: tuple[int, int, int] = (128, 64, 40)  # of the decoder at 1/16, 1/8, 1/4
    heads: int = 4
    encoder: str = "lite"  # the weights whose image encoder gives the features

    def to_json(self) -> str:
        """As it stands in the weight file's metadata."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ClickConfig:
        """Read what `to_json` wrote.

        Raises:
            WeightsError: it is no such configuration.
        """
        try:
            raw: Any = json.loads(text)
            if not isinstance(raw, dict) or set(raw) != {field.name for field in fields(cls)}:
                raise ValueError("it is no table of the settings")
            features, widths, heads = tuple(raw["features"]), tuple(raw["widths"]), raw["heads"]
            numbers = (*features, *widths, heads)
            if (len(features), len(widths)) != (4, 3) or not all(
                type(n) is int and 1 <= n <= WIDEST for n in numbers
            ):
                raise ValueError("its widths are out of range")
            if widths[0] % heads or not isinstance(raw["encoder"], str):
                raise ValueError("its settings do not fit together")
            return cls(features, widths, heads, raw["encoder"])
        except (ValueError, TypeError, RecursionError) as error:
            raise WeightsError(
                f"the configuration of the click network cannot be read ({str(error)[:120]})",
                "the file may come from a newer livos: update livos",
            ) from None


@dataclass(frozen=True)
class ClickFeatures:
    """What the click network needs of a picture, whatever the clicks."""

    p16: Tensor  # (B, C, h, w)
    p8: Tensor  # (B, C, 2h, 2w)
    p4: Tensor  # (B, C, 4h, 4w); what 1/2 shows is in it


def trunk_features(model: LiVOS, rgb_B3HW: Tensor) -> tuple[Tensor, ...]:
    """Features of a picture at 1/16, 1/8, 1/4 and 1/2 of the image encoder.

    Args:
        model: with EfficientNet-Lite0 as its image encoder.
        rgb_B3HW: RGB, uint8 or float in [0, 1], sides multiples of 16.
    """
    height = rgb_B3HW.shape[-2]
    whole = model.normalise(rgb_B3HW, Strip(0, height // STRIDE, 0, height // STRIDE))
    features: tuple[Tensor, ...] = model.image_encoder(whole, ALL_TAPS)
    return features


def draw_guides(
    points_N2: Tensor,
    labels_N: Tensor,
    box: tuple[float, float, float, float] | None,
    previous_HW: Tensor | None,
    size: tuple[int, int],
) -> Tensor:
    """The maps of one sample's hints, (GUIDES, h, w) float32 in [0, 1].

    Args:
        points_N2: x and y in pixels of the network's picture, float.
        labels_N: bool, whether each is on the object.
        box: x0, y0, x1, y1 in the same pixels.
        previous_HW: the last mask at 1/4, (h, w) float in [0, 1].
        size: h and w: the picture's at 1/4.
    """
    height, width = size
    maps = torch.zeros(GUIDES, height, width)
    rows = torch.arange(height)[:, None] + 0.5
    columns = torch.arange(width) + 0.5
    for side, on in enumerate((True, False)):
        some = points_N2[labels_N == on] / 4
        if len(some):
            dx = columns[None, None] - some[:, 0, None, None]
            dy = rows[None] - some[:, 1, None, None]
            distance = (dx * dx + dy * dy).amin(0).sqrt_()
            maps[side] = (DISC + 0.5 - distance).clamp_(0, 1)
            maps[2 + side] = (distance / -GLOW).exp_()
    if box is not None:
        x0, y0, x1, y1 = (value / 4 for value in box)
        across = ((columns + 0.5).clamp(max=x1) - (columns - 0.5).clamp(min=x0)).clamp(0, 1)
        down = ((rows + 0.5).clamp(max=y1) - (rows - 0.5).clamp(min=y0)).clamp(0, 1)
        maps[4] = down * across
    if previous_HW is not None:
        maps[5] = previous_HW
    return maps


class Block(nn.Module):
    """A depthwise convolution, then a widening pair of 1x1 (Z. Liu et al., ConvNeXt, CVPR 2022)."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        pixels = self.norm(self.spread(x_BCHW).permute(0, 2, 3, 1))
        return x_BCHW + self.narrow(F.relu(self.widen(pixels))).permute(0, 3, 1, 2)


class Attention(nn.Module):
    """Every pixel looks at all others, two by two of them taken together.

    So likeness to what was clicked reaches any distance.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.ask = nn.Linear(width, width)
        self.offer = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        batch, width, rows, columns = x_BCHW.shape
        pixels = self.norm(x_BCHW.permute(0, 2, 3, 1))
        cells = F.avg_pool2d(pixels.permute(0, 3, 1, 2), 2, ceil_mode=True).permute(0, 2, 3, 1)
        query = self.ask(pixels).view(batch, rows * columns, self.heads, -1)
        offers = self.offer(cells).view(batch, -1, 2, self.heads, width // self.heads)
        key, value = offers.transpose(1, 3).unbind(2)
        seen = F.scaled_dot_product_attention(query.transpose(1, 2), key, value)
        seen = self.out(seen.transpose(1, 2).reshape(batch, rows, columns, width))
        return x_BCHW + seen.permute(0, 3, 1, 2)


class ClickNet(nn.Module):
    """Features of a picture and maps of hints -> log-odds at 1/2."""

    def __init__(self, config: ClickConfig) -> None:
        super().__init__()
        self.config = config
        (f16, f8, f4, f2), (w16, w8, w4) = config.features, config.widths
        self.from16 = nn.Conv2d(f16, w16, 1)
        self.from8 = nn.Conv2d(f8, w8, 1)
        self.from4 = nn.Conv2d(f4 + 4 * f2, w4, 1)  # 1/2 with its four pixels as channels
        self.guide4 = nn.Conv2d(GUIDES, w4, 3, padding=1)
        self.guide8 = nn.Conv2d(w4, w8, 3, stride=2, padding=1)
        self.guide16 = nn.Conv2d(w8, w16, 3, stride=2, padding=1)
        self.coarse = nn.Sequential(
            Block(w16, 7), Attention(w16, config.heads), Block(w16, 7),
            Attention(w16, config.heads), Block(w16, 7),
        )  # fmt: skip
        self.to8 = nn.Conv2d(w16, w8, 1)
        self.middle = nn.Sequential(Block(w8, 5), Block(w8, 5))
        self.to4 = nn.Conv2d(w8, w4, 1)
        self.fine = nn.Sequential(Block(w4, 5), Block(w4, 3))
        self.last = nn.Conv2d(w4, 4, 1)

    def project(self, features: tuple[Tensor, ...]) -> ClickFeatures:
        """Once a picture: from `trunk_features`."""
        f16, f8, f4, f2 = features
        fine = torch.cat([f4, F.pixel_unshuffle(f2, 2)], dim=1)
        return ClickFeatures(self.from16(f16), self.from8(f8), self.from4(fine))

    def forward(self, features: ClickFeatures, guides_BCHW: Tensor) -> Tensor:
        """-> log-odds (B, H/2, W/2), of the picture's size.

        Args:
            features: from `project`.
            guides_BCHW: (B, GUIDES, H/4, W/4), from `draw_guides`.
        """
        guides = guides_BCHW.contiguous(memory_format=torch.channels_last)
        g4 = F.relu(self.guide4(guides))
        g8 = F.relu(self.guide8(g4))
        x = self.coarse(features.p16 + self.guide16(g8))
        x = F.interpolate(self.to8(x), scale_factor=2, mode="bilinear")
        x = self.middle(x + features.p8 + g8)
        x = F.interpolate(self.to4(x), scale_factor=2, mode="bilinear")
        x = self.fine(x + features.p4 + g4)
        return F.pixel_shuffle(self.last(x), 2)[:, 0]
