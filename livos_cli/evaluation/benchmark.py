"""Evaluate on a benchmark: predict what is not predicted yet, score it, write the report."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livos_cli.datasets import Dataset, Sequence
from livos_cli.errors import OutputError
from livos_cli.evaluation.predict import is_complete, predict
from livos_cli.evaluation.score import Score, mean_score, score_sequence
from livos_cli.files.atomic import whole, write_whole
from livos_cli.files.trust import SCORES, SETTINGS, UntrustedError, read
from livos_cli.network.livos import LiVOS

__all__ = ["Done", "Evaluation", "claim", "evaluate"]

Settings = dict[str, Any]
SCORERS = 4  # processes, at most: scoring is far cheaper than segmenting


@dataclass(frozen=True)
class Done:
    """One sequence."""

    name: str
    frames: int
    seconds: float  # of segmenting, input and output included
    scores: dict[int, Score]  # of its objects; empty where there is no truth
    again: bool  # taken over from an earlier run


@dataclass(frozen=True)
class Evaluation:
    """All sequences."""

    sequences: tuple[Done, ...]
    overall: Score | None  # mean over all objects of all sequences
    folder: Path  # results.csv, results.json and predictions/
    archive: Path | None  # what the benchmark's server takes


def claim(folder: Path, settings: Settings, *, overwrite: bool) -> None:
    """Make sure that what is in `folder` was made with these settings, so that it can be kept.

    With `overwrite` nothing is kept.

    Raises:
        OutputError: it was made with others, or holds something else.
    """
    note = folder / "settings.json"
    if note.is_file():
        try:
            before = read(note, SETTINGS)
        except (OSError, UntrustedError):
            raise OutputError(
                f"{note} is not of an earlier evaluation", "choose another -o"
            ) from None
        if before == settings and not overwrite:
            return
        if not overwrite:
            names = sorted(k for k in {*before, *settings} if before.get(k) != settings.get(k))
            raise OutputError(
                f"{folder} holds results of other settings ({', '.join(names)})",
                "use -y to replace them, or another -o",
            )
        for part in ("predictions", "scores", "long"):
            shutil.rmtree(folder / part, ignore_errors=True)
        for result in (folder / "results.csv", folder / "results.json", *folder.glob("*.zip")):
            result.unlink(missing_ok=True)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists and is no earlier evaluation", "choose another -o")
    write_whole(note, json.dumps(settings, indent=1).encode())


def evaluate(
    dataset: Dataset,
    model: LiVOS,
    folder: Path,
    settings: Settings,
    *,
    max_size: int | None = None,
    on_sequence: Callable[[Done], None] = lambda _: None,
) -> Evaluation:
    """Predict and score; what `folder` holds already from the same settings is not done again.

    Args:
        dataset: from `open_dataset`.
        model: from `load_model`.
        folder: claimed by `claim`. Gets predictions/NAME/FRAME.png, scores/NAME.json,
            results.csv, results.json, and the server's zip.
        settings: what identifies the run; written into results.json.
        max_size: shorter side for the network; None: the weights', -1: native.
        on_sequence: called for each sequence, in order, as soon as it is done.

    Raises:
        LivosError: a sequence that cannot be used; those before it stay done.
    """
    done: list[Done] = []
    with _scorers() as pool:
        pending: list[tuple[Sequence, Future[Done]]] = []

        def collect(*, wait: bool) -> None:
            while pending and (wait or pending[0][1].done()):
                result = pending.pop(0)[1].result()
                done.append(result)
                on_sequence(result)

        for sequence in dataset.sequences:
            note = folder / "scores" / f"{sequence.name}.json"
            target = folder / "predictions" / sequence.name
            again = is_complete(sequence, target)
            known = _read(sequence, note) if again else None
            if known is not None:
                future: Future[Done] = Future()
                future.set_result(known)
            else:
                frames, seconds = len(list(target.glob("*.png"))), 0.0
                if not again:
                    note.unlink(missing_ok=True)
                    frames, seconds = predict(
                        sequence, model, target, max_size=max_size, merge=dataset.merge
                    )
                future = pool.submit(
                    _score, sequence, target, note, dataset, frames, seconds, again
                )
            pending.append((sequence, future))
            collect(wait=False)
        collect(wait=True)
    objects = [score for one in done for score in one.scores.values()]
    overall = mean_score(objects) if objects else None
    archive = None
    if dataset.zip_folder is not None:
        archive = folder / f"{dataset.kind}-{dataset.split}.zip"
        _pack(dataset, folder / "predictions", archive)
    result = Evaluation(tuple(done), overall, folder, archive)
    write_whole(folder / "results.csv", _csv(result).encode())
    write_whole(folder / "results.json", json.dumps(_json(result, settings), indent=1).encode())
    return result


@contextmanager
def _scorers() -> Iterator[ProcessPoolExecutor]:
    # Spawned: a fork of a process that has threads, as torch's has, can lock up.
    context = multiprocessing.get_context("spawn")
    # An interruption is the main process's business.
    pool = ProcessPoolExecutor(
        min(SCORERS, os.cpu_count() or 1),
        mp_context=context,
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _score(
    sequence: Sequence,
    target: Path,
    note: Path,
    dataset: Dataset,
    frames: int,
    seconds: float,
    again: bool,
) -> Done:
    scores = {}
    if dataset.scored:
        scores = score_sequence(sequence.annotations, target, merge=dataset.merge)
    result = Done(sequence.name, frames, seconds, scores, again)
    raw = {
        "frames": frames,
        "seconds": round(seconds, 3),
        "objects": {str(i): [score.j, score.f] for i, score in scores.items()},
    }
    write_whole(note, json.dumps(raw).encode())
    return result


def _read(sequence: Sequence, note: Path) -> Done | None:
    """The scores that were noted; None if there are none that can be trusted."""
    try:
        raw = read(note, SCORES)
    except (OSError, UntrustedError):
        return None
    scores = {int(i): Score(*pair) for i, pair in raw["objects"].items()}
    return Done(sequence.name, raw["frames"], raw["seconds"], scores, True)


def _pack(dataset: Dataset, predictions: Path, archive: Path) -> None:
    """PNGs are compressed already, so they are stored as they are."""
    with whole(archive) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as packed:
        for sequence in dataset.sequences:
            for path in sorted((predictions / sequence.name).glob("*.png")):
                packed.write(path, Path(dataset.zip_folder or "", sequence.name, path.name))


def _csv(result: Evaluation) -> str:
    """A line an object, and one for all; columns as vos-benchmark's, values 0 to 1."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["sequence", "object", "J&F", "J", "F"])

    def row(name: str, number: int | str, score: Score) -> None:
        writer.writerow([name, number, *(f"{v:.6f}" for v in (score.jf, score.j, score.f))])

    if result.overall is not None:
        row("overall", "", result.overall)
    for one in result.sequences:
        for number, score in one.scores.items():
            row(one.name, number, score)
    return text.getvalue()


def _json(result: Evaluation, settings: Settings) -> dict[str, Any]:
    def entry(score: Score) -> dict[str, float]:
        return {"J&F": score.jf, "J": score.j, "F": score.f}

    return {
        "settings": settings,
        "overall": entry(result.overall) if result.overall else None,
        "sequences": {
            one.name: {
                "frames": one.frames,
                "seconds": round(one.seconds, 3),
                **(entry(mean_score(one.scores.values())) if one.scores else {}),
                "objects": {str(i): entry(score) for i, score in one.scores.items()},
            }
            for one in result.sequences
        },
    }
