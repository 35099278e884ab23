"""TIFF where the libraries at hand fall short: tiles, palettes' indices, pages; EXIF, too.

Pixels are decoded by whatever is given; this knows the directory (TIFF 6.0, and BigTIFF).
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Tiff", "exif_orientation", "turn_upright"]

_CODES = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I", 16: "Q", 18: "Q"}
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
ORIENTATION, SAMPLES, ROWS, PLANAR, PREDICTOR, PALETTE = 274, 277, 278, 284, 317, 320
SUBFILE, STRIP_AT, STRIP_BYTES, TILE_WIDTH, TILE_HEIGHT, TILE_AT, TILE_BYTES = (
    254, 273, 279, 322, 323, 324, 325,
)  # fmt: skip
EXTRA, SAMPLE_FORMAT = 338, 339
MAX_PAGES = 10_000  # of which a chain of directories is followed: it may be a ring


@dataclass(frozen=True)
class _Tag:
    values: tuple[int, ...]
    place: int  # of the value or of its offset, in the file
    code: str


class Tiff:
    """The first page of a TIFF.

    Args:
        data: the file.

    Raises:
        ValueError: it is damaged, or stored in a way that is not read.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._order = "<" if data[:2] == b"II" else ">"
        self._big = data[2:4] in (b"+\0", b"\0+")
        at = self._one("Q", 8) if self._big else self._one("I", 4)
        self._tags, following = self._directory(at)
        self.pages, seen = 1, {at}
        while following and following not in seen and self.pages < MAX_PAGES:
            seen.add(following)
            try:
                tags, after = self._directory(following)
            except (struct.error, ValueError):
                break  # a damaged page after the one that counts
            subfile = tags[SUBFILE].values[0] if SUBFILE in tags else 0
            self.pages += not subfile & 1  # smaller copies are no pages
            following = after
        self.orientation = self._get(ORIENTATION, 1)
        self.lossy = self._get(COMPRESSION, 1) in (6, 7, 34712)  # JPEG, JPEG 2000
        self.palette = self._read_palette()

    def _one(self, code: str, at: int) -> int:
        return int(struct.unpack_from(self._order + code, self._data, at)[0])

    def _directory(self, at: int) -> tuple[dict[int, _Tag], int]:
        """The tags that are there, and where the next directory is."""
        count = self._one("Q" if self._big else "H", at)
        at += 8 if self._big else 2
        size, head, room = (20, 12, 8) if self._big else (12, 8, 4)
        tags = {}
        for number in range(count):
            entry = at + number * size
            tag, kind = struct.unpack_from(self._order + "HH", self._data, entry)
            many = self._one("Q" if self._big else "I", entry + 4)
            code = _CODES.get(kind)
            if code is None or many > len(self._data):
                continue
            place = entry + head
            if struct.calcsize(code) * many > room:
                place = self._one("Q" if self._big else "I", place)
            values = struct.unpack_from(f"{self._order}{many}{code}", self._data, place)
            tags[tag] = _Tag(values, place, code)
        return tags, self._one("Q" if self._big else "I", at + count * size)

    def _get(self, tag: int, default: int) -> int:
        found = self._tags.get(tag)
        return found.values[0] if found and found.values else default

    def _read_palette(self) -> np.ndarray | None:
        """(256, 4) uint8 RGBA."""
        if self._get(PHOTOMETRIC, 1) != 3 or PALETTE not in self._tags:
            return None
        flat = np.array(self._tags[PALETTE].values, np.int64)
        colours = flat.reshape(3, -1).T[:256]
        # The specification says 16 bits; some programs write 8.
        colours = colours // 257 if colours.max(initial=0) > 255 else colours
        palette = np.full((256, 4), 255, np.uint8)
        palette[:, :3] = 0
        palette[: len(colours), :3] = colours
        return palette

    def first_page(self, decode: Callable[[bytes], np.ndarray]) -> np.ndarray:
        """Its stored values, not turned: (H, W), or (H, W, 3 or 4) BGR(A); of palettes, indices.

        Args:
            decode: makes an array of the bytes of a plain TIFF.

        Raises:
            ValueError: it is stored in a way that is not read, which is named.
        """
        bits = self._get(BITS, 1)
        try:
            tiled = TILE_AT in self._tags
            image = self._from_tiles(decode) if tiled else decode(self._plain())
        except ValueError:
            raise ValueError(
                f"a TIFF of {bits} bits{self._number_kind()}, compression "
                f"{self._get(COMPRESSION, 1)}{', in tiles' * (TILE_AT in self._tags)}, "
                "or damaged"
            ) from None
        if self.palette is not None and bits < 8:
            image = image // (255 // ((1 << bits) - 1))  # greys were spread over 0 to 255
        return image

    def _number_kind(self) -> str:
        return {3: " (float)", 5: " (complex)", 6: " (complex)"}.get(
            self._get(SAMPLE_FORMAT, 1), ""
        )

    def _plain(self) -> bytes:
        """The file with indices called greys, and not turned: decoders then leave both alone."""
        data = bytearray(self._data)
        if self.palette is not None:
            tag = self._tags[PHOTOMETRIC]
            struct.pack_into(self._order + tag.code, data, tag.place, 1)
        if ORIENTATION in self._tags:
            tag = self._tags[ORIENTATION]
            struct.pack_into(self._order + tag.code, data, tag.place, 1)
        return bytes(data)

    def _from_tiles(self, decode: Callable[[bytes], np.ndarray]) -> np.ndarray:
        """Each tile as a small TIFF of its own."""
        width, height = self._get(WIDTH, 0), self._get(HEIGHT, 0)
        across, down = self._get(TILE_WIDTH, 0), self._get(TILE_HEIGHT, 0)
        if not (width and height and across and down) or self._get(PLANAR, 1) != 1:
            raise ValueError
        columns = -(-width // across)
        places, sizes = self._tags[TILE_AT].values, self._tags[TILE_BYTES].values
        if len(places) < columns * -(-height // down):
            raise ValueError
        whole: np.ndarray | None = None
        for number in range(columns * -(-height // down)):
            piece = decode(self._alone(places[number], sizes[number], across, down))
            if whole is None:
                whole = np.zeros((height, width, *piece.shape[2:]), piece.dtype)
            y, x = number // columns * down, number % columns * across
            part = whole[y : y + down, x : x + across]
            part[:] = piece[: part.shape[0], : part.shape[1]]
        assert whole is not None
        return whole

    def _alone(self, place: int, size: int, width: int, height: int) -> bytes:
        """A TIFF of one strip, which holds one tile's bytes."""
        order = self._order
        tags: dict[int, tuple[int, ...]] = {
            WIDTH: (width,), HEIGHT: (height,), ROWS: (height,), STRIP_BYTES: (size,),
        }  # fmt: skip
        for tag in (BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, PREDICTOR, EXTRA, SAMPLE_FORMAT):
            if tag in self._tags:
                tags[tag] = self._tags[tag].values
        if self.palette is not None:
            tags[PHOTOMETRIC] = (1,)
        tags[STRIP_AT] = (0,)  # its place is known below
        head, tail = b"", b""
        after = 8 + 2 + 12 * len(tags) + 4
        spare = sum(4 * len(v) for v in tags.values() if len(v) > 1)
        tags[STRIP_AT] = (after + spare,)
        for tag, values in sorted(tags.items()):
            # BITS and the like are lists of shorts: written as long numbers they are valid, too,
            # but not all decoders take them.
            short = tag in (
                BITS,
                COMPRESSION,
                PHOTOMETRIC,
                SAMPLES,
                PREDICTOR,
                EXTRA,
                SAMPLE_FORMAT,
            )
            code, kind = ("H", 3) if short else ("I", 4)
            packed = struct.pack(f"{order}{len(values)}{code}", *values)
            if len(packed) > 4:
                packed, where = packed.ljust(4 * len(values), b"\0"), after + len(tail)
                tail += packed
                packed = struct.pack(order + "I", where)
            head += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
        start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
        body = struct.pack(order + "H", len(tags)) + head + struct.pack(order + "I", 0) + tail
        return (start + body).ljust(after + spare, b"\0") + self._data[place : place + size]


def exif_orientation(exif: bytes) -> int:
    """Orientation by an EXIF block, which is a TIFF without a picture; 1 if it says nothing."""
    if exif[:4] in (b"II*\0", b"MM\0*"):
        with contextlib.suppress(ValueError, struct.error):
            return Tiff(exif).orientation
    return 1


def turn_upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """An image, (H, W, ...), as its EXIF orientation, 1 to 8, wants it shown."""
    if orientation in (5, 6, 7, 8):
        image = np.swapaxes(image, 0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)
