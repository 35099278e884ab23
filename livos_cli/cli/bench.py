"""livos bench: speed and memory on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from livos_cli.cli.common import (
    Json,
    MemoryBudget,
    Overwrite,
    as_cell,
    check_free,
    human,
    say,
    short,
    stderr_console,
    stdout_console,
)
from livos_cli.options import parse_bytes
from livos_cli.weights.registry import DEFAULT

if TYPE_CHECKING:
    from livos_cli.bench.settings import Measured, Setting

__all__ = ["bench"]


def bench(
    network: Annotated[
        str, typer.Option(help="Networks: lite, tiny, small, base; weights are random.")
    ] = DEFAULT,
    size: Annotated[
        str, typer.Option(help="Sizes: rows of a 16:9 frame (480), or 854x480.")
    ] = "480",
    objects: Annotated[str, typer.Option(help="Numbers of objects.")] = "1",
    frames: Annotated[
        str, typer.Option(help="Numbers of frames to measure; memory is noted at 10, 100, 1000.")
    ] = "20",
    precision: Annotated[str, typer.Option(help="auto, fp32, fp16, bf16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N, mps.")] = "auto",
    compare: Annotated[
        Optional[list[str]],
        typer.Option(
            metavar="WHAT",
            help="Also measure softmax (space-time memory matching), reference (the plain "
            "float32 network), onnxruntime or openvino, or both (backends); repeatable.",
        ),
    ] = None,
    every: Annotated[
        int, typer.Option(help="softmax only: remember one frame in so many.", min=1)
    ] = 5,
    memory_budget: MemoryBudget = None,
    long: Annotated[bool, typer.Option("--long", help="Run 10,000 frames.")] = False,
    graphs: Annotated[
        bool,
        typer.Option(
            "--cuda-graphs/--no-cuda-graphs", help="On CUDA, replay a frame's work as one graph."
        ),
    ] = True,
    files: Annotated[
        bool,
        typer.Option("--files/--no-files", help="Also measure from a video file to a mask file."),
    ] = True,
    threads: Annotated[int, typer.Option(help="CPU threads; 0: PyTorch's choice.", min=0)] = 0,
    plot: Annotated[
        Optional[Path],
        typer.Option(metavar="PNG", help="Draw time and memory (needs the extra 'plot')."),
    ] = None,
    profile: Annotated[
        Optional[Path],
        typer.Option(metavar="JSON", help="Write a trace of three frames of the first setting."),
    ] = None,
    floors: Annotated[
        bool,
        typer.Option("--floors", help="Only count what each stage must do: operations, bytes."),
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Measure frames a second and memory on generated frames.

    Lists are separated by commas; every combination is run, each in a process of its own.
    """
    check_free(plot, profile, overwrite=overwrite)
    lists = {
        "network": network,
        "size": size,
        "objects": objects,
        "frames": "10000" if long else frames,
        "precision": precision,
        "device": device,
    }
    settings = _settings(
        lists,
        ["livos", *_compared(compare or [])],
        budget=parse_bytes(memory_budget) if memory_budget else None,
        every=every,
        graphs=graphs,
        files=files,
        threads=threads,
    )
    if floors:
        _floors(settings, as_json=as_json)
    elif profile is not None:
        _trace(settings[0], profile)
    elif not _measure(settings, plot, as_json=as_json):
        raise typer.Exit(1)


def _trace(setting: Setting, path: Path) -> None:
    from livos_cli.bench.measure import trace

    trace(setting, path)
    say(short(path))


def _measure(settings: list[Setting], plot: Path | None, *, as_json: bool) -> bool:
    """Measure, print and draw; whether all of it could be measured."""
    from livos_cli.bench.run import run_all

    console = stderr_console()
    results = []
    for count, result in enumerate(run_all(settings), start=1):
        results.append(result)
        if as_json:
            print(json.dumps(asdict(result)), flush=True)
        else:
            console.print(f"{count}/{len(settings)} {_title(result.setting)}", markup=False)
    if not as_json:
        _tables(results)
    if plot is not None:
        from livos_cli.bench.plot import plot as draw

        draw(results, plot)
        say(short(plot))
    return not any(result.problem for result in results)


def _settings(lists: dict[str, str], modes: list[str], **others: object) -> list[Setting]:
    """Every combination of the lists.

    Args:
        lists: by the option's name, its values separated by commas.
        modes: some of `bench.settings.MODES`.
        others: what all settings share.

    Raises:
        UsageError: a value is none that its option takes.
    """
    from livos_cli.bench.settings import Setting, parse_size

    parts = {
        name: [x.strip() for x in text.split(",") if x.strip()] for name, text in lists.items()
    }
    _check_lists(parts, modes)
    settings = []
    for network, size, objects, frames, precision, device in product(
        *(parts[name] for name in ("network", "size", "objects", "frames", "precision", "device"))
    ):
        height, width = parse_size(size)
        for mode in dict.fromkeys(modes):
            settings.append(
                Setting(
                    network=network,
                    height=height,
                    width=width,
                    objects=int(objects),
                    frames=int(frames),
                    # The plain network is float32 whatever is compared with it.
                    precision="fp32" if mode == "reference" else precision,
                    device=device,
                    mode=mode,
                    **others,  # type: ignore[arg-type]
                )
            )
    return list(dict.fromkeys(settings))


