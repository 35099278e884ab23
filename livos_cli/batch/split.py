"""One long video in stretches between its key masks, each tracked on its own, then written as one.

A stretch knows nothing of those before it: what its mask does not show is not followed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from livos_cli.errors import InputError, OutputError, PastEndError, UsageError
from livos_cli.files.atomic import make_own_folder, open_own, remove_empty, synced
from livos_cli.files.livos_folder import checkpoint_folder
from livos_cli.masks.reference_masks import ReferenceMasks
from livos_cli.network.livos import LiVOS
from livos_cli.options import Position, RunOptions, SegmentOptions
from livos_cli.outputs.formats import KINDS, FrameResult
from livos_cli.outputs.paths import plan_outputs
from livos_cli.pipeline.fingerprint import of_mask, of_run, of_source
from livos_cli.pipeline.positions import resolve_positions
from livos_cli.pipeline.propagate import make_tracker, track
from livos_cli.pipeline.run import open_video
from livos_cli.pipeline.spool import read_result, write_result

__all__ = ["Stretch", "plan_stretches", "remove", "results_of", "work_on_stretch"]


@dataclass(frozen=True)
class Stretch:
    """Some frames of a video, and the file that has their results when they are done."""

    video: Path
    mask: Path
    options: SegmentOptions  # with the stretch as its range
    matte: bool
    results: Path


def plan_stretches(
    video: Path, mask: Path, options: SegmentOptions, output: RunOptions, weights: str
) -> tuple[list[Stretch], list[str]]:
    """Where a video can be taken apart; and warnings.

    Args:
        video: file or folder of images.
        mask: folder of masks of whole frames, at least two.
        options: of the whole.
        output: what will be written, and where.
        weights: digest of their file.

    Raises:
        UsageError: it cannot be taken apart.
    """
    options, _ = resolve_positions(options, mask, video)
    if options.direction != "forward" or options.origin is not None:
        raise UsageError("--split-at-masks goes forward from the first mask", "remove --from")
    if options.refine:
        raise UsageError("--split-at-masks knows one mask a stretch", "remove --refine")
    if options.start is not None or options.end is not None:
        raise UsageError("--split-at-masks takes the whole video", "remove --start and --end")
    with open_video(video, options) as source:
        info = source.info
    keys = ReferenceMasks(mask, info.image_names)
    frames = keys.frames or []
    if len(frames) < 2:
        raise UsageError(
            f"--split-at-masks: {mask} has masks for fewer than two frames",
            "give a folder of masks that are named by frame number",
        )
    kinds = [KINDS[name] for name in output.save]
    paths = plan_outputs(video, mask, output)
    records = checkpoint_folder(paths)
    if records is None:
        raise UsageError("--split-at-masks cannot write to stdout", "give a folder with -o")
    matte = any(kind.matte for kind in kinds)
    inputs = f"{of_source(video)} {of_mask(mask)}"
    folder = (
        records.with_suffix(".stretches")
        / of_run(inputs, options, weights, matte=matte, exact="stretches")[:16]
    )
    begins = [0, *frames[1:]]
    stretches = []
    for begin, end in zip(begins, [*frames[1:], None], strict=True):
        apart = replace(
            options,
            start=Position(frame=begin) if begin else None,
            end=None if end is None else Position(frame=end),
        )
        name = f"{begin:09d}-{'end' if end is None else f'{end:09d}'}"
        stretches.append(Stretch(video, mask, apart, matte, folder / name))
    return stretches, _lost(keys, frames, info.width, info.height)


def _lost(keys: ReferenceMasks, frames: list[int], width: int, height: int) -> list[str]:
    """Objects that are in the mask before, but not in the next one."""
    warnings = []
    before: set[int] = set()
    for frame in frames:
        mask = keys.at(frame, first=False, width=width, height=height)
        assert mask is not None
        ids = {int(i) for i in set(mask.ravel().tolist()) if i}
        if gone := sorted(before - ids):
            names = ", ".join(map(str, gone))
            warnings.append(
                f"the mask of frame {frame} is without object {names}: with --split-at-masks it "
                "is not followed from there on"
            )
        before = ids
    return warnings


def work_on_stretch(stretch: Stretch, model: LiVOS) -> int:
    """Track a stretch and leave its results in its file; returns how many frames it has.

    Raises:
        LivosError: its video or masks cannot be used, or results not be written.
    """
    count = 0
    try:
        for folder in reversed(stretch.results.parents[:3]):  # .livos, the video's, this run's
            make_own_folder(folder)
        with (
            synced(stretch.results) as file,
            open_video(stretch.video, stretch.options) as source,
        ):
            keys = ReferenceMasks(stretch.mask, source.info.image_names)
            tracker = make_tracker(model, stretch.options)
            # Drops belong to the stretch they fall into.
            start = stretch.options.start
            first = 0 if start is None else start.frame or 0
            drops = tuple(d for d in stretch.options.drop if d.frame >= first)
            with suppress(PastEndError):  # its mask is for a frame that is not there
                for _, decided in track(source, keys, tracker, drops, matte=stretch.matte):
                    write_result(file, decided)
                    count += 1
    except OSError as error:
        raise OutputError(
            f"cannot write {stretch.results} ({error.strerror})", "free some space"
        ) from None
    return count


def results_of(stretches: Iterable[Stretch]) -> Iterator[FrameResult]:
    """The results of all stretches, in order.

    Raises:
        InputError: a file of them is damaged.
    """
    for stretch in stretches:
        try:
            with open_own(stretch.results) as file:
                size = os.fstat(file.fileno()).st_size
                while file.tell() < size:
                    yield read_result(file)
        except (ValueError, OSError) as error:
            raise InputError(
                f"the results in {stretch.results} are damaged ({error})",
                "remove that file and run it again",
            ) from None


def remove(stretches: list[Stretch]) -> None:
    """Remove what is not needed any more."""
    folder = stretches[0].results.parent
    shutil.rmtree(folder.parent, ignore_errors=True)
    remove_empty([folder.parent.parent])
