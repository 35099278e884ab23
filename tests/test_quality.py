"""How well the built-in network does on real footage that it was not trained on.

`python -m pytest tests/test_quality.py -s` prints a line a sequence.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media import decode, jaccard, write_png

MARK = 0.52  # better than repeating the first mask (0.353) and than optical flow (0.462)


@pytest.mark.slow
def test_mean_j_on_five_real_sequences(shared: Path, tmp_path: Path, livos: Any) -> None:
    """By the command, all settings at their defaults; first and last frame left out."""
    data = shared / "data"
    means = {}
    for name in json.loads((data / "splits.json").read_text())["dev"]:
        truth = [mask > 127 for mask in decode(data / "davis-train" / f"{name}.masks.mkv")]
        first = write_png(tmp_path / f"{name}.png", truth[0].astype(np.uint8) * 255, "gray")
        video = data / "davis-train" / f"{name}.mp4"
        done = livos("segment", video, "-m", first, "-o", tmp_path, "-q")
        assert done.returncode == 0, done.stderr
        got = [mask > 0 for mask in decode(tmp_path / f"{name}.mask.mkv")]
        assert len(got) == len(truth)
        scores = [jaccard(a, b) for a, b in zip(got, truth, strict=True)][1:-1]
        means[name] = float(np.mean(scores))
        print(f"{name:16} J {means[name]:.3f}")
    mean = float(np.mean(list(means.values())))
    print(f"{'mean':16} J {mean:.3f}")
    assert mean > MARK
