"""What a run tells of itself: when it begins, after each frame, and at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from livos_cli.pipeline.doubts import Doubt
from livos_cli.video.source import SourceInfo

__all__ = ["Begin", "Observer", "Progress", "Report", "Result"]


@dataclass(frozen=True)
class Result:
    """One frame's mask, from `livos_cli.segment`."""

    index: int  # of the frame in the source, from 0
    pts: int  # its timestamp in the source's time base
    time_base: Fraction  # seconds a tick
    mask: np.ndarray  # (H, W) uint8 object ids, 0 for background
    certainty: Mapping[int, float] = field(default_factory=dict)  # by id: `Tracker.certainty`


@dataclass(frozen=True)
class Begin:
    """What is known once the inputs have been opened and checked."""

    info: SourceInfo
    ids: tuple[int, ...]  # all ids in the masks
    names: dict[int, str]  # of ids that came from object folders
    network_size: tuple[int, int]  # height, width at which the network runs
    frames: int | None  # expected, if known
    back: int  # of these, how many are done twice: backward first
    resumed: int | None  # frames known from an interrupted run; None if it cannot be resumed
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Progress:
    """After each frame."""

    done: int
    back: int  # frames that the way back has done
    seconds: float
    objects: int
    peak_memory: int | None  # bytes


@dataclass(frozen=True)
class Report:
    """How a run ended."""

    frames: int
    seconds: float
    ids: tuple[int, ...]
    names: dict[int, str]  # of ids that came from object folders
    outputs: dict[str, Path]  # kind or "preview" -> path; not what went to stdout
    size: tuple[int, int]  # height, width of the video
    network_size: tuple[int, int]
    peak_memory: int | None  # bytes
    warnings: tuple[str, ...]
    begins: int = 0  # the frame that a single mask belongs to
    doubts: tuple[Doubt, ...] = ()  # where to look, by object and frame


def _nothing(_: object) -> None: ...


@dataclass(frozen=True)
class Observer:
    """What is told how a run goes."""

    begin: Callable[[Begin], None] = _nothing  # the inputs have been checked
    frame: Callable[[Progress], None] = _nothing  # a frame is done, on the way back too
    # The outputs have their names, while checkpoints are still there.
    published: Callable[[Report], None] = _nothing
