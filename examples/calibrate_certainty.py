"""Fit what livos says of its own certainty to some weights, and store it in their file.

    python examples/calibrate_certainty.py lite DATA/davis-train -o calibrated.safetensors

DATA/davis-train holds NAME.mp4 and NAME.masks.mkv, frame for frame; DATA/splits.json lists names
under `train` and `dev`. The network follows the objects of the first in ways that it was not
trained for, so that it fails now and then: every second frame from the last to the first, every
third frame, and with the scene cut to another one. A logistic regression makes of its signs the
probability that J is 0.7 or more. What comes of it is measured on the second, forward, frame by
frame; nothing is fitted there.

Some 2,600 frames: ten minutes on two cores with the built-in network. --signs keeps what was seen,
so that fitting anew takes a second. Weights that were trained further must be calibrated anew.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import torch

from livos_cli import Tracker, load_model
from livos_cli.evaluation.score import jaccard
from livos_cli.network.calibration import GOOD, TERMS, Calibration
from livos_cli.outputs.sink import DOUBTFUL
from livos_cli.pipeline.doubts import DoubtWatch
from livos_cli.weights.convert import read_checkpoint, write_safetensors
from livos_cli.weights.locate import locate
from livos_cli.weights.terms import read_terms

Frames = list[tuple[np.ndarray, np.ndarray]]  # RGB and ids
WAYS = ("backward", "third", "cut")
AFTER_CUT = 15  # frames
PENALTY = 3.0  # of the squared weights, where each run of the network counts as 30 frames
FOLDS = 5
WORST = 0.2  # share of frames that are ranked worst


@dataclass(frozen=True)
class Run:
    """One object followed through some frames."""

    name: str
    way: str  # one of WAYS, or forward
    signs: np.ndarray  # (T, len(TERMS)); NaN where nothing was said
    quality: np.ndarray  # (T,) J


def read(folder: Path, name: str) -> Frames:
    """All frames of a sequence."""
    with (
        av.open(str(folder / f"{name}.mp4")) as video,
        av.open(str(folder / f"{name}.masks.mkv")) as masks,
    ):
        both = zip(video.decode(video=0), masks.decode(video=0), strict=True)
        pairs = [(f.to_ndarray(format="rgb24"), m.to_ndarray(format="gray")) for f, m in both]
    return [(rgb, (ids > 127).astype(np.uint8) if ids.max() > 127 else ids) for rgb, ids in pairs]


def arrange(folder: Path, name: str, other: str, way: str) -> Frames:
    """A sequence's frames in one of the ways."""
    frames = read(folder, name)
    if way == "backward":
        return frames[::-2]
    if way == "third":
        return frames[1::3]
    if way == "forward":
        return frames
    height, width = frames[0][1].shape
    rest = [rgb for rgb, _ in read(folder, other)[: 2 * AFTER_CUT : 2]]
    rest = [cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA) for rgb in rest]
    nothing = np.zeros((height, width), np.uint8)
    return [*frames[:36:2], *((rgb, nothing) for rgb in rest)]


def follow(weights: str, folder: Path, name: str, other: str, way: str) -> list[Run]:
    """Run the network; each object from its first frame on."""
    torch.set_num_threads(1)
    model = load_model(weights, device="cpu", precision="fp32")
    model.calibration = Calibration(0.0, {})  # of no account: only the signs are taken
    tracker = Tracker(model)
    seen: dict[int, list[tuple[np.ndarray, float]]] = {}
    for rgb, ids in arrange(folder, name, other, way):
        new = [int(i) for i in np.unique(ids) if i and int(i) not in seen]
        found = tracker.step_ids(rgb, np.where(np.isin(ids, new), ids, 0) if new else None)
        signs = tracker.signs
        for object_id, told in seen.items():
            told.append((signs[object_id], jaccard(found == object_id, ids == object_id)))
        seen |= {object_id: [] for object_id in new}
    return [
        Run(name, way, np.array([s for s, _ in told]), np.array([j for _, j in told]))
        for told in seen.values()
        if told
    ]


