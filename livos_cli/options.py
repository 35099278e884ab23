"""Resolved settings, as frozen dataclasses. Nothing here imports torch or reads a file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from livos_cli.errors import UsageError

__all__ = ["DEVICES", "PRECISIONS", "Position", "RunOptions", "SegmentOptions", "parse_bytes"]

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "fp16", "bf16")


@dataclass(frozen=True)
class Position:
    """A place in a video: a time in seconds, or a frame number."""

    seconds: float | None = None
    frame: int | None = None

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read `12.5` (seconds), `1:02:03.5` (h:m:s) or `123f` (frame number, from 0).

        Raises:
            UsageError: the text is none of these.
        """
        if match := re.fullmatch(r"(\d+)f", text):
            return cls(frame=int(match[1]))
        if re.fullmatch(r"(\d+:){0,2}\d+(\.\d*)?", text):
            seconds = 0.0
            for part in text.split(":"):
                seconds = seconds * 60 + float(part)
            return cls(seconds=seconds)
        raise UsageError(
            f"'{text}' is not a position in a video",
            "give seconds (12.5), h:m:s (1:02:03.5) or a frame number (123f)",
        )

    def before(self, other: Position) -> bool:
        """Whether this is earlier; True where a time and a number cannot be compared."""
        if self.frame is not None and other.frame is not None:
            return self.frame < other.frame
        if self.seconds is not None and other.seconds is not None:
            return self.seconds < other.seconds
        return other.frame != 0 and other.seconds != 0.0

    def reached(self, index: int, time: float) -> bool:
        """Whether a frame is at this position or after it."""
        if self.frame is not None:
            return index >= self.frame
        # Half a microsecond, so that 0.04 means the frame at 1/25 s.
        return time >= (self.seconds or 0.0) - 5e-7


def parse_bytes(text: str) -> int:
    """Read an amount of memory: `3GiB`, `1.5GB`, `800MiB`, `800MB` or bytes.

    Raises:
        UsageError: the text is none of these.
    """
    units = {"": 1, "MB": 10**6, "GB": 10**9, "MIB": 2**20, "GIB": 2**30}
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if match is None or match[2].upper() not in units:
        raise UsageError(f"'{text}' is not an amount of memory", "give it like 3GiB or 800MB")
    return int(float(match[1]) * units[match[2].upper()])


@dataclass(frozen=True)
class SegmentOptions:
    """How a video is segmented, whatever is made of the result."""

    max_size: int | None = None  # shorter side for the network; None: the weights', -1: native
    chunk_objects: int = 0  # objects at a time, 0 for all
    memory_budget: int | None = None  # bytes for the network, its weights counted; None: auto
    cuda_graphs: bool = False  # on CUDA, replay a frame's work as one graph
    start: Position | None = None  # first frame
    end: Position | None = None  # first frame not wanted
    allow_truncated: bool = False  # keep what decodes of a damaged file


@dataclass(frozen=True)
class RunOptions:
    """What is written, and where."""

    save: tuple[str, ...] = ("mask",)  # kinds, keys of video.writer.KINDS
    output: Path | None = None  # folder, or file for one kind; None: beside the input
    overwrite: bool = False
