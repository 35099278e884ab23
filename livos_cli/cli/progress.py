"""What commands say while they run, on stderr: bars on a terminal, notes everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from livos_cli.cli.common import human, stderr_console, terms_line, warn
from livos_cli.options import clock

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Drawn
    from rich.progress import TaskID

    from livos_cli.options import SegmentOptions
    from livos_cli.pipeline.report import Begin, Progress, Report

__all__ = ["Bars", "Display"]


class Bars:
    """Progress bars on a terminal; elsewhere, or where all is to be quiet, nothing.

    A bar shows its name, how far it is, a text, the time that is left, and more text.

    Args:
        console: where to draw; what it prints meanwhile stands above the bars.
        quiet: draw nothing.
    """

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._wanted = console.is_terminal and not quiet
        self._drawn: Drawn | None = None
        self._rows: dict[str, TaskID] = {}

    @property
    def drawn(self) -> bool:
        """Whether the terminal shows bars now."""
        return self._drawn is not None

    def show(
        self, row: str, total: int | None, done: int = 0, name: str = "", text: str = ""
    ) -> None:
        """Begin a bar, below the others; if it is shown already, begin it anew.

        Args:
            row: which of the bars, for `update`.
            total: how much there is to do; None if that is not known.
            done: how much of it is done already.
            name: what stands before the bar.
            text: what stands after it.
        """
        if not self._wanted:
            return
        if self._drawn is None:
            self._drawn = self._begin()
        if row in self._rows:
            self._drawn.remove_task(self._rows[row])
        self._rows[row] = self._drawn.add_task(
            name, total=total, completed=done, text=text, more=""
        )

    def update(self, row: str, done: int, text: str, more: str = "") -> None:
        """Say how far a bar is; nothing if it is not shown."""
        if self._drawn is not None:
            self._drawn.update(self._rows[row], completed=done, text=text, more=more)

    def close(self) -> None:
        """Take all bars away."""
        if self._drawn is not None:
            self._drawn.stop()
        self._drawn, self._rows = None, {}

    def _begin(self) -> Drawn:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        drawn = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[text]}", markup=False),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[more]}", markup=False),
            console=self._console,
            transient=True,
            expand=True,
        )
        drawn.start()
        return drawn


class Display:
    """What one video's run says: what it works on, how far it is, and how it ended."""

    def __init__(
        self, *, quiet: bool, weights: str, precision: str, terms: str | None = None
    ) -> None:
        self._quiet = quiet
        self._console = stderr_console()
        self._weights, self._precision, self._terms = weights, precision, terms
        self._bars = Bars(self._console, quiet=quiet)
        self._frames = ""  # how many there are, if that is known
        self._warned: set[str] = set()

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.close()

    def begin(self, begin: Begin, options: SegmentOptions | None = None) -> None:
        """Say what is worked on, and show the bar.

        Args:
            begin: of the run.
            options: what was asked for; None if it was not to begin at a frame.
        """
        self.warn(*begin.warnings)
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
        self._frames = f"/{begin.frames}" if begin.frames else ""
        total = begin.frames + begin.back if begin.frames else None
        self._bars.show("video", total, text=f"0{self._frames}")

    def frame(self, progress: Progress) -> None:
        """Show how far the run is."""
        if not self._bars.drawn:
            return
        objects = f"{progress.objects} object" + ("s" if progress.objects != 1 else "")
        done = progress.done + progress.back
        self._bars.update(
            "video",
            done,
            f"{progress.done or f'back {progress.back}, 0'}{self._frames} "
            f"{done / max(progress.seconds, 1e-6):.1f} fps",
            f"{objects}, peak {human(progress.peak_memory)}",
        )

    def finish(self, report: Report) -> None:
        """Say how the run ended."""
        self.warn(*report.warnings)
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
