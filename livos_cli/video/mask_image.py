"""One mask image read as object ids, however it was painted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np

from livos_cli.errors import InputError
from livos_cli.memory import out_of_memory, too_little_memory
from livos_cli.video.images import IMAGE_SUFFIXES
from livos_cli.video.palette import DAVIS_PALETTE

__all__ = ["ColourTable", "Style", "judge_style", "read_mask"]

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


@dataclass(frozen=True)
class Style:
    """How the masks of one video are painted, where a single image leaves it open."""

    colour: bool = False  # some are coloured, so a grey of an RGB image is a colour like others
    values: bool = False  # some hold several grey values, so 255 is an id, not "the object"


@dataclass(frozen=True)
class Picture:
    """A decoded mask image."""

    kind: Literal["palette", "grey", "colour"]
    image: np.ndarray  # (H, W), or (H, W, 3) if colour
    transparent: np.ndarray | None = None  # (H, W) bool, if anything is
    rgb: bool = False  # grey that was stored as RGB
    lossy: bool = False


def read_mask(
    path: Path,
    colours: ColourTable | None = None,
    *,
    allow_empty: bool = False,
    style: Style = Style(),
) -> np.ndarray:
    """Read an image as object ids.

    Palette: the indices. Grey: the values, but black and one other value of 128 or more is one
    object. RGB: one colour an object, black is background. RGBA: what is not transparent.
    Edges that are antialiased, or a soft matte, are decided to one side or the other.

    Args:
        path: PNG, or any image FFmpeg reads.
        colours: ids of colours, shared between the masks of one video.
        allow_empty: take an image without any object.
        style: of all masks of one video.

    Returns:
        (H, W) int64, 0 for background.

    Raises:
        InputError: the file is missing, is no image, or holds no object.
    """
    picture = _decode(path)
    if picture.kind == "palette":
        ids = picture.image.astype(np.int64)
    elif picture.kind == "grey" and not (picture.rgb and style.colour):
        if _is_photograph(picture.image):
            raise InputError(
                f"the mask {path} has grey levels all over: it looks like a picture, not a mask",
                "paint the object white on black, or each object in a value of its own",
            )
        ids = _lossy_ids(picture.image, path) if picture.lossy else _grey_ids(picture.image, style)
    else:
        if picture.lossy:
            raise _lossy_error(path)
        rgb = picture.image
        rgb = rgb if rgb.ndim == 3 else np.repeat(rgb[..., None], 3, axis=2)
        ids = _colour_ids(rgb, picture.transparent, colours or ColourTable(), path)
    if not allow_empty and not ids.any():
        raise InputError(
            f"the mask {path} is empty: every pixel is background",
            "paint the object with a value other than 0",
        )
    return ids


def judge_style(paths: list[Path]) -> Style:
    """Look at all masks of one video, so that each is read alike."""
    if len(paths) < 2:
        return Style()
    colour, values = False, set()
    for path in paths:
        picture = _decode(path)
        colour |= picture.kind == "colour"
        if picture.kind == "grey" and not picture.lossy:
            values |= set(np.unique(_grey_ids(picture.image, Style(values=True))).tolist()) - {0}
    return Style(colour=colour, values=len(values) > 1)


def _decode(path: Path) -> Picture:
    if not path.is_file():
        raise InputError(f"the mask {path} does not exist", "check the path given to --mask")
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise InputError(
            f"the mask {path} is no image ({', '.join(sorted(IMAGE_SUFFIXES))})",
            "save the mask of the first frame as PNG",
        )
    try:
        with av.open(str(path.absolute())) as container:
            frame: Any = next(container.decode(video=0), None)
            if frame is None:
                raise ValueError("no picture in it")
            name = frame.format.name
            lossy = container.streams.video[0].codec_context.name in ("mjpeg", "webp")
            if name == "pal8":
                return _palette_picture(*frame.to_ndarray(format="pal8"))
            if name in ("monob", "monow", "gray") or name.startswith(("gray1", "gray9")):
                deep = name.startswith(("gray1", "gray9"))
                image = frame.to_ndarray(format="gray16le" if deep else "gray")
                return Picture("grey", image, lossy=lossy)
            image = frame.to_ndarray(format="rgba" if _has_alpha(name) else "rgb24")
    except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
        if out_of_memory(error):
            raise too_little_memory(f"to read the mask {path}") from None
        raise InputError(
            f"the mask {path} cannot be read as an image ({error})", "save it as PNG"
        ) from None
    rgb = image[..., :3]
    transparent = None
    if image.shape[2] == 4 and (image[..., 3] < 255).any():
        transparent = image[..., 3] < 128
    grey = (rgb == rgb[..., :1]).all()
    if transparent is None and grey:
        return Picture("grey", rgb[..., 0], rgb=True, lossy=lossy)
    return Picture("colour", rgb, transparent, rgb=True, lossy=lossy)


def _is_photograph(image: np.ndarray) -> bool:
    """Many grey levels, and more than soft edges of them: no matte."""
    if len(np.unique(image)) <= MANY:
        return False
    top = float(image.max())
    return bool(((image > 0.1 * top) & (image < 0.9 * top)).mean() > 0.5)


def _palette_picture(indices: np.ndarray, palette: np.ndarray) -> Picture:
    """Indices are ids; but a palette that is the grey scale (as in BMP) makes a grey image."""
    if (palette[:, 1:] == np.arange(256)[:, None]).all():
        return Picture("grey", indices)
    clear = np.flatnonzero(palette[:, 0] == 0)
    if len(clear) and len(clear) != 256:
        indices = np.where(np.isin(indices, clear), 0, indices)
    return Picture("palette", indices)


def _lossy_ids(image: np.ndarray, path: Path) -> np.ndarray:
    """JPEG and WebP smear values: only black and white can be told apart in them."""
    clear = (image < 64) | (image > 191)
    if clear.mean() < 0.97:
        raise _lossy_error(path)
    return (image > 127).astype(np.int64)


def _lossy_error(path: Path) -> InputError:
    return InputError(
        f"the mask {path} is compressed with loss, so its values are not the ones painted",
        "save it as PNG",
    )


def _has_alpha(name: str) -> bool:
    return name.startswith(("rgba", "ya", "bgra", "argb", "abgr", "yuva", "gbrap"))


def _solid_values(values: np.ndarray) -> set[int]:
    """Values that surround one of their pixels on four sides: antialiased edges do not."""
    same = np.ones(values.shape, bool)
    for axis in (0, 1):
        for step in (1, -1):
            same &= np.roll(values, step, axis) == values
    # Not the border, where np.roll compares with the far side.
    inner = same[1:-1, 1:-1]
    return {int(v) for v in np.unique(values[1:-1, 1:-1][inner])}


def _grey_ids(image: np.ndarray, style: Style) -> np.ndarray:
    values = image.astype(np.int64)
    distinct = [int(v) for v in np.unique(values)]
    top = distinct[-1]
    full = 65535 if image.dtype == np.uint16 else 255
    if len(distinct) > MANY and top > full // 2:
        return (values * 2 > top).astype(np.int64)
    nonzero = [v for v in distinct if v]
    one = 1 if not style.values else top  # what black and white's white becomes
    if len(nonzero) == 1 and top > full // 2:
        return np.where(values != 0, one, 0)
    solid = _solid_values(values)
    edges = [v for v in distinct if v not in solid]
    if solid == {0, top} and top == full:
        return np.where(values * 2 > top, one, 0)
    if len(edges) >= FEW_EDGES and solid - {0}:
        values = _snap(values, edges)
        if set(np.unique(values).tolist()) <= {0, full}:
            values = np.where(values != 0, one, 0)
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
