"""Many videos with one model: continue, skip what is done, report."""

from __future__ import annotations

import json
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

from livos_cli import __version__, remote
from livos_cli.device import forget_peak_memory, give_back_memory
from livos_cli.discover import Item
from livos_cli.errors import InputError, InterruptionError, LivosError, OutputError
from livos_cli.fingerprint import of_mask, of_settings, of_source
from livos_cli.manifest import Manifest
from livos_cli.network.model import LiVOS
from livos_cli.options import Keep, RunOptions, SegmentOptions
from livos_cli.outputs import plan_outputs
from livos_cli.pipeline import Begin, Progress, run
from livos_cli.video.container import is_url

__all__ = ["Batch", "Record", "ReportFile", "Watcher", "settle", "work"]


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
    livos: str = __version__
    weights: str = ""  # sha256 of their file

    def as_json(self) -> str:
        """One line."""
        told = asdict(self)
        if self.traceback is None:
            del told["traceback"]
        return json.dumps(told)


class Watcher(Protocol):
    """Is told how a video goes."""

    def begin(self, begin: Begin) -> None: ...

    def frame(self, progress: Progress) -> None: ...


@dataclass(frozen=True)
class _Prepared:
    """What is known of a video before it is opened."""

    output: RunOptions
    outputs: dict[str, Path]
    manifest: Manifest
    inputs: str  # digest of video and mask
    made_from: str  # and of settings and weights


def settle(item: Item, batch: Batch) -> Record | None:
    """The record of a video for which nothing is to be done: finished, or impossible; else None.

    What can be known from names and manifests alone; no video is opened.
    """
    try:
        ready = _prepare(item, batch)
        if ready.manifest.done(ready.outputs, ready.made_from):
            outputs = {kind: str(path) for kind, path in ready.outputs.items()}
            frames = ready.manifest.frames
            return Record(item.video, item.mask, "skipped", outputs, frames, weights=batch.weights)
        plan_outputs(item.video, Path(item.mask or ""), ready.output, stem=item.stem)
    except LivosError as error:
        return _failed(item, batch, error)
    return None


def _prepare(item: Item, batch: Batch) -> _Prepared:
    """Raises LivosError if the video or its mask is not there, or results cannot go there."""
    if item.problem is not None:
        raise item.problem
    assert item.mask is not None
    if is_url(item.video) and not remote.is_remote(item.video):
        raise InputError(f"{item.video} is a stream", "give it alone")
    manifest = Manifest(item.folder, item.stem)
    output = replace(batch.output, output=item.folder)
    if output.preview is not None:
        output = replace(output, preview=item.folder / f"{item.stem}.{output.preview.name}")
    anyway = replace(output, overwrite=True)
    paths = plan_outputs(item.video, Path(item.mask), anyway, stem=item.stem)
    outputs = {kind: path for kind, path in paths.items() if isinstance(path, Path)}
    if manifest.ours(outputs):
        output = anyway
    try:
        inputs = " ".join(
            remote.identity(where) if is_url(where) else of(Path(where))
            for where, of in ((item.video, of_source), (item.mask, of_mask))
        )
    except OSError as error:
        raise InputError(
            f"{error.filename} cannot be read ({error.strerror})", "check the path"
        ) from None
    return _Prepared(output, outputs, manifest, inputs, f"{batch.settings} {inputs}")


def work(
    item: Item,
    batch: Batch,
    model: LiVOS,
    *,
    stop: Callable[[], bool] = lambda: False,
    watcher: Watcher | None = None,
) -> Record:
    """Do one video, whatever comes of it.

    Raises:
        InterruptionError: `stop` said so.
    """
    started = time.monotonic()
    forget_peak_memory(model.device)
    try:
        return _attempt(item, batch, model, stop, watcher)
    except InterruptionError:
        raise
    except LivosError as error:
        return replace(_failed(item, batch, error), seconds=_since(started))
    except Exception as error:  # ours; the other videos are none the worse for it
        return replace(
            _failed(
                item,
                batch,
                LivosError(
                    f"unexpected {type(error).__name__}: {error}",
                    "please report this, with the traceback in the report",
                ),
            ),
            seconds=_since(started),
            traceback=traceback.format_exc(),
        )
    finally:
        give_back_memory(model.device)


def _attempt(
    item: Item,
    batch: Batch,
    model: LiVOS,
    stop: Callable[[], bool],
    watcher: Watcher | None,
) -> Record:
    if (known := settle(item, batch)) is not None:
        return known  # another machine may have done it meanwhile
    ready = _prepare(item, batch)
    assert item.mask is not None
    keep = None
    if batch.checkpoint:
        keep = Keep(batch.weights, batch.checkpoint, ready.inputs, stop)
    with ExitStack() as stack:
        video, mask = item.video, item.mask
        if is_url(video) or is_url(mask):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="livos-")))
            video, mask = _fetched(video, folder / "video"), _fetched(mask, folder / "mask")
        report = run(
            video,
            Path(mask),
            model,
            batch.options,
            ready.output,
            stem=item.stem,
            keep=keep,
            on_begin=watcher.begin if watcher else lambda _: None,
            on_frame=watcher.frame if watcher else lambda _: None,
        )
    facts = {
        "video": item.video,
        "mask": item.mask,
        "weights": batch.weights,
        "frames": report.frames,
        "seconds": round(report.seconds, 3),
    }
    try:
        ready.manifest.write(report.outputs, ready.made_from, facts)
    except OSError as error:
        raise OutputError(
            f"cannot write {ready.manifest.path} ({error.strerror})", "free some space"
        ) from None
    return Record(
        item.video,
        item.mask,
        "done",
        {kind: str(path) for kind, path in report.outputs.items()},
        report.frames,
        round(report.seconds, 3),
        report.peak_memory,
        report.warnings,
        weights=batch.weights,
    )


def _fetched(where: str, folder: Path) -> str:
    return str(remote.fetch(where, folder)) if is_url(where) else where


def _failed(item: Item, batch: Batch, error: LivosError) -> Record:
    return Record(
        item.video,
        item.mask,
        "failed",
        error=error.message,
        hint=error.hint,
        weights=batch.weights,
    )


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)


class ReportFile:
    """One JSON line a video, written when it ends.

    Raises:
        OutputError: there is a file of another content, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and not _is_report(path):
                raise OutputError(f"{path} is no report", "choose another place with --report")
            path.write_bytes(b"")
        except OSError as error:
            raise OutputError(
                f"cannot write {path} ({error.strerror})", "choose another place with --report"
            ) from None

    def add(self, record: Record) -> str | None:
        """Append a line; returns why that could not be done, for the videos go on all the same."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)  # somebody may have removed it
            with self.path.open("ab", buffering=0) as file:
                file.write(record.as_json().encode() + b"\n")
        except OSError as error:
            return f"cannot write {self.path} ({error.strerror})"
        return None


def _is_report(path: Path) -> bool:
    with path.open("rb") as file:
        line = file.readline(1 << 20)
    try:
        return not line or "livos" in json.loads(line)
    except ValueError:
        return False
