"""livos train: from scratch, or fine-tuning."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from livos_cli.cli.common import Device, Quiet, human, say, short, stderr_console, warn
from livos_cli.cli.progress import Bars
from livos_cli.cli.signals import Stop

if TYPE_CHECKING:
    from livos_cli.training.loop import Stepped, Trained
    from livos_cli.training.options import TrainOptions


def train(
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            metavar="KIND[:PATH][@SHARE]",
            help="What to train on, repeatable: davis16, davis17, ytvos, mose, lvos or folder "
            "(benchmarks), pairs (NAME.mp4 with NAME.masks.mkv), images (folder or zip of images "
            "with PNG masks), procedural. SHARE: of the clips, relative to the others; 1 if not "
            "given.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="RUN", help="The run's folder; a run that is there resumes."
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
            help="base, small, tiny, or lite, whose image encoder was trained on ImageNet. With "
            "--init: take over the weights that have the same shape. [default: that of --init, or "
            "tiny]",
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
        typer.Option(help="Steps in all, those before a resume counted.", show_default=False),
    ] = None,
    minutes: Annotated[
        Optional[float],
        typer.Option(
            help="Stop cleanly after so many minutes, with a checkpoint.", show_default=False
        ),
    ] = None,
    settings: Annotated[
        Optional[list[str]],
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any other setting of the recipe, repeatable: clips, length, unroll, size, "
            "objects, max_skip, rate, backbone_rate, warmup, cooldown, schedule, loss, ema, "
            "batch_norm, precision, seed, ... (all: docs/notes/training.md).",
            show_default=False,
        ),
    ] = None,
    height: Annotated[
        int,
        typer.Option(
            metavar="PIXELS", help="Height at which sequences are kept in memory.", min=64
        ),
    ] = 400,
    memory: Annotated[
        float,
        typer.Option(metavar="GIB", help="Memory for decoded frames, per process.", min=0.001),
    ] = 8.0,
    workers: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Processes that prepare clips ahead; -1: by the number of cores.",
            min=-1,
        ),
    ] = -1,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Train a network, or resume a run. On several GPUs: torchrun ... -m livos_cli train ..."""
    from livos_cli.training.options import resolve

    asked = _Asked(
        data=data,
        output=output,
        options=resolve(recipe, settings or [], steps=steps, minutes=minutes),
        init=init,
        network=network,
        normaliser=normaliser,
        height=height,
        memory=int(memory * (1 << 30)),
        workers=workers,
        device=device,
    )
    if _run(asked, quiet=quiet).interrupted:
        sys.exit(130)  # and not by typer, which would tell of results that were removed


@dataclass(frozen=True)
class _Asked:
    """What is to be trained, from what, and with what."""

    data: list[str]
    output: Path
    options: TrainOptions
    init: str | None
    network: str | None
    normaliser: str | None
    height: int  # rows at which sequences are kept
    memory: int  # bytes for decoded frames, of each process
    workers: int  # -1: by the number of cores
    device: str


def _run(asked: _Asked, *, quiet: bool) -> Trained:
    """Read the data, make the network, train it, and say how it goes."""
    from livos_cli.device import resolve_device
    from livos_cli.training.clips import ClipSource, default_workers
    from livos_cli.training.loop import join_world, train
    from livos_cli.training.sources import SourceSpec
    from livos_cli.training.start import starting_model

    options = asked.options
    specs = [SourceSpec.parse(text) for text in asked.data]
    world = join_world(resolve_device(asked.device))
    model = starting_model(asked.init, asked.network, asked.normaliser, seed=options.seed)
    display = _Display(options.steps, quiet=quiet or world.rank != 0)
    display.note(f"reading {', '.join(asked.data)}")
    source = ClipSource(specs, height=asked.height, memory=asked.memory)
    size = sum(p.numel() for p in model.parameters()) / 1e6
    display.note(f"{source.summary}; {size:.1f} M parameters on {world.size} x {world.device}")
    workers = default_workers(world.size) if asked.workers < 0 else asked.workers
    with Stop(quiet=display.quiet, unit="step") as stop, display:
        stop.armed = True
        result = train(
            model,
            source,
            asked.output,
            options,
            world=world,
            workers=workers,
            on_step=display.step,
            stop=stop,
        )
    if world.rank == 0:
        display.finish(result, asked.output)
    return result


class _Display:
    """On a terminal a bar; elsewhere a line every hundred steps."""

    def __init__(self, steps: int, *, quiet: bool) -> None:
        self.quiet = quiet
        self._console, self._steps = stderr_console(), steps
        self._loss: float | None = None
        self._bars = Bars(self._console, quiet=quiet)

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.close()

    def note(self, text: str) -> None:
        """A line, unless all is to be quiet."""
        if not self.quiet:
            self._console.print(text, markup=False)

    def step(self, stepped: Stepped) -> None:
        """Show how far the run is, with a loss that is smoothed."""
        self._loss = stepped.loss if self._loss is None else 0.95 * self._loss + 0.05 * stepped.loss
        text = f"step {stepped.step}/{self._steps}, loss {self._loss:.4f}, {stepped.seconds:.0f} s"
        if not self._console.is_terminal:
            if stepped.step % 100 == 0:
                self.note(text)
            return
        if self._bars.drawn:
            self._bars.update("steps", stepped.step, text)
        else:
            self._bars.show("steps", self._steps, stepped.step, text=text)

    def finish(self, result: Trained, folder: Path) -> None:
        """Say how the run ended, draw its log, and say what was written."""
        from livos_cli.errors import UsageError
        from livos_cli.training.plot import plot_log

        share = result.wait / max(result.seconds, 1e-9)
        self.note(
            f"{'interrupted' if result.interrupted else 'stopped'} after step {result.step}, "
            f"{result.seconds:.0f} s, {share:.1%} of it waiting for data; the same command "
            "resumes here"
        )
        outputs = [result.weights, folder / "log.csv"]
        try:
            plot_log(folder / "log.csv", folder / "log.png")
            outputs.append(folder / "log.png")
        except UsageError as error:
            warn(self._console, f"no picture of the log: {error}")
        if not self.quiet:
            for path in outputs:
                say(f"{short(path)} ({human(path.stat().st_size)})")
