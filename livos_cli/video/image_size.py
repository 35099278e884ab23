"""How large an image says it is, from its first bytes: a small file can ask for all memory."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from livos_cli.errors import InputError
from livos_cli.memory import free_memory

__all__ = ["LARGEST_SCALE", "check_frame_size", "check_mask_sizes", "declared_size"]

LARGEST_SCALE = 4  # a mask's longer side, times the video's
BYTES_A_PIXEL = 24  # of a frame on its way from its file through the network, at least
# Of JPEG: the markers that begin a frame, which has its size.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def declared_size(path: Path) -> tuple[int, int] | None:
    """Width and height of a PNG, JPEG, BMP, TIFF, WebP or GIF as stored, without decoding it.

    Returns:
        None where the file is none of these, is cut, or cannot be read: decoding it says why.
    """
    try:
        with path.open("rb") as file:
            return _size(file)
    except (OSError, struct.error, ValueError, OverflowError):
        return None


def _size(file: BinaryIO) -> tuple[int, int] | None:
    head = file.read(32)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height = struct.unpack(">II", head[16:24])
    elif head.startswith(b"\xff\xd8"):
        return _size_of_jpeg(file)
    elif head.startswith(b"BM"):
        old = struct.unpack("<I", head[14:18])[0] == 12  # OS/2's header
        width, height = struct.unpack(*(("<HH", head[18:22]) if old else ("<ii", head[18:26])))
    elif head.startswith((b"II*\0", b"MM\0*")):
        return _size_of_tiff(file, "<" if head.startswith(b"II") else ">")
    elif head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _size_of_webp(head)
    elif head.startswith((b"GIF87a", b"GIF89a")):
        width, height = struct.unpack("<HH", head[6:10])
    else:
        return None
    return abs(width), abs(height)


def _size_of_jpeg(file: BinaryIO) -> tuple[int, int] | None:
    file.seek(2)
    while file.read(1) == b"\xff":
        while (marker := file.read(1)) == b"\xff":
            pass
        if not marker or marker == b"\xda":  # the picture itself
            return None
        if marker[0] == 0x01 or 0xD0 <= marker[0] <= 0xD7:  # without content
            continue
        (length,) = struct.unpack(">H", file.read(2))
        if marker[0] in _FRAMES:
            _, height, width = struct.unpack(">BHH", file.read(5))
            return width, height
        if length < 2:
            return None
        file.seek(length - 2, 1)
    return None


def _size_of_tiff(file: BinaryIO, order: str) -> tuple[int, int] | None:
    """Of the first page, which is the one that is decoded."""
    file.seek(4)
    file.seek(*struct.unpack(f"{order}I", file.read(4)))
    (count,) = struct.unpack(f"{order}H", file.read(2))
    found = {}
    for _ in range(count):
        tag, kind, _, value = struct.unpack(f"{order}HHI4s", file.read(12))
        if tag in (256, 257):
            form, size = {1: ("B", 1), 3: ("H", 2)}.get(kind, ("I", 4))
            (found[tag],) = struct.unpack(f"{order}{form}", value[:size])
    return (found[256], found[257]) if len(found) == 2 else None


def _size_of_webp(head: bytes) -> tuple[int, int] | None:
    kind = head[12:16] if len(head) >= 30 else b""
    if kind == b"VP8X":
        return (
            int.from_bytes(head[24:27], "little") + 1,
            int.from_bytes(head[27:30], "little") + 1,
        )
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", head[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return None


def check_mask_sizes(paths: Iterable[Path], width: int, height: int) -> None:
    """Look at masks before any is decoded.

    Args:
        paths: of all masks of a video.
        width: of the video, pixels.
        height: of the video, pixels.

    Raises:
        InputError: one is more than four times as large as the video.
    """
    for path in paths:
        size = declared_size(path)
        # Its longer side: a mask may be turned, which is told when it has been read.
        if size is not None and max(size) > LARGEST_SCALE * max(width, height):
            raise InputError(
                f"the mask {path} is {size[0]}x{size[1]}, the video {width}x{height}: more than "
                f"{LARGEST_SCALE} times as large",
                "make the mask from a frame of this video, or scale it down",
            )


def check_frame_size(path: Path, first: tuple[int, int] | None = None) -> None:
    """Look at an image that is a frame of a video before it is decoded.

    Args:
        path: of the image.
        first: width and height of the folder's first image, if it is another.

    Raises:
        InputError: it has another size, or there is not memory enough for it.
    """
    size = declared_size(path)
    if size is None:
        return
    # Turned by its EXIF tag it may still be the same.
    if first is not None and size not in (first, first[::-1]):
        raise InputError(
            f"{path} is {size[0]}x{size[1]}, the first image {first[0]}x{first[1]}",
            "all images of a folder must have one size",
        )
    need = size[0] * size[1] * BYTES_A_PIXEL
    if first is None and need > (free := free_memory()):
        raise InputError(
            f"{path} is {size[0]}x{size[1]}: a video of such frames needs {need / 2**30:.1f} GiB "
            f"at least, and {free / 2**30:.1f} GiB are free",
            "scale the images down, or take a machine with more memory",
        )
