"""What `livos segment` says while it runs, on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

from livos_cli.cli.common import human, stderr_console, terms_line, warn
from livos_cli.options import clock

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from livos_cli.options import SegmentOptions
    from livos_cli.pipeline.report import Begin, Progress, Report

__all__ = ["Display"]


class Display:
    """Progress on stderr: a bar on a terminal, nothing but notes elsewhere."""

    def __init__(
        self, *, quiet: bool, weights: str, precision: str, terms: str | None = None
    ) -> None:
        self._quiet = quiet
        self._console = stderr_console()
        self._weights, self._precision, self._terms = weights, precision, terms
        self._bar: Bar | None = None
        self._warned: set[str] = set()

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, begin: Begin, options: SegmentOptions | None = None) -> None:
        self.warn(*begin.warnings)
        if self._quiet:
            return
        info = begin.info
        height, width = begin.network_size
        names = [f"{i} ({begin.names[i]})" if i in begin.names else str(i) for i in begin.ids]
        self.note(
            f"{info.name}: {info.width}x{info.height}, {float(info.rate):.4g} fps"
            + (f", {begin.frames} frames" if begin.frames else "")
        )
        if len(names) > 20:
            names = [f"{len(names)} of them, {names[0]} to {names[-1]}"]
        self.note(f"objects: {', '.join(names)}")
        self.note(f"network: {self._weights}, {self._precision}, at {width}x{height}")
        if line := terms_line(self._weights, self._terms):
            self.note(line)
        if options is not None and options.origin is not None:
            way = {"both": "both ways"}.get(options.direction, options.direction)
            time = clock(options.origin / float(info.rate))
            self.note(f"from frame {options.origin} (about {time}), {way}")
        if begin.resumed:
            self.note(f"resuming after {begin.resumed} frames of an interrupted run")
        if self._console.is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                BarColumn(bar_width=None),
                TextColumn("{task.fields[done]}" + (f"/{begin.frames}" if begin.frames else "")),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[extra]}"),
                console=self._console,
                transient=True,
                expand=True,
            )
            total = begin.frames + begin.back if begin.frames else None
            self._task = self._bar.add_task("", total=total, done="0", rate="", extra="")
            self._bar.start()

    def frame(self, progress: Progress) -> None:
        if self._bar is None:
            return
        objects = f"{progress.objects} object" + ("s" if progress.objects != 1 else "")
        self._bar.update(
            self._task,
            completed=progress.done + progress.back,
            done=str(progress.done or f"back {progress.back}, 0"),
            rate=f"{(progress.done + progress.back) / max(progress.seconds, 1e-6):.1f} fps",
            extra=f"{objects}, peak {human(progress.peak_memory)}",
        )

    def finish(self, report: Report) -> None:
        self.warn(*report.warnings)
        if not self._quiet:
            self.note(
                f"done: {report.frames} frames in {report.seconds:.1f} s "
                f"({report.frames / report.seconds:.1f} fps), "
                f"peak memory {human(report.peak_memory)}"
            )

    def note(self, text: str) -> None:
        """A line, unless all is to be quiet."""
        if not self._quiet:
            self._console.print(text, markup=False)

    def warn(self, *warnings: str) -> None:
        """A line each, once."""
        for warning in warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                warn(self._console, warning)
