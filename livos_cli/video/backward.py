"""Frames from a later one to an earlier one, in bounded memory.

Video is decoded forward only. So one pass notes the timestamps and where key frames are; then,
from the last group of pictures to the first, each is decoded from its key frame and its last
frames are kept, as many as the cache holds, and given out in reverse. A group longer than the
cache is decoded several times.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from livos_cli.errors import InputError
from livos_cli.options import Position, RawVideo
from livos_cli.video.address import Address
from livos_cli.video.colour import to_rgb
from livos_cli.video.frame_table import FrameTable, differs, pictures_in
from livos_cli.video.images import ImageFolderSource
from livos_cli.video.reader import VideoSource

__all__ = ["pictures_backward", "read_backward"]

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
            f"{source} is not a regular file, so it cannot be read twice", "save it first"
        )
    end = Position(frame=last + 1)
    with VideoSource(source, start, end, allow_truncated=allow_truncated, raw=raw) as video:
        table = FrameTable.by_decoding(video)
        if table.end is not None and table.end <= last and not or_end:
            raise _no_frame(source, last, table.end)
        with closing(pictures_backward(video, table, cache_bytes=cache_bytes)) as frames:
            yield from frames


def pictures_backward(
    video: VideoSource,
    table: FrameTable,
    last: int | None = None,
    *,
    cache_bytes: int = CACHE_BYTES,
) -> Generator[tuple[int, np.ndarray]]:
    """Number and (H, W, 3) uint8 RGB of frames from `last` (None: the end) down to the first.

    Raises:
        InputError: a frame of the table does not come.
    """
    until = len(table.times) if last is None else last + 1 - table.first
    yield from _Groups(video, table, cache_bytes).backward(until)


def _no_frame(source: str | Path, wanted: int, count: int) -> InputError:
    return InputError(f"{source} has no frame {wanted}", f"it has {count}, counted from 0")


class _Groups:
    """The groups of pictures of a video, from the last to the first."""

    def __init__(self, video: VideoSource, table: FrameTable, cache_bytes: int) -> None:
        self._video, self._table = video, table
        self._cache_bytes = cache_bytes

    def backward(self, until: int) -> Generator[tuple[int, np.ndarray]]:
        """Number and RGB of the frames before place `until`, backward."""
        keys = self._table.keys
        while until > 0:
            key = keys[bisect_left(keys, until) - 1]
            kept = self._decode(key, until)
            while kept:
                place, picture = kept.pop()
                yield self._table.first + place, to_rgb(picture, self._video.info)
                until = place
                del picture

    def _decode(self, key: int, until: int) -> deque[tuple[int, Any]]:
        """The last pictures before place `until` in the group of a key frame."""
        keys = self._table.keys
        # Some containers' indices lead past the frame asked for: then from further back.
        before = keys[: bisect_right(keys, key)][-3:]
        for begin in [*reversed(before), None]:
            kept: deque[tuple[int, Any]] = deque()
            wanted = until - key
            for place, picture in pictures_in(self._video, self._table, begin):
                if place < key:
                    continue
                if place >= until:
                    break
                if not kept:
                    size = sum(plane.buffer_size for plane in picture.planes)
                    wanted = min(max(8, self._cache_bytes // max(1, size)), until - key)
                kept.append((place, picture))
                if len(kept) > wanted:
                    kept.popleft()
            if [place for place, _ in kept] == list(range(until - wanted, until)):
                return kept
        raise differs(self._video, self._table.first + until)
