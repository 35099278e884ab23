"""Drive the tracker frame by frame, as a robot's loop or a labelling tool would.

Shows objects that enter, a correction, dropping, and going on from a saved state.

    python examples/track_frames.py
"""

from __future__ import annotations

import numpy as np
import torch

import livos_cli
from livos_cli.training.procedural import render


def main() -> None:
    """Follow two objects of a generated scene."""
    scene = list(render(np.random.default_rng(1), 144, 192, 12, 2, radius=(0.2, 0.25)))
    model = livos_cli.load_model()
    tracker = livos_cli.Tracker(model)

    def show(t: int, prob: torch.Tensor) -> None:
        areas = {i: int((prob.argmax(0) == n + 1).sum()) for n, i in enumerate(tracker.object_ids)}
        print(f"frame {t:2d}: pixels {areas}")

    # The first object is there from the start ...
    frame, ids = scene[0]
    show(0, tracker.step(frame, np.where(ids == 1, 1, 0)))
    for t in range(1, 4):
        show(t, tracker.step(scene[t][0]))
    # ... the second enters at frame 4, under any id; the first goes on as predicted.
    frame, ids = scene[4]
    show(4, tracker.step(frame, np.where(ids == 2, 700, 0)))
    show(5, tracker.step(scene[5][0]))
    # A mask for a known id corrects it.
    frame, ids = scene[6]
    show(6, tracker.step(frame, np.where(ids == 1, 1, 0)))
    # The state is a handful of tensors; a tracker that loads it continues bit for bit.
    saved = tracker.state_dict()
    resumed = livos_cli.Tracker(model)
    resumed.load_state_dict(saved)
    same = torch.equal(tracker.step(scene[7][0]), resumed.step(scene[7][0]))
    print(f"resumed tracker gives the same bits: {same}")
    tracker.drop([1])
    for t in range(8, 12):
        show(t, tracker.step(scene[t][0]))


if __name__ == "__main__":
    main()
