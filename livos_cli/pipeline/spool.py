"""Results that wait on disk until the frames come by again in order."""

from __future__ import annotations

import contextlib
import struct
import tempfile
import zlib
from abc import ABC, abstractmethod
from array import array
from typing import IO, Any, Generic, Protocol, TypeVar

import numpy as np

from livos_cli.errors import OutputError
from livos_cli.outputs.formats import Decided

__all__ = ["Spool", "Stack", "read_result", "write_result"]

MOST = 1 << 32  # bytes of a frame's result, unpacked
# height, width, bytes of ids, of the matte, of the given ids, of the certainties
_HEAD = struct.Struct("<6I")
_CERTAINTY = struct.Struct("<Bf")  # id and value


class Written(Protocol):
    """What a result can be written to."""

    def write(self, data: bytes, /) -> int: ...


def write_result(file: Written, decided: Decided) -> int:
    """Append one frame's result, compressed without loss; returns its bytes."""
    matte = b"" if decided.matte is None else decided.matte.tobytes()
    parts = [zlib.compress(data, 1) if data else b"" for data in (decided.ids.tobytes(), matte)]
    parts.append(bytes(sorted(decided.given)))
    parts.append(b"".join(_CERTAINTY.pack(*pair) for pair in decided.certainty.items()))
    head = _HEAD.pack(*decided.ids.shape, *map(len, parts))
    return sum(file.write(data) for data in (head, *parts))


def read_result(file: IO[bytes]) -> Decided:
    """Read what `write_result` wrote at this place.

    Raises:
        ValueError: something else is there, or its end is missing.
    """
    try:
        height, width, *sizes = _HEAD.unpack(file.read(_HEAD.size))
        ids, matte, given, certainty = (file.read(size) for size in sizes)
        if (len(given), len(certainty)) != tuple(sizes[2:]):
            raise ValueError("its end is missing")
        return Decided(
            _unpacked(ids, height, width, np.uint8),
            _unpacked(matte, height, width, np.uint16) if matte else None,
            frozenset(given),
            dict(_CERTAINTY.iter_unpack(certainty)),
        )
    except (struct.error, zlib.error) as error:
        raise ValueError(f"no result is here ({error})") from None


def _unpacked(data: bytes, height: int, width: int, dtype: type) -> np.ndarray:
    """(height, width); raises ValueError where there is less or more than that."""
    size = height * width * np.dtype(dtype).itemsize
    if size > MOST:
        raise ValueError("it has another size")
    unpacker = zlib.decompressobj()
    # No more than is wanted, whatever the data says.
    plain = unpacker.decompress(data, size + 1) if size else b""
    if len(plain) != size or not size or not unpacker.eof or unpacker.unused_data:
        raise ValueError("it has another size")
    return np.frombuffer(plain, dtype).reshape(height, width)


Item = TypeVar("Item")
Own = TypeVar("Own", bound="Stack[Any]")


class Stack(ABC, Generic[Item]):
    """A stack in a temporary file without a name; 8 bytes of memory an item.

    Raises:
        OutputError: the disk is full.
    """

    def __init__(self) -> None:
        self._file: Any = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._ends = array("q", [0])

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):  # a full disk: that has been said
            self._file.close()

    def __len__(self) -> int:
        return len(self._ends) - 1

    @abstractmethod
    def write(self, file: IO[bytes], item: Item) -> int:
        """Append an item; returns its bytes."""

    @abstractmethod
    def read(self, file: IO[bytes]) -> Item:
        """Read what `write` wrote at this place."""

    def push(self, item: Item) -> None:
        """Put one on top."""
        try:
            self._file.seek(self._ends[-1])
            self._ends.append(self._ends[-1] + self.write(self._file, item))
        except OSError as error:
            raise OutputError(
                f"cannot keep the results of the way back in {tempfile.gettempdir()} "
                f"({error.strerror})",
                "free some space, or set TMPDIR to a larger disk",
            ) from None

    def pop(self) -> Item:
        """Take the one on top."""
        self._ends.pop()
        self._file.seek(self._ends[-1])
        return self.read(self._file)


class Spool(Stack[Decided]):
    """A stack of results."""

    def write(self, file: IO[bytes], item: Decided) -> int:
        return write_result(file, item)

    def read(self, file: IO[bytes]) -> Decided:
        return read_result(file)
