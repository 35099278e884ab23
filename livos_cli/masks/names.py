"""What the names of masks and of their folders say."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from livos_cli.errors import InputError
from livos_cli.video.images import list_images, missing_hint

__all__ = [
    "FIRST",
    "check_mask_exists",
    "composed",
    "frame_number",
    "inner_folder",
    "object_folders",
]

FIRST = ".first"  # how `livos mask` ends the name of a mask of frame 0
# Folders of CVAT's and labelme's exports in Pascal VOC's layout, the better one first.
EXPORTED = ("SegmentationObject", "SegmentationClass", "SegmentationObjectPNG")
EXPORT_SIGNS = (*EXPORTED, "ImageSets", "JPEGImages", "labelmap.txt", "class_names.txt")


def frame_number(stem: str) -> int | None:
    """The frame that a mask of a folder is for: the last run of digits in its name, if any.

    `00012` is 12, `frame_000012` and `clip_00000012_mask` are 12. `clip7.first`, as `livos mask`
    names it, is 0.
    """
    if stem.endswith(FIRST):
        return 0
    runs = re.findall(r"\d+", stem)
    return int(runs[-1]) if runs and len(runs[-1]) < 19 else None


def composed(name: str) -> str:
    """A name with its accents in one form: macOS writes them apart, others do not."""
    return unicodedata.normalize("NFC", name)


def object_folders(path: Path) -> list[Path]:
    """The folders in a folder of masks, without hidden ones and what macOS adds to archives."""
    return [p for p in path.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX"))]


def inner_folder(path: Path) -> Path | None:
    """The folder of masks in an unpacked export of an annotation tool; None if it is none."""
    if not path.is_dir() or sum((path / name).exists() for name in EXPORT_SIGNS) < 2:
        return None
    return next((path / n for n in EXPORTED if (path / n).is_dir() and list_images(path / n)), None)


def check_mask_exists(path: Path) -> None:
    """Raises InputError if there is no such file or folder."""
    if not path.exists():
        hint = missing_hint(path, "-m") or "check the path given to --mask"
        raise InputError(f"the mask {path} does not exist", hint)
