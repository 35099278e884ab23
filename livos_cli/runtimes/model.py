"""A network whose steps another program runs; to tracker, resume and outputs it is as any other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from livos_cli.network.config import LiVOSConfig
from livos_cli.network.livos import Features, LiVOS, Memory
from livos_cli.runtimes.engines import Engine

__all__ = ["GraphLiVOS"]

log = logging.getLogger(__name__)


def _nothing() -> None:
    """Between stages, of which these have none."""


class GraphLiVOS(LiVOS):
    """A network in float32 on the CPU whose frames are computed by an engine, when it has one.

    What graphs are not made for PyTorch computes with the same weights, and says so once: strips,
    objects a few at a time, and another normaliser than that of the export.

    Args:
        config: of the weights.
        precision: what to call it, such as `int8`.
    """

    bounded = False  # what an engine takes beside PyTorch is not known

    def __init__(self, config: LiVOSConfig) -> None:
        super().__init__(config)
        self._engine: Engine | None = None
        self._normaliser = config.normaliser
        self._label = ""
        self._said = False

    def attach(self, engine: Engine, label: str) -> None:
        """Use an engine from now on, and be called so."""
        self._engine, self._label = engine, label

    @property
    def precision(self) -> str:
        return self._label or super().precision

    @property
    def computed_by(self) -> str:
        return super().computed_by if self._engine is None else self._engine.version

    def _usable(self, plain: bool) -> bool:
        if plain and self._engine is not None and self.config.normaliser == self._normaliser:
            return True
        if not self._said:
            log.warning("%s has no graph for this: PyTorch computes it, in float32", self._label)
            self._said = True
        return False

    def _run(self, step: str, **inputs: Tensor) -> list[Tensor]:
        assert self._engine is not None
        arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
        return [torch.from_numpy(np.asarray(one)) for one in self._engine.run(step, arrays)]

    def encode_image(self, rgb_B3HW: Tensor, rows: int = 0) -> Features:
        if not self._usable(not rows):
            return super().encode_image(rgb_B3HW, rows)
        encoded = self._run("encode", image=_unit(rgb_B3HW))
        skip8, skip4, pixel, key, gate = encoded
        return Features(rgb_B3HW, skip8, skip4, pixel, key, gate)

    def read(
        self,
        features: Features,
        memory: Memory,
        *,
        chunk: int = 0,
        rows: int = 0,
        collect: list[Tensor] | None = None,
        between: Callable[[], None] = _nothing,
    ) -> tuple[Tensor, Memory]:
        if not self._usable(not rows and not chunk and collect is None):
            return super().read(
                features, memory, chunk=chunk, rows=rows, collect=collect, between=between
            )
        log_odds, key_sum, sensory = self._run(
            "read",
            skip8=features.skip8,
            skip4=features.skip4,
            pixel=features.pixel,
            key=features.key,
            gate=features.gate,
            state=memory.state,
            key_sum=memory.key_sum,
            group=memory.group,
            sensory=memory.sensory,
            objects=memory.objects,
            masks=memory.masks,
        )
        faded = memory.given_key_sum * self.key_decay(features)
        return log_odds, replace(memory, key_sum=key_sum, sensory=sensory, given_key_sum=faded)

    def write(
        self,
        features: Features,
        memory: Memory,
        masks_BNHW: Tensor,
        *,
        chunk: int = 0,
        rows: int = 0,
        between: Callable[[], None] = _nothing,
    ) -> Memory:
        if not self._usable(not rows and not chunk):
            return super().write(
                features, memory, masks_BNHW, chunk=chunk, rows=rows, between=between
            )
        state, sensory, objects, masks = self._run(
            "write",
            image=_unit(features.image),
            pixel=features.pixel,
            key=features.key,
            gate=features.gate,
            state=memory.state,
            sensory=memory.sensory,
            objects=memory.objects,
            masks=masks_BNHW,
        )
        return replace(
            memory,
            state=state,
            sensory=sensory,
            objects=objects,
            masks=masks,
            given_state=memory.given_state * features.gate[:, None, None, :],
        )


def _unit(rgb: Tensor) -> Tensor:
    """In [0, 1], float32."""
    return rgb.float() / 255 if rgb.dtype == torch.uint8 else rgb.float()
