"""The built-in weights on real sequences: how good, and whether it is said where they fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import EXAMPLES
from media import decode
from sequences import assert_equal_to_vos_benchmark

from livos_cli import Tracker
from livos_cli.evaluation.score import jaccard
from livos_cli.network import LiVOS
from livos_cli.pipeline.doubts import DoubtWatch
from livos_cli.weights.registry import DEFAULT, OPEN

# J&F on `dev`; repeating the first mask gives J 0.353, optical flow 0.462.
MARKS = {DEFAULT: 0.75, OPEN: 0.72}


@pytest.mark.parametrize("weights", MARKS)
def test_built_in_weights_on_five_real_sequences(
    weights: str, shared: Path, tmp_path: Path, livos: Any
) -> None:
    """All settings at their defaults; prints a line a sequence with `pytest -s`."""
    script = EXAMPLES / "lay_out_davis.py"
    command = [sys.executable, script, shared / "data/davis-train", tmp_path, "--split", "dev"]
    subprocess.run(command, check=True, capture_output=True)
    out = tmp_path / "out"
    command = ["eval", tmp_path, "-d", "davis17", "--split", "dev", "-w", weights, "-o", out]
    done = livos(*command, timeout=900)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    results = json.loads((out / "results.json").read_text())
    assert_equal_to_vos_benchmark(results, tmp_path / "Annotations/480p", out / "predictions")
    assert results["overall"]["J&F"] > MARKS[weights]


@pytest.mark.parametrize(("name", "fails"), [("bear", False), ("scooter-gray", True)])
def test_on_real_footage(name: str, fails: bool, shared: Path, tiny: LiVOS) -> None:
    """Every fourth frame: the bear is followed to the end, the scooter becomes a sign."""
    folder = shared / "data" / "davis-train"
    rgb = decode(folder / f"{name}.mp4", "rgb24")[::4]
    masks = decode(folder / f"{name}.masks.mkv")[::4]
    tracker, watch, good = Tracker(tiny), DoubtWatch(), []
    for index, (image, mask) in enumerate(zip(rgb, masks, strict=True)):
        true = (mask > 127).astype(np.uint8)
        found = tracker.step_ids(image, true if index == 0 else None)
        good.append(jaccard(found == 1, true == 1) >= 0.7)
        watch.see(index, index / 6, tracker.certainty)
    assert all(good) != fails
    assert bool(watch.doubts) == fails
    if fails:
        assert watch.doubts[0].frame <= good.index(False) + 3
        assert watch.doubts[-1].open
