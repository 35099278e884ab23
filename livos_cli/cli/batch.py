"""What `livos segment` does and says with many videos."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from livos_cli.cli.common import (
    LONGEST,
    human,
    printable,
    say,
    say_terms,
    short,
    stderr_console,
    warn,
)
from livos_cli.cli.progress import Bars
from livos_cli.cli.request import SegmentRequest
from livos_cli.cli.signals import Stop
from livos_cli.errors import InterruptionError, UsageError
from livos_cli.redact import redact

if TYPE_CHECKING:
    from livos_cli.batch.discover import Item
    from livos_cli.batch.job import Batch
    from livos_cli.batch.report import Record
    from livos_cli.pipeline.report import Begin, Progress

__all__ = ["run_batch"]

FAILURES_SHOWN = 20
MOST_LOCKS = 100


def run_batch(request: SegmentRequest) -> int:
    """Plan, do, report; returns the exit code."""
    from livos_cli.batch.discover import discover

    _check(request)
    many = request.many
    items = discover(_names(request), request.mask, request.output, recursive=many.recursive)

    from livos_cli.batch.job import Batch, Job
    from livos_cli.batch.report import ReportFile
    from livos_cli.files.lock import locked
    from livos_cli.weights.locate import locate, sha256_of

    batch = Batch(
        request.options,
        request.output,
        sha256_of(locate(request.where.weights)),
        request.checkpoint,
    )
    if many.dry_run:
        return _show_plan(((i, Job(i, batch).outcome(tidy=False)) for i in items), request)
    target = request.output.output
    folders = {target.absolute()} if target is not None else {item.folder for item in items}
    with ExitStack() as stack:
        # Where there are many, each video's own lock must do: files cannot be open without limit.
        for folder in sorted(folders)[:MOST_LOCKS]:
            stack.enter_context(locked(folder))
        report = ReportFile(many.report or (request.output.output or Path.cwd()) / "report.jsonl")
        display = stack.enter_context(BatchDisplay(request, len(items)))
        try:
            with (
                Stop(quiet=request.quiet) as stop,
                closing(_records(items, batch, request, display, stop)) as records,
            ):
                for record in records:
                    display.ended(record)
                    if problem := report.add(record):
                        display.warn(problem)
                    if many.fail_fast and record.status == "failed":
                        break
        except (InterruptionError, KeyboardInterrupt, SystemExit) as error:
            display.close(report.path, interrupted=True)
            if isinstance(error, InterruptionError):
                return error.exit_code
            raise
    display.close(report.path)
    return 1 if display.counts["failed"] else 0


def _check(request: SegmentRequest) -> None:
    from livos_cli.outputs.paths import names_a_file

    output = request.output
    if str(output.output) == "-":
        raise UsageError("-o - takes one video", "give a folder with -o")
    target = output.output
    if target is not None and names_a_file(target):
        raise UsageError(f"-o {target} names a file", "give a folder for several videos")
    if output.preview is not None and output.preview.parent != Path():
        raise UsageError(
            f"--preview {output.preview}: each of several videos has its own, beside its outputs",
            "give a name alone, like sheet.png; it becomes VIDEO.sheet.png",
        )
    if request.options.latency_first:
        raise UsageError("--latency-first is for a live source", "remove it")


def _names(request: SegmentRequest) -> list[str]:
    """All that is named on the command line and in the list."""
    from livos_cli.batch.discover import read_list
    from livos_cli.errors import InputError

    names = list(request.videos)
    listed = request.many.listed
    if listed is not None:
        try:
            if listed == "-":
                if sys.stdin is None:
                    raise InputError("stdin is closed", "pipe a list into it, or give --list FILE")
                data = sys.stdin.buffer.read()
            else:
                data = Path(listed).read_bytes()
        except OSError as error:
            raise InputError(
                f"the list {listed} cannot be read ({error.strerror})", "check the path"
            ) from None
        names += read_list(data)
    if "-" in names:
        raise UsageError("- is one video, from stdin", "use --list - to read names from stdin")
    return names


def _records(
    items: list[Item],
    batch: Batch,
    request: SegmentRequest,
    display: BatchDisplay,
    stop: Stop,
) -> Generator[Record]:
    """Each video's record when it has ended: what needs no work first."""
    from livos_cli.batch.job import Job

    todo = []
    for job in (Job(item, batch) for item in items):
        if (record := job.outcome()) is not None:
            yield record
        else:
            todo.append(job)
    if not todo:
        return
    stop.armed = True
    if request.ray.engine == "ray":
        from livos_cli.batch.ray_cluster import work_on_ray

        left = (job.item for job in todo)
        with closing(work_on_ray(left, batch, request.cluster(), stop=stop)) as records:
            for record in records:
                display.say_terms()
                yield record
        return
    from livos_cli.batch.work import work
    from livos_cli.pipeline.report import Observer
    from livos_cli.weights.load import load_model

    def begin(begun: Begin) -> None:
        stop.armed = begun.resumed is not None  # what has no checkpoints is not stopped so
        display.begin(begun)

    where = request.where
    model = load_model(
        where.weights, device=where.device, precision=where.precision, backend=where.backend
    )
    display.say_terms()
    for job in todo:
        if stop():
            raise InterruptionError("interrupted between two videos")
        stop.armed = True
        display.next(job.item)
        yield work(job, model, stop=stop, observer=Observer(begin, display.frame))


