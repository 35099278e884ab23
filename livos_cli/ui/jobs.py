"""The one thing at a time that takes long: tracking, or export; in a thread, to be stopped."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from livos_cli.errors import InputError, InterruptionError, LivosError, UsageError
from livos_cli.files.typed import command as typed_command
from livos_cli.files.typed import typed
from livos_cli.masks.reference_masks import ReferenceMasks
from livos_cli.memory import out_of_memory, too_little_memory
from livos_cli.options import Drop, Look, Position, RunOptions, SegmentOptions
from livos_cli.outputs.formats import KINDS, FrameResult
from livos_cli.outputs.paths import plan_outputs
from livos_cli.pipeline.report import Observer, Progress
from livos_cli.pipeline.run import run
from livos_cli.ui.chain import Chain
from livos_cli.ui.open_project import OpenProject, shown
from livos_cli.ui.project import Object
from livos_cli.ui.tracked import Row
from livos_cli.ui.tracking import Pass, Tracking, plan
from livos_cli.weights.registry import DEFAULT

__all__ = ["Jobs", "command"]

TELL = 0.1  # seconds between two news of progress
WHAT = ("forward", "backward", "all", "update")


@dataclass
class _Job:
    kind: str  # track, or export
    thread: threading.Thread
    stop: threading.Event
    why: str = "stopped"


class Jobs:
    """Runs what takes long for an open project.

    Args:
        session: whose masks are read.
    """

    def __init__(self, session: OpenProject) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._job: _Job | None = None
        self.last: dict[str, Any] = {"what": None, "state": "idle"}
        session.before_change = self.make_way

    @property
    def running(self) -> str | None:
        """What runs, track or export; None if nothing does."""
        job = self._job
        return job.kind if job is not None and job.thread.is_alive() else None

    def track(self, what: str, frame: int) -> None:
        """Track what is out of date; see `tracking.plan`.

        Raises:
            UsageError: something runs already, or there is nothing to track.
        """
        if what not in WHAT:
            raise UsageError(f"tracking '{what}'", f"it is one of {', '.join(WHAT)}")
        self._session.check_frame(frame)
        with self._session.changing:  # a change comes before, or stops it
            self._check_idle()
            work = self._plan(what, frame)
            self._start("track", lambda stop: self._track(*work, stop))

    def export(self, kinds: tuple[str, ...], *, overwrite: bool) -> None:
        """Write results into the project.

        Raises:
            UsageError: something runs already, or a kind is unknown.
            OutputError: a result is there, and may not be replaced.
        """
        output = self._output(kinds, overwrite=overwrite)
        if self._session.chain() is None:
            raise UsageError("there is no mask to export yet", "click an object first")
        plan_outputs(self._session.video_path, self._session.project.masks, output)
        with self._session.changing:
            self._start("export", lambda stop: self._export(output, stop))

    def _output(self, kinds: tuple[str, ...], *, overwrite: bool) -> RunOptions:
        if not kinds:
            raise UsageError("nothing to export", "choose at least one kind")
        project = self._session.project
        look = Look(palette=palette_text(project.settings.objects))
        return RunOptions(save=kinds, output=project.folder, overwrite=overwrite, look=look)

    def stop(self, why: str = "stopped") -> None:
        """Stop what runs, and wait until it has."""
        job = self._job
        if job is not None and job.thread.is_alive():
            job.why = why
            job.stop.set()
            job.thread.join()

    def make_way(self) -> None:
        """Stop tracking, since a mask is about to change.

        Raises:
            UsageError: an export runs, which is not stopped.
        """
        if self.running == "export":
            raise UsageError("an export runs", "stop it first, or wait for it")
        self.stop("stopped, for a mask was changed")

    def _check_idle(self) -> None:
        if self.running is not None:
            raise UsageError("something runs already", "stop it first, or wait for it")

    def _start(self, kind: str, work: Callable[[threading.Event], dict[str, Any]]) -> None:
        with self._lock:
            self._check_idle()
            stop = threading.Event()
            thread = threading.Thread(
                target=self._run, args=(kind, work, stop), name=f"livos-{kind}", daemon=True
            )
            self._job = _Job(kind, thread, stop)
            self._tell(kind, "begins")
            thread.start()

    def _run(
        self, kind: str, work: Callable[[threading.Event], dict[str, Any]], stop: threading.Event
    ) -> None:
        job, pictures = self._job, self._session.pictures
        assert job is not None
        pictures.pause(True)
        try:
            news = work(stop)
            self._tell(kind, "stopped" if stop.is_set() else "done", **news, why=job.why)
        except LivosError as error:
            if stop.is_set():
                self._tell(kind, "stopped", why=job.why)
            else:
                self._tell(kind, "failed", error=error.message, hint=error.hint)
        except Exception as error:
            if out_of_memory(error):
                short = too_little_memory()
                self._tell(kind, "failed", error=short.message, hint=short.hint)
                return
            traceback.print_exc()
            said = f"unexpected {type(error).__name__}: {error}"
            self._tell(kind, "failed", error=said, hint="please report this")
        finally:
            pictures.pause(False)

    def _tell(self, what: str, state: str, **news: Any) -> None:
        self.last = {"what": what, "state": state, **news}
        self._session.events.tell("job", **self.last)

    def _plan(self, what: str, frame: int) -> tuple[Chain, list[Pass], tuple[Drop, ...]]:
        session = self._session
        with session.editing():
            chain = session.chain()
            if chain is None:
                raise UsageError("there is no mask to track yet", "click an object first")
            if what != "all" and not chain.first <= frame < chain.end:
                raise UsageError(
                    f"frame {frame} is outside of the range, {chain.first} to {chain.end - 1}",
                    "go into it, or set In and Out anew",
                )
            passes = plan(chain, session.tracked, what, frame)
            return chain, passes, session.project.settings.drops

    def _track(
        self,
        chain: Chain,
        passes: list[Pass],
        drops: tuple[Drop, ...],
        stop: threading.Event,
    ) -> dict[str, Any]:
        session = self._session
        keys = tuple(n for n in session.project.keys if chain.first <= n < chain.end)
        total = sum(self._missing(chain, one) for one in passes)
        pace = _Pace(total, lambda **news: self._tell("track", "runs", **news))
        locked, came = session.project.settings.locked, dict[int, int]()

        def on_frame(number: int, row: Row) -> None:
            if number in locked:  # what is in its mask cannot change; what is not may still come
                meant = session.project.objects_of(number)
                came.update((i, number) for i, _ in row.areas if i not in meant and i not in came)
            session.events.tell(
                "frame", frame=number, areas=dict(row.areas), certainty=dict(row.certainty)
            )
            pace.see(number)

        tracking = Tracking(
            session.model()[0], session.options, session.project.masks, keys, drops, chain,
            session.tracked, on_frame, self._picture, stop.is_set,
        )  # fmt: skip
        alike: int | None = None
        with closing(session.video.twin()) as video:
            for one in passes:
                if not stop.is_set():
                    alike = tracking.run(video, one)
        session.tracked.forget({*chain.links, chain.back})
        return {
            "frames": pace.done,
            "alike": alike,
            "seconds": round(pace.seconds, 1),
            "came": [[object_id, frame] for object_id, frame in came.items()],
        }

    def _missing(self, chain: Chain, one: Pass) -> int:
        low, high = sorted((one.first, one.last))
        row = self._session.tracked.row
        return sum(row(chain.at(number), number) is None for number in range(low, high + 1))

    def _picture(self, number: int, rgb: np.ndarray) -> None:
        self._session.pictures.take(number, rgb)

    def _export(self, output: RunOptions, stop: threading.Event) -> dict[str, Any]:
        session = self._session
        chain, passes, drops = self._plan("all", 0)
        self._track(chain, passes, drops, stop)
        if stop.is_set():
            return {}
        pace = _Pace(chain.end - chain.first, lambda **news: self._tell("export", "runs", **news))

        def on_frame(progress: Progress) -> None:
            pace.see(progress.done)
            if stop.is_set():
                raise InterruptionError("the export was stopped", "")

        past: Iterable[FrameResult] | None = None
        options = segment_options(session, chain)
        # Probabilities are not kept: kinds that want them are computed anew.
        if not any(KINDS[kind].matte for kind in output.save):
            past, options = self._results(chain), replace(options, origin=None, direction="forward")
        report = run(
            session.video_path, session.project.masks, session.model()[0], options, output,
            past=past, observer=Observer(frame=on_frame),
        )  # fmt: skip
        return {
            "files": [path.name for path in report.outputs.values()],
            "warnings": list(report.warnings),
            "command": shown(command(session, chain, output)),
        }

    def _results(self, chain: Chain) -> Generator[FrameResult]:
        for number in range(chain.first, chain.end):
            decided = self._session.tracked.read(chain.at(number), number)
            if decided is None:
                raise InputError(f"the result of frame {number} is damaged", "export once more")
            yield decided


class _Pace:
    """Tells how far something is, not too often."""

    def __init__(self, total: int, tell: Callable[..., None]) -> None:
        self.total, self.done, self._tell = total, 0, tell
        self._began = self._told = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def see(self, frame: int) -> None:
        """One frame more."""
        self.done += 1
        now = time.monotonic()
        if now - self._told < TELL and self.done < self.total:
            return
        self._told = now
        rate = self.done / max(1e-6, self.seconds)
        left = max(0, self.total - self.done) / rate
        self._tell(
            frame=frame, done=self.done, total=self.total, rate=round(rate, 2), left=round(left, 1)
        )


def segment_options(session: OpenProject, chain: Chain) -> SegmentOptions:
    """What `livos segment` is to be asked for, to track what the page tracks."""
    first, end = chain.first, chain.end
    project = session.project
    known = {i for frame in project.keys for i in project.objects_of(frame)}
    drops = tuple(
        drop
        for drop in project.settings.drops
        if first <= drop.frame < end and drop.object_id in known
    )
    options = replace(session.options, drop=drops)
    if end < session.count:
        options = replace(options, end=Position(frame=end))
    if first > 0:
        options = replace(options, start=Position(frame=first))
    if chain.origin > first:
        options = replace(options, origin=chain.origin, direction="both")
    return options


def command(session: OpenProject, chain: Chain, output: RunOptions) -> str:
    """The command that writes the same files, over those that are there."""
    options, network = segment_options(session, chain), session.network
    project = session.project
    words: list[object] = [
        "livos",
        "segment",
        typed(session.video_path),
        "-m",
        typed(project.masks),
    ]
    if options.direction == "both":
        words += ["--from", f"{options.origin}f", "--direction", "both"]
    if options.start is not None:
        words += ["--start", str(options.start)]
    if options.end is not None:
        words += ["--end", str(options.end)]
    for drop in options.drop:
        words += ["--drop", f"{drop.object_id}@{drop.frame}f"]
    words += ["--save", ",".join(output.save), "-o", typed(project.folder), "-y"]
    if "overlay" in output.save:
        words += ["--palette", output.look.palette]
    for option, value, usual in (
        ("--weights", network.weights, DEFAULT),
        ("--device", network.device, "auto"),
        ("--precision", network.precision, "auto"),
        ("--max-size", network.max_size, None),
    ):
        if value != usual:
            words += [option, value]
    if not _plain(session):
        words.append("--trust-mask")
    return typed_command(*words)


def palette_text(objects: Sequence[Object]) -> str:
    """The objects' colours, as `--palette` takes them: of ids 1, 2, … in order."""
    colours = {one.id: one.colour.removeprefix("#") for one in objects}
    return ",".join(colours.get(i, "808080") for i in range(1, max(colours, default=1) + 1))


def _plain(session: OpenProject) -> bool:
    """Whether `livos segment` takes the key masks without being told to trust them."""
    try:
        keys = ReferenceMasks(session.project.masks, session.info.image_names)
        keys.scan(session.info.width, session.info.height)
    except LivosError:
        return False
    return True
