"""The steady step with static buffers, which CUDA replays as one graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import torch
from torch import Tensor

from livos_cli.network.livos import Memory

__all__ = ["StepGraph"]

Result = tuple[Tensor | None, ...]
Step = Callable[[Tensor, Memory], tuple[Result, Memory]]
WARM_UP = 3  # runs before the capture, in which libraries choose and allocate what they need


class StepGraph:
    """Runs `step` over and over on the same buffers.

    On CUDA the work of a frame is captured once and replayed, without Python and without a
    launch for each kernel; elsewhere it is run as it is, to the same result. What a capture holds
    is valid for one size of frame and one set of objects: see `fits`.

    Args:
        step: from a frame and a memory to results and a new memory, without side effects.
        image: a frame, for its shape and type.
        memory: a memory, likewise.
        decide: what the step was made for.
    """

    def __init__(self, step: Step, image: Tensor, memory: Memory, *, decide: bool) -> None:
        self._decide = decide
        self._step = step
        self._image = image.clone()
        self.memory = _map(torch.clone, memory)
        self._result: Result = ()
        self._graph: torch.cuda.CUDAGraph | None = None
        if image.is_cuda:
            self._capture()

    def fits(self, image: Tensor, memory: Memory, *, decide: bool) -> bool:
        """Whether this is what it was made for, and frame and memory have its buffers' shapes."""
        pairs = [(image, self._image)]
        pairs += [(getattr(memory, f.name), getattr(self.memory, f.name)) for f in fields(Memory)]
        same = all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)
        return same and decide == self._decide

    def run(self, image: Tensor, memory: Memory) -> Result:
        """One frame: the result, which no other frame overwrites; `self.memory` is the new memory.

        Whatever may run out of memory comes before the old memory is overwritten.
        """
        self._image.copy_(image)
        if self._graph is None:
            if memory is not self.memory:
                _copy(memory, self.memory)
            self._body()
            return self._result
        kept = tuple(None if one is None else torch.empty_like(one) for one in self._result)
        if memory is not self.memory:
            _copy(memory, self.memory)
        self._graph.replay()
        for mine, one in zip(kept, self._result, strict=True):
            if mine is not None and one is not None:
                mine.copy_(one)
        return kept

    def _body(self) -> None:
        result, new = self._step(self._image, self.memory)
        _copy(new, self.memory)
        self._result = result

    def _capture(self) -> None:
        device = self._image.device
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self._step(self._image, self.memory)
        torch.cuda.current_stream(device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with (
            torch.cuda.device(device),
            # On a stream of this device: PyTorch's own for captures is of the first device that had
            # one. Other threads may go on with what is theirs, such as uploads.
            torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"),
        ):
            self._body()
        self._graph = graph


def _map(function: Callable[[Tensor], Tensor], memory: Memory) -> Memory:
    return Memory(**{f.name: function(getattr(memory, f.name)) for f in fields(Memory)})


def _copy(source: Memory, target: Memory) -> None:
    for field in fields(Memory):
        old, new = getattr(target, field.name), getattr(source, field.name)
        if old is not new and old.data_ptr() != new.data_ptr():
            old.copy_(new)
