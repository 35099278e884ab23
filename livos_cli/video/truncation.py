"""Whether a file is all there, by what its own structure says of its size.

A duration alone is no proof: tools patch it into headers afterwards, and it may be wrong.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["declared_size", "is_whole"]

SEGMENT, CLUSTER = 0x18538067, 0x1F43B675  # of Matroska
SPACE = {0xEC, 0xBF}  # empty, and checksums: at any level
# Of a cluster whose size is not known: what is in it.
IN_CLUSTER = {0xE7, 0xA7, 0xAB, 0xA0, 0xA3, 0xAF, 0x5854} | SPACE
FLV_META = 1 << 16  # bytes at the beginning in which FLV's own description is looked for


def declared_size(path: Path, formats: set[str], stream: Any) -> int | None:
    """How many bytes a file claims to have, by a few reads; None if it does not say.

    Args:
        path: a regular file.
        formats: FFmpeg's names of its format.
        stream: of its video; the index of an MP4 says where each frame lies.
    """
    claimed = _look(path, formats, _CLAIMS)
    return max(
        (n for n in (claimed, _end_of_index(formats, stream)) if n is not None), default=None
    )


def is_whole(path: Path, formats: set[str], stream: Any) -> bool:
    """Whether nothing is missing at a file's end, by its structure, piece after piece.

    False if something is missing, or the format is none whose structure tells.
    """
    end = _look(path, formats, _WALKS)
    if end is None:
        end = _end_of_index(formats, stream)
    return end is not None and end <= path.stat().st_size


def _end_of_index(formats: set[str], stream: Any) -> int | None:
    if "mov" not in formats:
        return None
    entries = stream.index_entries
    return max((entries[i].pos + entries[i].size for i in range(len(entries))), default=None)


def _look(
    path: Path, formats: set[str], how: dict[str, Callable[[BinaryIO, int], int | None]]
) -> int | None:
    for name, read in how.items():
        if name in formats:
            try:
                with path.open("rb") as file:
                    return read(file, os.fstat(file.fileno()).st_size)
            except (OSError, struct.error):
                return None  # damaged in another way, which shows when it is decoded
    return None


def _number(file: BinaryIO, *, keep: bool) -> int | None:
    """An EBML number; None at the end of the file, or where all its bits are 1: not known."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    data = first + file.read(length - 1)
    if len(data) < length:
        return None
    value = int.from_bytes(data, "big")
    if keep:
        return value
    most = (1 << (7 * length)) - 1
    return None if value & most == most else value & most


def _segment(file: BinaryIO) -> tuple[int, int | None] | None:
    """Where a Matroska segment's content begins, and its size; None if there is no segment."""
    while (name := _number(file, keep=True)) is not None:
        size = _number(file, keep=False)
        if name == SEGMENT:
            return file.tell(), size
        if size is None:
            return None
        file.seek(size, os.SEEK_CUR)
    return None


def _matroska(file: BinaryIO, _: int) -> int | None:
    found = _segment(file)
    return None if found is None or found[1] is None else found[0] + found[1]


def _walk_matroska(file: BinaryIO, there: int) -> int | None:
    """Where the last element ends, which is past the end of a file that is cut."""
    found = _segment(file)
    if found is None:
        return None
    if found[1] is not None:
        return found[0] + found[1]
    inside = False  # a cluster of a size that is not known
    while (at := file.tell()) < there:
        name, size = _number(file, keep=True), _number(file, keep=False)
        if name is None:
            return there + 1
        inside = inside and name in IN_CLUSTER
        if size is None:
            if name not in (CLUSTER, SEGMENT):
                return there + 1 if file.tell() >= there else None
            inside = name == CLUSTER
        elif file.tell() + size > there:
            return file.tell() + size
        else:
            file.seek(size, os.SEEK_CUR)
        if file.tell() <= at:
            return None
    return there


def _flv(file: BinaryIO, _: int) -> int | None:
    head = file.read(FLV_META)
    place = head.find(b"filesize\x00")
    if place < 0:
        return None
    size = struct.unpack_from(">d", head, place + 9)[0]
    return int(size) if 0 < size < 2**62 else None


def _walk_flv(file: BinaryIO, there: int) -> int | None:
    file.seek(5)
    at = struct.unpack(">I", file.read(4))[0]
    while at + 4 < there:
        file.seek(at + 4)  # each tag follows the size of the one before it
        head = file.read(4)
        if len(head) < 4:
            return there + 1
        if head[0] & 0x1F not in (8, 9, 18):
            return None
        at += 4 + 11 + int.from_bytes(head[1:], "big")
    return at


def _riff(file: BinaryIO, there: int) -> int | None:
    at = 0
    while at + 12 <= there:
        file.seek(at)
        name, size = struct.unpack("<4sI", file.read(8))
        if name != b"RIFF" or size in (0, 0xFFFFFFFF):
            return at or None  # something after the last, or written to a pipe
        if (end := at + 8 + size) >= there:
            return end
        at = end + size % 2
    return at


def _boxes(file: BinaryIO, there: int) -> int | None:
    """Of an MP4 in fragments; the index of others says more."""
    at, fragments = 0, False
    while at + 8 <= there:
        file.seek(at)
        size, name = struct.unpack(">I4s", file.read(8))
        if size == 1:
            size = struct.unpack(">Q", file.read(8))[0]
        elif size == 0:  # to the end
            size = there - at
        if size < 8:
            return None
        fragments = fragments or name == b"moof"
        at += size
    return at if fragments else None


_CLAIMS: dict[str, Callable[[BinaryIO, int], int | None]] = {
    "matroska": _matroska,
    "flv": _flv,
    "avi": _riff,
    "mov": _boxes,
}
_WALKS = _CLAIMS | {"matroska": _walk_matroska, "flv": _walk_flv}
