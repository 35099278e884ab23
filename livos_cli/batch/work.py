"""One video of many, with a model that is loaded already; whatever comes of it is a record."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from livos_cli.batch import remote
from livos_cli.batch.job import Job
from livos_cli.batch.report import Record, failed
from livos_cli.device import forget_peak_memory, give_back_memory
from livos_cli.errors import InterruptionError, LivosError, OutputError
from livos_cli.memory import out_of_memory, too_little_memory
from livos_cli.network.livos import LiVOS
from livos_cli.options import Checkpointing
from livos_cli.pipeline.report import Observer, Report
from livos_cli.pipeline.run import run
from livos_cli.redact import redact
from livos_cli.video.container import is_url

__all__ = ["work"]


def work(
    job: Job,
    model: LiVOS,
    *,
    stop: Callable[[], bool] = lambda: False,
    observer: Observer | None = None,
) -> Record:
    """Do one video, whatever comes of it.

    Raises:
        InterruptionError: `stop` said so.
    """
    started = time.monotonic()
    forget_peak_memory(model.device)
    try:
        return _attempt(job, model, stop, observer or Observer())
    except InterruptionError:
        raise
    except Exception as error:  # the other videos are done all the same
        told = error
        if out_of_memory(error) and not isinstance(error, LivosError):  # one of ours says where
            told = too_little_memory()
        return replace(failed(job.item, told, job.batch.weights), seconds=_since(started))
    finally:
        give_back_memory(model.device)


def _attempt(job: Job, model: LiVOS, stop: Callable[[], bool], observer: Observer) -> Record:
    job.prepare()
    inputs = job.inputs()  # now: files may change while they are worked on
    if (known := job.finished(inputs)) is not None:
        return known  # another machine may have done it meanwhile
    item, batch = job.item, job.batch
    assert item.mask is not None
    told: list[Report] = []  # of what has its name; a kind may have been lost all the same

    def published(report: Report) -> None:
        told.append(report)
        _note(job, inputs, report)

    # The manifest before the checkpoints go: a kill in between would lose both.
    observer = replace(observer, published=published)
    keep = None
    if batch.checkpoint:
        keep = Checkpointing(batch.weights, batch.checkpoint, inputs, stop)
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
                job.output,
                stem=item.stem,
                keep=keep,
                observer=observer,
            )
        except OutputError as error:
            if not told:
                raise
            return _record(failed(item, error, batch.weights), told[0])
    return _record(Record(item.video, item.mask, "done", weights=batch.weights), told[0])


def _note(job: Job, inputs: str, report: Report) -> None:
    """Note the results of a video that are there now. Raises OutputError if that fails."""
    facts = {
        "video": redact(job.item.video),
        "mask": redact(job.item.mask or ""),
        "weights": job.batch.weights,
        "frames": report.frames,
        "seconds": round(report.seconds, 3),
    }
    try:
        job.manifest.write(report.outputs, job.made_from(inputs), facts)
    except OSError as error:
        raise OutputError(
            f"cannot write {job.manifest.path} ({error.strerror})", "free some space"
        ) from None


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
