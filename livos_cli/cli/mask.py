"""livos mask: a first mask, for those who have none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from livos_cli.cli.common import (
    Json,
    Overwrite,
    Quiet,
    check_free,
    say,
    say_terms,
    short,
    stderr_console,
    warn,
)
from livos_cli.cli.hints import GivenHints
from livos_cli.cli.next_command import box_command, segment_command
from livos_cli.files.typed import command, typed
from livos_cli.weights.locate import locate
from livos_cli.weights.registry import DEFAULT, WITH_CLICKS

if TYPE_CHECKING:
    import numpy as np

    from livos_cli.masks.hints import Hints
    from livos_cli.options import Position

__all__ = ["mask"]


def mask(
    ctx: typer.Context,
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="Video file, or folder of images.")],
    frame: Annotated[
        str,
        typer.Option(
            metavar="POS",
            help="Which frame: its number, counted from 0 (123f or 123), or a time (12.5, 12s or "
            "1:02).",
        ),
    ] = "0f",
    show: Annotated[
        bool,
        typer.Option(
            "--show",
            help="Only write a picture of the frame with a grid of coordinates, to read a box "
            "from it.",
        ),
    ] = False,
    box: Annotated[
        Optional[list[str]],
        typer.Option(
            metavar="X0,Y0,X1,Y1",
            help="Box around an object: left, top, right, bottom, in pixels or like 20%; "
            "repeatable.",
        ),
    ] = None,
    point: Annotated[
        Optional[list[str]],
        typer.Option(
            metavar="X,Y[,+|-]",
            help="Point on the object, or (with ,-) not on it; belongs to the box before it. "
            "Repeatable.",
        ),
    ] = None,
    polygon: Annotated[
        Optional[list[str]],
        typer.Option(
            metavar="X,Y,X,Y,…", help="Polygon roughly along an object's outline; repeatable."
        ),
    ] = None,
    object_id: Annotated[
        Optional[list[int]],
        typer.Option(
            "--id",
            metavar="ID",
            help="Id of the object whose hints follow (or, if hints come first, came before); "
            "repeatable. [default: 1, 2, …, a new one with every box or polygon]",
            min=1,
            max=255,
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        Optional[str],
        typer.Option(
            metavar="T",
            help="Instead of hints: take what differs from an even backdrop by T (in Lab, about 5 "
            "to 50), or auto.",
        ),
    ] = None,
    output: Annotated[
        Optional[Path],
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="PNG file, or a folder for NNNNN.png. [default: NAME.first.png beside the video]",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        str,
        typer.Option(
            "--weights",
            "-w",
            metavar="NAME",
            help=f"Whose click network looks: {' or '.join(WITH_CLICKS)}.",
        ),
    ] = DEFAULT,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a mask of one frame from boxes, points or polygons, and a picture of it."""
    from livos_cli.options import Position

    values = {"box": box, "point": point, "polygon": polygon, "object_id": object_id}
    asked = _Asked(
        video=video,
        where=Position.parse(frame, "--frame", was_frame=True),
        show=show,
        hints=GivenHints(values, ctx.meta["order"]),
        threshold=threshold,
        output=output,
        weights=weights,
        overwrite=overwrite,
        quiet=quiet,
    )
    _check(asked)
    made = _show(asked) if show else _draw(asked)
    if as_json:
        print(json.dumps({**made.told, "frame": made.frame, "next": made.following}))
    elif not quiet:
        for path in made.files:
            say(short(path))
        tail = "  with your object's left, top, right, bottom" if show else ""
        stderr_console().print(f"frame {made.frame}; next: {made.following}{tail}")


@dataclass(frozen=True)
class _Asked:
    """Of which frame a mask or a picture is wanted, from what, and where to."""

    video: str
    where: Position
    show: bool  # the frame with a grid, no mask
    hints: GivenHints
    threshold: str | None
    output: Path | None
    weights: str  # whose click network
    overwrite: bool
    quiet: bool


@dataclass(frozen=True)
class _Made:
    """What was written, and what is to be typed next."""

    files: tuple[Path, ...]
    frame: int
    following: str
    told: dict[str, Any]  # more for --json


