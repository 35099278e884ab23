"""Memory over a whole video, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import EXAMPLES, ROOT, TINY_WEIGHTS
from media import decode, write_png

from livos_cli.evaluation.score import jaccard

MEASURE = """
import sys
from pathlib import Path
from livos_cli.options import RunOptions, SegmentOptions
from livos_cli.pipeline.report import Observer
from livos_cli.pipeline.run import run
from livos_cli.weights.load import load_model

def status(field):
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if field in l)
    return int(line.split()[1]) * 1024

video, mask, out, size = sys.argv[1:5]
seen = {}
def on_frame(progress):
    seen[progress.done] = status("VmRSS"), status("VmHWM")
model = load_model(sys.argv[-1], device="cpu")
run(video, Path(mask), model, SegmentOptions(max_size=int(size)),
    RunOptions(save=("mask",), output=Path(out)), observer=Observer(frame=on_frame))
print(len(seen), *seen[100], *seen[len(seen)])
"""


def measure(video: Path, mask: Path, out: Path, size: int) -> list[int]:
    """Frames; resident bytes at frame 100, their peak till then; the same at the end."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(video), str(mask), str(out), str(size), TINY_WEIGHTS],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return [int(n) for n in done.stdout.split()]


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc (Linux)"
)


@needs_proc
def test_memory_does_not_grow_over_1394_frames(shared: Path, tmp_path: Path) -> None:
    """At a small network size, for time: what could grow with the frames grows there too."""
    video = shared / "data" / "clips" / "one-by-one-person-detection.mp4"
    mask = np.zeros((432, 768), np.uint8)
    mask[150:350, 300:420] = 1
    frames, early, peak, late, last_peak = measure(
        video, write_png(tmp_path / "m.png", mask, "gray"), tmp_path / "out.mkv", 96
    )
    assert frames == 1394
    assert late - early < 20e6
    assert last_peak <= 1.01 * peak, (early, peak, late, last_peak)


def test_the_example_is_segmented_well(tmp_path: Path, livos: object) -> None:
    """Mean J of all objects over all frames, as the README's first command gives it."""
    assert callable(livos)
    done = livos("segment", EXAMPLES / "clip.mp4", "-m", EXAMPLES / "first.png", "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    got, truth = decode(tmp_path / "clip.mask.mkv"), decode(EXAMPLES / "truth.mkv")
    assert len(got) == len(truth) == 150
    scores = [jaccard(a == i, b == i) for a, b in zip(got, truth, strict=True) for i in (1, 2, 3)]
    assert np.mean(scores) >= 0.80
