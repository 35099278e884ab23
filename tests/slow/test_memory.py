"""How much memory large frames and long videos take."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY_WEIGHTS
from media import write_png

from livos_cli.network import BASE
from livos_cli.network.budget import working_memory

PEAK = """
import sys
from pathlib import Path
import numpy as np
import torch
from livos_cli.network import PRESETS, LiVOS
from livos_cli.tracker.tracker import Tracker
from livos_cli.network.inference import to_device

def status(field):
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if field in l)
    return int(line.split()[1]) * 1024

rows = int(sys.argv[1])
torch.manual_seed(0)
model = to_device(LiVOS(PRESETS["base"]), torch.device("cpu"), torch.float32)
tracker = Tracker(model, max_size=-1)
tracker._strips.rows = lambda *frame: rows
frame = np.random.default_rng(0).integers(0, 256, (960, 1280, 3), dtype=np.uint8)
mask = np.zeros((960, 1280), np.uint8)
mask[300:700, 300:900] = 1
before = status("VmRSS")
tracker.step_ids(frame, mask)
tracker.step_ids(frame)
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="resident memory is read from /proc (Linux)"
)
def test_memory_is_what_was_estimated() -> None:
    """The peak of a process, whole and in strips, against the estimate that chooses the strips.

    Large blocks go back to the system when they are freed: what the C library keeps of them for
    the next ones depends on addresses and would differ between runs by more than the strips save.
    """
    peaks = {}
    for rows in (0, 12):
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(rows)],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env={**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)},
        )
        peaks[rows] = int(done.stdout)
        estimate = working_memory(BASE, 60, 80, 1, 4, rows=rows)
        assert 0.4 * estimate < peaks[rows] < 1.1 * estimate, (rows, peaks, estimate)
    assert peaks[12] < peaks[0]


MEMORY = """
import sys, threading, time
from pathlib import Path
import livos_cli
from livos_cli.options import RunOptions, SegmentOptions
from livos_cli.pipeline.run import run
from livos_cli.video.reader import open_source

def resident(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024

video, mask, out, direction, origin = sys.argv[1:6]
model = livos_cli.load_model(sys.argv[-1], device="cpu", precision="fp32")
options = SegmentOptions(max_size=64, direction=direction, origin=int(origin))
report = run(video, Path(mask), model, options, RunOptions(output=Path(out)))
print(report.frames, resident("VmHWM:"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_both_ways(shared: Path, tmp_path: Path) -> None:
    """1,189 frames from the middle: within 150 MB of forward alone."""
    video = shared / "data" / "clips" / "bottle-detection.mp4"
    mask = np.zeros((360, 640), np.uint8)
    mask[100:260, 200:330] = 1
    write_png(tmp_path / "mask.png", mask, "gray")

    def peak(direction: str, origin: int) -> tuple[int, int]:
        what = [
            video,
            tmp_path / "mask.png",
            tmp_path / direction,
            direction,
            str(origin),
            TINY_WEIGHTS,
        ]
        command = [sys.executable, "-c", MEMORY, *map(str, what)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        frames, size = done.stdout.split()
        return int(frames), int(size)

    (all_frames, forward), (both_frames, both) = peak("forward", 0), peak("both", 700)
    print(f"peak resident: forward {forward / 1e6:.0f} MB, both ways {both / 1e6:.0f} MB")
    assert all_frames == both_frames == 1189
    assert both - forward < 150e6
