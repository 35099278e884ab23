"""Masks in: one image, a folder of key masks, or a folder an object, all read as object ids."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from livos_cli.errors import InputError, UsageError
from livos_cli.masks.checks import check_meant
from livos_cli.masks.names import (
    FIRST,
    check_mask_exists,
    composed,
    frame_number,
    inner_folder,
    object_folders,
)
from livos_cli.masks.object_ids import ColourTable, Style, judge_style, read_mask
from livos_cli.options import SegmentOptions
from livos_cli.video.address import Address
from livos_cli.video.image_size import check_mask_sizes
from livos_cli.video.images import list_images, natural_key

__all__ = ["ASPECT_TOLERANCE", "ReferenceMasks", "fit_mask", "resolve_origin"]

ASPECT_TOLERANCE = 0.02  # masks of another resolution are resized if the shape is this close


def fit_mask(ids: np.ndarray, width: int, height: int, label: str) -> tuple[np.ndarray, str | None]:
    """Bring a mask to the video's size.

    Returns:
        The mask, and a warning if it had to be resized.

    Raises:
        InputError: its shape differs by more than 2 % of the aspect ratio.
    """
    rows, columns = ids.shape
    if (columns, rows) == (width, height):
        return ids, None
    if abs((columns / rows) / (width / height) - 1) > ASPECT_TOLERANCE:
        hint = "make the mask from a frame of this video"
        if abs((rows / columns) / (width / height) - 1) <= ASPECT_TOLERANCE:
            hint = "the video is shown turned by a quarter; turn the mask too"
        raise InputError(
            f"{label} is {columns}x{rows}, the video {width}x{height}: another shape", hint
        )
    y = np.minimum((np.arange(height) + 0.5) * rows / height, rows - 1).astype(np.intp)
    x = np.minimum((np.arange(width) + 0.5) * columns / width, columns - 1).astype(np.intp)
    fitted = ids[y[:, None], x[None, :]]
    for lost in np.setdiff1d(ids, fitted):
        row, column = np.argwhere(ids == lost)[0]
        fitted[min(row * height // rows, height - 1), min(column * width // columns, width - 1)] = (
            lost
        )
    return fitted, f"{label} is {columns}x{rows}, the video {width}x{height}: resized to fit"


def _together(warnings: list[str]) -> list[str]:
    """Warnings about many masks of a folder: of those that say the same, the first, and how many.

    What is the same is what follows the mask's name.
    """
    groups: dict[str, list[str]] = {}
    for warning in warnings:
        groups.setdefault(re.sub(r"\S+\.\w+", "", warning), []).append(warning)
    return [
        same[0] + (f" (and {len(same) - 1} more like it)" if len(same) > 1 else "")
        for same in groups.values()
    ]


class ReferenceMasks:
    """The masks given for a video, by frame; images are read when their frame comes.

    Args:
        path: an image for the first frame; a folder of images named by frame number, which is
            the last run of digits (or, for an image folder, by its images' names); or a folder of
            folders, one an object, each holding such images; or an unpacked export of CVAT.
        image_names: names of the frames, if they come from an image folder.

    Raises:
        InputError: nothing usable at `path`.
    """

    def __init__(self, path: Path, image_names: tuple[str, ...] | None = None) -> None:
        self._colours = ColourTable()
        self._names = {composed(n): i for i, n in enumerate(image_names)} if image_names else None
        self._notes: list[str] = []
        self._by_frame: dict[int, list[tuple[int | None, Path]]] = {}
        self._first: list[tuple[int | None, Path]] | None = None
        self._black: dict[Path, bool] = {}  # of those that have been read
        self._measured = False  # whether all are known to be of a bearable size
        self.object_names: dict[int, str] = {}  # of object folders: id -> folder name
        self._path = path
        check_mask_exists(path)
        if path.is_file():
            self._first = [(None, path)]
            return
        if (inner := inner_folder(path)) is not None:
            self._notes.append(f"{path} is an annotation tool's export: its masks are in {inner}")
            path = inner
        self._path = path
        folders = sorted(object_folders(path), key=lambda p: natural_key(p.name))
        loose = list_images(path)
        if folders:
            if loose:
                raise InputError(
                    f"{path} holds both folders and images ({loose[0].name})",
                    "give a folder of masks, or a folder of one folder an object",
                )
            self._open_object_folders(folders)
        else:
            self._add(None, loose)
        if not self._by_frame:
            raise InputError(
                f"{path} holds no masks", "it should hold PNG images named by frame number"
            )

    def _open_object_folders(self, folders: list[Path]) -> None:
        numbers = {int(f.name) for f in folders if f.name.isdecimal() and int(f.name)}
        free = (i for i in range(1, 1 << 16) if i not in numbers)
        for folder in folders:
            own = int(folder.name) if folder.name.isdecimal() and int(folder.name) else next(free)
            self.object_names[own] = folder.name
            images = list_images(folder)
            if not images:
                raise InputError(f"the object folder {folder} holds no masks", "remove or fill it")
            self._add(own, images)

    def _add(self, own: int | None, images: list[Path]) -> None:
        """Take the masks of one folder, one a frame."""
        seen: dict[int, Path] = {}
        for image in images:
            frame = self._frame_of(image)
            if frame in seen:
                raise InputError(
                    f"{seen[frame]} and {image.name} are both for frame {frame}",
                    "keep one mask a frame; its number is the last one in the name",
                )
            seen[frame] = image
            self._by_frame.setdefault(frame, []).append((own, image))

    def _frame_of(self, image: Path) -> int:
        if self._names is not None:
            parts = composed(image.stem).split(".")
            for place in range(len(parts)):  # IMAGE, or FOLDER.IMAGE as `livos mask` writes it
                if (name := ".".join(parts[place:])) in self._names:
                    return self._names[name]
            if image.stem.endswith(FIRST):
                return 0
        number = frame_number(image.stem)
        if self._names is None and number is not None:
            return number
        wanted = "one of the images" if self._names is not None else "a frame number (00012.png)"
        raise InputError(
            f"the name of the mask {image} is not {wanted}", "rename it, or give a single mask file"
        )

    @cached_property
    def _style(self) -> Style:
        if self.object_names:  # a folder an object
            return Style(single=True)
        return judge_style([path for parts in self._by_frame.values() for _, path in parts])

    @property
    def frames(self) -> list[int] | None:
        """Frame numbers that have a mask; None if one mask is for the first frame read."""
        return None if self._first is not None else sorted(self._by_frame)

    def named(self, frame: int) -> list[Path]:
        """The images for a frame, in a folder of masks."""
        return [path for _, path in self._by_frame.get(frame, ())]

    def scan(self, width: int, height: int, *, trust: bool = False) -> tuple[list[int], list[str]]:
        """Read every mask once, so that errors come before hours of work and not after.

        Args:
            width: of the video, pixels.
            height: of the video, pixels.
            trust: take masks that look as if they cannot be meant.

        Returns:
            All ids there are, and warnings.
        """
        ids: set[int] = set()
        warnings, doubts = list(self._notes), dict[str, str]()
        for n, frame in enumerate([None] if self._first is not None else sorted(self._by_frame)):
            mask = self._load(frame, width, height, warnings.append)
            if not trust:
                label = f"the mask {self._path}" + ("" if frame is None else f" of frame {frame}")
                coloured = bool(self._colours.ids)
                for said in check_meant(mask, label, coloured=coloured, first=n == 0):
                    doubts.setdefault(said.removeprefix(label), said)  # of each kind, the first
            ids |= {int(i) for i in np.unique(mask) if i}
        if not ids:
            raise InputError(
                f"all masks in {self._path} are empty", "paint the objects with values other than 0"
            )
        if outside := sorted(i for i in ids if not 0 < i <= 255):
            raise InputError(
                f"object ids must be 1 to 255, found {outside[0]} in {self._path}",
                "renumber the objects: outputs are 8-bit images",
            )
        return sorted(ids), _together([*warnings, *doubts.values()])

    def at(self, frame: int, *, first: bool, width: int, height: int) -> np.ndarray | None:
        """The mask of a frame, (H, W) int64 at the video's size, or None.

        Args:
            frame: its number in the source.
            first: whether it is the first frame read.
            width: of the video, pixels.
            height: of the video, pixels.
        """
        if self._first is not None:
            return self._load(None, width, height) if first else None
        return self._load(frame, width, height) if frame in self._by_frame else None

    def ends(self, frame: int, ids: Iterable[int]) -> frozenset[int]:
        """Which of these objects a frame's mask ends.

        A mask that is all black says that nothing is there any more: of a folder of whole masks
        every object, of an object's own folder that one. A mask that shows some objects says
        nothing of the others.

        Args:
            frame: its number in the source; `at` has been asked for its mask.
            ids: that are followed.
        """
        parts = [(own, self._black.get(path)) for own, path in self._by_frame.get(frame, ())]
        if parts and all(own is None and black for own, black in parts):
            return frozenset(ids)
        return frozenset(own for own, black in parts if own is not None and black) & set(ids)

    def _load(
        self,
        frame: int | None,
        width: int,
        height: int,
        warn: Callable[[str], None] = lambda _: None,
    ) -> np.ndarray:
        if not self._measured:
            self._measured = True
            every = [self._first or [], *self._by_frame.values()]
            check_mask_sizes((path for parts in every for _, path in parts), width, height)
        parts = self._by_frame[frame] if frame is not None else self._first or []
        whole: np.ndarray | None = None
        for own, path in parts:
            # In a folder an empty mask ends what was followed: see `ends`.
            read = read_mask(
                path,
                self._colours,
                allow_empty=self._first is None,
                style=self._style,
                note=warn,
            )
            ids, warning = fit_mask(read, width, height, f"mask {path}")
            self._black[path] = not ids.any()
            if warning:
                warn(warning)
            if own is not None:
                ids = np.where(ids != 0, own, 0)
            if whole is None:
                whole = ids
                continue
            if overlap := int(((whole != 0) & (ids != 0)).sum()):
                warn(f"{path}: {overlap:,} px are in another object's mask, too; this one got them")
            whole = np.where(ids != 0, ids, whole)
        assert whole is not None
        return whole


def resolve_origin(options: SegmentOptions, mask: Path, video: str | Path) -> SegmentOptions:
    """Where a way back begins if nothing is said: at the first of several key masks.

    Raises:
        UsageError: a single mask whose frame is not said; or a stream that is to be refined.
    """
    address = Address.of(video)
    if options.refine and not address.repeatable:
        name = "a stream" if address.kind == "stdin" else str(video)
        raise UsageError(
            f"--refine reads the video backward too, and {name} cannot be read twice",
            "save it to a file first",
        )
    if options.direction == "forward" or options.origin is not None:
        return options
    names = None
    if address.kind == "folder":
        names = tuple(path.stem for path in list_images(Path(video)))
    frames = ReferenceMasks(mask, names).frames
    if not frames:
        raise UsageError(
            f"--direction {options.direction} needs the frame of the mask", "add --from FRAME"
        )
    return replace(options, origin=frames[0] if options.direction == "both" else frames[-1])
