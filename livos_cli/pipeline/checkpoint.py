"""What an interrupted run resumes from: the tracker's state, and all that was found until then.

Frames whose result is known are read and written again when the run is resumed, only the network
has nothing to do for them. So every kind of output, its audio and its warnings come out as if
nothing had happened, to the byte; pieces of encoded video joined afterwards would have seams.

A checkpoint is removed when the outputs have their names, and by nothing else that livos does: not
by an error, and not by a run of other inputs or settings, which keeps its own beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import safetensors
import safetensors.torch
import torch
from filelock import Timeout
from torch import Tensor

from livos_cli.errors import InputError, OutputError
from livos_cli.files.atomic import (
    absent,
    open_own,
    read_own,
    remove_empty,
    remove_leftovers,
    synced,
)
from livos_cli.files.livos_folder import empty_checkpoint, lock_in, note_publishing, unpublished
from livos_cli.files.trust import CHECKPOINT, UntrustedError, parse
from livos_cli.outputs.formats import FrameResult
from livos_cli.outputs.writers import WriterThread
from livos_cli.pipeline.spool import read_result, write_result
from livos_cli.video.source import Frame

__all__ = ["Checkpoint"]

# Of each run, by the first digits of its fingerprint.
RESULTS, STATE = "results-{}", "state-{}.safetensors"
MOST_STATE = 1 << 34  # bytes of a state: 255 objects at 4320p have less


@dataclass(frozen=True)
class _Past:
    """A checkpoint."""

    frames: int
    bytes: int  # of the results
    crc: int  # of these bytes
    warnings: list[str]
    computed_on: str
    state: dict[str, Tensor]


NOTHING = _Past(0, 0, 0, [], "", {})


class Checkpoint:
    """A run's checkpoints, in a hidden folder beside its outputs, for one process at a time.

    The folder is there from the first frame on, and gone when the outputs have their names.

    Args:
        folder: where.
        fingerprint: of input, settings and weights: a checkpoint of others is not resumed from.
        every: seconds between checkpoints.
        outputs: what the run will write; leftovers of a killed run beside them are removed.
        computed_on: what rounds in a way of its own: device, threads, version of PyTorch.

    Raises:
        OutputError: another process is at it, or it cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: str,
        every: float,
        outputs: list[Path],
        computed_on: str = "",
    ) -> None:
        self.folder, self._fingerprint, self._every = folder, fingerprint, every
        self._computed_on = computed_on
        self._results = folder / RESULTS.format(fingerprint[:16])
        self._state = folder / STATE.format(fingerprint[:16])
        self.warnings: list[str] = []
        self.frames = 0  # whose results are in the file
        self._file: IO[bytes] | None = None
        self._spoiled = False
        self._made = absent(folder)
        try:
            self._lock = lock_in(folder)
        except Timeout:
            raise OutputError(
                f"another process is writing {', '.join(map(str, outputs))}",
                "wait for it, or choose another place with -o",
            ) from None
        except OSError as error:
            raise _cannot_write(folder, error) from None
        self.owned = unpublished(folder)  # outputs of a run that was killed while it named them
        try:
            if folder not in self._made:
                for path in (*outputs, self._state):
                    remove_leftovers(path)
            self._past = self._read_past() or NOTHING
            if self._past is NOTHING:
                self._state.unlink(missing_ok=True)  # first: without results it is none
                self._results.unlink(missing_ok=True)  # whatever it is: a link, say
            self._file = open_own(self._results, "a")
            self._file.truncate(self._past.bytes)
        except OSError as error:
            self._lock.release()
            raise _cannot_write(folder, error) from None
        self._sum = _Sum(self._file, self._past.crc)
        self._thread = WriterThread(self._write)
        self._saved = time.monotonic()

    @property
    def resumed(self) -> int:
        """How many frames' results are known."""
        return self._past.frames

    @property
    def past_warnings(self) -> list[str]:
        """What was said until the checkpoint; and whether it was computed elsewhere."""
        before, now = self._past.computed_on, self._computed_on
        if not before or before == now:
            return list(self._past.warnings)
        return [
            *self._past.warnings,
            f"the first {self.resumed} frames were computed on {before}, what follows on {now}: "
            "results can differ in rounding from those of a single run",
        ]

    @property
    def state(self) -> dict[str, Tensor] | None:
        """Of the tracker, at the checkpoint; None if there is none."""
        return self._past.state or None

    def _read_past(self) -> _Past | None:
        """The last checkpoint, if there is one of this very run, and whole."""
        if not os.path.lexists(self._state):
            if next(self.folder.glob(STATE.format("*")), None) is not None:
                self.warnings.append(
                    f"the checkpoint in {self.folder} is not used: it is of another input, other "
                    "settings or other weights; it stays until the outputs are there"
                )
            return None
        try:
            return self._checked()
        except OSError as error:
            why = error.strerror or str(error)
        # What safetensors raises of a file that is none is not always its own.
        except (safetensors.SafetensorError, ValueError, KeyError, RuntimeError) as error:
            why = str(error)
        self._say_not_used(why)
        return None

    def _say_not_used(self, why: str) -> None:
        reason = " ".join(why.split())[:200]
        self.warnings.append(
            f"the checkpoint in {self.folder} is not used: it cannot be read ({reason})"
        )

    def _checked(self) -> _Past:
        """Raises UntrustedError, SafetensorError or OSError where anything does not fit."""
        data = read_own(self._state, MOST_STATE)
        state = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        told = header.get("__metadata__", {})
        notes = parse(told.get("livos", ""), CHECKPOINT)
        if told.get("sha256") != _digest(told["livos"], state):
            raise UntrustedError("its content has changed")
        if notes["fingerprint"] != self._fingerprint:
            raise UntrustedError("it is of another run")
        with open_own(self._results) as results:
            crc, left = 0, notes["bytes"]
            while piece := results.read(min(left, 1 << 20)):
                crc, left = zlib.crc32(piece, crc), left - len(piece)
        if left or crc != notes["crc"]:
            raise UntrustedError("its results are cut or have changed")
        where = notes.get("computed_on") or ""
        return _Past(notes["frames"], notes["bytes"], crc, notes["warnings"], where, state)

    def disregard(self, why: str) -> None:
        """Begin anew instead: the checkpoint turned out to be of no use."""
        self._say_not_used(why)
        self._past, self._sum.crc = NOTHING, 0
        assert self._file is not None
        try:
            self._state.unlink(missing_ok=True)
            self._file.truncate(0)
        except OSError as error:
            raise _cannot_write(self.folder, error) from None

    def past(
        self, size: tuple[int, int], ids: Iterable[int], *, matte: bool
    ) -> Iterator[FrameResult]:
        """The results until the checkpoint, in order.

        Args:
            size: height and width of the video.
            ids: of all objects there may be.
            matte: whether probabilities were kept.

        Raises:
            InputError: the file is damaged; the next run begins anew.
        """
        known = {0, *ids}
        with open_own(self._results) as file:
            for _ in range(self.resumed):
                try:
                    decided = read_result(file)
                    seen = np.flatnonzero(decided.areas).tolist()
                    fits = decided.ids.shape == size and known.issuperset(seen)
                    if not fits or (decided.matte is not None) != matte:
                        raise ValueError("they are of another video")
                except (ValueError, OSError) as error:
                    self._spoiled = True
                    raise InputError(
                        f"the results kept in {self.folder} are damaged ({error})",
                        "run the same command again: it starts over",
                    ) from None
                yield decided

    def see(self, frame: Frame, decided: FrameResult) -> None:
        """Take the next frame's result; those of the past are there already."""
        self.frames += 1
        if self.frames > self.resumed:
            self._thread.put(frame, decided)

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return self.frames > self.resumed and time.monotonic() - self._saved >= self._every

    def save(self, state: dict[str, Tensor], warnings: list[str]) -> None:
        """Make what was seen so far, and the tracker's state after it, last."""
        if self.frames <= self.resumed:
            return  # the last one reaches further
        self._thread.flush()
        assert self._file is not None
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            notes = json.dumps({
                "fingerprint": self._fingerprint,
                "frames": self.frames,
                "bytes": self._file.tell(),
                "crc": self._sum.crc,
                "warnings": warnings,
                "computed_on": self._computed_on,
            })  # fmt: skip
            about = {"livos": notes, "sha256": _digest(notes, state)}
            with synced(self._state) as file:
                file.write(safetensors.torch.save(state, about))
        except OSError as error:
            raise _cannot_write(self.folder, error) from None
        self._saved = time.monotonic()

    def will_publish(self, outputs: Iterable[tuple[Path, Path]]) -> None:
        """Note which names will be given to what, as `livos_folder.note_publishing`."""
        try:
            note_publishing(self.folder, outputs)
        except OSError as error:
            raise _cannot_write(self.folder, error) from None

    def close(self, *, keep: bool) -> None:
        """Let go; keep what can be resumed from, or leave nothing."""
        self._thread.stop()
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk
                self._file.close()
        if self._spoiled:
            with contextlib.suppress(OSError):
                self._state.unlink(missing_ok=True)
        keep = keep and next(self.folder.glob(STATE.format("*")), None) is not None
        if not keep:
            empty_checkpoint(self.folder)
        elif not self._state.exists():  # what is kept is of other runs
            with contextlib.suppress(OSError):
                self._results.unlink(missing_ok=True)
        self._lock.release()
        if not keep:
            remove_empty((self.folder.parent, *self._made))

    def _write(self, frame: Frame, decided: FrameResult) -> None:
        try:
            write_result(self._sum, decided)
        except OSError as error:
            raise _cannot_write(self.folder, error) from None


class _Sum:
    """A file that is written to, and the checksum of all that is in it."""

    def __init__(self, file: IO[bytes], crc: int) -> None:
        self._file, self.crc = file, crc

    def write(self, data: bytes) -> int:
        self.crc = zlib.crc32(data, self.crc)
        return self._file.write(data)


def _digest(notes: str, state: dict[str, Tensor]) -> str:
    """Of all that a checkpoint says, whatever the order in its file."""
    digest = hashlib.sha256(notes.encode())
    for name, tensor in sorted(state.items()):
        digest.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _cannot_write(folder: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {error.filename or folder} ({error.strerror or error})",
        "choose another place with -o, free some space, or go without it: --checkpoint 0",
    )
