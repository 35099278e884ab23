"""livos mask: a first mask, for those who have none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from typer.core import TyperCommand

from livos_cli.cli.common import Json, Overwrite, Quiet, say, short, stderr_console, warn

if TYPE_CHECKING:
    import numpy as np

    from livos_cli.first_mask import Hints

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
        int, typer.Option(metavar="N", help="Number of the frame, from 0.", min=0)
    ] = 0,
    box: Annotated[
        Optional[list[str]],
        typer.Option(metavar="X0,Y0,X1,Y1", help="Around an object; repeatable."),
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
    """Make a first mask from boxes, points or polygons, and a picture of it over its frame."""
    from livos_cli.errors import UsageError
    from livos_cli.video.container import check_exists

    values = {"box": box, "point": point, "polygon": polygon, "object_id": object_id}
    hints = _grouped([(n, values[n]) for n in HINTS], ctx.meta["order"])
    if bool(hints) == (threshold is not None):
        raise UsageError("give hints or --threshold", "--box, --polygon, --point; see --help")
    limit = _limit(threshold)
    check_exists(video)
    if output is not None and output.suffix and output.suffix.lower() != ".png":
        raise UsageError(f"-o {output} is no PNG", "masks are index PNGs")
    png, picture = _places(video, frame, output)
    from livos_cli.errors import OutputError

    for path in (png, picture):
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists already", "use -y to overwrite it")
    ids, warnings = _make(video, frame, hints, limit, png, picture)
    for warning in warnings:
        warn(stderr_console(), warning)
    if as_json:
        areas = {str(i): int((ids == i).sum()) for i in sorted(set(ids.ravel().tolist()) - {0})}
        print(json.dumps({"mask": str(png), "picture": str(picture), "areas": areas}))
    elif not quiet:
        say(short(png))
        say(short(picture))


def _limit(threshold: str | None) -> float | None:
    from livos_cli.errors import UsageError

    if threshold in (None, "auto"):
        return None
    try:
        return float(threshold)
    except ValueError:
        raise UsageError(f"--threshold {threshold} is no number", "give like 20, or auto") from None


def _grouped(given: list[tuple[str, Optional[list[Any]]]], order: list[str]) -> dict[int, Hints]:
    """The hints of each object, by the order in which they stand on the command line."""
    from livos_cli.errors import UsageError
    from livos_cli.first_mask import Hints, parse_box, parse_point, parse_polygon

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
            new["box"] = parse_box(value)
        elif name == "polygon":
            new["polygon"] = parse_polygon(value)
        else:
            at, on = parse_point(value)
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


def _make(
    video: str,
    frame: int,
    hints: dict[int, Hints],
    limit: float | None,
    png: Path,
    picture: Path,
) -> tuple[np.ndarray, list[str]]:
    """Find the objects and write both files."""
    import cv2
    import numpy as np

    from livos_cli.errors import InputError
    from livos_cli.files import write_whole
    from livos_cli.first_mask import grab, pick_backdrop
    from livos_cli.options import Look, Position
    from livos_cli.video.overlay import draw_overlay
    from livos_cli.video.palette import encode_index_png
    from livos_cli.video.reader import open_source

    here, after = Position(frame=frame), Position(frame=frame + 1)
    with open_source(video, start=here, end=after) as source:
        rgb = next((read.rgb for read in source), None)
        if rgb is None:
            raise InputError(f"{video} has no frame {frame}", "frames count from 0")
    ids = np.zeros(rgb.shape[:2], np.uint8)
    warnings = []
    if not hints:
        ids[pick_backdrop(rgb, limit)] = 1
    for object_id, own in hints.items():
        found = grab(rgb, own)
        if both := int((found & (ids > 0)).sum()):
            warnings.append(f"{both} pixels of object {object_id} were another's; it has them now")
        ids[found] = object_id
    write_whole(png, encode_index_png(ids))
    drawn = draw_overlay(rgb, ids, Look(labels=True))
    write_whole(picture, cv2.imencode(".jpg", drawn[..., ::-1])[1].tobytes())
    return ids, warnings
