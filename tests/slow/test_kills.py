"""Batches that are killed, at random and at every step, and begun again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from media import files, scene, visible, write_png, write_video

posix = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


VIDEOS = 6


LENGTHS = (14, 22, 6, 30, 18, 26)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "livos_cli", "segment", *map(str, arguments)]


@posix
def test_killed_at_twenty_moments(tmp_path: Path) -> None:
    """SIGKILL at random moments of a run over six videos, which is begun again until it is done."""
    for folder in ("videos", "masks"):
        (tmp_path / folder).mkdir()
    for number, length in enumerate(LENGTHS):
        made = scene(64, 96, length, objects=2, seed=number)
        write_video(tmp_path / "videos" / f"v{number}.mp4", [r for r, _ in made], tone=True)
        write_png(tmp_path / "masks" / f"v{number}.png", made[0][1], "pal8")

    def start(out: Path) -> subprocess.Popen[str]:
        # Checkpoints as often as can be: a kill in the middle of one is what matters.
        return subprocess.Popen(
            command(tmp_path / "videos", "-m", tmp_path / "masks", "-o", out, "--device", "cpu",
                    "--save", "mask", "--save", "png", "--save", "overlay", "--save", "coco",
                    "--checkpoint", 0.05, "--max-size", 64),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip

    began = time.monotonic()
    process = start(tmp_path / "left")
    assert process.communicate()[1].count(" frames in ") == VIDEOS
    seconds = time.monotonic() - began
    want = files(tmp_path / "left")
    want = {name: data for name, data in want.items() if visible(name)}
    assert len(want) == VIDEOS * 3 + sum(LENGTHS) + 1

    rng = random.Random(5)
    kills = rounds = resumed = 0
    while kills < 20:
        out = tmp_path / f"out{rounds}"
        rounds += 1
        while True:
            process = start(out)
            try:
                # Past the start-up, of which nothing is seen on disk.
                process.wait(timeout=rng.uniform(0.3, 1.0) * seconds if kills < 20 else None)
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
            assert process.stderr is not None
            said = process.stderr.read()
            process.wait()
            process.stderr.close()
            assert "Traceback" not in said
            for name, data in files(out).items() if out.exists() else ():
                if visible(name) and name != "report.jsonl":
                    assert data == want[name], (name, kills)
            resumed += (out / ".livos").exists() and any(
                list(p.glob("state-*")) for p in (out / ".livos").iterdir()
            )
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL, said
        got = {name: data for name, data in files(out).items() if visible(name)}
        assert set(got) == set(want)
        assert not list(out.rglob(".livos-*"))
        assert not list(out.rglob("*.unfinished"))
    assert resumed >= 5  # some kills left a checkpoint behind


@posix
def test_killed_at_every_step(tmp_path: Path) -> None:
    """No luck in it: killed before each change to the file system, one after the other."""
    made = scene(48, 64, 3, objects=2, seed=1)
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "v.mp4", [rgb for rgb, _ in made])
    write_png(tmp_path / "masks" / "v.png", made[0][1], "pal8")
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "every_step.py", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *wrong, steps = done.stdout.splitlines()
    assert not wrong
    assert int(steps.split()[0]) > 20