def _check(asked: _Asked) -> None:
    """Find what can be known to fail before the video is opened."""
    from livos_cli.errors import UsageError
    from livos_cli.video.container import check_exists

    show, output = asked.show, asked.output
    hints = asked.hints.by_object()  # with the frame's size once more
    if show and (hints or asked.threshold is not None):
        raise UsageError("--show makes no mask", "remove the hints, or --show")
    if not show and bool(hints) == (asked.threshold is not None):
        shown = command("livos", "mask", typed(asked.video), "--show")
        raise UsageError(
            "give hints or --threshold",
            "--box, --polygon or --point say where the object is; "
            f"`{shown}` shows the frame's coordinates",
        )
    _limit(asked.threshold)
    if asked.weights not in WITH_CLICKS:
        raise UsageError(
            f"there is no click network for the weights {asked.weights}",
            f"use {' or '.join(WITH_CLICKS)}; the mask is good for any weights",
        )
    check_exists(asked.video)
    suffixes = (".jpg", ".jpeg", ".png") if show else (".png",)
    ending = "" if output is None or output.is_dir() else output.suffix.lower()
    if ending and ending not in suffixes:
        said = "is not a picture" if show else "is not a PNG"
        raise UsageError(f"-o {output} {said}", "name it .jpg" if show else "name it .png")


def _show(asked: _Asked) -> _Made:
    """Write the frame with a grid of its coordinates."""
    number, rgb = _read(asked.video, asked.where)
    picture = _grid_place(asked.video, number, asked.output)
    check_free(picture, overwrite=asked.overwrite)
    _write_grid(rgb, picture)
    following = box_command(asked.video, number, rgb, asked.weights)
    return _Made((picture,), number, following, {"picture": str(picture)})


def _draw(asked: _Asked) -> _Made:
    """Make the mask, and write it and a picture of it."""
    video, output = asked.video, asked.output
    number, rgb = _read(video, asked.where)
    png, picture = _places(video, number, output)
    check_free(png, picture, overwrite=asked.overwrite)
    if output is not None and png.parent == output:
        _check_only(video, number, png)
    hints = asked.hints.by_object(*rgb.shape[:2])
    ids, warnings = _make(asked, rgb, hints, png, picture)
    if hints and not asked.quiet:
        say_terms(stderr_console(), asked.weights, locate(asked.weights))
    for warning in warnings:
        warn(stderr_console(), f"{warning}; look at {short(picture)}")
    areas = {str(i): int((ids == i).sum()) for i in sorted(set(ids.ravel().tolist()) - {0})}
    told = {"mask": str(png), "picture": str(picture), "areas": areas}
    return _Made(
        (png, picture), number, segment_command(video, number, png, output, asked.weights), told
    )


def _limit(threshold: str | None) -> float | None:
    from livos_cli.errors import UsageError

    if threshold in (None, "auto"):
        return None
    try:
        return float(threshold)
    except ValueError:
        raise UsageError(
            f"--threshold {threshold} is not a number", "give one like 20, or auto"
        ) from None


def _places(video: str, frame: int, output: Path | None) -> tuple[Path, Path]:
    """Where the mask goes, and the picture: never into a folder of masks."""
    from livos_cli.video.images import list_images

    source = Path(video).resolve()
    number = f"{frame:05d}"
    if source.is_dir() and frame < len(images := list_images(source)):
        number = images[frame].stem  # as `livos segment` wants its key masks named
    if output is None:
        stem = source.name if source.is_dir() else source.stem
        name = f"{stem}.first" if frame == 0 else f"{stem}.{number}"
        return source.parent / f"{name}.png", source.parent / f"{name}.look.jpg"
    if output.suffix and not output.is_dir():
        return output, output.with_suffix(".look.jpg")
    return output / f"{number}.png", output.parent / f"{output.name}.{number}.look.jpg"


def _check_only(video: str, frame: int, png: Path) -> None:
    """Raises OutputError where a folder has a mask for a frame already, by another name."""
    from livos_cli.errors import OutputError
    from livos_cli.pipeline.positions import key_masks

    there = key_masks(png.parent, video) if png.parent.is_dir() else None
    if other := [path for path in (there.named(frame) if there else ()) if path != png]:
        raise OutputError(
            f"{other[0]} is already a mask of frame {frame}",
            "remove it, or choose another folder with -o",
        )


