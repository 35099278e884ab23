"""livos train: from scratch, or fine-tuning."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from livos_cli.cli.common import Device, Quiet, human, say, short, stderr_console, warn

if TYPE_CHECKING:
    from rich.console import Console

    from livos_cli.training.loop import Stepped, Trained


def train(
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            metavar="KIND[:PATH][@SHARE]",
            help="Repeatable: davis16, davis17, ytvos, mose, lvos or folder (benchmarks), pairs "
            "(NAME.mp4 with NAME.masks.mkv), images (folder or zip of images with PNG masks), "
            "procedural. SHARE: of the clips, relative to the others; 1 if not given.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="RUN", help="The run's folder; a run there is continued."
        ),
    ],
    init: Annotated[
        Optional[str],
        typer.Option(
            metavar="WEIGHTS",
            help="Fine-tune these: a name, a file or a Hub address. [default: start from nothing]",
            show_default=False,
        ),
    ] = None,
    network: Annotated[
        Optional[str],
        typer.Option(
            metavar="NAME",
            help="base, small, tiny, or lite, whose image encoder has seen ImageNet. With --init: "
            "take over what has the same shape. [default: that of --init, or tiny]",
            show_default=False,
        ),
    ] = None,
    normaliser: Annotated[
        Optional[str],
        typer.Option(
            metavar="NAME",
            help="cumulative (as published) or gated. [default: the network's]",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        str, typer.Option(metavar="NAME", help="paper, or tiny (the built-in weights').")
    ] = "paper",
    steps: Annotated[
        Optional[int],
        typer.Option(help="In all, an earlier part of the run counted.", show_default=False),
    ] = None,
    minutes: Annotated[
        Optional[float],
        typer.Option(help="Stop cleanly after so long, with a checkpoint.", show_default=False),
    ] = None,
    settings: Annotated[
        Optional[list[str]],
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any other setting of the recipe, repeatable: clips, length, unroll, size, "
            "objects, max_skip, rate, backbone_rate, warmup, cooldown, schedule, loss, ema, "
            "batch_norm, precision, seed, ... (all: docs/training.md).",
            show_default=False,
        ),
    ] = None,
    height: Annotated[
        int, typer.Option(metavar="PIXELS", help="Rows at which sequences are kept.", min=64)
    ] = 400,
    memory: Annotated[
        float, typer.Option(metavar="GIB", help="For decoded frames, of each process.", min=0.001)
    ] = 8.0,
    workers: Annotated[
        int,
        typer.Option(
            metavar="N", help="Processes that draw clips ahead; -1: by the number of cores.", min=-1
        ),
    ] = -1,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Train a network, or go on with a run. On several GPUs: torchrun ... -m livos_cli train ..."""
    from livos_cli.training.options import resolve

    options = resolve(recipe, settings or [], steps=steps, minutes=minutes)

    from livos_cli.device import resolve_device
    from livos_cli.training.clips import ClipSource, default_workers
    from livos_cli.training.loop import join_world
    from livos_cli.training.loop import train as run
    from livos_cli.training.sources import SourceSpec
    from livos_cli.training.start import starting_model

    specs = [SourceSpec.parse(text) for text in data]
    world = join_world(resolve_device(device))
    model = starting_model(init, network, normaliser, seed=options.seed)
    console = stderr_console()
    speak = world.rank == 0 and not quiet
    if speak:
        console.print(f"reading {', '.join(data)}", markup=False)
    source = ClipSource(specs, height=height, memory=int(memory * (1 << 30)))
    if speak:
        size = sum(p.numel() for p in model.parameters()) / 1e6
        console.print(
            f"{source.summary}; {size:.1f} M parameters on {world.size} x {world.device}",
            markup=False,
        )
    display = _Display(console, options.steps, quiet=not speak)
    result = run(
        model,
        source,
        output,
        options,
        world=world,
        workers=default_workers(world.size) if workers < 0 else workers,
        on_step=display.step,
    )
    if world.rank == 0:
        display.finish(result, output)
    if result.interrupted:
        sys.exit(130)  # and not by typer, which would tell of results that were removed


class _Display:
    """A line on the terminal that is kept up to date; elsewhere a line every hundred steps."""

    def __init__(self, console: Console, steps: int, *, quiet: bool) -> None:
        self._console, self._steps, self._quiet = console, steps, quiet
        self._loss: float | None = None
        self._status: Any = None

    def step(self, stepped: Stepped) -> None:
        if self._quiet:
            return
        self._loss = stepped.loss if self._loss is None else 0.95 * self._loss + 0.05 * stepped.loss
        text = f"step {stepped.step}/{self._steps}, loss {self._loss:.4f}, {stepped.seconds:.0f} s"
        if not self._console.is_terminal:
            if stepped.step % 100 == 0:
                self._console.print(text, markup=False)
            return
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        self._status.update(text)

    def finish(self, result: Trained, folder: Path) -> None:
        from livos_cli.errors import UsageError
        from livos_cli.training.plot import plot_log

        if self._status is not None:
            self._status.stop()
        if not self._quiet:
            share = result.wait / max(result.seconds, 1e-9)
            self._console.print(
                f"{'interrupted' if result.interrupted else 'stopped'} after step {result.step}, "
                f"{result.seconds:.0f} s, {share:.1%} of it waiting for data; the same command "
                "resumes here",
                markup=False,
            )
        outputs = [result.weights, folder / "log.csv"]
        try:
            plot_log(folder / "log.csv", folder / "log.png")
            outputs.append(folder / "log.png")
        except UsageError as error:
            warn(self._console, f"no picture of the log: {error}")
        if not self._quiet:
            for path in outputs:
                say(f"{short(path)} ({human(path.stat().st_size)})")
