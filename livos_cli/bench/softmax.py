"""Space-time-memory matching, for comparison: softmax attention to all remembered pixels.

As in STM (Oh et al., ICCV 2019) and what follows it: keys and values of every k-th frame are
kept, the affinity of every pixel to every remembered one is computed in full, and its softmax
weighs the values. Memory and time grow with the video; the rest of the network is LiVOS's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from livos_cli.network.config import LiVOSConfig
from livos_cli.network.livos import Features, LiVOS, Memory
from livos_cli.network.object_transformer import Readout

__all__ = ["SoftmaxMatching", "softmax_memory"]


class SoftmaxMatching(LiVOS):
    """LiVOS with its matching replaced. Holds the memory of one video itself.

    Args:
        config: of the network.
        every: one frame of so many is remembered; the first always is.
    """

    def __init__(self, config: LiVOSConfig, every: int) -> None:
        super().__init__(config)
        self._every = every
        self._seen = 0
        self._keys: Tensor | None = None  # (B, T * P, K)
        self._values: Tensor | None = None  # (B, N, T * P, V)

    def read_memory(self, features: Features, memory: Memory) -> tuple[Readout, Tensor]:
        assert self._keys is not None
        assert self._values is not None
        height, width = features.key.shape[-2:]
        query = features.key.flatten(2)  # (B, K, P)
        affinity = (self._keys @ query) / query.shape[1] ** 0.5  # (B, T * P, P)
        affinity = affinity.softmax(dim=1)
        readout = self._values.transpose(2, 3) @ affinity.unsqueeze(1)  # (B, N, V, P)

        def mapped(weight_EV: Tensor) -> Tensor:
            return (weight_EV @ readout).unflatten(3, (height, width))

        return mapped, memory.key_sum

    def update_memory(self, features: Features, memory: Memory, value_BNVHW: Tensor) -> Tensor:
        if self._seen % self._every == 0:
            key = features.key.flatten(2).transpose(1, 2)
            value = value_BNVHW.flatten(3).transpose(2, 3)
            old_key, old_value = self._keys, self._values
            self._keys = key if old_key is None else torch.cat([old_key, key], dim=1)
            self._values = value if old_value is None else torch.cat([old_value, value], dim=2)
        self._seen += 1
        return memory.state


def softmax_memory(
    config: LiVOSConfig, pixels: int, objects: int, frames: int, every: int, itemsize: int
) -> int:
    """Bytes that the memory of a video takes, and the affinity of its last frame."""
    remembered = (1 + (frames - 1) // every) * pixels
    kept = remembered * (config.key + objects * config.value) * itemsize
    # While a frame is added there are two of the memory; the affinity and its softmax likewise.
    return 2 * kept + 2 * remembered * pixels * itemsize
