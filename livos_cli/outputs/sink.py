"""What a sink is: it takes frames in order, and its result is complete under its name, or absent.

Each sink writes under a temporary name beside the final one, and renames only after it has read
back how many frames there are.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import av
import cv2
import numpy as np

from livos_cli.errors import (
    KindError,
    LivosError,
    OutputError,
    ReaderGoneError,
    UsageError,
)
from livos_cli.files.atomic import absent, create, remove_empty, swap_folder, temporary_of
from livos_cli.memory import HINT, out_of_memory, too_little_memory
from livos_cli.options import Look, RunOptions
from livos_cli.video.source import Frame, SourceInfo

__all__ = [
    "DOUBTFUL",
    "HOLDS",
    "FrameResult",
    "Job",
    "Kind",
    "Named",
    "Partial",
    "Sink",
    "Stdout",
    "cannot_write",
]

HOLDS = "--save png, rle or mask hold any video; ffmpeg -i IN -vf setpts=N/25/TB OUT.mp4 evens it"
DOUBTFUL = 0.5  # certainty below which a mask is doubtful


@dataclass(frozen=True)
class FrameResult:
    """What was found in a frame."""

    ids: np.ndarray  # (H, W) uint8, 0 for background
    matte: np.ndarray | None = None  # (H, W) uint16, 65535 times the probability of any object
    given: frozenset[int] = frozenset()  # ids that may change here at will: given, or dropped
    # By id, how likely its mask is right (`Tracker.certainty`); of some nothing can be said.
    certainty: Mapping[int, float] = field(default_factory=dict)

    @cached_property
    def areas(self) -> np.ndarray:
        """Pixels of each id, (256,) int64."""
        counts = cv2.calcHist([self.ids], [0], None, [256], [0, 256])
        return np.rint(counts.ravel()).astype(np.int64)


@dataclass(frozen=True)
class Job:
    """What a sink is to know of the run."""

    info: SourceInfo
    ids: tuple[int, ...]  # all there will be
    names: dict[int, str] = field(default_factory=dict)  # of ids that have one
    options: RunOptions = field(default_factory=RunOptions)

    @property
    def look(self) -> Look:
        return self.options.look

    @property
    def single(self) -> bool:
        """Whether there is but one object, which is then written as 0/255."""
        return len(self.ids) == 1


class Sink(Protocol):
    """Receives frames with what was found in them, in order."""

    warnings: list[str]

    def write(self, frame: Frame, decided: FrameResult) -> None:
        """One frame."""

    def finish(self, trailing_audio: Iterable[Any] = ()) -> None:
        """Flush, and check by reading back that no frame is missing."""

    @property
    def unnamed(self) -> Path | None:
        """Where the result is until it has its name; None if it has none."""

    def publish(self, overwrite: bool) -> None:
        """Give the finished result its name; without `overwrite`, only if that is still free."""

    def abort(self) -> None:
        """Leave nothing behind."""


@dataclass(frozen=True)
class Kind:
    """A row of the table of outputs."""

    suffix: Callable[[RunOptions], str]  # of the file's name; of a folder, it ends in "/"
    open: Callable[[Path | Stdout, Job], Sink]
    audio: bool = False  # takes the source's audio
    matte: bool = False  # wants the probability, not the decision alone
    picture: bool = False  # carries the picture, in the depth that the source has
    streams: bool = False  # can go to stdout
    owns: Callable[[Path], bool] = lambda _: False  # a file of an earlier result, in a folder


class Stdout:
    """Standard output as a place for a result: what is written is gone, complete or not."""

    name = "stdout"

    def __init__(self) -> None:
        if sys.stdout is None:
            raise UsageError("-o - writes to stdout, which is closed", "pipe it on, or redirect it")
        self._file = sys.stdout.buffer

    def write(self, data: bytes) -> int:
        """All of it, at once, so that whoever reads can go on."""
        self._file.write(data)
        self._file.flush()
        return len(data)


class Named:
    """What all sinks that give one file or folder its name have in common."""

    _partial: Partial

    @property
    def unnamed(self) -> Path | None:
        """Where the result is until it has its name; None if it has none."""
        target = self._partial.target
        return target if isinstance(target, Path) else None


class Partial:
    """A temporary neighbour of the final path; or stdout, which has none."""

    def __init__(self, path: Path | Stdout, *, folder: bool = False) -> None:
        self.path = path
        self.warnings: list[str] = []
        self.frames = 0
        self._made: list[Path] = []
        if isinstance(path, Stdout):
            return
        # Folders that are made here go again if there is no result to put into them.
        self._made = absent(path.parent)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.temporary = temporary_of(path)
            if folder:
                self.temporary.mkdir()
            else:
                create(self.temporary).close()
        except OSError as error:
            raise cannot_write(path, error) from None

    @property
    def target(self) -> Path | Stdout:
        """Where to write."""
        return self.path if isinstance(self.path, Stdout) else self.temporary

    def remove(self) -> None:
        if isinstance(self.path, Stdout):
            return
        if self.temporary.is_dir():
            shutil.rmtree(self.temporary, ignore_errors=True)
        else:
            self.temporary.unlink(missing_ok=True)

    def abandon(self) -> None:
        """Leave nothing behind."""
        self.remove()
        remove_empty(self._made)

    @contextlib.contextmanager
    def opening(self, abort: Callable[[], None] | None = None) -> Iterator[None]:
        """Leave nothing behind where a result cannot be opened, whatever the reason.

        Args:
            abort: lets go of what was opened until then, and of this; None: of this alone.

        Raises:
            LivosError: it cannot be written, or there is too little memory.
        """
        try:
            yield
        except BaseException as error:
            (abort or self.abandon)()
            if isinstance(error, (av.error.FFmpegError, OSError, ValueError, MemoryError)):
                raise cannot_write(self.path, error) from None
            raise

    def check(self, written: int) -> None:
        """Raises OutputError unless `written`, as counted by reading back, is what went in."""
        if written != self.frames:
            raise OutputError(
                f"{self.path}: {self.frames} frames went in, {written} came out; nothing was kept",
                "please report this, with the output of `livos info`",
            )

    def publish(self, overwrite: bool) -> None:
        """Rename. Another run may have taken the name since this one began."""
        path = self.path
        if isinstance(path, Stdout):
            return
        try:
            # Folders are left to the system. Windows syncs only what may be written.
            if self.temporary.is_file():
                with self.temporary.open("r+b") as file:
                    os.fsync(file.fileno())
            if not overwrite:
                _rename_to_free(self.temporary, path)
            elif path.is_dir() and self.temporary.is_dir():
                old = swap_folder(self.temporary, path)
                if old is not None:
                    old.unlink() if old.is_symlink() else shutil.rmtree(old)
            else:
                os.replace(self.temporary, path)
        except FileExistsError:
            raise OutputError(
                f"{path} was made by someone else while this ran", "use -y to overwrite it"
            ) from None
        except OSError as error:
            raise cannot_write(path, error) from None


def _rename_to_free(temporary: Path, path: Path) -> None:
    """Rename, or raise FileExistsError: in one step where the file system has hard links."""
    if temporary.is_dir():
        if os.path.lexists(path):
            raise FileExistsError(path)
        temporary.rename(path)  # of itself refuses a folder that is not empty
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        temporary.rename(path)
    else:
        temporary.unlink()


def cannot_write(path: Path | Stdout, error: BaseException) -> LivosError:
    """The error of a result that could not be written, with the system's reason."""
    if out_of_memory(error):
        return too_little_memory(f"to write {path.name}")
    reason = getattr(error, "strerror", None) or str(error)
    if isinstance(error, av.error.ExternalError):  # x264 and others say no more than that
        return OutputError(
            f"cannot write {path.name}: its encoder failed ({reason})",
            f"most likely it had too little memory: {HINT}",
        )
    if isinstance(path, Stdout):
        if getattr(error, "errno", None) == errno.EPIPE:
            return ReaderGoneError("whoever read stdout has ended")
        return OutputError(f"cannot write to stdout ({reason})", "did its reader end early?")
    if isinstance(error, av.error.FFmpegError) and not isinstance(error, (OSError, MemoryError)):
        # Nothing of the system: what was to be written does not fit into this format.
        return KindError(f"cannot write {path}: its format does not hold this ({reason})", HOLDS)
    return OutputError(
        f"cannot write {path} ({reason})", "choose another place with -o, or free some space"
    )
