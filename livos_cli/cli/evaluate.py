"""livos eval: benchmarks of the field, and long runs."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, cast

import typer

from livos_cli.cli.common import (
    BackendOption,
    Device,
    Json,
    MaxSize,
    Overwrite,
    PrecisionOption,
    Quiet,
    Weights,
    as_cell,
    say,
    short,
    stderr_console,
    stdout_console,
)
from livos_cli.weights.registry import DEFAULT

if TYPE_CHECKING:
    from livos_cli.datasets import Dataset
    from livos_cli.evaluation.benchmark import Done, Evaluation
    from livos_cli.evaluation.long_run import LongRun
    from livos_cli.network.livos import LiVOS


def evaluate(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The benchmark's folder.")],
    kind: Annotated[
        str,
        typer.Option(
            "--dataset", "-d", metavar="KIND", help="davis16, davis17, ytvos, mose, lvos or folder."
        ),
    ] = "folder",
    split: Annotated[
        Optional[str],
        typer.Option(
            metavar="NAME",
            help="[default: val (DAVIS), valid (the others), everything (folder)]",
            show_default=False,
        ),
    ] = None,
    sequences: Annotated[
        str, typer.Option(metavar="A,B", help="Only these sequences.", show_default=False)
    ] = "",
    resolution: Annotated[
        str, typer.Option(metavar="NAME", help="DAVIS only: 480p or Full-Resolution.")
    ] = "480p",
    all_frames: Annotated[
        bool,
        typer.Option(
            "--all-frames", help="YouTube-VOS only: run on SPLIT_all_frames, keep SPLIT's frames."
        ),
    ] = False,
    output: Annotated[
        Optional[Path],
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Folder for predictions and scores; an interrupted run there resumes. "
            "[default: livos-eval/DATASET-SPLIT-WEIGHTS]",
            show_default=False,
        ),
    ] = None,
    weights: Weights = DEFAULT,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    backend: BackendOption = "auto",
    max_size: MaxSize = None,
    long: Annotated[
        int,
        typer.Option(
            metavar="FRAMES",
            help="Play each sequence forward and backward this long, and report J by position.",
            min=0,
        ),
    ] = 0,
    normaliser: Annotated[
        Optional[str],
        typer.Option(
            metavar="NAME",
            help="cumulative or gated, instead of what the weights say. [default: the weights']",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Predict a benchmark's sequences, and score them where there is ground truth."""
    _run(
        _Asked(
            root=root,
            kind=kind,
            split=split,
            sequences=tuple(name for name in sequences.split(",") if name),
            resolution=resolution,
            all_frames=all_frames,
            output=output,
            weights=weights,
            device=device,
            precision=precision,
            backend=backend,
            max_size=max_size,
            long=long,
            normaliser=normaliser,
            overwrite=overwrite,
            as_json=as_json,
            quiet=quiet,
        )
    )


@dataclass(frozen=True)
class _Asked:
    """Which sequences are predicted, how, and what is said of it."""

    root: Path
    kind: str
    split: str | None
    sequences: tuple[str, ...]  # only these; none: all
    resolution: str
    all_frames: bool
    output: Path | None
    weights: str
    device: str
    precision: str
    backend: str
    max_size: int | None
    long: int  # frames; 0: each sequence once
    normaliser: str | None
    overwrite: bool
    as_json: bool
    quiet: bool


def _run(asked: _Asked) -> None:
    """Open the benchmark, load the network, predict, and print the scores."""
    from livos_cli.evaluation.score import require_scorer

    require_scorer()
    from livos_cli.datasets import open_dataset
    from livos_cli.errors import UsageError
    from livos_cli.evaluation.benchmark import claim
    from livos_cli.network.config import NORMALISERS
    from livos_cli.weights.load import load_model

    dataset = open_dataset(
        asked.root,
        asked.kind,
        split=asked.split,
        resolution=asked.resolution,
        only=list(asked.sequences),
        all_frames=asked.all_frames,
    )
    if asked.normaliser not in (None, *NORMALISERS):
        raise UsageError(f"unknown normaliser '{asked.normaliser}'", "use cumulative or gated")
    model = load_model(
        asked.weights, device=asked.device, precision=asked.precision, backend=asked.backend
    )
    if asked.normaliser and not model.bounded:
        raise UsageError(
            "--normaliser is for PyTorch: graphs have that of their weights", "use --backend torch"
        )
    if asked.normaliser:
        model.config = replace(model.config, normaliser=cast(Any, asked.normaliser))
    folder = asked.output or _default_folder(asked, dataset)
    settings = _settings(asked, dataset, model)
    claim(folder, settings, overwrite=asked.overwrite)
    if asked.long:
        _long(asked, dataset, model, folder)
    else:
        _benchmark(asked, dataset, model, folder, settings)


