"""One video of many, with a model that is loaded already; whatever comes of it is a record."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from livos_cli.batch import remote
from livos_cli.batch.discover import Item
from livos_cli.batch.plan import Batch, Record, failed, finished, prepare
from livos_cli.device import forget_peak_memory, give_back_memory
from livos_cli.errors import InterruptionError, LivosError, OutputError
from livos_cli.memory import out_of_memory, too_little_memory
from livos_cli.network.livos import LiVOS
from livos_cli.options import Checkpointing
from livos_cli.pipeline.report import Begin, Observer, Progress, Report
from livos_cli.pipeline.run import run
from livos_cli.redact import redact
from livos_cli.video.container import is_url

__all__ = ["Watcher", "work"]


class Watcher(Protocol):
    """Is told how a video goes."""

    def begin(self, begin: Begin) -> None: ...

    def frame(self, progress: Progress) -> None: ...


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
    except Exception as error:  # the other videos are none the worse for it
        told = error
        if out_of_memory(error) and not isinstance(error, LivosError):  # one of ours says where
            told = too_little_memory()
        return replace(failed(item, batch, told), seconds=_since(started))
    finally:
        give_back_memory(model.device)


def _attempt(
    item: Item,
    batch: Batch,
    model: LiVOS,
    stop: Callable[[], bool],
    watcher: Watcher | None,
) -> Record:
    ready = prepare(item, batch)
    if (known := finished(item, batch, ready)) is not None:
        return known  # another machine may have done it meanwhile
    assert item.mask is not None
    made_from = ready.made_from  # now: files may change while they are worked on
    keep = None
    if batch.checkpoint:
        keep = Checkpointing(batch.weights, batch.checkpoint, ready.inputs, stop)

    told: list[Report] = []  # of what has its name; a kind may have been lost all the same

    def note(report: Report) -> None:
        told.append(report)
        facts = {
            "video": redact(item.video),
            "mask": redact(item.mask or ""),
            "weights": batch.weights,
            "frames": report.frames,
            "seconds": round(report.seconds, 3),
        }
        try:
            ready.manifest.write(report.outputs, made_from, facts)
        except OSError as error:
            raise OutputError(
                f"cannot write {ready.manifest.path} ({error.strerror})", "free some space"
            ) from None

    # The manifest before the checkpoints go: a kill in between would lose both.
    observer = Observer(published=note)
    if watcher is not None:
        observer = Observer(watcher.begin, watcher.frame, note)
    with ExitStack() as stack:
        video, mask = item.video, item.mask
        if is_url(video) or is_url(mask):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="livos-")))
            video, mask = _fetched(video, folder / "video"), _fetched(mask, folder / "mask")
        try:
            run(
                video,
                Path(mask),
                model,
                batch.options,
                ready.output,
                stem=item.stem,
                keep=keep,
                observer=observer,
            )
        except OutputError as error:
            if not told:
                raise
            return _record(failed(item, batch, error), told[0])
    return _record(Record(item.video, item.mask, "done", weights=batch.weights), told[0])


def _record(record: Record, report: Report) -> Record:
    """A record, with what is known of the results that are there."""
    return replace(
        record,
        outputs={kind: str(path) for kind, path in report.outputs.items()},
        frames=report.frames,
        seconds=round(report.seconds, 3),
        peak_memory=report.peak_memory,
        warnings=report.warnings,
        doubts=report.doubts,
    )


def _fetched(where: str, folder: Path) -> str:
    return str(remote.fetch(where, folder)) if is_url(where) else where


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)
