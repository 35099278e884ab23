"""Masks in: one image, a folder of key masks, or a folder an object, all read as object ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from livos_cli.errors import InputError
from livos_cli.video.images import IMAGE_SUFFIXES, natural_key
from livos_cli.video.palette import DAVIS_PALETTE

__all__ = ["ASPECT_TOLERANCE", "KeyMasks", "fit_mask", "read_mask"]

ASPECT_TOLERANCE = 0.02  # masks of another resolution are resized if the shape is this close
MANY = 64  # distinct values from which a grey image is a soft matte, not ids
FEW_EDGES = 3  # so many values without any solid area are antialiasing, not objects


@dataclass
class ColourTable:
    """Which id each colour of RGB masks has; shared by all masks of one video."""

    ids: dict[int, int] = field(default_factory=dict)

    def id_of(self, colour: int) -> int:
        """The id of 0xRRGGBB: its place in the DAVIS palette, or the first id that is free."""
        if colour == 0:
            return 0
        if colour not in self.ids:
            davis = {int(r) << 16 | int(g) << 8 | int(b): i for i, (r, g, b) in _early_colours()}
            wanted = davis.get(colour)
            taken = set(self.ids.values())
            if wanted is None or wanted in taken:
                wanted = next(i for i in range(1, 1 << 24) if i not in taken)
            self.ids[colour] = wanted
        return self.ids[colour]


def _early_colours() -> list[tuple[int, np.ndarray]]:
    # The palette's first colours are those that masks are drawn with; the later ones are so many
    # that any colour might meet one by chance.
    return list(enumerate(DAVIS_PALETTE[:32]))[1:]


def read_mask(
    path: Path, colours: ColourTable | None = None, *, allow_empty: bool = False
) -> np.ndarray:
    """Read an image as object ids.

    Palette: the indices. Grey: the values, but black and one other value of 128 or more is one
    object. RGB: one colour an object, black is background. RGBA: what is not transparent.
    Edges that are antialiased, or a soft matte, are decided to one side or the other.

    Args:
        path: PNG, or any image FFmpeg reads.
        colours: ids of colours, shared between the masks of one video.
        allow_empty: take an image without any object.

    Returns:
        (H, W) int64, 0 for background.

    Raises:
        InputError: the file is missing, is no image, or holds no object.
    """
    kind, image, transparent = _decode(path)
    if kind == "palette":
        ids = image.astype(np.int64)
    elif kind == "grey":
        ids = _grey_ids(image)
    else:
        ids = _colour_ids(image, transparent, colours or ColourTable(), path)
    if not allow_empty and not ids.any():
        raise InputError(
            f"the mask {path} is empty: every pixel is background",
            "paint the object with a value other than 0",
        )
    return ids


def _decode(path: Path) -> tuple[str, np.ndarray, np.ndarray | None]:
    """-> palette, grey or colour; the (H, W) or (H, W, 3) array; where transparent, if anywhere."""
    if not path.is_file():
        raise InputError(f"the mask {path} does not exist", "check the path given to --mask")
    try:
        with av.open(str(path)) as container:
            frame: Any = next(container.decode(video=0), None)
            if frame is None:
                raise ValueError("no picture in it")
            name = frame.format.name
            if name == "pal8":
                indices, palette = frame.to_ndarray(format="pal8")
                clear = np.flatnonzero(palette[:, 0] == 0)
                if len(clear) and len(clear) != 256:
                    indices = np.where(np.isin(indices, clear), 0, indices)
                return "palette", indices, None
            if name in ("monob", "monow", "gray") or name.startswith(("gray1", "gray9")):
                deep = name.startswith(("gray1", "gray9"))
                return "grey", frame.to_ndarray(format="gray16le" if deep else "gray"), None
            image = frame.to_ndarray(format="rgba" if _has_alpha(name) else "rgb24")
    except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
        raise InputError(
            f"the mask {path} cannot be read as an image ({error})", "save it as PNG"
        ) from None
    rgb = image[..., :3]
    transparent = None
    if image.shape[2] == 4 and (image[..., 3] < 255).any():
        transparent = image[..., 3] < 128
    if (
        transparent is None
        and (rgb[..., 0] == rgb[..., 1]).all()
        and (rgb[..., 0] == rgb[..., 2]).all()
    ):
        return "grey", rgb[..., 0], None
    return "colour", rgb, transparent


def _has_alpha(name: str) -> bool:
    return name.startswith(("rgba", "ya", "bgra", "argb", "abgr", "yuva", "gbrap"))


def _solid_values(values: np.ndarray) -> set[int]:
    """Values that fill at least one 3x3 square: the edges of antialiased shapes do not."""
    same = np.ones(values.shape, bool)
    for axis in (0, 1):
        for step in (1, -1):
            same &= np.roll(values, step, axis) == values
    # Borders count as solid with themselves: np.roll compares them with the far side.
    inner = same[1:-1, 1:-1]
    return {int(v) for v in np.unique(values[1:-1, 1:-1][inner])}


def _grey_ids(image: np.ndarray) -> np.ndarray:
    values = image.astype(np.int64)
    distinct = [int(v) for v in np.unique(values)]
    top = distinct[-1]
    full = 65535 if image.dtype == np.uint16 else 255
    if len(distinct) > MANY and top > full // 2:
        return (values * 2 > top).astype(np.int64)
    nonzero = [v for v in distinct if v]
    if len(nonzero) == 1 and top > full // 2:
        return (values != 0).astype(np.int64)
    solid = _solid_values(values)
    edges = [v for v in distinct if v not in solid]
    if solid == {0, top} and top == full:
        return (values * 2 > top).astype(np.int64)
    if len(edges) >= FEW_EDGES and solid - {0}:
        values = _snap(values, edges)
        if set(np.unique(values).tolist()) <= {0, full}:
            values = (values != 0).astype(np.int64)
    return values


def _colour_ids(
    rgb: np.ndarray, transparent: np.ndarray | None, colours: ColourTable, path: Path
) -> np.ndarray:
    packed = rgb.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    if transparent is not None:
        packed = np.where(transparent, 0, packed)
        visible = np.unique(packed[~transparent])
        solid = _solid_values(np.where(transparent, -1, packed)) - {-1}
        if len(solid) <= 1 or len(solid) > MANY or not len(visible):
            # A cut-out: a picture, or one colour, on nothing. What shows is the object.
            return (~transparent).astype(np.int64)
    distinct = np.unique(packed).tolist()
    solid = _solid_values(packed)
    edges = [v for v in distinct if v not in solid]
    if len(edges) >= FEW_EDGES and solid - {0}:
        packed = _snap(packed, edges)
        distinct = np.unique(packed).tolist()
    if len(distinct) > 256:
        raise InputError(
            f"the mask {path} has {len(distinct)} colours: it looks like a picture, not a mask",
            "paint each object in one flat colour on black",
        )
    distinct, inverse = np.unique(packed, return_inverse=True)
    table = np.array([colours.id_of(int(colour)) for colour in distinct], np.int64)
    return table[inverse].reshape(packed.shape)


def _snap(values: np.ndarray, edges: list[int]) -> np.ndarray:
    """Give every pixel of an edge value the value of the nearest pixel that has none."""
    soft = np.isin(values, edges)
    _, labels = cv2.distanceTransformWithLabels(
        soft.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    value_of = np.zeros(labels.max() + 1, np.int64)
    value_of[labels[~soft]] = values[~soft]
    return value_of[labels]


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


class KeyMasks:
    """The masks given for a video, by frame; images are read when their frame comes.

    Args:
        path: an image for the first frame; a folder of images named by frame number (or, for an
            image folder, by its images' names); or a folder of folders, one an object, each
            holding such images.
        image_names: names of the frames, if they come from an image folder.

    Raises:
        InputError: nothing usable at `path`.
    """

    def __init__(self, path: Path, image_names: tuple[str, ...] | None = None) -> None:
        self._path = path
        self._colours = ColourTable()
        self._names = {name: i for i, name in enumerate(image_names)} if image_names else None
        self._by_frame: dict[int, list[tuple[int | None, Path]]] = {}
        self._first: list[tuple[int | None, Path]] | None = None
        self.object_names: dict[int, str] = {}  # of object folders: id -> folder name
        if not path.exists():
            raise InputError(f"the mask {path} does not exist", "check the path given to --mask")
        if path.is_file():
            self._first = [(None, path)]
            return
        folders = sorted(
            (p for p in path.iterdir() if p.is_dir()), key=lambda p: natural_key(p.name)
        )
        if folders:
            self._open_object_folders(folders)
        else:
            for image in _images(path):
                self._by_frame.setdefault(self._frame_of(image), []).append((None, image))
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
            for image in _images(folder):
                self._by_frame.setdefault(self._frame_of(image), []).append((own, image))

    def _frame_of(self, image: Path) -> int:
        if self._names is not None and image.stem in self._names:
            return self._names[image.stem]
        if self._names is None and image.stem.isdecimal():
            return int(image.stem)
        wanted = "one of the images" if self._names is not None else "a frame number (00012.png)"
        raise InputError(
            f"the name of the mask {image} is not {wanted}", "rename it, or give a single mask file"
        )

    @property
    def frames(self) -> list[int] | None:
        """Frame numbers that have a mask; None if one mask is for the first frame read."""
        return None if self._first is not None else sorted(self._by_frame)

    def scan(self, width: int, height: int) -> tuple[list[int], list[str]]:
        """Read every mask once, so that errors come before hours of work and not after.

        Returns:
            All ids there are, and warnings.
        """
        ids: set[int] = set()
        warnings: list[str] = []
        for frame in [None] if self._first is not None else sorted(self._by_frame):
            mask = self._load(frame, width, height, warnings.append)
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
        return sorted(ids), warnings

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

    def _load(
        self,
        frame: int | None,
        width: int,
        height: int,
        warn: Callable[[str], None] = lambda _: None,
    ) -> np.ndarray:
        parts = self._by_frame[frame] if frame is not None else self._first or []
        whole: np.ndarray | None = None
        for own, path in parts:
            # In a folder an empty mask says that nothing new is seen in that frame.
            read = read_mask(path, self._colours, allow_empty=self._first is None)
            ids, warning = fit_mask(read, width, height, f"mask {path}")
            if warning:
                warn(warning)
            if own is not None:
                ids = np.where(ids != 0, own, 0)
            if whole is None:
                whole = ids
                continue
            if overlap := int(((whole != 0) & (ids != 0)).sum()):
                warn(f"{path}: {overlap} pixels belong to another object too; this one has them")
            whole = np.where(ids != 0, ids, whole)
        assert whole is not None
        return whole


def _images(folder: Path) -> list[Path]:
    return sorted(
        (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES),
        key=lambda p: natural_key(p.name),
    )
