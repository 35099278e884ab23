"""ResNet up to layer 3, stride 16 (He et al. 2016; torchvision's v1 layout and tensor names)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from livos_cli.network.convolve import convolve

__all__ = ["BasicBlock", "Bottleneck", "ResNet", "block_of", "fold_batch_norm"]


def _conv(width_in: int, width_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(width_in, width_out, kernel, stride, padding=kernel // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(width_in, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(width_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = convolve(self.conv1, x, "relu", norm=self.bn1)
        shortcut = x if self.downsample is None else self.downsample(x)
        return convolve(self.conv2, out, "relu", norm=self.bn2, added=shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3 (which carries the stride), 1x1, and a shortcut."""

    expansion = 4

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(width_in, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, width * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.downsample = _shortcut(width_in, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = convolve(self.conv1, x, "relu", norm=self.bn1)
        out = convolve(self.conv2, out, "relu", norm=self.bn2)
        shortcut = x if self.downsample is None else self.downsample(x)
        return convolve(self.conv3, out, "relu", norm=self.bn3, added=shortcut)


def _shortcut(width_in: int, width_out: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and width_in == width_out:
        return None
    return nn.Sequential(_conv(width_in, width_out, 1, stride), nn.BatchNorm2d(width_out))


class ResNet(nn.Module):
    """Stem and layers 1-3.

    Args:
        channels: input channels.
        block: BasicBlock or Bottleneck.
        stem: channels after the 7x7 convolution.
        stages: widths of the three layers, before the block's expansion.
        depths: blocks in each of the three layers.
    """

    def __init__(
        self,
        channels: int,
        block: type[BasicBlock] | type[Bottleneck],
        stem: int,
        stages: tuple[int, int, int],
        depths: tuple[int, int, int],
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        width_in = stem
        layers = []
        for stage, (width, depth) in enumerate(zip(stages, depths, strict=True)):
            blocks = []
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(block(width_in, width, stride))
                width_in = width * block.expansion
            layers.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3 = layers

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, H, W) -> features at 1/16, 1/8 and 1/4."""
        x = self.maxpool(convolve(self.conv1, x, "relu", norm=self.bn1))
        f4 = self.layer1(x)
        f8 = self.layer2(f4)
        return self.layer3(f8), f8, f4


def fold_batch_norm(network: nn.Module) -> None:
    """Move every batch norm of the encoders into the convolution before it, in place.

    The same function in evaluation mode, one pass over each map less; it can no longer be trained
    or saved under the published names.
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):  # a shortcut
            pairs = [("0", "1")] if len(module) == 2 else []
        else:
            pairs = [(f"conv{i}", f"bn{i}") for i in (1, 2, 3) if hasattr(module, f"bn{i}")]
        for conv_name, norm_name in pairs:
            conv, norm = getattr(module, conv_name), getattr(module, norm_name)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())
    for block in network.modules():
        if isinstance(block, (BasicBlock, Bottleneck)) and block.downsample is not None:
            _move_bias(block)


def _move_bias(block: BasicBlock | Bottleneck) -> None:
    """From the shortcut to the convolution that it is added to."""
    assert block.downsample is not None
    last = block.conv3 if isinstance(block, Bottleneck) else block.conv2
    shortcut = block.downsample[0]
    assert isinstance(shortcut, nn.Conv2d)
    if last.bias is not None and shortcut.bias is not None:
        last.bias.data += shortcut.bias.data
        shortcut.bias = None


def block_of(name: str) -> type[BasicBlock] | type[Bottleneck]:
    """The residual block a configuration names."""
    return BasicBlock if name == "basic" else Bottleneck
