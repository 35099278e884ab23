"""Settings of a training run. Nothing here imports torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from livos_cli.errors import UsageError

__all__ = ["MAY_CHANGE", "RECIPES", "TrainOptions", "resolve"]

CHOICES = {
    "schedule": ("trapezoid", "cosine"),
    "loss": ("points", "full"),
    "batch_norm": ("frozen", "train"),
    "precision": ("auto", "fp32", "bf16"),
}
MULTIPLE = 16  # of `size`: the network's stride


@dataclass(frozen=True)
class TrainOptions:
    """Settings of one run; all of them are in its checkpoint. Defaults: the paper's recipe."""

    steps: int = 125_000  # in all, counting those before a resume
    minutes: float = math.inf  # stop cleanly after this long, with a checkpoint
    clips: int = 16  # in a batch, of each process
    length: int = 8  # frames of a clip that count
    unroll: int = 0  # at most so many frames before them, run without gradient
    unroll_step: int = 1  # they are a multiple of this
    size: int = 480  # side of the square frames, pixels
    objects: tuple[float, ...] = (0.4, 0.4, 0.2)  # shares of clips with 1, 2, 3 objects
    max_skip: int = 15  # source frames between two of a clip, at most, once skips have grown
    skip_ramp: float = 0.3  # share of the steps over which they grow from 1
    rate: float = 1e-4  # learning rate after warm-up
    backbone_rate: float = 0.1  # of the image encoder, as a share of `rate`; 1 from scratch
    warmup: int = 1000  # steps over which the rate rises
    cooldown: int = 25_000  # last steps, over which it falls to zero
    schedule: Literal["trapezoid", "cosine"] = "trapezoid"  # of the rate after warm-up
    weight_decay: float = 1e-3  # of AdamW, on all weights
    clip_norm: float = 3.0  # of the gradient
    ema: float = 0.9999  # decay of the weight average, which is what a run produces
    loss: Literal["points", "full"] = "points"  # cross-entropy and dice on samples, or everywhere
    points: int = 12_544  # samples of a frame
    query_weight: float = 0.01  # of the loss on the transformer's own masks
    sensory_weight: float = 0.01  # of the loss on masks told from the sensory memory
    batch_norm: Literal["frozen", "train"] = "frozen"  # statistics as loaded, or of the batches
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # of autocast; weights stay float32
    seed: int = 0  # of everything that is random
    save_every: int = 100  # steps between checkpoints

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        rise = min((step + 1) / max(1, self.warmup), 1.0)
        if self.schedule == "cosine":
            return self.rate * min(rise, 0.5 + 0.5 * math.cos(math.pi * step / self.steps))
        return self.rate * min(rise, (self.steps - step) / max(1, self.cooldown), 1.0)

    def skip_at(self, step: int) -> int:
        """Largest skip of a step: clips grow longer in time as training goes on."""
        ramp = self.skip_ramp * self.steps
        grown = 1.0 if step >= ramp else step / ramp
        return 1 + round((self.max_skip - 1) * grown)


# A resumed run may differ from what it resumes in these.
MAY_CHANGE = frozenset({"steps", "minutes", "warmup", "cooldown", "save_every"})

RECIPES = {
    # LiVOS, CVPR 2025, section 4.1, and its supplement
    "paper": TrainOptions(),
    # what was measured better for the weights `tiny`, on two CPU cores: see docs/notes/training.md
    "tiny": TrainOptions(
        steps=3000,
        clips=3,
        unroll=8,
        size=256,
        objects=(0.5, 0.35, 0.15),
        max_skip=5,
        skip_ramp=0.0,
        rate=2.5e-4,
        backbone_rate=1.0,
        warmup=100,
        cooldown=500,
        ema=0.998,
        loss="full",
        query_weight=0.05,
        sensory_weight=0.0,
    ),
}


def resolve(
    recipe: str, settings: Sequence[str], *, steps: int | None = None, minutes: float | None = None
) -> TrainOptions:
    """A recipe with some of its settings replaced.

    Args:
        recipe: a key of RECIPES.
        settings: texts of the form NAME=VALUE; `objects` takes numbers with commas.
        steps: replaces the recipe's; warm-up and cool-down shrink with it where they must.
        minutes: replaces the recipe's.

    Raises:
        UsageError: an unknown recipe or setting, or a value that makes no sense.
    """
    if recipe not in RECIPES:
        raise UsageError(f"unknown recipe '{recipe}'", f"--recipe takes {', '.join(RECIPES)}")
    base = RECIPES[recipe]
    changes: dict[str, Any] = {}
    known = {field.name: getattr(base, field.name) for field in fields(TrainOptions)}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            raise UsageError(f"--set {text}: no such setting", f"NAME=VALUE of {', '.join(known)}")
        try:
            changes[name] = _convert(value, known[name])
        except ValueError:
            raise UsageError(f"--set {text}: not a {type(known[name]).__name__}", "") from None
    if steps is not None:
        changes["steps"] = steps
        changes.setdefault("warmup", min(base.warmup, steps // 10))
        changes.setdefault("cooldown", min(base.cooldown, steps // 3))
    if minutes is not None:
        changes["minutes"] = minutes
    options = replace(base, **changes)
    _check(options)
    return options


def _convert(text: str, like: object) -> object:
    if isinstance(like, tuple):
        return tuple(float(part) for part in text.split(","))
    if isinstance(like, int):
        return int(text)
    return float(text) if isinstance(like, float) else text


def _check(options: TrainOptions) -> None:
    for name, choices in CHOICES.items():
        if getattr(options, name) not in choices:
            raise UsageError(f"{name} is {getattr(options, name)}", f"use {', '.join(choices)}")
    # Two frames after the given one, or some weights would get no gradient.
    least = {"steps": 1, "clips": 1, "length": 3, "size": MULTIPLE, "max_skip": 1, "save_every": 1}
    least |= {"unroll_step": 1}
    least |= {"points": 4}
    for name, bound in least.items():
        if getattr(options, name) < bound:
            raise UsageError(f"{name} is {getattr(options, name)}", f"it must be at least {bound}")
    negative = [f.name for f in fields(options) if f.name != "objects"
                and not isinstance(getattr(options, f.name), str)
                and getattr(options, f.name) < 0]  # fmt: skip
    if negative:
        raise UsageError(f"{negative[0]} is negative", "give 0 or more")
    if options.size % MULTIPLE:
        raise UsageError(f"size is {options.size}", f"it must be a multiple of {MULTIPLE}")
    if min(options.objects) < 0 or sum(options.objects) <= 0:
        raise UsageError(f"objects is {options.objects}", "give shares, one of them above 0")