def _compared(asked: list[str]) -> list[str]:
    from livos_cli.bench.settings import BACKENDS

    return [mode for name in asked for mode in (BACKENDS if name == "backends" else (name,))]


def _check_lists(parts: dict[str, list[str]], modes: list[str]) -> None:
    from livos_cli.bench.settings import MODES
    from livos_cli.device import resolve_device, resolve_precision
    from livos_cli.errors import UsageError
    from livos_cli.network import PRESETS

    for name, values in parts.items():
        if not values:
            raise UsageError(f"--{name} is empty", f"see `livos bench --help` for --{name}")
    if bad := [mode for mode in modes if mode not in MODES]:
        raise UsageError(
            f"unknown comparison '{bad[0]}'",
            "--compare takes softmax, reference, onnxruntime, openvino, backends",
        )
    if bad := [name for name in parts["network"] if name not in PRESETS]:
        raise UsageError(f"unknown network '{bad[0]}'", f"--network takes {', '.join(PRESETS)}")
    for name, most in (("objects", 255), ("frames", 10**6)):
        for text in parts[name]:
            if not text.isdecimal() or not 1 <= int(text) <= most:
                raise UsageError(f"--{name} takes counts, not '{text}'", f"give 1 to {most}")
    for name in parts["device"]:
        for precision in parts["precision"]:
            resolve_precision(precision, resolve_device(name))


def _floors(settings: list[Setting], *, as_json: bool) -> None:
    from rich.table import Table

    from livos_cli.bench.floors import floors
    from livos_cli.device import resolve_device, resolve_precision

    table = Table("frame", "stage", "GFLOP", "MB moved once")
    for column in table.columns[2:]:
        column.justify = "right"
    for setting in settings:
        dtype = resolve_precision(setting.precision, resolve_device(setting.device))
        frame = (setting.network, setting.height, setting.width, setting.objects)
        for floor in floors(*frame, dtype.itemsize):
            if as_json:
                print(json.dumps({**asdict(setting), **asdict(floor)}))
            operations, moved = f"{floor.operations / 1e9:.1f}", f"{floor.bytes / 1e6:.0f}"
            table.add_row(_title(setting), floor.stage, operations, moved)
        table.add_section()
    if not as_json:
        stdout_console().print(table)


def _title(setting: Setting) -> str:
    objects = f"{setting.objects} object" + ("s" if setting.objects > 1 else "")
    return f"{setting.mode} {setting.network} {setting.width}x{setting.height} {objects}"


def _tables(results: list[Measured]) -> None:
    from rich.table import Table

    from livos_cli.bench.settings import STAGES

    console = stdout_console()
    devices = dict.fromkeys(r.device for r in results if r.device)
    for device in devices:
        console.print(device, markup=False, highlight=False)
    summary = Table("run", "fps\nnetwork", "fps\nfile to file", "peak\nmemory", "memory at frame")
    stages = Table("ms a frame", *(name.replace(" ", "\n") for name in STAGES))
    for table in (summary, stages):
        table.columns[0].no_wrap = True
        for column in table.columns[1:]:
            column.justify = "right"
    for result in results:
        setting = result.setting
        name = f"{setting.mode} {setting.network}\n{setting.width}x{setting.height}, "
        name += f"{setting.objects} obj"
        if result.problem:
            summary.add_row(name, "", "", "", as_cell(result.problem))
            continue
        name += f"\n{result.dtype}" + (f", strips {result.rows}" if result.rows else "")
        name += f"\nfirst two: {result.first_frames:.1f} s"
        summary.add_row(
            name,
            f"{result.model_fps:.2f}",
            "" if result.end_to_end_fps is None else f"{result.end_to_end_fps:.2f}",
            human(result.peak),
            "\n".join(f"{frame}: {human(held)}" for frame, held in result.at.items()),
        )
        cells = [f"{result.stages[s]:.1f}" if s in result.stages else "" for s in STAGES]
        stages.add_row(name, *cells)
    console.print(summary)
    if stages.rows:
        console.print(stages)
    for one, two in product(results, results):
        same = replace(two.setting, mode="livos", precision=one.setting.precision) == one.setting
        if one is not two and same and not one.problem and not two.problem:
            ratio = one.model_fps / two.model_fps
            console.print(
                f"{_title(one.setting)} {one.dtype}: {ratio:.2f} times the frames a second of "
                f"{two.setting.mode}",
                highlight=False,
            )
