"""livos mask: a first mask, for those who have none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from typer.core import TyperCommand

from livos_cli.cli.common import (
    Json,
    Overwrite,
    Quiet,
    command,
    say,
    short,
    stderr_console,
    typed,
    warn,
)

if TYPE_CHECKING:
    import numpy as np

    from livos_cli.first_mask import Hints
    from livos_cli.options import Position

__all__ = ["OrderedCommand", "mask"]

HINTS = ("box", "point", "polygon", "object_id")


class OrderedCommand(TyperCommand):
    """Remembers in which order options were given: an id belongs to the hints beside it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        ctx.meta["order"] = [parameter.name for parameter in order]
        rest: list[str] = super().parse_args(ctx, args)
        return rest


def mask(
    ctx: typer.Context,
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="Video file, or folder of images.")],
    frame: Annotated[
        str,
        typer.Option(
            metavar="POS",
            help="Which frame: its number, from 0 (123f or 123), or a time (12.5, 12s or 1:02).",
        ),
    ] = "0f",
    show: Annotated[
        bool,
        typer.Option(
            "--show",
            help="Only write the frame with a grid of its coordinates, to read a box off it.",
        ),
    ] = False,
    box: Annotated[
        Optional[list[str]],
        typer.Option(
            metavar="X0,Y0,X1,Y1",
            help="Around an object: left, top, right, bottom, in pixels or like 20%; repeatable.",
        ),
    ] = None,
    point: Annotated[
        Optional[list[str]],
        typer.Option(
            metavar="X,Y[,+|-]",
            help="On the object; with ,- not on it. It belongs to the box before; repeatable.",
        ),
    ] = None,
    polygon: Annotated[
        Optional[list[str]],
        typer.Option(metavar="X,Y,X,Y,…", help="Roughly along an object's outline; repeatable."),
    ] = None,
    object_id: Annotated[
        Optional[list[int]],
        typer.Option(
            "--id",
            metavar="ID",
            help="Of the object whose hints follow (or, if hints come first, came before); "
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
            help="Instead of hints: what differs from an even backdrop by T (Lab, some 5 to 50) "
            "or auto.",
        ),
    ] = None,
    output: Annotated[
        Optional[Path],
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="PNG, or a folder for NNNNN.png. [default: NAME.first.png beside the video]",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a mask of one frame from boxes, points or polygons, and a picture of it."""
    from livos_cli.errors import OutputError, UsageError
    from livos_cli.options import Position
    from livos_cli.video.container import check_exists

    where = Position.parse(frame, "--frame", bare="f")
    values = {"box": box, "point": point, "polygon": polygon, "object_id": object_id}
    given = [(n, values[n]) for n in HINTS]
    order = ctx.meta["order"]
    hints = _grouped(given, order)  # before the video is opened; with its size once more
    if show and (hints or threshold is not None):
        raise UsageError("--show makes no mask", "leave out the hints, or --show")
    if not show and bool(hints) == (threshold is not None):
        raise UsageError(
            "give hints or --threshold",
            "--box, --polygon or --point say where the object is; "
            f"`{command('livos', 'mask', typed(video), '--show')}` shows the frame's coordinates",
        )
    limit = _limit(threshold)
    check_exists(video)
    suffixes = (".jpg", ".jpeg", ".png") if show else (".png",)
    ending = "" if output is None or output.is_dir() else output.suffix.lower()
    if ending and ending not in suffixes:
        said = "is no picture" if show else "is no PNG"
        raise UsageError(f"-o {output} {said}", "name it .jpg" if show else "masks are index PNGs")
    number, rgb = _read(video, where)
    png, picture = _places(video, number, output)
    if show:
        png = picture = _grid_place(video, number, output)
    for path in (png, picture):
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists already", "use -y to overwrite it")
    if not show and output is not None and png.parent == output:
        _check_only(video, number, png)
    if show:
        _write_grid(rgb, picture)
        following = _box_command(video, number, rgb)
        told: dict[str, Any] = {"picture": str(picture)}
    else:
        ids, warnings = _make(rgb, _grouped(given, order, rgb), limit, png, picture)
        for warning in warnings:
            warn(stderr_console(), f"{warning}; look at {short(picture)}")
        following = _segment_command(video, number, png, output)
        areas = {str(i): int((ids == i).sum()) for i in sorted(set(ids.ravel().tolist()) - {0})}
        told = {"mask": str(png), "picture": str(picture), "areas": areas}
    if as_json:
        print(json.dumps({**told, "frame": number, "next": following}))
    elif not quiet:
        for path in dict.fromkeys((png, picture)):
            say(short(path))
        tail = "  with your object's left, top, right, bottom" if show else ""
        stderr_console().print(f"frame {number}; next: {following}{tail}")


def _limit(threshold: str | None) -> float | None:
    from livos_cli.errors import UsageError

    if threshold in (None, "auto"):
        return None
    try:
        return float(threshold)
    except ValueError:
        raise UsageError(f"--threshold {threshold} is no number", "give like 20, or auto") from None


def _grouped(
    given: list[tuple[str, Optional[list[Any]]]],
    order: list[str],
    rgb: np.ndarray | None = None,
) -> dict[int, Hints]:
    """The hints of each object, by the order in which they stand on the command line.

    Percentages are those of the frame `rgb`; without it they are only looked at.
    """
    from livos_cli.errors import UsageError
    from livos_cli.first_mask import Hints, in_pixels, parse_box, parse_point, parse_polygon

    height, width = (100, 100) if rgb is None else rgb.shape[:2]
    left = {name: list(values or ()) for name, values in given}
    steps = [(name, left[name].pop(0)) for name in order if left.get(name)]
    ids_lead = bool(steps) and steps[0][0] == "object_id"
    ids_trail = not ids_lead and any(name == "object_id" for name, _ in steps)
    groups: dict[int, Hints] = {}
    current, hints = 0, Hints()

    def close(object_id: int) -> None:
        if object_id in groups:
            raise UsageError(f"--id {object_id} is given twice", "one --id an object")
        if hints == Hints():
            raise UsageError(f"--id {object_id} has no hints", "give --box, --polygon or --point")
        groups[object_id] = hints

    for name, value in steps:
        if name == "object_id":
            if ids_trail:
                close(value)
                hints = Hints()
            else:
                if current:
                    close(current)
                current, hints = value, Hints()
            continue
        opens = name in ("box", "polygon") and (hints.box is not None or hints.polygon)
        if opens and (ids_lead or ids_trail):
            raise UsageError("two boxes or polygons for one --id", "one --id an object")
        if opens:
            close(len(groups) + 1)
            hints = Hints()
        new = dict(hints.__dict__)
        if name == "box":
            new["box"] = parse_box(in_pixels(value, width, height))
        elif name == "polygon":
            new["polygon"] = parse_polygon(in_pixels(value, width, height))
        else:
            at, on = parse_point(in_pixels(value, width, height))
            side = "inside" if on else "outside"
            new[side] = (*new[side], at)
        hints = Hints(**new)
    if ids_trail and hints != Hints():
        raise UsageError("the last hints have no --id", "one --id an object")
    if not ids_trail and (current or hints != Hints()):
        close(current or len(groups) + 1)
    return groups


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
    from livos_cli.video.positions import key_masks

    there = key_masks(png.parent, video) if png.parent.is_dir() else None
    if other := [path for path in (there.named(frame) if there else ()) if path != png]:
        raise OutputError(
            f"{other[0]} is a mask of frame {frame} already",
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


def _segment_command(video: str, frame: int, png: Path, output: Path | None) -> str:
    """What follows the objects of this mask through the video, as it can be typed."""
    from livos_cli.cli.kinds import with_default
    from livos_cli.errors import LivosError, OutputError
    from livos_cli.options import RunOptions
    from livos_cli.outputs import plan_outputs
    from livos_cli.video.positions import key_masks

    mask, more = png, []
    whole = key_masks(output, video) if output is not None and png.parent == output else None
    if output is not None and whole is not None and whole.frames:  # one of the masks of a folder
        mask = output
        more = ["--direction", "both"] if whole.frames[0] else []
    elif frame:
        more = ["--from", f"{frame}f", "--direction", "both"]
    try:
        plan_outputs(video, mask, with_default(RunOptions(save=()), many=False))
    except OutputError:  # of an earlier run
        more.append("-y")
    except LivosError:
        pass  # said when it is run
    return command("livos", "segment", typed(video), "-m", typed(short(mask)), *more)


def _box_command(video: str, frame: int, rgb: np.ndarray) -> str:
    """What makes a mask of the object in the middle; the box is to be changed."""
    height, width = rgb.shape[:2]
    box = f"{width // 3},{height // 3},{2 * width // 3},{2 * height // 3}"
    at = ["--frame", f"{frame}f"] if frame else []
    return command("livos", "mask", typed(video), *at, "--box", box)


def _write_grid(rgb: np.ndarray, path: Path) -> None:
    import cv2

    from livos_cli.files import write_whole
    from livos_cli.video.grid import draw_grid

    suffix = path.suffix.lower()
    write_whole(path, cv2.imencode(suffix, draw_grid(rgb)[..., ::-1])[1].tobytes())


def _make(
    rgb: np.ndarray, hints: dict[int, Hints], limit: float | None, png: Path, picture: Path
) -> tuple[np.ndarray, list[str]]:
    """Find the objects and write both files."""
    import cv2
    import numpy as np

    from livos_cli.files import write_whole
    from livos_cli.first_mask import is_even_backdrop, pick_backdrop
    from livos_cli.options import Look
    from livos_cli.video.mask_checks import check_meant
    from livos_cli.video.overlay import draw_overlay
    from livos_cli.video.palette import encode_index_png

    ids = np.zeros(rgb.shape[:2], np.uint8)
    warnings = []
    if not hints:
        ids[pick_backdrop(rgb, limit)] = 1
        if not is_even_backdrop(rgb):
            warnings.append("the frame's border has many colours: there is no even backdrop")
    for object_id, found, doubt in _find(rgb, hints):
        if doubt:
            warnings.append(f"object {object_id}: {doubt}")
        if both := int((found & (ids > 0)).sum()):
            warnings.append(f"{both} pixels of object {object_id} were another's; it has them now")
        ids[found] = object_id
    warnings += check_meant(ids, "the mask", coloured=False, first=False)
    write_whole(png, encode_index_png(ids))
    drawn = draw_overlay(rgb, ids, Look(labels=True))
    write_whole(picture, cv2.imencode(".jpg", drawn[..., ::-1])[1].tobytes())
    return ids, warnings


def _find(rgb: np.ndarray, hints: dict[int, Hints]) -> Iterator[tuple[int, np.ndarray, str | None]]:
    """Each object's mask, and why it may be none; a point on one object is not on the others."""
    if not hints:
        return
    from dataclasses import replace

    from livos_cli.clicks import ClickPredictor, doubt_found, find_object
    from livos_cli.first_mask import check_hints
    from livos_cli.weights.clicks import load_clicks
    from livos_cli.weights.load import load_model

    for own in hints.values():
        check_hints(own, *rgb.shape[:2])
    net = load_clicks()
    model = load_model(net.config.encoder, device="cpu", precision="fp32")
    predictor = ClickPredictor(model, net, rgb)
    for object_id, own in hints.items():
        others = [p for other, its in hints.items() if other != object_id for p in its.inside]
        found = find_object(predictor, replace(own, outside=(*own.outside, *others)))
        yield object_id, found, doubt_found(predictor, found, own)
