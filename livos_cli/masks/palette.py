"""The DAVIS (Pascal VOC) palette, the field's colours for object ids, and PNGs that carry it."""

from __future__ import annotations

import io
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np

from livos_cli.errors import InputError
from livos_cli.options import parse_colour

__all__ = [
    "DAVIS_PALETTE",
    "PALETTES",
    "decode_index_png",
    "encode_index_png",
    "has_palette",
    "is_index_png",
    "palette_of",
]


def _voc_colours() -> np.ndarray:
    """Bits 0, 1, 2 of an id, spread over red, green and blue from the highest bit down."""
    ids = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for level in range(8):
        for channel in range(3):
            bit = (ids >> (3 * level + channel)) & 1
            colours[:, channel] |= (bit << (7 - level)).astype(np.uint8)
    return colours


DAVIS_PALETTE = _voc_colours()  # (256, 3) uint8 RGB
PALETTES = {
    "davis": (),
    # M. Okabe and K. Ito, "Color Universal Design", 2008: told apart by the colour-blind too.
    "okabe-ito": ("e69f00", "56b4e9", "009e73", "f0e442", "0072b2", "d55e00", "cc79a7"),
    "bright": ("ff3b30", "34c759", "0a84ff", "ffcc00", "ff2dd1", "00e5ff", "ff9500", "af52de"),
}


@cache
def palette_of(text: str) -> np.ndarray:
    """Colours of ids, (256, 3) uint8 RGB: a name of `PALETTES`, or `ff0000,00ff00,…` for 1, 2, ….

    Fewer colours than ids begin again; background is black.

    Raises:
        UsageError: neither a name nor colours.
    """
    if text == "davis":
        return DAVIS_PALETTE
    colours = PALETTES.get(text) or text.split(",")
    cycle = np.array([parse_colour(colour) for colour in colours], np.uint8)
    palette = np.zeros((256, 3), np.uint8)
    palette[1:] = cycle[np.arange(255) % len(cycle)]
    return palette


def encode_index_png(ids: np.ndarray) -> bytes:
    """A palette PNG whose indices are `ids`, (H, W) uint8."""
    palette = np.full((256, 4), 255, np.uint8)  # ARGB
    palette[:, 1:] = DAVIS_PALETTE
    encoder: Any = av.CodecContext.create("png", "w")
    encoder.height, encoder.width = ids.shape
    encoder.pix_fmt = "pal8"
    encoder.time_base = Fraction(1, 25)
    both: Any = (np.ascontiguousarray(ids), palette)
    picture: Any = av.VideoFrame.from_ndarray(both, format="pal8")
    picture.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(picture), *encoder.encode(None)])


def decode_index_png(source: Path | bytes, label: str = "") -> np.ndarray:
    """The stored values of a palette or grey PNG of at most 8 bits: (H, W) uint8.

    No meaning is read into them: 255 is id 255, as in the benchmarks' own tools.

    Args:
        source: a file, or what is in it.
        label: what to call it in errors; a file is called by its path.

    Raises:
        InputError: it cannot be read, or is no such image.
    """
    try:
        label = label or str(source)
        # From bytes, never by name: FFmpeg takes 00%03d.png for a pattern, and reads other files.
        data = source if isinstance(source, bytes) else source.read_bytes()
        with av.open(io.BytesIO(data), "r", format=_demuxer(data)) as container:
            frame: Any = next(container.decode(video=0), None)
            if frame is None:
                raise ValueError("no picture in it")
            name = frame.format.name
            if name == "pal8":
                return np.array(frame.to_ndarray(format="pal8")[0])
            if name in ("gray", "monob"):
                grey = frame.to_ndarray(format="gray")
                return np.array(grey) if name == "gray" else (grey > 0).astype(np.uint8)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{label} cannot be read ({error})", "is the file complete?") from None
    raise InputError(
        f"{label} is not an index image ({name})", "annotations are palette or grey PNGs of 8 bits"
    )


def _demuxer(data: bytes) -> str | None:
    return "png_pipe" if data.startswith(b"\x89PNG") else None


def has_palette(data: bytes) -> bool:
    """Whether a PNG is a palette PNG, by its header (PNG specification, section 11.2.2)."""
    palette_type = 3
    return data.startswith(b"\x89PNG\r\n\x1a\n") and data[25:26] == bytes([palette_type])


def is_index_png(path: Path) -> bool:
    """Whether a file is a palette PNG."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return has_palette(file.read(26))
