"""Results of the way back, kept on disk until their frames come by in order: last in, first out."""

from __future__ import annotations

import contextlib
import tempfile
import zlib
from array import array

import numpy as np

from livos_cli.errors import OutputError
from livos_cli.video.sinks import Decided

__all__ = ["Spool"]


class Spool:
    """A stack of results in a temporary file without a name; 24 bytes of memory each.

    Raises:
        OutputError: the disk is full.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._ends = array("q", [0])
        self._shape = (0, 0)

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):  # a full disk: that has been said
            self._file.close()

    def __len__(self) -> int:
        return (len(self._ends) - 1) // 3

    def push(self, decided: Decided) -> None:
        """Put one on top."""
        self._shape = decided.ids.shape
        matte = b"" if decided.matte is None else decided.matte.tobytes()
        try:
            for data in (decided.ids.tobytes(), matte, bytes(sorted(decided.given))):
                self._file.seek(self._ends[-1])
                written = self._file.write(zlib.compress(data, 1))
                self._ends.append(self._ends[-1] + written)
            self._file.flush()
        except OSError as error:
            raise OutputError(
                f"cannot keep the masks of the way back ({error.strerror})",
                f"make space in {tempfile.gettempdir()}, or set TMPDIR",
            ) from None

    def pop(self) -> Decided:
        """Take the one on top."""
        parts = []
        for _ in range(3):
            end = self._ends.pop()
            self._file.seek(self._ends[-1])
            parts.append(zlib.decompress(self._file.read(end - self._ends[-1])))
        given, matte, ids = parts
        return Decided(
            np.frombuffer(ids, np.uint8).reshape(self._shape),
            np.frombuffer(matte, np.uint16).reshape(self._shape) if matte else None,
            frozenset(given),
        )
