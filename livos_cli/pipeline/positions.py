"""Places in a video, made frame numbers once it is known which video: times, and masks' names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from livos_cli.errors import InputError, PastEndError, UsageError
from livos_cli.masks.reference_masks import ReferenceMasks, resolve_origin
from livos_cli.masks.single_mask import frame_of_single, looks_numbered
from livos_cli.options import Drop, Position, SegmentOptions, Times
from livos_cli.video.address import Address
from livos_cli.video.images import list_images
from livos_cli.video.reader import open_source

__all__ = ["frame_at", "key_masks", "resolve_positions"]


def resolve_positions(
    options: SegmentOptions, mask: Path, video: str | Path
) -> tuple[SegmentOptions, list[str]]:
    """Replace times, and frames named by the mask's file name, by frame numbers.

    Doing it again changes nothing.

    Args:
        options: as they were given.
        mask: image, or folder of masks.
        video: file, folder of images, URL, or -.

    Returns:
        The options, their `times` empty; and warnings.

    Raises:
        UsageError: the places contradict each other, or cannot be told of this source.
        InputError: a place past the end, or a video that cannot be read.
    """
    options = _without_times(options, video)
    warnings: list[str] = []
    if mask.is_file():
        options, warnings = _heed_name(options, mask, video)
    return resolve_origin(options, mask, video), warnings


def frame_at(
    video: str | Path, position: Position, option: str, options: SegmentOptions | None = None
) -> int:
    """The number of the first frame at a position or after it, read from the video.

    Raises:
        UsageError: a source that cannot be read twice.
        InputError: it is past the end.
    """
    if position.frame is not None:
        return position.frame
    if Address.of(video).path is None:
        raise UsageError(
            f"{option} {position}: {video} cannot be read twice to find that time",
            "give a frame number, like 200f",
        )
    options = options or SegmentOptions()
    try:
        with open_source(
            video, start=position, allow_truncated=options.allow_truncated, raw=options.raw
        ) as source:
            for frame in source:
                return frame.index
    except PastEndError:
        pass
    raise InputError(
        f"{option} {position} is past the end of {video}", "give an earlier time, or a frame: 200f"
    )


def key_masks(masks: Path, video: str | Path) -> ReferenceMasks | None:
    """What a folder of masks holds; None if it is none: empty, or with other images."""
    try:
        return ReferenceMasks(masks, _names_of(video)[1])
    except InputError:
        return None


def _without_times(options: SegmentOptions, video: str | Path) -> SegmentOptions:
    times = options.times
    if times == Times():
        return options
    drops = [
        Drop(object_id, frame_at(video, Position(seconds=seconds), "--drop", options))
        for object_id, seconds in times.drop
    ]
    changed = replace(options, times=Times(), drop=(*options.drop, *drops))
    if times.origin is None:
        return changed
    origin = Position(seconds=times.origin)
    if Address.of(video).path is None and options.direction == "forward":
        return replace(changed, start=origin)  # its number shows when it comes
    return replace(changed, origin=frame_at(video, origin, "--from", options))


def _heed_name(
    options: SegmentOptions, mask: Path, video: str | Path
) -> tuple[SegmentOptions, list[str]]:
    """Begin at the frame that a single mask names."""
    stem, images = _names_of(video)
    named = frame_of_single(mask, stem, images)
    if named is None:
        return options, _doubt(options, mask)
    if options.origin is not None:
        if options.origin == named:
            return options, []
        return options, [
            f"the name of the mask {mask} says frame {named}, --from says {options.origin}: "
            f"taken for frame {options.origin}"
        ]
    if options.direction != "forward":
        return replace(options, origin=named), []
    if options.start is not None:
        begins = frame_at(video, options.start, "--start", options)
        if begins != named:
            raise UsageError(
                f"the mask {mask} is of frame {named} by its name, and --start is frame {begins}",
                f"add --from {named}f --direction both, or rename the mask",
            )
        return options, []
    if named == 0:
        return options, []
    return replace(options, origin=named), [
        f"the name of the mask {mask} says frame {named}: it begins there, as with "
        f"--from {named}f; add --direction both for the frames before it, too"
    ]


def _doubt(options: SegmentOptions, mask: Path) -> list[str]:
    number = looks_numbered(mask)
    said = options.origin is not None or options.start is not None
    if not number or said or options.direction != "forward":
        return []
    return [
        f"the mask {mask} is taken for the first frame; if it is of frame {number}, as its name "
        f"may say, add --from {number}f"
    ]


def _names_of(video: str | Path) -> tuple[str, tuple[str, ...] | None]:
    """A video's name without suffix, and those of its images if it is a folder."""
    address = Address.of(video)
    if address.kind == "folder":
        images = list_images(Path(video).resolve())
        return address.stem, tuple(image.stem for image in images)
    return address.stem, None
