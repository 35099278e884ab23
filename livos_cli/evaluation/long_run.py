"""Long videos from short ones: a sequence played forward and backward, and J by position.

Benchmarks with complete annotations are short. Playing one back and forth up to 1,000 frames shows
what a memory does over time, with the truth known at every frame.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from livos_cli.datasets import Dataset, Sequence, list_annotations, read_ids
from livos_cli.device import memory_errors
from livos_cli.errors import InputError
from livos_cli.evaluation.predict import FirstAnnotations
from livos_cli.evaluation.score import jaccard
from livos_cli.files.atomic import write_whole
from livos_cli.files.trust import LONG, UntrustedError, read
from livos_cli.network.livos import LiVOS
from livos_cli.options import SegmentOptions
from livos_cli.pipeline.propagate import make_tracker
from livos_cli.video.images import list_images, read_image
from livos_cli.video.to_and_fro import to_and_fro

__all__ = ["BIN", "LongRun", "evaluate_long", "play"]

BIN = 100  # positions that are averaged


@dataclass(frozen=True)
class LongRun:
    """One sequence; J is the mean over its objects that have entered."""

    name: str
    j: tuple[float, ...]  # by position; the frame of the first mask is not in it

    @property
    def bins(self) -> list[float]:
        """Mean J of each hundred positions, the last of which may be shorter."""
        return [float(np.mean(self.j[i : i + BIN])) for i in range(0, len(self.j), BIN)]

    @property
    def first(self) -> float:
        """Mean J of frames 1 to 100."""
        return float(np.mean(self.j[:BIN]))

    @property
    def last(self) -> float:
        """Mean J of the last 100 frames."""
        return float(np.mean(self.j[-BIN:]))


def play(
    sequence: Sequence, model: LiVOS, length: int, *, max_size: int | None, merge: bool
) -> LongRun:
    """Follow a sequence's objects for `length` frames.

    Args:
        sequence: with an annotation for every frame.
        model: from `load_model`.
        length: frames in all, that of the first mask counted.
        max_size: shorter side for the network; None: the weights', -1: native.
        merge: all objects are one.

    Raises:
        InputError: a frame has no annotation.
    """
    # Decoded anew each time it comes: whatever the sequence's length, one frame is in memory.
    paths = list_images(sequence.frames)
    truth = {path.stem: path for path in list_annotations(sequence.annotations)}
    names = tuple(path.stem for path in paths)
    if missing := [name for name in names if name not in truth]:
        raise InputError(
            f"{sequence.name}: frame {missing[0]} has no annotation",
            "long runs need one for every frame",
        )
    given = FirstAnnotations(sequence, names, merge=merge)
    tracker = make_tracker(model, SegmentOptions(max_size=max_size))
    height, width = read_image(paths[0]).shape[:2]
    scores = []
    for position in range(length):
        number = to_and_fro(position, len(paths))
        rgb = read_image(paths[number])
        if rgb.shape[:2] != (height, width):
            raise InputError(f"{paths[number]} has another size than {paths[0]}", "all need one")
        entering = None
        if position < len(paths):  # objects enter on the first way forward only
            entering = given.at(number, first=position == 0, width=width, height=height)
        followed = tracker.object_ids
        got = tracker.step_ids(rgb, entering)
        if followed:
            want = read_ids(truth[names[number]], merge=merge)
            if want.shape != (height, width):
                raise InputError(f"{truth[names[number]]} has another size than its frame", "")
            mean = np.mean([jaccard(got == i, want == i) for i in followed])
            scores.append(round(float(mean), 5))
    if not scores:
        raise InputError(
            f"{sequence.name}: no object was followed within {length} frames", "use a longer --long"
        )
    return LongRun(sequence.name, tuple(scores))


def evaluate_long(
    dataset: Dataset,
    model: LiVOS,
    folder: Path,
    length: int,
    *,
    max_size: int | None = None,
    on_sequence: Callable[[LongRun], None] = lambda _: None,
) -> list[LongRun]:
    """Play every sequence; those that `folder` has already are not played again.

    Args:
        dataset: from `open_dataset`, scored.
        model: from `load_model`.
        folder: claimed by `claim`; gets long/NAME.json.
        length: frames of each run.
        max_size: shorter side for the network; None: the weights', -1: native.
        on_sequence: called after each.
    """
    if not dataset.scored:
        raise InputError(f"{dataset.kind} {dataset.split} has no truth", "use another split")
    runs = []
    for sequence in dataset.sequences:
        note = folder / "long" / f"{sequence.name}.json"
        try:
            run = LongRun(sequence.name, tuple(read(note, LONG)))
        except (OSError, UntrustedError):  # none, or none that can be trusted
            with memory_errors(model.device, f"use a smaller --max-size for {sequence.name}"):
                run = play(sequence, model, length, max_size=max_size, merge=dataset.merge)
            write_whole(note, json.dumps(run.j).encode())
        runs.append(run)
        on_sequence(run)
    return runs
