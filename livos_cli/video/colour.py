"""Between decoded pictures, in whatever format and orientation, and those that are used.

Conversions go by the stream's own matrix and range; what is written has limited range and the
source's matrix, so that its tags stay true.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from livos_cli.errors import InputError
from livos_cli.video.source import Frame, SourceInfo

__all__ = [
    "depth_of",
    "BT2020",
    "KNOWS_BT2020",
    "from_rgb",
    "in_bt2020",
    "matrix_of",
    "orient",
    "orientation_of",
    "picture_of",
    "planar",
    "planes_of",
    "rgb_of",
    "to_rgb",
    "with_alpha",
]


# PyAV 17, the last for Python 3.10, converts RGB to no matrix of BT.2020.
KNOWS_BT2020 = int(av.__version__.partition(".")[0]) >= 18
BT2020 = (9, 10)
NEARLY = 1  # degrees that a tagged rotation may be off a quarter turn: as in ffmpeg

_local = threading.local()


def _reformat(picture: Any, pix_fmt: str, **how: Any) -> Any:
    """Convert with a converter of the calling thread.

    A picture's own one, which `VideoFrame.reformat` keeps, would be shared by all who convert it:
    two at once waited for each other forever. And a conversion changes the tags of its source
    while it lasts: whoever shares a picture holds the frame's lock.
    """
    if not hasattr(_local, "converters"):
        _local.converters = {}
    key = (picture.format.name, pix_fmt)
    if len(_local.converters) > 8:  # of videos that are done
        _local.converters.clear()
    converter = _local.converters.setdefault(key, VideoReformatter())
    return converter.reformat(picture, format=pix_fmt, **how)


def matrix_of(picture: Any) -> int:
    """The picture's YCbCr matrix; where untagged, what players assume from its size."""
    tagged = int(picture.colorspace)
    if tagged in (1, 4, 5, 6, 7, 9, 10):
        return tagged
    high_definition = picture.width >= 1280 or picture.height > 576
    return int(Colorspace.ITU709 if high_definition else Colorspace.ITU601)


def depth_of(picture: Any) -> int:
    """Bits of a component."""
    return max((component.bits for component in picture.format.components), default=8)


def orientation_of(picture: Any) -> tuple[int, bool]:
    """Quarter turns counter-clockwise, after a left-right flip if True, from the display matrix.

    Raises:
        InputError: it is tagged with another rotation.
    """
    data = picture.side_data.get(Type.DISPLAYMATRIX)  # a mapping in every PyAV; iterating is not
    if data is None:
        return 0, False
    # A point (x, y) is shown at (x a + y c, x b + y d).
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).tolist()
    if not (size := a * d - b * c):
        return 0, False  # it shows nothing: players leave it alone
    mirrored = size < 0
    if mirrored:  # x is negated before the turn, which is what remains
        a, b = -a, -b
    angle = math.degrees(math.atan2(-b, a))
    turns = round(angle / 90)
    if abs(angle - 90 * turns) > NEARLY:
        raise InputError(
            f"the video is tagged with a rotation of {angle:.3g} degrees, which is not a "
            "quarter turn",
            "apply it first: ffmpeg -i IN OUT",
        )
    return turns % 4, mirrored


def orient(image: np.ndarray, orientation: tuple[int, bool]) -> np.ndarray:
    """Turn and mirror (H, W, ...) as it is shown."""
    turns, mirrored = orientation
    if mirrored:
        image = image[:, ::-1]
    return np.ascontiguousarray(np.rot90(image, turns) if turns else image)


def to_rgb(picture: Any, info: SourceInfo, *, deep: bool = False) -> np.ndarray:
    """(H, W, 3) RGB, oriented as shown; uint8, or if `deep` uint16 with 65535 for white."""
    wanted = "rgb48le" if deep else "rgb24"
    if picture.format.is_rgb or picture.format.name.startswith(("gray", "mono")):
        whole = _reformat(picture, wanted)
    else:
        whole = _reformat(picture, wanted, src_colorspace=info.matrix, dst_colorspace=info.matrix)
    rgb: np.ndarray = whole.to_ndarray()
    return orient(rgb, info.orientation)


