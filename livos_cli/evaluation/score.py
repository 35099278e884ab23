"""J, F and J&F, as the vos-benchmark package measures them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from livos_cli.datasets import list_annotations, read_ids
from livos_cli.errors import InputError, UsageError
from livos_cli.extras import install_hint

__all__ = ["Score", "jaccard", "mean_score", "require_scorer", "score_sequence"]


@dataclass(frozen=True)
class Score:
    """Region similarity and contour accuracy, 0 to 1 (F. Perazzi et al., CVPR 2016)."""

    j: float
    f: float

    @property
    def jf(self) -> float:
        """The mean of both, what benchmarks rank by."""
        return (self.j + self.f) / 2


def require_scorer() -> None:
    """Raises UsageError if the package that measures is not installed."""
    try:
        import vos_benchmark.evaluator  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"`livos eval` needs the extra 'eval' ({error.name})", install_hint("eval")
        ) from None


def score_sequence(truth: Path, predicted: Path, *, merge: bool = False) -> dict[int, Score]:
    """Score one sequence's index PNGs against its annotations.

    First and last annotated frame are left out, as DAVIS does; frames without an annotation do
    not count; an object counts from the first frame that shows it, in truth or prediction. Names
    are in the order of their numbers; vos-benchmark's is that of the text, another one only where
    numbers are not padded with zeros.

    Args:
        truth: folder of index PNGs.
        predicted: folder with a PNG of the same name for each.
        merge: all objects are one, 255.

    Returns:
        Object id -> score. Empty if fewer than three frames are annotated.

    Raises:
        InputError: a prediction is missing or of another size.
    """
    from vos_benchmark.evaluator import Evaluator

    evaluator = Evaluator(name=truth.name)
    for path in list_annotations(truth)[1:-1]:
        guess = predicted / f"{path.stem}.png"
        if not guess.is_file():
            raise InputError(f"{guess} does not exist", "predict this sequence again with -y")
        want, got = read_ids(path, merge=merge), read_ids(guess, merge=merge)
        if want.shape != got.shape:
            raise InputError(
                f"{guess} is {got.shape[1]}x{got.shape[0]}, {path} {want.shape[1]}x{want.shape[0]}",
                "annotations must have the frames' size",
            )
        evaluator.feed_frame(got, want)
    j, f = evaluator.conclude()
    return {int(i): Score(float(j[i]) / 100, float(f[i]) / 100) for i in sorted(j)}


def mean_score(scores: Iterable[Score]) -> Score:
    """The mean over objects; both parts for themselves."""
    listed = list(scores)
    return Score(float(np.mean([s.j for s in listed])), float(np.mean([s.f for s in listed])))


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks; 1 where both are empty."""
    union = int(np.logical_or(a, b).sum())
    return int(np.logical_and(a, b).sum()) / union if union else 1.0
