"""What each stage of the network takes: a network that tells a clock when its stages begin and end.

Every stage is waited for, which costs the overlap of one with the next: frame rates are measured
without a clock.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from livos_cli.bench.softmax import SoftmaxMatching
from livos_cli.network import LiVOS
from livos_cli.network.livos import Features, Memory
from livos_cli.network.object_transformer import Readout
from livos_cli.runtimes.model import GraphLiVOS

__all__ = ["Clock", "TimedGraphs", "TimedLiVOS", "TimedSoftmax", "timed"]


class Clock:
    """Milliseconds by stage since `start`.

    Args:
        device: that is waited for.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._spent: dict[str, float] = {}
        self._begun: list[float] = []

    def start(self) -> None:
        """Count from zero, a frame's stages."""
        self._spent = {}

    @property
    def spent(self) -> dict[str, float]:
        """Milliseconds by stage, in the order in which they first came."""
        return {name: 1e3 * seconds for name, seconds in self._spent.items()}

    def begin(self, *_: Any) -> None:
        """A stage begins; also a hook before a module."""
        self._begun.append(self._now())

    def end(self, name: str) -> None:
        """The stage that began last has ended."""
        self._spent[name] = self._spent.get(name, 0.0) + self._now() - self._begun.pop()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What is done inside is of this stage."""
        self.begin()
        yield
        self.end(name)

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


class TimedLiVOS(LiVOS):
    """LiVOS, whose stages a clock can time; without one it is as any."""

    clock: Clock | None = None

    def _stage(self, name: str) -> AbstractContextManager[None]:
        return nullcontext() if self.clock is None else self.clock.stage(name)

    def encode_image(self, rgb_B3HW: Tensor, rows: int = 0) -> Features:
        with self._stage("encode image"):
            return super().encode_image(rgb_B3HW, rows)

    def read_memory(self, features: Features, memory: Memory) -> tuple[Readout, Tensor]:
        with self._stage("match"):
            return super().read_memory(features, memory)

    def update_memory(self, features: Features, memory: Memory, value_BNVHW: Tensor) -> Tensor:
        with self._stage("match"):
            return super().update_memory(features, memory, value_BNVHW)


class TimedGraphs(GraphLiVOS):
    """A network that another program computes, whose three steps a clock can time.

    What matches, transforms and decodes is one graph, and counts as the last of these.
    """

    STAGE: ClassVar[dict[str, str]] = {
        "encode": "encode image",
        "read": "decode mask",
        "write": "encode mask",
    }
    clock: Clock | None = None

    def _run(self, step: str, **inputs: Tensor) -> list[Tensor]:
        with nullcontext() if self.clock is None else self.clock.stage(self.STAGE[step]):
            return super()._run(step, **inputs)


class TimedSoftmax(TimedLiVOS, SoftmaxMatching):
    """The same, with softmax matching."""


@contextmanager
def timed(model: TimedLiVOS | TimedGraphs) -> Iterator[Clock]:
    """A clock that times the stages of a network until the block is left."""
    clock = Clock(model.device)
    modules: dict[str, tuple[nn.Module, ...]] = {
        "transform": (model.pixel_fuser, model.object_transformer),
        "decode mask": (model.mask_decoder,),
        "encode mask": (model.mask_encoder, model.object_summarizer),
    }
    hooks = []
    for name, members in modules.items():
        for module in members:
            hooks.append(module.register_forward_pre_hook(clock.begin))
            # `name` is bound now: the loop goes on before the hook is called.
            hooks.append(module.register_forward_hook(lambda *_, name=name: clock.end(name)))
    model.clock = clock
    try:
        yield clock
    finally:
        model.clock = None
        for hook in hooks:
            hook.remove()