def gather(
    weights: str, folder: Path, names: list[str], ways: tuple[str, ...], processes: int
) -> Iterator[Run]:
    """Every name in every way, on some processes."""
    jobs = [
        (weights, folder, name, names[(place + 7) % len(names)], way)
        for way in ways
        for place, name in enumerate(names)
    ]
    with ProcessPoolExecutor(processes) as pool:
        for runs in pool.map(follow, *zip(*jobs, strict=True)):
            for run in runs:
                low = (run.quality < GOOD).mean()
                print(f"{run.way:9} {run.name:18} {len(run.quality):3} frames, {low:4.0%} bad")
                yield run


def stack(runs: list[Run]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> signs, whether J is good, weight; of frames of which something was said."""
    signs = np.concatenate([run.signs for run in runs])
    good = np.concatenate([run.quality >= GOOD for run in runs]).astype(float)
    weight = np.concatenate([np.full(len(run.quality), 30 / len(run.quality)) for run in runs])
    told = ~np.isnan(signs).any(axis=1)
    return signs[told], good[told], weight[told]


def fit(runs: list[Run], source: str = "") -> Calibration:
    """Logistic regression by Newton's method.

    Every term is a sign of failure. One that would speak for a mask is left out.
    """
    signs, good, weight = stack(runs)
    mean = (weight[:, None] * signs).sum(0) / weight.sum()
    spread = np.sqrt((weight[:, None] * (signs - mean) ** 2).sum(0) / weight.sum()) + 1e-9
    used = list(range(len(TERMS)))
    while True:
        x = np.c_[((signs - mean) / spread)[:, used], np.ones(len(signs))]
        penalty = np.diag([PENALTY] * len(used) + [0.0])
        w = np.zeros(len(used) + 1)
        for _ in range(50):
            p = 1 / (1 + np.exp(-x @ w))
            curve = (x * (weight * p * (1 - p))[:, None]).T @ x + penalty
            w -= np.linalg.solve(curve, x.T @ (weight * (p - good)) + penalty @ w)
        if not used or w[:-1].max() <= 0:
            break
        used.pop(int(w[:-1].argmax()))
    real = w[:-1] / spread[used]
    bias = float(w[-1] - real @ mean[used])
    names = [TERMS[place] for place in used]
    weights = {name: round(float(v), 4) for name, v in zip(names, real, strict=True)}
    return Calibration(round(bias, 4), weights, source)


def judge(calibration: Calibration, signs: np.ndarray) -> np.ndarray:
    """The certainty of each frame; NaN where nothing is said."""
    weights = np.array([calibration.weights.get(name, 0.0) for name in TERMS])
    return 1 / (1 + np.exp(-np.clip(calibration.bias + signs @ weights, -30, 30)))


def area_under_curve(value: np.ndarray, good: np.ndarray) -> float:
    """How often a good frame has a higher certainty than a bad one."""
    ranks = np.argsort(np.argsort(value, kind="stable"), kind="stable")
    yes, no = (good == 1).sum(), (good == 0).sum()
    return float((ranks[good == 1].sum() - yes * (yes - 1) / 2) / max(1, yes * no))


def cross_validate(runs: list[Run]) -> str:
    """How well each fold of sequences is judged by a fit to the others."""
    names = sorted({run.name for run in runs})
    values, truth = [], []
    for fold in range(FOLDS):
        out = set(names[fold::FOLDS])
        signs, good, _ = stack([run for run in runs if run.name in out])
        values.append(judge(fit([run for run in runs if run.name not in out]), signs))
        truth.append(good)
    value, good = np.concatenate(values), np.concatenate(truth)
    loss = -np.mean(np.log(np.where(good == 1, value, 1 - value)))
    lines = [f"left-out sequences: area under curve {area_under_curve(value, good):.3f}, "
             f"log loss {loss:.3f}; of frames given a certainty"]  # fmt: skip
    for low in np.arange(0, 1, 0.2):
        some = (value >= low) & (value < low + 0.2)
        if some.any():
            share = good[some].mean()
            lines.append(f"  {low:.1f} to {low + 0.2:.1f}: {some.sum():5}, {share:.2f} are good")
    return "\n".join(lines)


def report(calibration: Calibration, runs: list[Run]) -> str:
    """The two figures, and what a user would be told."""
    value = np.concatenate([judge(calibration, run.signs) for run in runs])
    good = np.concatenate([run.quality >= GOOD for run in runs])
    value = np.where(np.isnan(value), 0.0, value)  # gone: ranked worst
    worst = np.argsort(value, kind="stable")[: round(WORST * len(value))]
    bad = int((~good).sum())
    hits = int((~good[worst]).sum())
    lines = [
        f"{len(value)} frames, {bad} with J below {GOOD} ({bad / len(value):.3f})",
        f"of the {len(worst)} ranked worst, {hits} are bad: {hits / len(worst):.3f} "
        f"(by chance {bad / len(value):.3f})",
        f"of the bad ones, {hits / max(1, bad):.3f} are among them (by chance {WORST}, "
        f"at most {min(1, len(worst) / max(1, bad)):.3f})",
        f"area under curve {area_under_curve(value, good.astype(float)):.3f}",
    ]
    for run in runs:
        value = judge(calibration, run.signs)
        good = run.quality >= GOOD
        watch = DoubtWatch()
        for frame, sure in enumerate(value, start=1):
            watch.see(frame, frame / 25, {} if np.isnan(sure) else {1: float(sure)})
        false, missed = int(((value < DOUBTFUL) & good).sum()), int((~good).sum())
        found = int(((value < DOUBTFUL) & ~good).sum())
        first = f", the first {1 + int(np.argmin(good))}" if missed else ""
        lines.append(
            f"{run.name:16} bad {missed:3}{first}; of these doubtful {found:3}; false alarms "
            f"{false}; {'; '.join(watch.warnings()) or 'no warning'}"
        )
    return "\n".join(lines)


def load_signs(path: Path) -> list[Run]:
    """What `save_signs` wrote."""
    with np.load(path) as file:
        heads = json.loads(str(file["heads"]))
        return [Run(*h, file[f"signs{i}"], file[f"j{i}"]) for i, h in enumerate(heads)]


def save_signs(path: Path, runs: list[Run]) -> None:
    """Checkpointing what was seen."""
    arrays = {f"signs{i}": run.signs for i, run in enumerate(runs)}
    arrays |= {f"j{i}": run.quality for i, run in enumerate(runs)}
    heads = json.dumps([[run.name, run.way] for run in runs])
    np.savez(path, heads=np.array(heads), **arrays)


def main() -> None:
    """Read the options, run the network, fit, measure, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", help="a name, or a file")
    parser.add_argument("folder", type=Path, help="holds NAME.mp4 and NAME.masks.mkv")
    parser.add_argument("-o", "--output", type=Path, help=".safetensors with the calibration")
    parser.add_argument("-y", "--overwrite", action="store_true", help="replace it")
    parser.add_argument("--signs", type=Path, help=".npz: kept here, and taken from here if there")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    splits = json.loads((arguments.folder.resolve().parent / "splits.json").read_text())
    if arguments.signs and arguments.signs.exists():
        runs = load_signs(arguments.signs)
    else:
        where = (arguments.weights, arguments.folder)
        runs = list(gather(*where, splits["train"], WAYS, arguments.processes))
        runs += gather(*where, splits["dev"], ("forward",), arguments.processes)
        if arguments.signs:
            save_signs(arguments.signs, runs)
    training = [run for run in runs if run.way != "forward"]
    frames = sum(len(run.quality) for run in training)
    source = f"{frames} frames of {len(splits['train'])} sequences of {arguments.folder.name}"
    calibration = fit(training, source)
    print(calibration.to_json())
    print(cross_validate(training))
    print(report(calibration, [run for run in runs if run.way == "forward"]))
    if arguments.output:
        path = locate(arguments.weights)
        tensors, config = read_checkpoint(path)
        write_safetensors(
            tensors, config, arguments.output, overwrite=arguments.overwrite,
            calibration=calibration, terms=read_terms(path),
        )  # fmt: skip


if __name__ == "__main__":
    main()
