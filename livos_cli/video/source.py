"""What a source of frames is, and reading one ahead through a bounded queue."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from livos_cli.errors import InputError
from livos_cli.options import Position

__all__ = ["BaseSource", "Frame", "FrameSource", "SourceInfo"]

QUEUE_BYTES = 64 << 20  # decoded frames waiting, at most (but never fewer than two frames)


@dataclass(frozen=True)
class SourceInfo:
    """What is known of a source before it is decoded."""

    name: str  # stem for output names
    path: Path | None  # None for stdin
    width: int  # as shown, after rotation
    height: int
    time_base: Fraction  # of all timestamps, seconds
    rate: Fraction  # average frames a second
    frames: int | None  # how many the container declares or its duration implies; may be off
    sample_aspect_ratio: Fraction | None  # as shown, after rotation
    colorspace: int  # AVColorSpace, never unspecified
    color_range: int  # AVColorRange
    color_primaries: int
    color_trc: int
    audio: tuple[Any, ...] = ()  # av.AudioStream templates, valid while the source is open
    image_names: tuple[str, ...] | None = None  # of an image folder, in order

    @property
    def matrix(self) -> int:
        """The colour space under the one name that swscale has for its coefficients."""
        return {6: 5, 10: 9}.get(self.colorspace, self.colorspace)


@dataclass(frozen=True)
class Frame:
    """One decoded frame."""

    index: int  # in the source, from 0, whatever the first one asked for
    pts: int  # in the source's time base
    time: float  # seconds from the source's first frame
    rgb: np.ndarray  # (H, W, 3) uint8
    duration: int = 0  # in the time base, 0 if unknown
    name: str | None = None  # stem, in an image folder
    audio: tuple[Any, ...] = field(default=())  # av.Packet read since the frame before


class FrameSource(Protocol):
    """Something that yields frames, once, in order."""

    info: SourceInfo
    warnings: list[str]  # what was odd but bearable, filled while reading
    trailing_audio: tuple[Any, ...]  # packets after the last frame, known at the end

    def __iter__(self) -> Iterator[Frame]: ...

    def __enter__(self) -> FrameSource: ...

    def __exit__(self, *exc: object) -> None: ...


class Ahead:
    """Runs a generator of frames in a thread; hands frames, the end, or its exception over."""

    def __init__(self, frames: Iterator[Frame], frame_bytes: int) -> None:
        depth = max(2, min(16, QUEUE_BYTES // max(1, frame_bytes)))
        self._queue: queue.Queue[Frame | BaseException | None] = queue.Queue(maxsize=depth)
        self._stop = threading.Event()
        self._frames = frames
        self._thread = threading.Thread(target=self._work, name="livos-decode", daemon=True)
        self._thread.start()

    def _put(self, item: Frame | BaseException | None) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def _work(self) -> None:
        try:
            for frame in self._frames:
                if not self._put(frame):
                    return
            self._put(None)
        except BaseException as error:  # raised again by the consumer
            self._put(error)

    def __iter__(self) -> Iterator[Frame]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


class BaseSource:
    """What both kinds of source share: reading ahead, and being closed."""

    info: SourceInfo

    def __init__(self, start: Position | None, end: Position | None) -> None:
        self.warnings: list[str] = []
        self.trailing_audio: tuple[Any, ...] = ()
        self._start, self._end = start, end
        self._ahead: Ahead | None = None

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        self._interrupt()
        if self._ahead is not None:
            self._ahead.close()
        self._close()

    def _interrupt(self) -> None:
        """Make a read that waits for input return."""

    def _close(self) -> None: ...

    def _read(self) -> Iterator[Frame]:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Frame]:
        self._ahead = Ahead(self._read(), self.info.width * self.info.height * 3)
        last = None
        for last in self._ahead:
            yield last
        if last is None and self._start is not None:
            raise InputError(
                f"--start is past the end of {self.info.name}: no frame is left",
                f"the video has about {self.info.frames or 'an unknown number of'} frames",
            )
        if last is None:
            raise InputError(f"{self.info.name} holds no frame that decodes", "is it damaged?")

    def _wanted(self, index: int, time: float) -> bool | None:
        """True to yield, False to skip, None to stop."""
        if self._end is not None and self._end.reached(index, time):
            return None
        return self._start is None or self._start.reached(index, time)