def _grid_place(video: str, frame: int, output: Path | None) -> Path:
    """Where the frame with its grid goes: never into a folder of masks."""
    if output is not None and output.suffix and not output.is_dir():
        return output
    png, look = _places(video, frame, output)
    if output is None:
        return png.with_name(png.name.removesuffix(".png").removesuffix(".first") + ".grid.jpg")
    return look.with_name(look.name.replace(".look.jpg", ".grid.jpg"))


def _read(video: str, where: Position) -> tuple[int, np.ndarray]:
    """A frame's number, and its picture."""
    from livos_cli.errors import InputError, PastEndError
    from livos_cli.options import Position, clock
    from livos_cli.video.reader import open_source

    end = None if where.frame is None else Position(frame=where.frame + 1)
    with open_source(video, start=where, end=end) as source:
        with suppress(PastEndError):
            for read in source:
                return read.index, read.rgb
        info = source.info
    length = ""
    if info.frames:
        time = clock(info.frames / float(info.rate))
        length = f"it has about {info.frames} frames ({time}); "
    raise InputError(f"{video} has no frame at --frame {where}", f"{length}give an earlier one")


def _write_grid(rgb: np.ndarray, path: Path) -> None:
    import cv2

    from livos_cli.files.atomic import write_whole
    from livos_cli.outputs.grid import draw_grid

    suffix = path.suffix.lower()
    write_whole(path, cv2.imencode(suffix, draw_grid(rgb)[..., ::-1])[1].tobytes())


def _make(
    asked: _Asked, rgb: np.ndarray, hints: dict[int, Hints], png: Path, picture: Path
) -> tuple[np.ndarray, list[str]]:
    """Find the objects and write both files."""
    import cv2
    import numpy as np

    from livos_cli.files.atomic import write_whole
    from livos_cli.masks.checks import check_meant
    from livos_cli.masks.hints import is_even_backdrop, pick_backdrop
    from livos_cli.masks.palette import encode_index_png
    from livos_cli.options import Look
    from livos_cli.outputs.overlay import draw_overlay

    ids = np.zeros(rgb.shape[:2], np.uint8)
    warnings = []
    if not hints:
        ids[pick_backdrop(rgb, _limit(asked.threshold))] = 1
        if not is_even_backdrop(rgb):
            warnings.append("the frame's border has many colours: there is no even backdrop")
    for object_id, found, doubt in _find(rgb, hints, asked.weights):
        if doubt:
            warnings.append(f"object {object_id}: {doubt}")
        for other, both in zip(*np.unique(ids[found & (ids > 0)], return_counts=True), strict=True):
            warnings.append(
                f"objects {other} and {object_id} overlapped; {both:,} px went to {object_id}"
            )
        ids[found] = object_id
    warnings += check_meant(ids, "the mask", coloured=False, first=False)
    write_whole(png, encode_index_png(ids))
    drawn = draw_overlay(rgb, ids, Look(labels=True))
    write_whole(picture, cv2.imencode(".jpg", drawn[..., ::-1])[1].tobytes())
    return ids, warnings


def _find(
    rgb: np.ndarray, hints: dict[int, Hints], weights: str
) -> Iterator[tuple[int, np.ndarray, str | None]]:
    """Each object's mask, and why it may be none; a point on one object is not on the others."""
    if not hints:
        return
    from dataclasses import replace

    from livos_cli.interactive.clicks import (
        ClickPredictor,
        doubt_found,
        find_object,
        load_networks,
    )
    from livos_cli.masks.hints import check_hints

    for own in hints.values():
        check_hints(own, *rgb.shape[:2])
    predictor = ClickPredictor(*load_networks(weights), rgb)
    for object_id, own in hints.items():
        others = [p for other, its in hints.items() if other != object_id for p in its.inside]
        found = find_object(predictor, replace(own, outside=(*own.outside, *others)))
        yield object_id, found, doubt_found(predictor, found, own)
