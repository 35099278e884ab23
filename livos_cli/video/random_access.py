"""Frames by number, in any order, for those who look at a video and do not only follow it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from livos_cli.errors import InputError, UsageError
from livos_cli.video.address import Address
from livos_cli.video.backward import pictures_backward
from livos_cli.video.colour import to_rgb
from livos_cli.video.frame_table import FrameTable, pictures_from
from livos_cli.video.images import ImageFolderSource
from livos_cli.video.reader import VideoSource
from livos_cli.video.source import SourceInfo

__all__ = ["RandomAccess", "open_random_access"]


class RandomAccess(ABC):
    """A video whose frames can be read from anywhere; the same bits as reading it in order.

    One thread at a time reads from it; others take a `twin`.
    """

    info: SourceInfo
    count: int  # of frames

    @abstractmethod
    def seconds(self, number: int) -> float:
        """When a frame is shown, from the first one on."""

    @abstractmethod
    def frame(self, number: int) -> np.ndarray:
        """One frame, (H, W, 3) uint8 RGB."""

    @abstractmethod
    def frames(self, first: int) -> Generator[tuple[int, np.ndarray]]:
        """Number and picture of every frame from one on."""

    @abstractmethod
    def backward(self, last: int) -> Generator[tuple[int, np.ndarray]]:
        """Number and picture of every frame from one down to the first."""

    @abstractmethod
    def twin(self) -> RandomAccess:
        """The same video for another thread."""

    def close(self) -> None:  # noqa: B027 - a folder has nothing to let go of
        """Let go of the file."""


def open_random_access(video: str | Path) -> RandomAccess:
    """Open a video file or a folder of images.

    Where the container does not say plainly which frames there are, the video is decoded once.

    Raises:
        UsageError: a stream, which cannot be read twice.
        InputError: it is damaged, or its timestamps do not tell frames apart.
    """
    address = Address.of(video)
    if address.kind == "folder":
        return _Images(Path(video))
    if address.kind != "file":
        raise UsageError(f"{video} cannot be read in any order", "save it to a file first")
    source = VideoSource(video)
    try:
        table = FrameTable.by_packets(source)
        if table is None:
            table = FrameTable.by_decoding(source)
    finally:
        source.container.close()
    return _Pictures(Path(video), table)


class _Images(RandomAccess):
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._source = ImageFolderSource(folder, None, None)
        self.info, self.count = self._source.info, len(self._source.paths)

    def seconds(self, number: int) -> float:
        return self._source.time_of(number)

    def frame(self, number: int) -> np.ndarray:
        return self._source.image(number)

    def frames(self, first: int) -> Generator[tuple[int, np.ndarray]]:
        for number in range(first, self.count):
            yield number, self.frame(number)

    def backward(self, last: int) -> Generator[tuple[int, np.ndarray]]:
        for number in range(last, -1, -1):
            yield number, self.frame(number)

    def twin(self) -> _Images:
        return _Images(self._folder)


class _Pictures(RandomAccess):
    def __init__(self, path: Path, table: FrameTable) -> None:
        self._path, self._table = path, table
        self._video = VideoSource(path)
        self.info, self.count = self._video.info, len(table.times)
        self._running: Generator[tuple[int, Any], None, None] | None = None
        self._next = 0  # number that `_running` gives next

    def seconds(self, number: int) -> float:
        ticks = self._table.times[number] - self._table.times[0]
        return float(ticks * self.info.time_base)

    def frame(self, number: int) -> np.ndarray:
        if not 0 <= number < self.count:
            raise InputError(f"{self._path} has no frame {number}", f"it has {self.count}")
        # To decode on costs less than to begin at the key frame before.
        if self._running is None or not self._begins(number) <= self._next <= number:
            self._begin(number)
        assert self._running is not None
        try:
            for found, picture in self._running:
                self._next = found + 1
                if found == number:
                    return to_rgb(picture, self.info)
        except InputError:
            self._stop()  # it gives nothing more
            raise
        raise AssertionError("the generator gives every frame or raises")

    def _begins(self, number: int) -> int:
        """The key frame from which a frame is decoded."""
        keys = self._table.keys
        return keys[bisect_right(keys, number) - 1]

    def _begin(self, number: int) -> None:
        self._stop()
        self._running, self._next = pictures_from(self._video, self._table, number), number

    def _stop(self) -> None:
        if self._running is not None:
            self._running.close()
        self._running = None

    def frames(self, first: int) -> Generator[tuple[int, np.ndarray]]:
        self._stop()
        with closing(pictures_from(self._video, self._table, first)) as pictures:
            for number, picture in pictures:
                yield number, to_rgb(picture, self.info)

    def backward(self, last: int) -> Generator[tuple[int, np.ndarray]]:
        self._stop()
        return pictures_backward(self._video, self._table, last)

    def twin(self) -> _Pictures:
        return _Pictures(self._path, self._table)

    def close(self) -> None:
        self._stop()
        self._video.container.close()
