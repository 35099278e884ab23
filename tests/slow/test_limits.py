"""Commands that may have few open files, or only small ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from media import scene, write_png, write_video


@pytest.fixture
def clip(tmp_path: Path) -> dict[str, Path]:
    video = write_video(tmp_path / "clip.mp4", [f for f, _ in scene(96, 128, 3)])
    mask = np.zeros((96, 128), np.uint8)
    mask[20:60, 20:70] = 255
    return {"video": video, "mask": write_png(tmp_path / "first.png", mask, "gray")}


def noise(height: int, width: int, share: float) -> np.ndarray:
    return np.random.default_rng(0).random((height, width)) < share


FEW_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from livos_cli.cli import main
main()
"""


SMALL_FILES = """
import resource, sys
from livos_cli.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
main()
"""


def limited(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_sixty_four_open_files_are_enough_for_many_videos(
    clip: dict[str, Path], tmp_path: Path
) -> None:
    for number in range(30):
        folder = tmp_path / "videos" / f"{number}"
        folder.mkdir(parents=True)
        os.link(clip["video"], folder / f"c{number}.mp4")
        (tmp_path / "masks").mkdir(exist_ok=True)
        os.link(clip["mask"], tmp_path / "masks" / f"c{number}.png")
    done = limited(
        FEW_FILES, "segment", tmp_path / "videos", "-r", "-m", tmp_path / "masks", "-o",
        tmp_path / "out", "--max-size", 32, "--save", "mask", "--save", "overlay",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").rglob("*.mask.mkv"))) == 30


@pytest.mark.parametrize("kind", ["mask", "overlay", "png", "rle", "coco", "yolo", "objects"])
def test_a_file_that_cannot_grow_is_one_line(kind: str, tmp_path: Path) -> None:
    """As on a full disk: writing fails in the middle. Nothing under the result's name is left."""
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (240, 320, 3), np.uint8) for _ in range(12)]
    video = write_video(tmp_path / "large.mp4", frames)
    mask = write_png(
        tmp_path / "n.png", np.where(noise(240, 320, 0.5), 255, 0).astype(np.uint8), "gray"
    )
    out = tmp_path / "out"
    done = limited(
        SMALL_FILES, "segment", video, "-m", mask, "-o", out, "--save", kind, "--checkpoint", 0
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    assert "cannot write" in last
    assert not out.exists() or not any(p.is_file() for p in out.rglob("*"))
