"""Frames from a later one to an earlier one, in bounded memory.

Video is decoded forward only. So one pass notes the timestamps and where key frames are; then,
from the last group of pictures to the first, each is decoded from its key frame and its last
frames are kept, as many as the cache holds, and given out in reverse. A group longer than the
cache is decoded several times.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import av
import numpy as np

from livos_cli.errors import InputError
from livos_cli.options import Position, RawVideo
from livos_cli.video.address import Address
from livos_cli.video.colour import to_rgb
from livos_cli.video.images import ImageFolderSource
from livos_cli.video.reader import VideoSource

__all__ = ["read_backward"]

CACHE_BYTES = 64 << 20  # decoded pictures kept, at most (but never fewer than eight)


def read_backward(
    source: str | Path,
    last: int,
    *,
    start: Position | None = None,
    allow_truncated: bool = False,
    raw: RawVideo | None = None,
    or_end: bool = False,
    cache_bytes: int = CACHE_BYTES,
) -> Generator[tuple[int, np.ndarray]]:
    """Frames from number `last` down to the first one wanted, the same bits as forward.

    Args:
        source: video file or folder of images.
        last: number of the frame to begin with.
        start: first frame wanted.
        allow_truncated: take a damaged or cut file as far as it decodes.
        raw: what to take bare pictures for.
        or_end: begin at the end of the source, if that comes before `last`.
        cache_bytes: of decoded pictures.

    Yields:
        Number and (H, W, 3) uint8 RGB; nothing if `start` is after `last`.

    Raises:
        InputError: the source cannot be read twice, or its timestamps do not tell frames apart.
    """
    address = Address.of(source)
    if address.path is None:
        raise InputError(
            f"{source} is a stream, which cannot be read backward", "save it to a file first"
        )
    if address.kind == "folder":
        folder = ImageFolderSource(Path(source), start, None)
        if last >= (count := len(folder.paths)):
            if not or_end:
                raise _no_frame(source, last, count)
            last = count - 1
        for index in range(last, -1, -1):
            if start is not None and not start.reached(index, folder.time_of(index)):
                return
            yield index, folder.image(index)
        return
    if not Path(source).is_file():
        raise InputError(
            f"{source} is no regular file, so it cannot be read twice", "save it first"
        )
    end = Position(frame=last + 1)
    with VideoSource(source, start, end, allow_truncated=allow_truncated, raw=raw) as video:
        reader = _Groups(video, cache_bytes)
        if reader.end is not None and reader.end <= last and not or_end:
            raise _no_frame(source, last, reader.end)
        with closing(reader.backward()) as frames:
            yield from frames


def _no_frame(source: str | Path, wanted: int, count: int) -> InputError:
    return InputError(f"{source} has no frame {wanted}", f"it has {count}, counted from 0")


class _Groups:
    """The groups of pictures of a video, as one forward pass found them."""

    def __init__(self, video: VideoSource, cache_bytes: int) -> None:
        self._video = video
        self._times = array("q")  # 8 bytes a frame
        self._keys = array("q")  # places in `_times` where a key frame is
        self._first = 0
        size = 1
        for index, _, _, picture in video.walk():
            if not self._times:
                self._first = index
                size = sum(plane.buffer_size for plane in picture.planes)
            if picture.pts is None or (self._times and picture.pts <= self._times[-1]):
                raise InputError(
                    f"{video.label} has timestamps that do not tell its frames apart, so it "
                    "cannot be read backward",
                    "write them anew: ffmpeg -i IN -c:v libx264 -crf 12 OUT.mp4",
                )
            if picture.key_frame or not self._times:
                self._keys.append(len(self._times))
            self._times.append(picture.pts)
        if video.starts_again:
            raise InputError(
                f"{video.label} has timestamps that start again, so it cannot be read backward",
                "write them anew: ffmpeg -i IN -c:v libx264 -crf 12 OUT.mp4",
            )
        self._room = max(8, cache_bytes // max(1, size))

    @property
    def end(self) -> int | None:
        """Number after the last frame's; None if the range holds no frame."""
        return self._first + len(self._times) if self._times else None

    def backward(self) -> Generator[tuple[int, np.ndarray]]:
        until = len(self._times)  # places from here on have been given out
        while until > 0:
            key = self._keys[bisect_left(self._keys, until) - 1]
            kept = self._decode(key, until)
            while kept:
                place, picture = kept.pop()
                yield self._first + place, to_rgb(picture, self._video.info)
                until = place
                del picture

    def _decode(self, key: int, until: int) -> deque[tuple[int, Any]]:
        """The last pictures before place `until` in the group of a key frame."""
        wanted = min(self._room, until - key)
        # Some containers' indices lead past the frame asked for: then from further back.
        before = self._keys[: bisect_right(self._keys, key)][-3:]
        for begin in [*reversed(before), None]:
            kept: deque[tuple[int, Any]] = deque(maxlen=wanted)
            for picture in self._from(begin):
                if picture.pts is None or picture.pts < self._times[key]:
                    continue
                place = bisect_left(self._times, picture.pts)
                if place >= until:
                    break
                if self._times[place] == picture.pts:
                    kept.append((place, picture))
            if [place for place, _ in kept] == list(range(until - wanted, until)):
                return kept
        raise InputError(
            f"{self._video.label} does not decode the same twice near frame {self._first + until}",
            "write it anew: ffmpeg -i IN -c:v libx264 -crf 12 OUT.mp4",
        )

    def _from(self, begin: int | None) -> Iterator[Any]:
        """Pictures from a key frame on, None for the start of the file; damage is passed over."""
        container, stream = self._video.container, self._video.stream
        if begin is None:
            container.seek(0)
        else:
            container.seek(self._times[begin], stream=stream, backward=True)
        for packet in container.demux(stream):
            try:
                yield from stream.decode(packet)
            except av.error.FFmpegError:
                # The first pass has met and judged it; frames that are missing here, but were
                # there before, are found by the caller.
                continue
