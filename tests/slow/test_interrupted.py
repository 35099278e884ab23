"""Commands that are really interrupted, and run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from media import scene, write_png, write_video

posix = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "livos_cli", "segment", *map(str, arguments)]


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("long")
    made = scene(96, 128, 400, seed=2)
    video = write_video(folder / "long.mp4", [rgb for rgb, _ in made])
    return {"video": video, "mask": write_png(folder / "m.png", made[0][1], "gray")}


def begun(
    clip: dict[str, Path], out: Path, *more: object, under: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    """The command, when its first frames are written."""
    process = subprocess.Popen(
        [*under, *command(clip["video"], "-m", clip["mask"], "-o", out, "--device", "cpu",
                "--save", "mask", "--save", "png", *more)],
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while len(list(out.glob(".livos-*.partial/*.png"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    return process


@posix
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_once_says_how_to_go_on(
    sent: signal.Signals, long_clip: dict[str, Path], tmp_path: Path
) -> None:
    process = begun(long_clip, tmp_path)
    process.send_signal(sent)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if sent == signal.SIGINT else 143), said
    assert "interrupted after frame" in said
    assert "run the same command again" in said
    assert "Traceback" not in said
    assert [p.name for p in tmp_path.iterdir()] == [".livos"]
    process = begun(long_clip, tmp_path)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "resuming after" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["long", "long.mask.mkv"]
    assert len(list((tmp_path / "long").iterdir())) == 400


@posix
def test_interrupted_twice_stops_at_once(long_clip: dict[str, Path], tmp_path: Path) -> None:
    process = begun(long_clip, tmp_path)
    process.send_signal(signal.SIGSTOP)  # so that both arrive before the frame is finished
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=60)
    assert process.returncode in (130, 143), said
    assert "Traceback" not in said
    assert not list(tmp_path.glob(".livos-*"))


@posix
def test_what_is_ignored_stays_ignored(long_clip: dict[str, Path], tmp_path: Path) -> None:
    """As by nohup: the terminal is closed, and the run goes on."""
    process = begun(long_clip, tmp_path, "--end", "40f", under=("nohup",))
    process.send_signal(signal.SIGHUP)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert len(list((tmp_path / "long").iterdir())) == 40


@posix
def test_without_checkpoints_nothing_is_left(long_clip: dict[str, Path], tmp_path: Path) -> None:
    process = begun(long_clip, tmp_path, "--checkpoint", 0)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "unfinished results were removed" in said
    assert not list(tmp_path.iterdir())
