"""A mask's file as an array of what is stored in it, before any meaning is read into that."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from livos_cli.errors import InputError
from livos_cli.masks.tiff import Tiff, exif_orientation, turn_upright
from livos_cli.memory import out_of_memory, too_little_memory
from livos_cli.video.images import IMAGE_SUFFIXES

__all__ = ["Picture", "decode_mask_file"]


@dataclass(frozen=True)
class Picture:
    """A decoded mask image.

    One of three kinds: indices with a `palette`; grey, (H, W) uint8 or uint16 or, in TIFF, any
    number; or colours, (H, W, 3) uint8 RGB.
    """

    values: np.ndarray
    palette: np.ndarray | None = None  # (256, 4) uint8 RGBA
    alpha: np.ndarray | None = None  # (H, W) uint8, if anything is transparent
    rgb: bool = False  # stored as RGB, even where all of it is grey
    lossy: bool = False  # values are not those that were painted
    pages: int = 1  # in the file; this is the first

    @property
    def grey(self) -> bool:
        return self.palette is None and self.values.ndim == 2


def decode_mask_file(path: Path) -> Picture:
    """Read a PNG, JPEG, BMP, WebP or TIFF, by its content, as it is meant to be looked at.

    Raises:
        InputError: it is missing or cannot be read, and why.
    """
    if not path.is_file():
        raise InputError(f"the mask {path} does not exist", "check the path given to --mask")
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise InputError(
            f"the mask {path} is not an image ({', '.join(sorted(IMAGE_SUFFIXES))})",
            "save the mask of the first frame as PNG",
        )
    try:
        data = path.read_bytes()
        # From bytes, never by name: FFmpeg takes m%03d.png for a pattern, and reads other files.
        return _decode(data)
    except (av.error.FFmpegError, OSError, ValueError, IndexError, struct.error, cv2.error) as e:
        if out_of_memory(e):
            raise too_little_memory(f"to read the mask {path}") from None
        reason = getattr(e, "strerror", None) or str(e).splitlines()[0]
        if isinstance(e, struct.error):  # numbers that are not there
            reason = "it is cut or damaged"
        raise InputError(
            f"the mask {path} cannot be read as an image ({reason})", "save it as PNG"
        ) from None


def _decode(data: bytes) -> Picture:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        chunks = _png_chunks(data)
        picture = _by_ffmpeg(data, "png_pipe")
        if b"acTL" in chunks:
            picture = replace(picture, pages=struct.unpack(">I", chunks[b"acTL"][:4])[0])
        return _turned(picture, exif_orientation(chunks.get(b"eXIf", b"")))
    if data.startswith(b"BM"):
        return _by_ffmpeg(data, "bmp_pipe")
    if data.startswith(b"\xff\xd8\xff"):
        # OpenCV turns it as its EXIF says, like the images of a folder of frames.
        return replace(
            _of_bgr(_by_opencv(data, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)), lossy=True
        )
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp(data)
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff(data)
    for start, name in ((b"GIF8", "a GIF"), (b"%PDF", "a PDF"), (b"\x93NUMPY", "a NumPy array")):
        if data.startswith(start):
            raise ValueError(f"it is {name}")
    if data[4:8] == b"ftyp":
        raise ValueError("it is a video, AVIF or HEIC")
    raise ValueError("it is empty" if not data else "it is no PNG, JPEG, BMP, WebP or TIFF")


def _by_opencv(data: bytes, flags: int = cv2.IMREAD_UNCHANGED) -> np.ndarray:
    # OpenCV writes its own lines to the terminal where it fails.
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if image is None:
        raise ValueError("it is damaged, or of a kind that OpenCV does not read")
    return image


def _by_ffmpeg(data: bytes, demuxer: str) -> Picture:
    """PNG and BMP, whose palettes OpenCV does not give."""
    with av.open(io.BytesIO(data), "r", format=demuxer) as container:
        frame: Any = next(container.decode(video=0), None)
        if frame is None:
            raise ValueError("no picture in it")
        name = frame.format.name
        if name == "pal8":
            indices, argb = frame.to_ndarray(format="pal8")
            return _of_palette(np.array(indices), np.roll(np.array(argb), -1, axis=1))
        if name in ("monob", "monow", "gray") or name.startswith(("gray1", "gray9")):
            deep = name.startswith(("gray1", "gray9"))
            return Picture(np.array(frame.to_ndarray(format="gray16le" if deep else "gray")))
        clear = name.startswith(("rgba", "ya", "bgra", "argb", "abgr", "yuva", "gbrap"))
        return _of_rgb(np.array(frame.to_ndarray(format="rgba" if clear else "rgb24")))


def _of_palette(indices: np.ndarray, rgba: np.ndarray) -> Picture:
    if (rgba[:, :3] == np.arange(256)[:, None]).all():  # as in BMP
        return Picture(indices)
    alpha = None
    if (rgba[np.unique(indices), 3] < 255).any() and rgba[:, 3].any():
        alpha = rgba[:, 3][indices]
    return Picture(indices, palette=rgba, alpha=alpha)


def _of_rgb(image: np.ndarray) -> Picture:
    """RGB or RGBA, uint8."""
    rgb, alpha = image[..., :3], None
    if image.shape[2] == 4 and (image[..., 3] < 255).any():
        alpha = image[..., 3]
    if alpha is None and (rgb == rgb[..., :1]).all():
        return Picture(rgb[..., 0], rgb=True)
    return Picture(rgb, alpha=alpha, rgb=True)


def _of_bgr(image: np.ndarray) -> Picture:
    """What OpenCV decodes: grey of any type, BGR or BGRA."""
    if image.ndim == 2:
        return Picture(image)
    if image.dtype == np.uint16:
        image = (image // 257).astype(np.uint8)
    if image.dtype != np.uint8:
        raise ValueError(f"its colours are {image.dtype}")
    order = [2, 1, 0, 3][: image.shape[2]]
    return _of_rgb(np.ascontiguousarray(image[..., order]))


def _turned(picture: Picture, orientation: int) -> Picture:
    if orientation == 1:
        return picture
    alpha = None if picture.alpha is None else turn_upright(picture.alpha, orientation)
    return replace(picture, values=turn_upright(picture.values, orientation), alpha=alpha)


def _png_chunks(data: bytes) -> dict[bytes, bytes]:
    """The first chunk of each name (PNG specification, section 5.3)."""
    found: dict[bytes, bytes] = {}
    at = 8
    while at + 8 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        found.setdefault(data[at + 4 : at + 8], data[at + 8 : at + 8 + size])
        at += 12 + size
    return found


def _webp(data: bytes) -> Picture:
    """WebP: `VP8L` is without loss, `VP8 ` is not (its transparency mostly is)."""
    names, exif, at = [], b"", 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        if name == b"ANMF":
            names.append(b"page")
            names.append(data[at + 24 : at + 28])
        elif name == b"EXIF":
            exif = data[at + 8 : at + 8 + size].removeprefix(b"Exif\0\0")
        names.append(name)
        at += 8 + size + size % 2
    pages = max(1, names.count(b"page"))
    try:
        picture = _of_bgr(_by_opencv(data))
    except ValueError:
        if pages > 1:
            raise ValueError(f"it is an animated WebP of {pages} pictures") from None
        raise
    lossy = b"VP8 " in names or b"ALPH" in names
    picture = replace(picture, lossy=lossy, pages=pages)
    return _turned(picture, exif_orientation(exif))


def _tiff(data: bytes) -> Picture:
    tiff = Tiff(data)
    values = tiff.first_page(_by_opencv)
    palette = tiff.palette
    picture = _of_bgr(values) if palette is None else _of_palette(values, palette)
    picture = replace(picture, lossy=tiff.lossy, pages=tiff.pages)
    return _turned(picture, tiff.orientation)
