"""Which frame a mask that is given alone belongs to, by its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from livos_cli.masks.names import composed

__all__ = ["frame_of_single", "looks_numbered"]

DIGITS = 5  # at least so many are a frame number: what `livos mask` writes, and no photo2.png


def frame_of_single(
    mask: Path, video_stem: str, image_names: Sequence[str] | None = None
) -> int | None:
    """The frame that a mask given alone names, as `livos mask` does: `VIDEO.00100.png`.

    Args:
        mask: the image.
        video_stem: the video's name without its suffix, or the folder's.
        image_names: stems of the frames' files, where the video is a folder of images: a mask is
            then named `FOLDER.IMAGE.png`, or `IMAGE.png`.

    Returns:
        The frame number, from 0; None if the name says none.
    """
    name, prefix = composed(mask.stem), composed(video_stem) + "."
    rest = name.removeprefix(prefix)
    if image_names is not None:
        plain = [composed(image) for image in image_names]
        return plain.index(rest) if rest in plain else None
    if rest == name or not re.fullmatch(rf"\d{{{DIGITS},}}", rest, re.ASCII):
        return None
    return int(rest)


def looks_numbered(mask: Path) -> int | None:
    """The number of a name like `00100.png` or `other.00100.png`, which may be a frame's."""
    match = re.fullmatch(rf"(?:.*\.)?(\d{{{DIGITS},}})", mask.stem, re.ASCII)
    return int(match[1]) if match else None
