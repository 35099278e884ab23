"""What bfloat16 or int8 changes against float32, on real sequences, on this machine's CPU.

    python examples/compare_precision.py lite DATA/davis-train bear car-turn
    python examples/compare_precision.py lite:int8 DATA/davis-train bear car-turn

DATA/davis-train holds NAME.mp4 and NAME.masks.mkv (grey, 0 and 255, or ids). Both trackers see the
same frames; printed are the share of pixels where they decide alike, the lowest of a frame, and
the mean J of each against the truth, the first and the last frame left out, as vos-benchmark
does it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from livos_cli import Tracker, load_model
from livos_cli.evaluation.score import jaccard


def frames(data: Path, name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(H, W, 3) uint8 RGB and (H, W) uint8 ids."""
    with (
        av.open(str(data / f"{name}.mp4")) as video,
        av.open(str(data / f"{name}.masks.mkv")) as masks,
    ):
        for picture, mask in zip(video.decode(video=0), masks.decode(video=0), strict=True):
            ids = mask.to_ndarray(format="gray")
            yield picture.to_ndarray(format="rgb24"), np.where(ids == 255, 1, ids).astype(np.uint8)


def mean_j(found: np.ndarray, truth: np.ndarray, objects: list[int]) -> float:
    """Mean J of the objects of the first mask."""
    return float(np.mean([jaccard(found == i, truth == i) for i in objects]))


def main() -> None:
    """A line for each sequence."""
    weights, _, other = sys.argv[1].partition(":")
    data, names = Path(sys.argv[2]), sys.argv[3:]
    precisions = ("fp32", other or "bf16")
    models = {p: load_model(weights, device="cpu", precision=p) for p in precisions}
    for name in names:
        trackers = {p: Tracker(model) for p, model in models.items()}
        scores: dict[str, list[float]] = {p: [] for p in precisions}
        alike: list[float] = []
        objects: list[int] = []
        for index, (rgb, truth) in enumerate(frames(data, name)):
            objects = objects or [int(i) for i in np.unique(truth) if i]
            given = truth if index == 0 else None
            found = {p: tracker.step_ids(rgb, given) for p, tracker in trackers.items()}
            alike.append(float((found[precisions[0]] == found[precisions[1]]).mean()))
            for p in precisions:
                scores[p].append(mean_j(found[p], truth, objects))
        told = ", ".join(f"{p} J {np.mean(scores[p][1:-1]):.4f}" for p in precisions)
        share, least = 100 * np.mean(alike[1:]), 100 * min(alike[1:])
        print(f"{name}: {share:.3f} % alike, lowest {least:.3f} %; {told}", flush=True)


if __name__ == "__main__":
    main()
