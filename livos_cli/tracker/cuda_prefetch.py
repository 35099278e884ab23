"""Frames carried to the device ahead of the network."""

from __future__ import annotations

from collections.abc import Generator, Iterable

import numpy as np
import torch

from livos_cli.video.source import Frame

__all__ = ["upload_ahead"]


def upload_ahead(
    frames: Iterable[Frame], device: torch.device, *, ahead: bool
) -> Generator[tuple[Frame, np.ndarray | torch.Tensor]]:
    """Each frame with its picture where the network wants it.

    For CUDA the next frame is copied, from pinned memory on a stream of its own, while this one
    is computed; elsewhere nothing is done.

    Args:
        frames: a source, or what is like one.
        device: of the network.
        ahead: the next frame may be asked for before this one's result is out; of a live source
            it may not come before.
    """
    if not ahead or device.type != "cuda":
        for frame in frames:
            yield frame, frame.rgb
        return
    stream = torch.cuda.Stream(device)
    pinned: list[torch.Tensor] = []
    copied: list[torch.cuda.Event] = []
    waiting: tuple[Frame, torch.Tensor, torch.cuda.Event] | None = None

    def start(frame: Frame, slot: int) -> tuple[Frame, torch.Tensor, torch.cuda.Event]:
        picture = torch.from_numpy(np.ascontiguousarray(frame.rgb))
        if len(pinned) <= slot:
            pinned.append(torch.empty(picture.shape, dtype=torch.uint8, pin_memory=True))
            copied.append(torch.cuda.Event())
        copied[slot].synchronize()  # its last copy has left the buffer
        pinned[slot].copy_(picture)
        with torch.cuda.stream(stream):
            there = pinned[slot].to(device, non_blocking=True)
            copied[slot].record(stream)
        return frame, there, copied[slot]

    def arrived(
        frame: Frame, there: torch.Tensor, event: torch.cuda.Event
    ) -> tuple[Frame, torch.Tensor]:
        current = torch.cuda.current_stream(device)
        current.wait_event(event)
        there.record_stream(current)  # its memory is not to be used again before
        return frame, there

    for index, frame in enumerate(frames):
        following = start(frame, index % 2)
        if waiting is not None:
            yield arrived(*waiting)
        waiting = following
    if waiting is not None:
        yield arrived(*waiting)
