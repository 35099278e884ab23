"""Whole commands with far too little memory, and with a little more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from media import write_png, write_video

RUNNER = """
import resource, sys
import av, cv2, torch, pycocotools.mask, rich.progress, rich.table
import livos_cli.batch.work, livos_cli.cli.batch, livos_cli.pipeline.run, livos_cli.weights.load
from livos_cli.cli import main
torch.set_num_threads(1)
cv2.setNumThreads(1)
held = next(int(line.split()[1]) for line in open("/proc/self/status") if "VmSize" in line) << 10
resource.setrlimit(resource.RLIMIT_AS, (held + int(sys.argv.pop(1)) * 2**20,) * 2)
main()
"""


def limited(mebibytes: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUNNER, str(mebibytes), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        # glibc would take 64 MiB of address space for each thread.
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},
        check=False,
    )


def assert_said(done: subprocess.CompletedProcess[str], folder: Path) -> bool:
    """Whether it ran out of memory; if so, said in one line and without a trace."""
    if done.returncode == 0:
        return False
    assert done.returncode == 1, (done.returncode, done.stderr[-2000:])
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    last = [line for line in done.stderr.splitlines() if line.strip()][-1]
    assert last.startswith("livos: "), done.stderr
    assert "memory" in last, done.stderr
    assert "damaged" not in last
    assert "report this" not in last
    results = [p for p in folder.rglob("*") if p.is_file() and ".livos" not in p.parts]
    assert not results, results
    return True


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    height, width = 720, 1280
    y, x = np.mgrid[:height, :width]
    frames = [
        np.stack([x + 9 * i, y + 5 * i, x // 8 + y // 8], axis=2).astype(np.uint8) for i in range(2)
    ]
    mask = np.zeros((height, width), np.uint8)
    mask[200:500, 400:800] = 255
    made = {
        "video": write_video(folder / "clip.mp4", frames, options={"preset": "ultrafast"}),
        "mask": write_png(folder / "first.png", mask, "gray"),
        "large": write_png(folder / "large.png", np.kron(mask, np.ones((3, 3), np.uint8)), "gray"),
        "images": folder / "images",
    }
    for index, frame in enumerate(frames):
        write_png(made["images"] / f"{index:05d}.png", frame, "rgb24")
    return made


CASES = {
    "a video": ["segment", "@video", "-m", "@mask"],
    "images": ["segment", "@images", "-m", "@mask", "--save", "png", "--save", "overlay"],
    "a large mask": ["segment", "@video", "-m", "@large"],
}


@pytest.mark.parametrize("case", CASES)
def test_wherever_it_runs_out(case: str, inputs: dict[str, Path], tmp_path: Path) -> None:
    """From far too little to enough, in steps."""
    short = []
    for mebibytes in (2, 128, 256, 400, 8000):
        out = tmp_path / f"{mebibytes}"
        arguments = [inputs[a[1:]] if a.startswith("@") else a for a in CASES[case]]
        done = limited(mebibytes, *arguments, "-o", out, "--device", "cpu")
        if assert_said(done, out):
            short.append(mebibytes)
    print(f"{case}: too little {short}")
    assert 2 in short
    assert 8000 not in short


def test_many_videos_of_which_one_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for name, size in (("small", (96, 128)), ("large", (4096, 4096))):
        ids = np.zeros(size, np.uint8)
        ids[20:60, 20:60] = 255
        write_png(tmp_path / "masks" / f"{name}.png", ids, "gray")
        frames = [np.repeat(ids[..., None], 3, 2)] * 3
        write_video(tmp_path / "videos" / f"{name}.mp4", frames, options={"preset": "ultrafast"})
    done = limited(
        850, "segment", tmp_path / "videos", "-m", tmp_path / "masks", "-o", tmp_path / "out",
        "--device", "cpu", "--max-size", -1, "--json",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    records = {Path(r["video"]).stem: r for r in map(json.loads, done.stdout.splitlines())}
    assert records["small"]["status"] == "done", (records["small"]["error"], records["large"])
    assert records["large"]["status"] == "failed"
    assert "memory" in records["large"]["error"]
    assert "traceback" not in records["large"]