def _show_plan(planned: Iterable[tuple[Item, Record | None]], request: SegmentRequest) -> int:
    """A line a video, on stdout."""
    import json

    counts: Counter[str] = Counter()
    for item, record in planned:
        action = {"skipped": "skip", "failed": "fail"}[record.status] if record else "do"
        counts[action] += 1
        if request.as_json:
            mask = None if item.mask is None else redact(item.mask)
            told = {"video": redact(item.video), "mask": mask, "action": action,
                    "folder": str(item.folder), "error": record and record.error,
                    "hint": record and record.hint}  # fmt: skip
            print(json.dumps(told))
        elif record is not None and record.status == "failed":
            say(f"fail  {item.video}: {record.error}", longest=LONGEST)
        else:
            say(f"{action:4}  {item.video}  mask {item.mask}")
    if not request.quiet:
        total = ", ".join(f"{counts[action]} to {action}" for action in ("do", "skip", "fail"))
        print(f"{sum(counts.values())} videos: {total}", file=sys.stderr)
    return 1 if counts["fail"] else 0


class BatchDisplay:
    """On a terminal a bar for all and one for the current video; elsewhere a line a video."""

    def __init__(self, request: SegmentRequest, total: int) -> None:
        self._request, self._total = request, total
        self._console = stderr_console()
        self._stdout = sys.stdout
        self._bars = Bars(self._console, quiet=request.quiet)
        self._name = ""  # of the current video
        self.counts: Counter[str] = Counter()
        self._failures: list[Record] = []
        self._doubtful = 0
        self._warned = False
        self._terms_said = request.quiet

    def __enter__(self) -> BatchDisplay:
        self._bars.show("all", self._total, name="all", text=f"0/{self._total}")
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.close()

    def next(self, item: Item) -> None:
        """Show the bar of a video that is worked on next."""
        name = printable(item.stem)
        self._name = name if len(name) <= 20 else f"{name[:19]}…"
        self._bars.show("video", None, name=self._name)

    def begin(self, begin: Begin) -> None:
        """The video's length is known."""
        total = begin.frames + begin.back if begin.frames else None
        self._bars.show("video", total, name=self._name)

    def frame(self, progress: Progress) -> None:
        """Show how far the video is."""
        done = progress.done + progress.back
        rate = done / max(progress.seconds, 1e-6)
        self._bars.update("video", done, f"{done}, {rate:.1f} fps")

    def warn(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            warn(self._console, text)

    def say_terms(self) -> None:
        """One line a batch, where the weights are known to be for non-commercial use."""
        if self._terms_said:
            return
        self._terms_said = True
        from livos_cli.weights.locate import locate

        weights = self._request.where.weights
        say_terms(self._console, weights, locate(weights))

    def ended(self, record: Record) -> None:
        """Say how a video ended."""
        self.counts[record.status] += 1
        self._doubtful += bool(record.doubts)
        count = sum(self.counts.values())
        if record.status == "failed" and len(self._failures) < FAILURES_SHOWN:
            self._failures.append(record)
        self._bars.update("all", count, f"{count}/{self._total}")
        name = printable(record.video, longest=LONGEST // 4)  # leaves room for what is said of it
        for warning in record.warnings:
            warn(self._console, f"{name}: {warning}")
        if not self._request.quiet or record.status == "failed":
            self._console.print(
                f"[{count}/{self._total}] {name}: {_told(record)}",
                markup=False,
                style="red" if record.status == "failed" else None,
            )
        if self._request.as_json:
            self._result(record.as_json())
        elif not self._request.quiet and record.status == "done":
            for path in record.outputs.values():
                self._result(printable(short(Path(path)), longest=None))

    def _result(self, line: str) -> None:
        """To stdout; where that is the terminal with the bars on it, above them."""
        if self._bars.drawn and self._stdout is not None and self._stdout.isatty():
            from rich.text import Text

            self._console.print(Text(line))  # as it is: JSON, or made safe already
        elif self._stdout is not None:
            print(line, flush=True, file=self._stdout)

    def close(self, report: Path, *, interrupted: bool = False) -> None:
        """The closing table."""
        self._bars.close()
        left = self._total - sum(self.counts.values())
        if not self._request.quiet:
            from rich.table import Table

            table = Table(box=None, pad_edge=False)
            for heading in ("done", "skipped", "failed", "not done"):
                table.add_column(heading, justify="right")
            numbers = [self.counts["done"], self.counts["skipped"], self.counts["failed"], left]
            table.add_row(*map(str, numbers))
            self._console.print(table)
            # In a long run they have scrolled away.
            for record in self._failures if self._total > FAILURES_SHOWN else ():
                text = f"{printable(record.video, longest=LONGEST // 4)}: {_told(record)}"
                self._console.print(text, markup=False, style="red")
            if (more := self.counts["failed"] - len(self._failures)) > 0:
                self._console.print(f"and {more} more failed: see the report")
            if self._doubtful:
                text = f'doubtful: {self._doubtful}; see "doubts" in the report'
                self._console.print(text, markup=False)
            self._console.print(f"report: {short(report)}", markup=False)
        if interrupted and not self._request.quiet:
            self._console.print("interrupted; run the same command again to resume")


def _told(record: Record) -> str:
    if record.status == "failed":
        return f"failed: {record.error}" + (f" — {record.hint}" if record.hint else "")
    if record.status == "skipped":
        return "done already"
    return f"{record.frames} frames in {record.seconds:.1f} s, peak {human(record.peak_memory)}"
