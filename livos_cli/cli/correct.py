"""What to type where an object is doubtful."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from livos_cli.cli.common import short

if TYPE_CHECKING:
    from livos_cli.pipeline import Report

__all__ = ["correction"]


def correction(video: str, mask: Path, report: Report) -> list[str]:
    """The steps that correct the first doubt tracking came to; none where there is no doubt."""
    if not report.doubts or not Path(video).exists():
        return []
    doubt = min(report.doubts, key=lambda d: (abs(d.frame - report.begins), d.object))
    folder = mask if mask.is_dir() else Path("masks")
    lines = [f"to correct object {doubt.object}:"]
    if not mask.is_dir():
        first = folder / f"{_name(video, report.begins)}.png"
        lines.append(f"  copy {_typed(mask)} to {_typed(first)}")
    elif doubt.object in report.names:  # a folder an object
        folder = mask / report.names[doubt.object]
    lines.append(
        f"  livos mask {_typed(Path(video))} --frame {doubt.frame} --id {doubt.object} "
        f"--box X0,Y0,X1,Y1 -o {_typed(folder)}"
    )
    whole = mask if mask.is_dir() else folder
    lines.append(
        f"  livos segment {_typed(Path(video))} -m {_typed(whole)} -y, other options as before"
    )
    return lines


def _name(video: str, frame: int) -> str:
    """What a key mask of a frame is called."""
    from livos_cli.video.images import list_images

    if Path(video).is_dir() and frame < len(images := list_images(Path(video))):
        return images[frame].stem
    return f"{frame:05d}"


def _typed(path: Path) -> str:
    return shlex.quote(short(path))
