"""What to type next: after a mask, and where an object is doubtful."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from livos_cli.cli.common import short
from livos_cli.files.typed import command, typed
from livos_cli.weights.registry import DEFAULT, clicks_with

if TYPE_CHECKING:
    import numpy as np

    from livos_cli.pipeline.report import Report

__all__ = ["box_command", "correction", "segment_command"]


def segment_command(video: str, frame: int, png: Path, output: Path | None, weights: str) -> str:
    """What follows the objects of this mask through the video, as it can be typed."""
    from livos_cli.cli.kinds import with_default
    from livos_cli.errors import LivosError, OutputError
    from livos_cli.options import RunOptions
    from livos_cli.outputs.paths import plan_outputs
    from livos_cli.pipeline.positions import key_masks

    mask, more = png, _clicks_option(weights)
    whole = key_masks(output, video) if output is not None and png.parent == output else None
    if output is not None and whole is not None and whole.frames:  # one of the masks of a folder
        mask = output
        more += ["--direction", "both"] if whole.frames[0] else []
    elif frame:
        more += ["--from", f"{frame}f", "--direction", "both"]
    try:
        plan_outputs(video, mask, with_default(RunOptions(save=()), many=False))
    except OutputError:  # of an earlier run
        more.append("-y")
    except LivosError:
        pass  # said when it is run
    return command("livos", "segment", typed(video), "-m", typed(short(mask)), *more)


def box_command(video: str, frame: int, rgb: np.ndarray, weights: str) -> str:
    """What makes a mask of the object in the middle; the box is to be changed."""
    height, width = rgb.shape[:2]
    box = f"{width // 3},{height // 3},{2 * width // 3},{2 * height // 3}"
    at = ["--frame", f"{frame}f"] if frame else []
    at += _clicks_option(weights)
    return command("livos", "mask", typed(video), *at, "--box", box)


def correction(video: str, mask: Path, report: Report, weights: str) -> list[str]:
    """The steps that correct the first doubt tracking came to; none where there is no doubt.

    Each can be copied into a shell as it is, but for the box.
    """
    source = Path(video)
    if not report.doubts or not (source.is_file() or source.is_dir()):
        return []
    doubt = min(report.doubts, key=lambda d: (abs(d.frame - report.begins), d.object))
    whole = mask if mask.is_dir() else _new_folder(video)
    folder, frame = whole, doubt.frame
    lines = [f"to correct object {doubt.object}, with the other options as before:"]
    if mask.is_dir():
        folder = _folder_of(mask, report.names.get(doubt.object))
        frame = _free_frame(video, folder, doubt.frame, doubt.until)
    else:
        first = whole / f"{_name(video, report.begins)}{mask.suffix}"
        lines.append(f"  {_copy(mask, first)}")
    # The box is to be filled in; what is to be typed around it is quoted where it must be.
    words = ["--frame", f"{frame}f", "--id", doubt.object, *_clicks_option(weights)]
    made = command("livos", "mask", _typed(source), *words)
    lines.append(f"  {made} --box X0,Y0,X1,Y1 {command('-o', _typed(folder))}")
    lines.append("  " + command("livos", "segment", _typed(source), "-m", _typed(whole), "-y"))
    return lines


def _clicks_option(weights: str) -> list[str]:
    """What `livos mask` is to be told, so that its network has the terms of these weights."""
    name, _ = clicks_with(weights)
    return [] if name == DEFAULT else ["-w", name]


def _new_folder(video: str) -> Path:
    """For the masks; not one that may hold other videos' masks."""
    masks = Path("masks")
    return Path(f"{Path(video).resolve().stem}.masks") if masks.exists() else masks


def _folder_of(masks: Path, name: str | None) -> Path:
    """Where a mask of an object belongs: of a folder an object, into its own."""
    from livos_cli.masks.names import inner_folder

    return inner_folder(masks) or (masks if name is None else masks / name)


def _free_frame(video: str, folder: Path, frame: int, until: int) -> int:
    """The first of these frames that has no mask yet, which may show another object."""
    from livos_cli.masks.reference_masks import ReferenceMasks
    from livos_cli.video.images import list_images

    source = Path(video)
    names = tuple(p.stem for p in list_images(source)) if source.is_dir() else None
    taken = set(ReferenceMasks(folder, names).frames or ())
    way = 1 if until >= frame else -1
    return next((n for n in range(frame, until + way, way) if n not in taken), frame)


def _name(video: str, frame: int) -> str:
    """What a key mask of a frame is called."""
    from livos_cli.video.images import list_images

    if Path(video).is_dir() and frame < len(images := list_images(Path(video))):
        return images[frame].stem
    return f"{frame:05d}"


def _copy(mask: Path, first: Path) -> str:
    make, copy = ("mkdir", "copy") if os.name == "nt" else ("mkdir -p", "cp")
    folder = command(_typed(first.parent))
    return f"{make} {folder} && {copy} {command(_typed(mask), _typed(first))}"


def _typed(path: Path) -> str:
    return typed(short(path))
