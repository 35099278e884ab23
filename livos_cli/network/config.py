"""What a checkpoint is: widths, normaliser and preprocessing, stored with its weights."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, Literal

from livos_cli.errors import WeightsError

__all__ = ["BASE", "LITE", "LITE0", "NORMALISERS", "PRESETS", "SMALL", "TINY", "LiVOSConfig"]


NORMALISERS = ("cumulative", "gated")
LITE0: Final = "efficientnet-lite0"
IMAGE_BLOCKS = ("basic", "bottleneck", LITE0)
WIDEST, DEEPEST = 8192, 100  # channels; blocks of a layer: a configuration alone costs no memory


@dataclass(frozen=True)
class LiVOSConfig:
    """Everything that must be known, beside the tensors, to run a checkpoint.

    The defaults are the published `base` network (LiVOS, CVPR 2025). Only widths and depths vary
    between checkpoints; the structure never does.
    """

    # The image encoder: ResNet-18 or ResNet-50 style, of the widths below; or EfficientNet-Lite0,
    # whose own widths are fixed: then `stem` and `stages` are the mask encoder's alone.
    image_block: Literal["basic", "bottleneck", "efficientnet-lite0"] = "bottleneck"
    stem: int = 64  # channels after the 7x7 convolution, both encoders
    stages: tuple[int, int, int] = (64, 128, 256)  # widths of layers 1-3, before any expansion
    image_depths: tuple[int, int, int] = (3, 4, 6)  # residual blocks a layer, image encoder
    mask_depths: tuple[int, int, int] = (2, 2, 2)  # residual blocks a layer, mask encoder
    key: int = 64  # K, channels of the matching key
    value: int = 256  # V, channels of the matching value, and of the gate
    pixel: int = 256  # channels of the pixel feature
    embed: int = 256  # width of the object transformer
    sensory: int = 256  # S, channels of the sensory memory
    decoder: tuple[int, int, int] = (256, 128, 128)  # widths at 1/16, 1/8, 1/4
    transformer_blocks: int = 3
    heads: int = 8
    queries: int = 16  # Q, half for foreground, half for background
    feed_forward: int = 2048
    # How the readout is normalised. "cumulative": the key sum only grows (published weights).
    # "gated": the key sum is multiplied by the mean of the gate, as the state is by the gate.
    normaliser: Literal["cumulative", "gated"] = "cumulative"
    size: int = 480  # shorter side, pixels, the weights were trained for: default for --max-size
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # of RGB in [0, 1]
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @property
    def feature_widths(self) -> tuple[int, int, int]:
        """Channels of the image features (f16, f8, f4)."""
        if self.image_block == LITE0:
            return 112, 40, 24
        expansion = 4 if self.image_block == "bottleneck" else 1
        layer1, layer2, layer3 = (width * expansion for width in self.stages)
        return layer3, layer2, layer1

    def _check(self) -> None:
        """Raises ValueError where a value has the wrong type or is out of all proportion."""
        self._check_types()
        if self.image_block not in IMAGE_BLOCKS:
            raise ValueError(f"image_block is {_shown(self.image_block)}")
        if self.normaliser not in NORMALISERS:
            raise ValueError(f"normaliser is {_shown(self.normaliser)}")
        deepest = max(*self.image_depths, *self.mask_depths, self.transformer_blocks)
        if deepest > DEEPEST:
            raise ValueError(f"a depth of {deepest} is more than {DEEPEST}")
        if not all(0 < value < math.inf for value in (*self.std, *(1 + abs(m) for m in self.mean))):
            raise ValueError(f"mean and std are {_shown((self.mean, self.std))}")
        if self.embed % 4 or self.embed % self.heads or self.queries % 2:
            raise ValueError(
                f"embed {self.embed} must be a multiple of 4 and of heads ({self.heads}), "
                f"and queries ({self.queries}) even"
            )

    def _check_types(self) -> None:
        for field in fields(self):
            value, default = getattr(self, field.name), field.default
            values = value if isinstance(default, tuple) else (value,)
            samples = default if isinstance(default, tuple) else (default,)
            if not isinstance(values, tuple) or len(values) != len(samples):
                raise ValueError(f"{field.name} is {_shown(value)}")
            for one, sample in zip(values, samples, strict=True):
                good = isinstance(one, (int, float) if isinstance(sample, float) else type(sample))
                good = good and not isinstance(one, bool)  # which Python takes for an int
                if not good or (isinstance(sample, int) and not 1 <= one <= WIDEST):
                    raise ValueError(f"{field.name} is {_shown(value)}")

    def to_json(self) -> str:
        """The configuration as one line of JSON, the form it has in a weight file's metadata."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> LiVOSConfig:
        """Read what `to_json` wrote.

        Raises:
            WeightsError: the text is not such a configuration.
        """
        try:
            raw: Any = json.loads(text)
            if not isinstance(raw, dict):
                raise ValueError(f"{_shown(raw)} is no table of settings")
            known = {field.name for field in fields(cls)}
            if unknown := sorted(set(raw) - known):
                raise ValueError(f"unknown settings {_shown(unknown)}")
            settings: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value
                for key, value in raw.items()
            }
            config = cls(**settings)
            config._check()
            return config
        except RecursionError:
            reason = "it is nested too deeply"
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            reason = str(error)
        raise WeightsError(
            f"the weights' configuration cannot be read: {reason}",
            "the file may come from a newer livos: update livos",
        )


def _shown(value: object) -> str:
    """A value as an error may quote it, however long it is."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


BASE = LiVOSConfig()
SMALL = LiVOSConfig(image_block="basic", image_depths=(2, 2, 2), decoder=(256, 128, 64))
TINY = LiVOSConfig(
    image_block="basic",
    stem=32,
    stages=(32, 64, 128),
    image_depths=(2, 2, 2),
    value=128,
    pixel=128,
    embed=128,
    sensory=64,
    decoder=(128, 64, 32),
    transformer_blocks=2,
    heads=4,
    feed_forward=512,
    normaliser="gated",
    size=384,
)
# An image encoder that has seen ImageNet; what it costs more is saved in the mask encoder.
LITE = replace(TINY, image_block=LITE0, mask_depths=(1, 1, 1))
PRESETS = {"base": BASE, "small": SMALL, "tiny": TINY, "lite": LITE}
