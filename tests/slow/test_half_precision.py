"""What half precision changes, with the built-in weights on real sequences."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from conftest import TINY_WEIGHTS

from livos_cli.tracker.tracker import Tracker
from livos_cli.weights.load import load_model

SEQUENCES = ("bear", "car-turn", "dance-jump", "horsejump-low", "scooter-gray")


FRAMES = int(os.environ.get("LIVOS_PRECISION_FRAMES", "6"))  # of each; a large number: all


DEVICE, HALF = ("cuda", "fp16") if torch.cuda.is_available() else ("cpu", "bf16")


@pytest.mark.parametrize("name", SEQUENCES)
def test_half_precision_decides_as_float32(name: str, shared: Path) -> None:
    """fp16 where there is a GPU, else bf16; each goes on from its own decisions."""
    trackers = [
        Tracker(load_model(TINY_WEIGHTS, device=DEVICE, precision=precision))
        for precision in ("fp32", HALF)
    ]
    folder = shared / "data" / "davis-train"
    same = []
    with (
        av.open(str(folder / f"{name}.mp4")) as video,
        av.open(str(folder / f"{name}.masks.mkv")) as masks,
    ):
        pairs = zip(video.decode(video=0), masks.decode(video=0), strict=True)
        for index, (frame, ids) in enumerate(pairs):
            if index > FRAMES:
                break
            rgb = frame.to_ndarray(format="rgb24")
            given = ids.to_ndarray(format="gray") if index == 0 else None
            one, other = (tracker.step_ids(rgb, given) for tracker in trackers)
            if index:
                same.append(float((one == other).mean()))
    print(f"{name}: {np.mean(same):.4%} of pixels over {len(same)} frames, {HALF} on {DEVICE}")
    assert np.mean(same) >= 0.99