def rgb_of(frame: Frame, info: SourceInfo) -> np.ndarray:
    """The frame in RGB, oriented; uint16 where the source has more than 8 bits and kept them."""
    if info.depth <= 8 or frame.picture is None:
        return frame.rgb
    with frame.lock:
        return to_rgb(frame.picture, info, deep=True)


def from_rgb(rgb: np.ndarray, pix_fmt: str, info: SourceInfo) -> Any:
    """An av.VideoFrame of (H, W, 3) uint8 or uint16, in the source's matrix."""
    if info.matrix in BT2020 and not KNOWS_BT2020:
        return _reformat(in_bt2020(rgb), pix_fmt)
    deep = rgb.dtype == np.uint16
    picture: Any = av.VideoFrame.from_ndarray(rgb, format="rgb48le" if deep else "rgb24")
    return _reformat(picture, pix_fmt, dst_colorspace=info.matrix, dst_color_range=ColorRange.MPEG)


def in_bt2020(rgb: np.ndarray) -> Any:
    """RGB as yuv444p16le of limited range (ITU-R BT.2020, table 4, non-constant luminance)."""
    red, green, blue = np.moveaxis(rgb.astype(np.float32) / np.iinfo(rgb.dtype).max, 2, 0)
    luma = 0.2627 * red + 0.6780 * green + 0.0593 * blue
    planes = [
        16 + 219 * luma,
        128 + 224 * (blue - luma) / 1.8814,
        128 + 224 * (red - luma) / 1.4746,
    ]
    picture = planar("yuv444p16le", [np.rint(256 * plane).astype(np.uint16) for plane in planes])
    picture.color_range = ColorRange.MPEG
    return picture


def picture_of(frame: Frame, pix_fmt: str, info: SourceInfo) -> Any:
    """The frame as an av.VideoFrame of a YCbCr format, oriented, without a detour by 8-bit RGB."""
    picture = frame.picture
    if picture is None or picture.format.is_rgb or picture.format.name.startswith(("gray", "mono")):
        return from_rgb(rgb_of(frame, info), pix_fmt, info)
    how = {
        "src_colorspace": info.matrix,
        "dst_colorspace": info.matrix,
        "dst_color_range": ColorRange.MPEG,
    }
    if info.orientation == (0, False):
        with frame.lock:
            return _reformat(picture, pix_fmt, **how)
    # Subsampled chroma cannot be turned: bring it to full size first.
    with frame.lock:
        whole = _reformat(picture, "yuv444p16le", **how)
    planes = whole.to_ndarray(channel_last=True)
    turned: Any = av.VideoFrame.from_ndarray(
        orient(planes, info.orientation), format="yuv444p16le", channel_last=True
    )
    turned.color_range = ColorRange.MPEG
    return _reformat(turned, pix_fmt, **how)


def planar(pix_fmt: str, planes: Sequence[np.ndarray]) -> Any:
    """An av.VideoFrame of a planar format, from its planes as they are.

    Args:
        pix_fmt: FFmpeg's name, like yuv422p10le.
        planes: (h, w) each, uint8, or uint16 where the format has more than 8 bits.
    """
    height, width = planes[0].shape
    whole: Any = av.VideoFrame(width, height, pix_fmt)
    for values, target in zip(planes, whole.planes, strict=True):
        row = values.shape[1] * values.itemsize
        rows = np.zeros((values.shape[0], target.line_size), np.uint8)
        rows[:, :row] = np.ascontiguousarray(values).view(np.uint8)
        target.update(rows.tobytes())
    return whole


def planes_of(picture: Any) -> list[np.ndarray]:
    """The planes of a planar picture, (h, w) each, uint8 or uint16."""
    dtype = np.dtype(np.uint16 if depth_of(picture) > 8 else np.uint8)
    planes = []
    for plane in picture.planes:
        rows = np.frombuffer(bytes(plane), dtype).reshape(-1, plane.line_size // dtype.itemsize)
        planes.append(rows[: plane.height, : plane.width])
    return planes


def with_alpha(picture: Any, alpha: np.ndarray) -> Any:
    """A picture with an alpha plane: yuv444p10le, yuv420p and so on become yuva….

    Args:
        picture: an av.VideoFrame of a planar YCbCr format.
        alpha: (H, W) in the picture's depth, full range: uint8, or uint16 above 8 bits.
    """
    name = picture.format.name.replace("yuv", "yuva", 1)
    return planar(name, [*planes_of(picture), alpha])
