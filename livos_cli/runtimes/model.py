"""A network whose steps another program runs; to tracker, resume and outputs it is as any other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from livos_cli.network.config import LiVOSConfig
from livos_cli.network.livos import Features, LiVOS, Memory, nothing
from livos_cli.runtimes.engines import Engine

__all__ = ["GraphLiVOS"]

log = logging.getLogger(__name__)


class GraphLiVOS(LiVOS):
    """A network in float32 on the CPU whose frames are computed by an engine, when it has one.

    What graphs are not made for PyTorch computes with the same weights, and says so once: strips,
    objects a few at a time, and another normaliser than that of the export.

    Args:
        config: of the weights.
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
        if self._engine is None:  # its graphs are being made
            return False
        if plain and self.config.normaliser == self._normaliser:
            return True
        if not self._said:
            log.warning("%s has no graph for this: PyTorch computes it, in float32", self._label)
            self._said = True
        return False

    def _run(self, step: str, **inputs: Tensor) -> list[Tensor]:
        """A step's outputs; its inputs have the names of `Features` and `Memory`, others too."""
        assert self._engine is not None
        arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
        return [torch.from_numpy(np.asarray(one)) for one in self._engine.run(step, arrays)]

    def encode_image(self, rgb_B3HW: Tensor, rows: int = 0) -> Features:
        if not self._usable(not rows):
            return super().encode_image(rgb_B3HW, rows)
        return Features(rgb_B3HW, *self._run("encode", image=_unit(rgb_B3HW)))

    def read(
        self,
        features: Features,
        memory: Memory,
        *,
        chunk: int = 0,
        rows: int = 0,
        collect: list[Tensor] | None = None,
        between: Callable[[], None] = nothing,
    ) -> tuple[Tensor, Memory]:
        if not self._usable(not rows and not chunk and collect is None):
            return super().read(
                features, memory, chunk=chunk, rows=rows, collect=collect, between=between
            )
        log_odds, key_sum, sensory = self._run("read", **vars(features), **vars(memory))
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
        between: Callable[[], None] = nothing,
    ) -> Memory:
        if not self._usable(not rows and not chunk):
            return super().write(
                features, memory, masks_BNHW, chunk=chunk, rows=rows, between=between
            )
        given = {"image": _unit(features.image), "masks": masks_BNHW}
        state, sensory, objects, masks = self._run(
            "write", **(vars(features) | vars(memory) | given)
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
