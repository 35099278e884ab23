"""What a source of frames is, and reading one ahead through a bounded queue."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from livos_cli.errors import InputError, PastEndError
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
    depth: int = 8  # bits of a component
    orientation: tuple[int, bool] = (0, False)  # of `Frame.picture`: quarter turns after a flip

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
    picture: Any = None  # av.VideoFrame as decoded, not yet oriented, where it is wanted
    # Held while the picture is converted, which changes its tags for that time.
    lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)


class FrameSource(Protocol):
    """Something that yields frames, once, in order."""

    info: SourceInfo
    warnings: list[str]  # what was odd but bearable, filled while reading
    trailing_audio: tuple[Any, ...]  # packets after the last frame, known at the end

    def __iter__(self) -> Iterator[Frame]: ...

    def __enter__(self) -> FrameSource: ...

    def __exit__(self, *exc: object) -> None: ...


class Ahead:
    """Runs a generator of frames in a thread; hands frames, the end, or its exception over.

    Args:
        frames: what to run.
        frame_bytes: size of one, to bound how many wait.
        latency_first: let one frame wait, and a newer one take its place; the first is never
            left out, for it has the mask.
    """

    def __init__(
        self, frames: Iterator[Frame], frame_bytes: int, *, latency_first: bool = False
    ) -> None:
        self._depth = 1 if latency_first else max(2, min(16, QUEUE_BYTES // max(1, frame_bytes)))
        self._waiting: deque[Frame | BaseException | None] = deque()
        self._changed = threading.Condition()  # of `_waiting` and `_stopped`, and their lock
        self._stopped = False
        self._latest = latency_first
        self._first: Frame | None = None
        self.dropped = 0
        self._frames = frames
        self._thread = threading.Thread(target=self._work, name="livos-decode", daemon=True)
        self._thread.start()

    def _put(self, item: Frame | BaseException | None) -> bool:
        """Put what comes next, once there is room; False if it is not wanted any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or len(self._waiting) < self._depth)
            if self._stopped:
                return False
            self._waiting.append(item)
            self._changed.notify_all()
        return True

    def _put_latest(self, frame: Frame, audio: tuple[Any, ...]) -> tuple[Any, ...]:
        """Put a frame in the place of one that waits; returns the audio that nobody took."""
        frame = replace(frame, audio=audio + frame.audio)
        with self._changed:
            if self._waiting and self._waiting[0] is self._first:
                self.dropped += 1
                return frame.audio
            if self._waiting:
                old = self._waiting.pop()
                assert isinstance(old, Frame)  # the end comes last
                self.dropped += 1
                frame = replace(frame, audio=old.audio + frame.audio)
            self._waiting.append(frame)
            self._changed.notify_all()
        return ()

    def _take(self) -> Frame | BaseException | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            item = self._waiting.popleft()
            self._changed.notify_all()
        return item

    def _work(self) -> None:
        audio: tuple[Any, ...] = ()
        try:
            for frame in self._frames:
                if self._latest and self._first is not None:
                    audio = self._put_latest(frame, audio)
                    if self._stopped:
                        return
                    continue
                self._first = frame
                if not self._put(frame):
                    return
            self._put(None)
        except BaseException as error:  # raised again by the consumer
            self._put(error)

    def __iter__(self) -> Iterator[Frame]:
        while (item := self._take()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self, timeout: float | None = None) -> bool:
        """Stop, and wait so many seconds; whether the thread has ended."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()


class BaseSource:
    """What both kinds of source share: reading ahead, and being closed."""

    info: SourceInfo
    _pixel_bytes = 3  # of a frame that waits
    _patience: float | None = None  # seconds to wait for a reader when the source is closed

    def __init__(
        self, start: Position | None, end: Position | None, *, latency_first: bool = False
    ) -> None:
        self._latest = latency_first
        self.warnings: list[str] = []
        self.trailing_audio: tuple[Any, ...] = ()
        self._start, self._end = start, end
        self._ahead: Ahead | None = None

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        self._interrupt()
        # Who reads from a silent network cannot be woken, nor what is read from be closed.
        if self._ahead is None or self._ahead.close(self._patience):
            self._close()

    def _interrupt(self) -> None:
        """Make a read that waits for input return."""

    def _close(self) -> None: ...

    def _read(self) -> Iterator[Frame]:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Frame]:
        self._ahead = Ahead(
            self._read(),
            self.info.width * self.info.height * self._pixel_bytes,
            latency_first=self._latest,
        )
        count, last = 0, None
        for last in self._ahead:
            count += 1
            yield last
        if dropped := self._ahead.dropped:
            self.warnings.append(
                f"{dropped} of {count + dropped} frames came too late and were left out "
                "(--latency-first)"
            )
        if last is None and self._start is not None:
            raise PastEndError(
                f"--start or --from is past the end of {self.info.name}: no frame is left",
                f"the video has about {self.info.frames or 'an unknown number of'} frames",
            )
        if last is None:
            raise InputError(f"{self.info.name} holds no frame that decodes", "is it damaged?")

    def _wanted(self, index: int, time: float) -> bool | None:
        """True to yield, False to skip, None to stop."""
        if self._end is not None and self._end.reached(index, time):
            return None
        return self._start is None or self._start.reached(index, time)
