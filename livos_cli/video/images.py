"""Frames from a folder of images."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from av.video.reformatter import Colorspace

from livos_cli.errors import InputError
from livos_cli.memory import out_of_memory, too_little_memory
from livos_cli.options import Position
from livos_cli.video.image_size import check_frame_size
from livos_cli.video.source import BaseSource, Frame, SourceInfo

__all__ = [
    "IMAGE_RATE",
    "IMAGE_SUFFIXES",
    "ImageFolderSource",
    "list_images",
    "missing_hint",
    "natural_key",
    "read_image",
]

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
IMAGE_RATE = Fraction(25)  # frames a second of an image folder, ffmpeg's own default


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which frame2 comes before frame10."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", text)
        if part
    ]


def list_images(folder: Path) -> list[Path]:
    """The images of a folder in natural order, broken links included: reading them is an error.

    Hidden files are none: macOS leaves `._00000.png` beside `00000.png` on disks of others.
    """
    images = (
        p
        for p in folder.iterdir()
        if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and not p.is_dir()
    )
    return sorted(images, key=lambda p: natural_key(p.name))


class ImageFolderSource(BaseSource):
    """A folder of images of one size, in natural order of their names."""

    def __init__(self, folder: Path, start: Position | None, end: Position | None) -> None:
        super().__init__(start, end)
        self.paths = list_images(folder)
        if not self.paths:
            raise InputError(
                f"{folder} holds no images",
                f"an image folder holds {', '.join(sorted(IMAGE_SUFFIXES))} files",
            )
        stems = [p.stem for p in self.paths]
        if len(set(stems)) != len(stems):
            twice = next(s for s in stems if stems.count(s) > 1)
            raise InputError(
                f"{folder} holds several images named {twice}", "keep one image a frame"
            )
        check_frame_size(self.paths[0])
        height, width = read_image(self.paths[0]).shape[:2]
        self.info = SourceInfo(
            name=folder.resolve().name,
            path=folder,
            width=width,
            height=height,
            time_base=1 / IMAGE_RATE,
            rate=IMAGE_RATE,
            frames=len(self.paths),
            sample_aspect_ratio=None,
            colorspace=int(Colorspace.ITU709),
            color_range=1,
            color_primaries=1,
            color_trc=1,
            image_names=tuple(stems),
        )

    @staticmethod
    def time_of(index: int) -> float:
        """Seconds from the first image."""
        return float(index / IMAGE_RATE)

    def _read(self) -> Iterator[Frame]:
        for index, path in enumerate(self.paths):
            time = self.time_of(index)
            wanted = self._wanted(index, time)
            if wanted is None:
                return
            if not wanted:
                continue
            yield Frame(index, index, time, self.image(index), 1, name=path.stem)

    def image(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB of one frame.

        Raises:
            InputError: it cannot be read, or has another size than the first.
        """
        path = self.paths[index]
        check_frame_size(path, (self.info.width, self.info.height))
        rgb = read_image(path)
        if rgb.shape[:2] != (self.info.height, self.info.width):
            raise InputError(
                f"{path} is {rgb.shape[1]}x{rgb.shape[0]}, the first image "
                f"{self.info.width}x{self.info.height}",
                "all images of a folder must have one size",
            )
        return rgb


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB, with EXIF orientation applied.

    Raises:
        InputError: it is not there, or no image.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror})", "is it a broken link?"
        ) from None
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        if image is not None:
            return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    except cv2.error as error:
        if out_of_memory(error):
            raise too_little_memory(f"to read {path}") from None
    # OpenCV also returns nothing where its own limit of pixels is exceeded.
    raise InputError(f"{path} is not an image that can be read", "is the file complete?")


def missing_hint(path: Path | str, option: str = "") -> str:
    """What to do where nothing has this name: `%05d` and `*` name many files."""
    path = Path(path)
    if re.search(r"%0?\d*d|[*?]", path.name) and path.parent.is_dir():
        what = f"{option} {path.parent}" if option else str(path.parent)
        return f"{path.name} names many images; give their folder: {what}"
    return ""
