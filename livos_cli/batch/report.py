"""How each video of a batch ended: a line of the report."""

from __future__ import annotations

import json
import os
import stat
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from livos_cli.batch.discover import Item
from livos_cli.errors import InputError, LivosError, OutputError
from livos_cli.files.atomic import open_own
from livos_cli.files.trust import REPORT, UntrustedError, parse
from livos_cli.pipeline.doubts import Doubt
from livos_cli.redact import redact
from livos_cli.version import VERSION

__all__ = ["Record", "ReportFile", "failed"]


@dataclass(frozen=True)
class Record:
    """How a video ended: a line of the report."""

    video: str
    mask: str | None
    status: str  # done, skipped or failed
    outputs: dict[str, str] = field(default_factory=dict)  # kind -> path
    frames: int | None = None
    seconds: float = 0.0
    peak_memory: int | None = None  # bytes
    warnings: tuple[str, ...] = ()
    error: str | None = None
    hint: str | None = None
    traceback: str | None = None  # of an error of livos itself
    livos: str = VERSION
    weights: str = ""  # sha256 of their file
    doubts: tuple[Doubt, ...] = ()  # where to look

    def as_json(self) -> str:
        """One line, without the secrets of addresses: reports are kept, and passed on."""
        told = asdict(self)
        for name, value in told.items():
            if isinstance(value, str):
                told[name] = redact(value)
        told["warnings"] = [redact(warning) for warning in self.warnings]
        if self.traceback is None:
            del told["traceback"]
        return json.dumps(told)


def failed(item: Item, error: Exception, weights: str) -> Record:
    """The record of a video that could not be done; of an error of ours, with its traceback.

    Args:
        item: the video.
        error: why.
        weights: digest of their file.
    """
    told = None
    if isinstance(error, OSError):
        error = InputError(
            f"{error.filename or item.video} cannot be used ({error.strerror or error})",
            "check its name and its permissions",
        )
    elif not isinstance(error, LivosError):
        told = "".join(traceback.format_exception(error))
        error = LivosError(
            f"unexpected {type(error).__name__}: {error}",
            "please report this, with the traceback in the report",
        )
    return Record(
        item.video,
        item.mask,
        "failed",
        error=error.message,
        hint=error.hint,
        traceback=told,
        weights=weights,
    )


class ReportFile:
    """One JSON line a video, written when it ends.

    Raises:
        OutputError: there is a file of another content, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._open() as file:
                if not _is_report(file):
                    raise OutputError(
                        f"{path} is not a report", "choose another place with --report"
                    )
                if _is_plain(file):
                    file.truncate(0)
        except OSError as error:
            raise OutputError(
                f"cannot write {path} ({error.strerror})", "choose another place with --report"
            ) from None

    def _open(self) -> IO[bytes]:
        """To append to. What is no file but a device was asked for by name, like /dev/null."""
        if self.path.is_char_device() and not self.path.is_symlink():
            return self.path.open("r+b", buffering=0)
        return open_own(self.path, "a")

    def add(self, record: Record) -> str | None:
        """Append a line; returns why that could not be done, for the videos go on all the same."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)  # somebody may have removed it
            with self._open() as file:
                file.write(record.as_json().encode() + b"\n")
        except OSError as error:
            return f"cannot write {self.path} ({error.strerror})"
        return None


def _is_plain(file: IO[bytes]) -> bool:
    return stat.S_ISREG(os.fstat(file.fileno()).st_mode)


def _is_report(file: IO[bytes]) -> bool:
    """Whether there is nothing yet, or a report."""
    if not _is_plain(file):
        return True
    file.seek(0)
    if not (line := file.readline(1 << 20)):
        return True
    try:
        parse(line, REPORT)
    except UntrustedError:
        return False
    return True
