"""What an interrupted run goes on from: the tracker's state, and all that was found until then.

Frames whose result is known are read and written again when the run is resumed, only the network
has nothing to do for them. So every kind of output, its sound and its warnings come out as if
nothing had happened, to the byte; pieces of encoded video joined afterwards would have seams.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import safetensors
import safetensors.torch
from filelock import FileLock, Timeout
from torch import Tensor

from livos_cli.errors import InputError, OutputError
from livos_cli.files import remove_leftovers, synced
from livos_cli.outputs import SinkThread
from livos_cli.records import JOURNAL_LOCK, PUBLISHING, empty_journal, unpublished
from livos_cli.spool import read_result, write_result
from livos_cli.video.sinks import Decided
from livos_cli.video.source import Frame

__all__ = ["Journal"]

RESULTS, STATE = "results", "state.safetensors"


@dataclass(frozen=True)
class _Past:
    """A checkpoint."""

    frames: int
    bytes: int  # of the results
    warnings: list[str]
    state: dict[str, Tensor]


class Journal:
    """A run's checkpoints, in a hidden folder beside its outputs, for one process at a time.

    The folder is there from the first frame on, and gone when the outputs have their names.

    Args:
        folder: where.
        fingerprint: of input, settings and weights: a checkpoint of others is not gone on from.
        every: seconds between checkpoints.
        outputs: what the run will write; leftovers of a killed run beside them are removed.

    Raises:
        OutputError: another process is at it, or it cannot be written.
    """

    def __init__(self, folder: Path, fingerprint: str, every: float, outputs: list[Path]) -> None:
        self.folder, self._fingerprint, self._every = folder, fingerprint, every
        self.warnings: list[str] = []
        self.frames = 0  # whose results are in the file
        self._file: IO[bytes] | None = None
        self._made = [p for p in (folder, *folder.parents) if not p.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(folder / JOURNAL_LOCK, blocking=False)
            self._lock.acquire()
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
                for path in outputs:
                    remove_leftovers(path)
            past = self._read_past()
            self.resumed = 0 if past is None else past.frames
            self.past_warnings = [] if past is None else past.warnings
            self.state = None if past is None else past.state
            self._file = (folder / RESULTS).open("ab")
            self._file.truncate(0 if past is None else past.bytes)
            if past is None:
                (folder / STATE).unlink(missing_ok=True)
        except OSError as error:
            self._lock.release()
            raise _cannot_write(folder, error) from None
        self._thread = SinkThread(self)
        self._saved = time.monotonic()

    def _read_past(self) -> _Past | None:
        """The last checkpoint, if it is of this very run and whole."""
        path = self.folder / STATE
        if not path.exists():
            return None
        try:
            with safetensors.safe_open(path, "pt") as file:
                notes = json.loads(file.metadata()["livos"])
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            size = (self.folder / RESULTS).stat().st_size
            if notes["fingerprint"] == self._fingerprint and size >= notes["bytes"]:
                return _Past(notes["frames"], notes["bytes"], notes["warnings"], state)
            why = "it is of another input, other settings or other weights"
        except (safetensors.SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
            why = f"it cannot be read ({error})"
        self.warnings.append(f"the checkpoint in {self.folder} is not used: {why}")
        return None

    def past(self) -> Iterator[Decided]:
        """The results until the checkpoint, in order.

        Raises:
            InputError: the file is damaged.
        """
        with (self.folder / RESULTS).open("rb") as file:
            for _ in range(self.resumed):
                try:
                    yield read_result(file)
                except (ValueError, OSError) as error:
                    raise InputError(
                        f"the results kept in {self.folder} are damaged ({error})",
                        "remove that folder to begin anew",
                    ) from None

    def see(self, frame: Frame, decided: Decided) -> None:
        """Take the next frame's result; those of the past are there already."""
        self.frames += 1
        if self.frames > self.resumed:
            self._thread.write(frame, decided)

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return self.frames > self.resumed and time.monotonic() - self._saved >= self._every

    def checkpoint(self, state: dict[str, Tensor], warnings: list[str]) -> None:
        """Make what was seen so far, and the tracker's state after it, last."""
        if self.frames <= self.resumed:
            return  # the last one reaches further
        self._thread.settle()
        assert self._file is not None
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            notes = {
                "fingerprint": self._fingerprint,
                "frames": self.frames,
                "bytes": self._file.tell(),
                "warnings": warnings,
            }
            with synced(self.folder / STATE) as temporary:
                safetensors.torch.save_file(state, temporary, {"livos": json.dumps(notes)})
        except OSError as error:
            raise _cannot_write(self.folder, error) from None
        except safetensors.SafetensorError as error:  # its own, for a full disk
            raise OutputError(f"cannot write {self.folder} ({error})", "free some space") from None
        self._saved = time.monotonic()

    def will_publish(self, outputs: Iterable[Path]) -> None:
        """Note which names will be given: if that is cut short, they are ours to replace."""
        with synced(self.folder / PUBLISHING) as temporary:
            temporary.write_text(json.dumps([str(path.absolute()) for path in outputs]))

    def close(self, *, keep: bool) -> None:
        """Let go; keep what can be gone on from, or leave nothing."""
        self._thread.abort()
        keep = keep and (self.folder / STATE).exists()
        if not keep:
            empty_journal(self.folder)
        self._lock.release()
        if not keep:
            for folder in (self.folder.parent, *self._made):
                with contextlib.suppress(OSError):  # somebody else uses it
                    folder.rmdir()

    # A sink as far as its thread is concerned.

    def write(self, frame: Frame, decided: Decided) -> None:
        assert self._file is not None
        try:
            write_result(self._file, decided)
        except OSError as error:
            raise _cannot_write(self.folder, error) from None

    def finish(self, trailing_audio: Iterable[Any] = ()) -> None: ...

    def publish(self, overwrite: bool) -> None: ...

    def abort(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk
                self._file.close()


def _cannot_write(folder: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {folder} ({error.strerror or error})",
        "choose another place with -o, free some space, or go without it: --checkpoint 0",
    )
