"""What to do with each video of a batch, and how it ended. Without torch: plans are quick."""

from __future__ import annotations

import json
import os
import stat
import traceback
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import IO

from livos_cli.batch import remote
from livos_cli.batch.discover import Item
from livos_cli.batch.manifest import Manifest
from livos_cli.errors import InputError, LivosError, OutputError
from livos_cli.files.atomic import open_own
from livos_cli.files.livos_folder import checkpoint_folder, discard_checkpoint
from livos_cli.files.trust import REPORT, UntrustedError, parse
from livos_cli.options import RunOptions, SegmentOptions
from livos_cli.outputs.paths import plan_outputs
from livos_cli.pipeline.doubts import Doubt
from livos_cli.pipeline.fingerprint import of_mask, of_settings, of_source
from livos_cli.redact import redact
from livos_cli.version import VERSION
from livos_cli.video.container import check_exists, is_url

__all__ = ["Batch", "Prepared", "Record", "ReportFile", "failed", "finished", "prepare", "settle"]


@dataclass(frozen=True)
class Batch:
    """What is the same for all videos."""

    options: SegmentOptions
    output: RunOptions
    weights: str  # digest of their file
    checkpoint: float = 60.0  # seconds, 0 for none

    @cached_property
    def settings(self) -> str:
        """Digest of settings and weights."""
        return of_settings(self.options, self.output, self.weights)


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


@dataclass(frozen=True)
class Prepared:
    """What is known of a video before it is opened."""

    video: str
    mask: str
    settings: str  # digest of settings and weights
    output: RunOptions
    outputs: dict[str, Path]
    manifest: Manifest

    @cached_property
    def inputs(self) -> str:
        """Digest of video and mask; raises InputError if they cannot be read."""
        try:
            return " ".join(
                remote.identity(where) if is_url(where) else of(Path(where))
                for where, of in ((self.video, of_source), (self.mask, of_mask))
            )
        except OSError as error:
            raise InputError(
                f"{error.filename} cannot be read ({error.strerror})", "check the path"
            ) from None

    @property
    def made_from(self) -> str:
        """And of settings and weights."""
        return f"{self.settings} {self.inputs}"


def settle(item: Item, batch: Batch, *, tidy: bool = True) -> Record | None:
    """The record of a video for which nothing is to be done: finished, or impossible; else None.

    What can be known from names and manifests alone; no video is opened.

    Args:
        item: the video.
        batch: what is the same for all.
        tidy: remove what a run left that was killed right after it had finished this video.
    """
    try:
        return finished(item, batch, prepare(item, batch), tidy=tidy)
    except Exception as error:  # whatever it is, it is of this video alone
        return failed(item, batch, error)


def finished(item: Item, batch: Batch, ready: Prepared, *, tidy: bool = True) -> Record | None:
    """The record of a video whose results are all there; else None. Arguments as of `settle`."""
    # What has no manifest is to be done: its mask need not be read for that.
    if not (ready.manifest.facts and ready.manifest.done(ready.outputs, ready.made_from)):
        return None
    checkpoint = checkpoint_folder(ready.outputs)
    if tidy and checkpoint is not None and checkpoint.exists():
        discard_checkpoint(checkpoint)
    outputs = {kind: str(path) for kind, path in ready.outputs.items()}
    frames = ready.manifest.frames
    return Record(item.video, item.mask, "skipped", outputs, frames, weights=batch.weights)


def prepare(item: Item, batch: Batch) -> Prepared:
    """Raises LivosError if the video or its mask is not there, or results cannot go there."""
    if item.problem is not None:
        raise item.problem
    assert item.mask is not None
    if is_url(item.video) and not remote.is_remote(item.video):
        raise InputError(f"{item.video} is a stream", "give it alone")
    check_exists(item.video)
    manifest = Manifest(item.folder, item.stem)
    output = replace(batch.output, output=item.folder)
    if output.preview is not None:
        output = replace(output, preview=item.folder / f"{item.stem}.{output.preview.name}")
    try:
        paths = plan_outputs(
            item.video, Path(item.mask), output, stem=item.stem, ours=manifest.ours
        )
    except OutputError as error:
        if manifest.problem is None:
            raise
        raise OutputError(f"{error.message}; {manifest.problem}", error.hint) from None
    outputs = {kind: path for kind, path in paths.items() if isinstance(path, Path)}
    if any(path.exists() for path in outputs.values()):
        output = replace(output, overwrite=True)  # all that is there is ours
    return Prepared(item.video, item.mask, batch.settings, output, outputs, manifest)


def failed(item: Item, batch: Batch, error: Exception) -> Record:
    """The record of a video that could not be done; of an error of ours, with its traceback."""
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
        weights=batch.weights,
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
                    raise OutputError(f"{path} is no report", "choose another place with --report")
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
