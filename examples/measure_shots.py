"""Measure whole shots by clicks: a simulated user of `livos ui` marks, tracks and corrects.

    python examples/measure_shots.py DATA [--clicks 20] [--look worst|first] [--sequence NAME ...]

DATA holds davis-train/ and splits.json. The user clicks the object in the first frame, up to three
times while its IoU is below 0.9, and tracks. Then, again and again: goes to the most doubtful frame
(--look worst) or to where the first doubt begins (--look first), clicks there in the middle of the
largest error, up to three times while the IoU is below 0.85, and tracks what is out of date. Where
nothing is doubtful the least certain frame is looked at, never within five frames of an earlier
one. Printed is the mean J of all frames but the first and the last after every round; beside it
that of `livos segment` with the true first mask, and how well its certainty ranks its frames.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import av
import cv2
import numpy as np

from livos_cli import segment
from livos_cli.evaluation.score import jaccard
from livos_cli.training.clicks import Click, next_click
from livos_cli.ui.jobs import Jobs
from livos_cli.ui.open_project import Network
from livos_cli.ui.session import Session

GOAL, FIRST, BETTER, ROUND = 0.85, 0.9, 0.85, 3
NEAR = 5  # frames around a corrected one, which nobody looks at once more


def truth_of(folder: Path, name: str) -> list[np.ndarray]:
    with av.open(str(folder / f"{name}.masks.mkv")) as masks:
        return [frame.to_ndarray(format="gray") > 0 for frame in masks.decode(video=0)]


def mean_j(found: list[np.ndarray], truth: list[np.ndarray]) -> float:
    return float(np.mean([jaccard(f, t) for f, t in zip(found[1:-1], truth[1:-1], strict=True)]))


class User:
    """Who clicks; nothing but clicks and tracking is done."""

    def __init__(self, video: Path, truth: list[np.ndarray], look: str) -> None:
        self._folder = Path(tempfile.mkdtemp())
        self.session = Session(str(video), self._folder, Network("lite", "auto", "auto", None))
        self.jobs, self.truth, self._look = Jobs(self.session), truth, look
        self.clicks, self._corrected = 0, {0}
        self._object = self.session.add_object().id

    def mask(self, frame: int) -> np.ndarray:
        return self.session.ids(frame) == self._object

    def mark(self, frame: int, good: float) -> None:
        taken: list[Click] = [
            (x, y, on) for own in self.session.marks(frame).values() for x, y, on in own.points
        ]
        for _ in range(ROUND):
            found = self.mask(frame)
            if jaccard(found, self.truth[frame]) >= good:
                return
            click = next_click(found, self.truth[frame], taken)
            if click is None:
                return
            taken.append(click)
            self.session.click(frame, self._object, *click)
            self.clicks += 1

    def track(self) -> None:
        self.jobs.track("all", 0)
        job = self.jobs._job
        assert job is not None
        job.thread.join()
        assert self.jobs.last["state"] == "done", self.jobs.last

    def doubtful(self) -> int | None:
        """Where to look next; None where every frame has been."""
        told = self.session.timeline()["certainty"].get(self._object, [])
        near = {n + k for n in self._corrected for k in range(-NEAR, NEAR + 1)}
        sure = {n: c for n, c in enumerate(told) if n not in near}
        if not sure:
            return None
        low = [n for n, c in sure.items() if c < 0.5]
        frame = low[0] if self._look == "first" and low else min(sure, key=lambda n: sure[n])
        self._corrected.add(frame)
        return frame

    def j(self) -> float:
        return mean_j([self.mask(n) for n in range(len(self.truth))], self.truth)

    def close(self) -> None:
        self.session.close()
        shutil.rmtree(self._folder)


def shot(video: Path, truth: list[np.ndarray], most: int, look: str) -> list[tuple[int, float]]:
    """Clicks so far and mean J, after every round."""
    user = User(video, truth, look)
    try:
        user.mark(0, FIRST)
        user.track()
        curve = [(user.clicks, user.j())]
        while user.clicks < most and (frame := user.doubtful()) is not None:
            before = user.clicks
            user.mark(frame, BETTER)
            if user.clicks > before:  # else the frame was right
                user.track()
                curve.append((user.clicks, user.j()))
        return curve
    finally:
        user.close()


def main() -> None:
    """Read the options, click, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--clicks", type=int, default=20, help="give up after so many")
    parser.add_argument("--look", choices=("worst", "first"), default="worst")
    parser.add_argument("--sequence", action="append")
    arguments = parser.parse_args()
    folder = arguments.data / "davis-train"
    names = arguments.sequence or json.loads((arguments.data / "splits.json").read_text())["dev"]
    seen: list[tuple[float, float]] = []  # certainty and J of every frame with the true first mask
    for name in names:
        video, truth = folder / f"{name}.mp4", truth_of(folder, name)
        with tempfile.TemporaryDirectory() as place:
            first = Path(place) / "first.png"
            cv2.imwrite(str(first), truth[0].astype(np.uint8) * 255)
            masks = []
            for result in segment(video, first):
                masks.append(result.mask > 0)
                sure = min(result.certainty.values(), default=0.0)  # gone: nothing is less sure
                seen.append((sure, jaccard(masks[-1], truth[result.index])))
            alone = mean_j(masks, truth)
        curve = shot(video, truth, arguments.clicks, arguments.look)
        reached = next((clicks for clicks, j in curve if j >= GOAL), None)
        at_ten = [j for clicks, j in curve if clicks <= 10][-1]
        print(
            f"{name}: to {GOAL}: {reached or f'not within {arguments.clicks}'}; with ten clicks "
            f"{at_ten:.3f}; the true first mask alone {alone:.3f}\n  "
            + " ".join(f"{clicks}:{j:.3f}" for clicks, j in curve),
            flush=True,
        )
    print(doubt(np.array(seen)))


def doubt(seen_N2: np.ndarray) -> str:
    """Of the frames with J below 0.7, the share among the fifth that is ranked worst."""
    bad = seen_N2[:, 1] < 0.7
    worst = np.argsort(seen_N2[:, 0], kind="stable")[: round(0.2 * len(bad))]
    share = bad[worst].sum() / max(1, bad.sum())
    return f"{bad.sum()} of {len(bad)} frames: J below 0.7; {share:.3f} of these in the worst fifth"


if __name__ == "__main__":
    main()
