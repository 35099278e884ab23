"""Work done ahead of the network: frames decoded in a thread, and carried to the device."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from contextlib import closing
from typing import TypeVar

import numpy as np
import torch

from livos_cli.video.source import Frame

__all__ = ["ahead", "read_ahead", "upload_ahead"]

DEPTH = 4  # frames decoded ahead, at most
T = TypeVar("T")


def read_ahead(items: Iterable[T], depth: int = DEPTH) -> Generator[T]:
    """The same items, taken from their source in a thread, at most `depth` ahead.

    An exception of the source is raised here, after the items before it. Close the generator
    before what it reads from: only then has the thread ended.
    """
    box: queue.Queue[tuple[bool, T | None]] = queue.Queue(depth)
    stop = threading.Event()
    failed: list[BaseException] = []

    def put(there: bool, item: T | None) -> None:
        while not stop.is_set():
            try:
                box.put((there, item), timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put(True, item)
                if stop.is_set():
                    return
        except BaseException as error:
            failed.append(error)
        put(False, None)

    thread = threading.Thread(target=work, name="livos-read", daemon=True)
    thread.start()
    try:
        while True:
            there, item = box.get()
            if not there:
                break
            yield item  # type: ignore[misc]
        if failed:
            raise failed[0]
    finally:
        stop.set()
        thread.join()


def upload_ahead(
    frames: Iterable[Frame], device: torch.device
) -> Generator[tuple[Frame, np.ndarray | torch.Tensor]]:
    """Each frame with its picture where the network wants it.

    For CUDA the next frame is copied, from pinned memory on a stream of its own, while this one
    is computed; elsewhere nothing is done.
    """
    if device.type != "cuda":
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


def ahead(
    source: Iterable[Frame], device: torch.device
) -> Generator[tuple[Frame, np.ndarray | torch.Tensor]]:
    """Both: decoded in a thread, then carried to the device."""
    with closing(read_ahead(source)) as frames:
        yield from upload_ahead(frames, device)
