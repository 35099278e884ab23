"""One sequence of a benchmark: frames and first annotations in, a folder of index PNGs out."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np

from livos_cli.datasets import Sequence, first_seen, list_annotations, read_ids
from livos_cli.device import memory_errors
from livos_cli.errors import InputError
from livos_cli.network.livos import LiVOS
from livos_cli.options import SegmentOptions
from livos_cli.outputs.formats import KINDS, Job
from livos_cli.outputs.writers import SinkThread
from livos_cli.pipeline.propagate import make_tracker, track
from livos_cli.video.images import list_images
from livos_cli.video.reader import open_source

__all__ = ["FirstAnnotations", "is_complete", "predict"]


class FirstAnnotations:
    """What a method is given: each object's first annotation, at its frame.

    Args:
        sequence: whose annotations.
        names: of the frames, in order.
        merge: all objects are one.

    Raises:
        InputError: an annotation without a frame, or none at all.
    """

    def __init__(self, sequence: Sequence, names: tuple[str, ...], *, merge: bool) -> None:
        number = {name: index for index, name in enumerate(names)}
        paths = {path.stem: path for path in list_annotations(sequence.annotations)}
        self._entering = {
            number[name]: (paths[name], ids)
            for name, ids in first_seen(sequence, merge=merge).items()
        }
        self._merge = merge

    @property
    def frames(self) -> list[int]:
        """Frames at which objects enter."""
        return sorted(self._entering)

    def at(self, frame: int, *, first: bool, width: int, height: int) -> np.ndarray | None:
        """The ids that enter at a frame, (H, W) uint8, or None.

        Raises:
            InputError: the annotation does not have the frame's size.
        """
        if frame not in self._entering:
            return None
        path, ids = self._entering[frame]
        annotation = read_ids(path, merge=self._merge)
        if annotation.shape != (height, width):
            rows, columns = annotation.shape
            raise InputError(
                f"{path} is {columns}x{rows}, its frame {width}x{height}",
                "annotations must have the frames' size",
            )
        return np.where(np.isin(annotation, list(ids)), annotation, 0).astype(np.uint8)

    def ends(self, frame: int, ids: Iterable[int]) -> frozenset[int]:
        """None: later annotations are not used."""
        return frozenset()


def predict(
    sequence: Sequence, model: LiVOS, target: Path, *, max_size: int | None, merge: bool
) -> tuple[int, float]:
    """Segment a sequence into `target/NAME.png`, complete or absent.

    Returns:
        Frames segmented, and seconds taken.

    Raises:
        LivosError: frames or annotations that cannot be used, or a place that cannot be written.
    """
    started = time.monotonic()
    frames = 0
    with open_source(sequence.frames) as source:
        given = FirstAnnotations(sequence, source.info.image_names or (), merge=merge)
        sink = SinkThread(KINDS["png"].open(target, Job(source.info, ())))
        try:
            tracker = make_tracker(model, SegmentOptions(max_size=max_size))
            with (
                memory_errors(model.device, f"use a smaller --max-size for {sequence.name}"),
                closing(track(source, given, tracker)) as results,
            ):
                for frame, decided in results:
                    frames += 1
                    if sequence.keep is None or frame.name in sequence.keep:
                        sink.write(frame, decided)
            sink.drain(())
            sink.publish(overwrite=True)
        finally:
            sink.abort()
    return frames, time.monotonic() - started


def is_complete(sequence: Sequence, target: Path) -> bool:
    """Whether every wanted frame of a sequence has its prediction."""
    wanted = sequence.keep
    if wanted is None:
        wanted = frozenset(path.stem for path in list_images(sequence.frames))
    return target.is_dir() and wanted == {path.stem for path in target.glob("*.png")}