def _default_folder(asked: _Asked, dataset: Dataset) -> Path:
    weights = asked.weights
    label = Path(weights).stem if Path(weights).suffix else weights.replace("/", "-")
    long = f"long{asked.long}" if asked.long else None
    parts = (asked.kind, dataset.split, label, asked.normaliser, long)
    return Path("livos-eval", "-".join(filter(None, parts)))


def _settings(asked: _Asked, dataset: Dataset, model: LiVOS) -> dict[str, Any]:
    """All that predictions depend on: those made with others are not kept."""
    from livos_cli.version import VERSION
    from livos_cli.weights.hub import sha256_of
    from livos_cli.weights.locate import locate

    return {
        "root": str(asked.root.resolve()),
        "dataset": asked.kind,
        "split": dataset.split,
        "resolution": asked.resolution if asked.kind.startswith("davis") else None,
        "all_frames": asked.all_frames,
        "weights": asked.weights,
        "sha256": sha256_of(locate(asked.weights)),
        "normaliser": model.config.normaliser,
        "precision": model.precision,
        "device": model.device.type,
        "max_size": model.config.size if asked.max_size is None else asked.max_size,
        "long": asked.long,
        "livos": VERSION,
    }


def _benchmark(
    asked: _Asked, dataset: Dataset, model: LiVOS, folder: Path, settings: dict[str, Any]
) -> None:
    """Each sequence once."""
    from livos_cli.evaluation.benchmark import evaluate
    from livos_cli.evaluation.score import mean_score

    console = stderr_console()
    count = 0

    def tell(done: Done) -> None:
        nonlocal count
        count += 1
        if asked.quiet:
            return
        score = f"J&F {mean_score(done.scores.values()).jf:.3f}" if done.scores else "no truth"
        speed = "done before" if done.again else f"{done.frames / done.seconds:.1f} fps"
        place = f"{count}/{len(dataset.sequences)}"
        console.print(f"{place} {done.name}: {score}, {speed}", markup=False)

    result = evaluate(dataset, model, folder, settings, max_size=asked.max_size, on_sequence=tell)
    if asked.as_json:
        print((folder / "results.json").read_text().replace("\n", ""))
        return
    if result.overall is not None:
        _table(result)
    if not asked.quiet:
        say(short(folder / "results.csv"))
        if result.archive is not None:
            say(short(result.archive))


def _table(result: Evaluation) -> None:
    from rich.table import Table

    from livos_cli.evaluation.score import mean_score

    assert result.overall is not None
    table = Table("sequence", "objects", "J&F", "J", "F", "fps")
    for column in table.columns[1:]:
        column.justify = "right"
    for one in result.sequences:
        fps = f"{one.frames / one.seconds:.1f}" if one.seconds else ""
        cells = [""] * 3
        if one.scores:
            score = mean_score(one.scores.values())
            cells = [f"{value:.3f}" for value in (score.jf, score.j, score.f)]
        table.add_row(as_cell(one.name), str(len(one.scores)), *cells, fps)
    table.add_section()
    overall = result.overall
    objects = sum(len(one.scores) for one in result.sequences)
    table.add_row(
        "all objects", str(objects), *(f"{v:.3f}" for v in (overall.jf, overall.j, overall.f)), ""
    )
    stdout_console().print(table)


def _long(asked: _Asked, dataset: Dataset, model: LiVOS, folder: Path) -> None:
    """Each sequence forward and backward."""
    from rich.table import Table

    from livos_cli.evaluation.long_run import BIN, evaluate_long

    console = stderr_console()

    def tell(run: LongRun) -> None:
        if not asked.quiet:
            console.print(f"{run.name}: {run.first:.3f} to {run.last:.3f}", markup=False)

    runs = evaluate_long(
        dataset, model, folder, asked.long, max_size=asked.max_size, on_sequence=tell
    )
    count = len(runs)
    first, last = sum(r.first for r in runs) / count, sum(r.last for r in runs) / count
    ratio = last / first if first else None
    if asked.as_json:
        for run in runs:
            print(json.dumps({"sequence": run.name, "bins": run.bins, "J": list(run.j)}))
        print(json.dumps({"first": first, "last": last, "ratio": ratio}))
        return
    table = Table("sequence", f"J of 1-{BIN}", f"last {BIN}", f"J by {BIN} frames")
    for run in runs:
        by = " ".join(f"{value:.2f}".lstrip("0") for value in run.bins)
        table.add_row(as_cell(run.name), f"{run.first:.3f}", f"{run.last:.3f}", by)
    table.add_section()
    table.add_row(
        "mean",
        f"{first:.3f}",
        f"{last:.3f}",
        f"last / first = {ratio:.3f}" if ratio is not None else "",
    )
    stdout_console().print(table)
