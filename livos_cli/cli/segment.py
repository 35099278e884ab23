"""livos segment: the main job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from livos_cli.cli.common import (
    Device,
    Json,
    MaxSize,
    MemoryBudget,
    Overwrite,
    PrecisionOption,
    Quiet,
    Weights,
    human,
    short,
    stderr_console,
    warn,
)
from livos_cli.options import Position, RunOptions, SegmentOptions, parse_bytes

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from livos_cli.pipeline import Begin, Progress, Report


def segment(
    video: Annotated[
        str, typer.Argument(metavar="VIDEO", help="Video file, folder of images, or - for stdin.")
    ],
    mask: Annotated[
        Path,
        typer.Option(
            "--mask",
            "-m",
            metavar="PATH",
            help="Mask of the first frame; or a folder of masks named by frame number; or a "
            "folder of such folders, one an object.",
        ),
    ],
    output: Annotated[
        Optional[Path],
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Folder for the results, or a file if there is one kind. "
            "[default: beside the video]",
            show_default=False,
        ),
    ] = None,
    save: Annotated[
        Optional[list[str]],
        typer.Option(
            "--save",
            metavar="KIND",
            help="mask (ids, lossless video), overlay (colours over the video, with sound) or png "
            "(an index PNG a frame); repeatable. [default: mask]",
            show_default=False,
        ),
    ] = None,
    weights: Weights = "tiny",
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    max_size: MaxSize = None,
    start: Annotated[
        Optional[str],
        typer.Option(
            metavar="POS", help="First frame: seconds (12.5), 1:02:03.5 or a frame number (123f)."
        ),
    ] = None,
    end: Annotated[
        Optional[str],
        typer.Option(
            metavar="POS", help="First frame not wanted, given like --start (20: seconds)."
        ),
    ] = None,
    chunk_objects: Annotated[
        int, typer.Option(help="Objects computed at a time, to save memory; 0 for all.", min=0)
    ] = 0,
    memory_budget: MemoryBudget = None,
    allow_truncated: Annotated[
        bool,
        typer.Option(
            "--allow-truncated", help="Keep what can be decoded of a damaged or cut file."
        ),
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """From the mask of the first frame to that of every frame."""
    options = SegmentOptions(
        max_size=max_size,
        chunk_objects=chunk_objects,
        memory_budget=parse_bytes(memory_budget) if memory_budget else None,
        start=Position.parse(start) if start else None,
        end=Position.parse(end) if end else None,
        allow_truncated=allow_truncated,
    )
    run_options = RunOptions(save=tuple(save or ["mask"]), output=output, overwrite=overwrite)

    from livos_cli.errors import InputError, UsageError
    from livos_cli.pipeline import plan_outputs, run
    from livos_cli.video.reader import check_exists
    from livos_cli.weights import load_model

    # What can be known to fail is found before the weights are loaded.
    check_exists(video)
    if not mask.exists():
        raise InputError(f"the mask {mask} does not exist", "check the path given to --mask")
    plan_outputs(video, mask, run_options)
    if options.start and options.end and not options.start.before(options.end):
        raise UsageError("--end is not after --start", "the range holds no frame")
    model = load_model(weights, device=device, precision=precision)
    display = _Display(quiet=quiet, weights=weights, precision=str(model.dtype).split(".")[1])
    with display:
        report = run(
            video,
            mask,
            model,
            options,
            run_options,
            on_begin=display.begin,
            on_frame=display.frame,
        )
    display.finish(report)
    if as_json:
        print(json.dumps(_as_json(report, video)))
    elif not quiet:
        for path in report.outputs.values():
            print(short(path))


class _Display:
    """Progress on stderr: a bar on a terminal, nothing but notes elsewhere."""

    def __init__(self, *, quiet: bool, weights: str, precision: str) -> None:
        self._quiet = quiet
        self._console = stderr_console()
        self._weights, self._precision = weights, precision
        self._bar: Bar | None = None
        self._warned: set[str] = set()

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, begin: Begin) -> None:
        self._warn(begin.warnings)
        if self._quiet:
            return
        info = begin.info
        height, width = begin.network_size
        names = [f"{i} ({begin.names[i]})" if i in begin.names else str(i) for i in begin.ids]
        self._note(
            f"{info.name}: {info.width}x{info.height}, {float(info.rate):.4g} fps"
            + (f", {begin.frames} frames" if begin.frames else "")
        )
        if len(names) > 20:
            names = [f"{len(names)} of them, {names[0]} to {names[-1]}"]
        self._note(f"objects: {', '.join(names)}")
        self._note(f"network: {self._weights}, {self._precision}, at {width}x{height}")
        if self._console.is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                BarColumn(bar_width=None),
                TextColumn("{task.completed}" + (f"/{begin.frames}" if begin.frames else "")),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[extra]}"),
                console=self._console,
                transient=True,
                expand=True,
            )
            self._task = self._bar.add_task("", total=begin.frames, rate="", extra="")
            self._bar.start()

    def frame(self, progress: Progress) -> None:
        if self._bar is None:
            return
        objects = f"{progress.objects} object" + ("s" if progress.objects != 1 else "")
        self._bar.update(
            self._task,
            completed=progress.done,
            rate=f"{progress.done / max(progress.seconds, 1e-6):.1f} fps",
            extra=f"{objects}, peak {human(progress.peak_memory)}",
        )

    def finish(self, report: Report) -> None:
        self._warn(report.warnings)
        if not self._quiet:
            self._note(
                f"done: {report.frames} frames in {report.seconds:.1f} s "
                f"({report.frames / report.seconds:.1f} fps), "
                f"peak memory {human(report.peak_memory)}"
            )

    def _note(self, text: str) -> None:
        self._console.print(text, markup=False)

    def _warn(self, warnings: tuple[str, ...]) -> None:
        for warning in warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                warn(self._console, warning)


def _as_json(report: Report, video: str) -> dict[str, object]:
    height, width = report.size
    network_height, network_width = report.network_size
    return {
        "video": video,
        "frames": report.frames,
        "seconds": round(report.seconds, 3),
        "objects": list(report.ids),
        "object_names": {str(i): name for i, name in report.names.items()},
        "size": [width, height],
        "network_size": [network_width, network_height],
        "peak_memory": report.peak_memory,
        "outputs": {kind: str(path) for kind, path in report.outputs.items()},
        "warnings": list(report.warnings),
    }
