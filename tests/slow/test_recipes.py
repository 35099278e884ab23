"""docs/guides/recipes.md, run as it stands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from media import decode, scene, write_png, write_video

from livos_cli.evaluation.score import jaccard
from livos_cli.masks.palette import decode_index_png

PAGE = (ROOT / "docs" / "guides" / "recipes.md").read_text()
# A block, and what it says it gives.
RECIPES = re.findall(r"```sh\n(.*?)```\n(?:Gives (.*?)\.\n)?", PAGE, flags=re.DOTALL)


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the page speaks of."""
    folder = tmp_path_factory.mktemp("recipes")
    made = scene(96, 128, 30, objects=2, seed=6)
    write_video(folder / "video.mp4", [rgb for rgb, _ in made], tone=True)
    write_png(folder / "first.png", made[0][1], "pal8")
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """`livos` is this project's, whatever else is installed."""
    folder = tmp_path_factory.mktemp("bin")
    command = folder / "livos"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m livos_cli "$@"\n')
    command.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_the_page_does_what_it_says(kitchen: Path, environment: dict[str, str]) -> None:
    assert len(RECIPES) >= 10
    for block, gives in RECIPES:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=kitchen,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stderr}"
        names = re.findall(r"`([^`]+)`", gives)
        assert names, f"nothing is said to be given by\n{block}"
        for name in names:
            assert (kitchen / name).stat().st_size > 0, name
    check(kitchen)


def check(kitchen: Path) -> None:
    """Not only there, but right."""
    truth = [ids for _, ids in scene(96, 128, 30, objects=2, seed=6)]
    boxes = decode_index_png(kitchen / "box.png")
    key = decode_index_png(kitchen / "keys" / "00012.png")
    assert jaccard(boxes == 1, truth[0] == 1) > 0.8
    assert jaccard(boxes == 2, truth[0] == 2) > 0.8
    assert jaccard(key == 1, truth[12] == 1) > 0.8
    assert len(decode(kitchen / "both.mkv")) == 30
    dropped = decode(kitchen / "out" / "dropped.mkv")
    assert 2 in dropped[19]
    assert 2 not in dropped[20]
    assert len((kitchen / "masks.jsonl").read_text().splitlines()) == 30
    piped = decode(kitchen / "piped.mkv")
    one = decode(kitchen / "split" / "video.objects" / "1.mkv")
    assert all(np.array_equal(a == 1, b == 255) for a, b in zip(piped, one, strict=True))
    coco = json.loads((kitchen / "labels" / "video.coco.json").read_text())
    frames = {p.name for p in (kitchen / "labels" / "frames").iterdir()}
    assert {image["file_name"] for image in coco["images"]} == frames
