"""An interrupted run goes on where it was, and ends with the bytes of one that was left alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from media import files, scene, write_png, write_video

from livos_cli.errors import InputError, InterruptionError, OutputError
from livos_cli.network import LiVOS
from livos_cli.options import Checkpointing, Drop, RunOptions, SegmentOptions
from livos_cli.outputs.formats import KINDS
from livos_cli.pipeline.report import Begin, Observer, Report
from livos_cli.pipeline.run import run

FRAMES = 16


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three objects, sound, uneven times; masks at three frames, one of which corrects."""
    folder = tmp_path_factory.mktemp("clip")
    made = scene(64, 96, FRAMES, objects=3, seed=8)
    pts = [40 * n + 7 * (n % 3) for n in range(FRAMES)]
    video = write_video(
        folder / "clip.mp4",
        [rgb for rgb, _ in made],
        pts=pts,
        time_base=Fraction(1, 1000),
        tone=True,
        matrix=1,
    )
    for frame in (0, 5, 11):
        write_png(folder / "masks" / f"{frame:05d}.png", made[frame][1], "pal8")
    return {"video": video, "mask": folder / "masks"}


def segment(
    model: LiVOS,
    clip: dict[str, Path],
    out: Path,
    *,
    after: int | None = None,
    every: float = 1e9,
    save: tuple[str, ...] = ("mask",),
    began: list[Begin] | None = None,
    weights: str = "w",
    output: dict[str, Any] | None = None,
    **options: Any,
) -> Report:
    """A run, told to stop after so many frames."""
    asked = iter(range(1, 1 << 30))
    keep = Checkpointing(weights, every, stop=lambda: after is not None and next(asked) >= after)
    return run(
        clip["video"],
        clip["mask"],
        model,
        SegmentOptions(**options),
        RunOptions(save=save, output=out, **(output or {})),
        keep=keep,
        observer=Observer(begin=(began if began is not None else []).append),
    )


@pytest.mark.parametrize("variant", ["as they are", "other codecs"])
def test_every_kind_is_the_same_to_the_byte(
    variant: str, clip: dict[str, Path], tmp_path: Path, tiny: LiVOS
) -> None:
    """Stopped twice, at frames 4 and 9: encoders, sound, pictures, warnings and all."""
    how: dict[str, Any] = {"save": tuple(KINDS), "drop": (Drop(2, 3), Drop(3, 12), Drop(1, 14))}
    codecs = (
        {"alpha_codec": "vp9", "matte_codec": "ffv1-16", "contours": "json"}
        if variant == "other codecs"
        else {}
    )
    left, cut = tmp_path / "left", tmp_path / "cut"
    whole = segment(tiny, clip, left, output={**codecs, "preview": left / "sheet.png"}, **how)
    output = {**codecs, "preview": cut / "sheet.png"}
    for after in (4, 5 + 4):
        with pytest.raises(InterruptionError, match="run the same command again"):
            segment(tiny, clip, cut, after=after, output=output, **how)
        assert [p.name for p in cut.iterdir()] == [".livos"]  # nothing under a final name
    began: list[Begin] = []
    report = segment(tiny, clip, cut, output=output, began=began, **how)
    assert began[0].resumed == 9
    assert report.frames == whole.frames == FRAMES
    assert report.warnings == whole.warnings
    assert files(cut) == files(left)


def test_periodic_checkpoints_change_nothing(
    clip: dict[str, Path], tmp_path: Path, tiny: LiVOS
) -> None:
    segment(tiny, clip, tmp_path / "left")
    segment(tiny, clip, tmp_path / "often", every=0.0)
    assert files(tmp_path / "often") == files(tmp_path / "left")


def test_an_image_folder_resumes(tmp_path: Path, tiny: LiVOS) -> None:
    made = scene(64, 96, FRAMES, seed=3)
    for index, (rgb, _) in enumerate(made):
        write_png(tmp_path / "v" / f"{index:03d}.png", rgb, "rgb24")
    clip = {"video": tmp_path / "v", "mask": write_png(tmp_path / "m.png", made[0][1], "gray")}
    segment(tiny, clip, tmp_path / "left", save=("png",))
    with pytest.raises(InterruptionError):
        segment(tiny, clip, tmp_path / "cut", save=("png",), after=7)
    began: list[Begin] = []
    segment(tiny, clip, tmp_path / "cut", save=("png",), began=began)
    assert began[0].resumed == 7
    assert files(tmp_path / "cut") == files(tmp_path / "left")


@pytest.mark.parametrize("changed", ["settings", "weights", "video", "mask", "state", "results"])
def test_what_does_not_fit_is_not_gone_on_from(
    changed: str, clip: dict[str, Path], tmp_path: Path, tiny: LiVOS
) -> None:
    mine = {key: tmp_path / path.name for key, path in clip.items()}
    shutil.copy2(clip["video"], mine["video"])
    shutil.copytree(clip["mask"], mine["mask"])
    out = tmp_path / "out"
    with pytest.raises(InterruptionError):
        segment(tiny, mine, out, after=6)
    (checkpoint,) = (out / ".livos").iterdir()
    how: dict[str, Any] = {}
    if changed == "settings":
        how = {"max_size": 48}
    elif changed == "weights":
        how = {"weights": "others"}
    elif changed == "video":
        os.utime(mine["video"], (1, 1))
    elif changed == "mask":
        (mine["mask"] / "00011.png").unlink()
    elif changed == "state":
        (state,) = checkpoint.glob("state-*")
        state.write_bytes(state.read_bytes()[:-100])
    else:
        (results,) = checkpoint.glob("results-*")
        results.write_bytes(results.read_bytes()[:-1])
    began: list[Begin] = []
    segment(tiny, mine, out, began=began, **how)
    assert began[0].resumed == 0
    assert any("is not used" in warning for warning in began[0].warnings)
    segment(tiny, mine, tmp_path / "anew", **how)
    assert files(out) == files(tmp_path / "anew")


def test_damaged_results_are_not_used(clip: dict[str, Path], tmp_path: Path, tiny: LiVOS) -> None:
    with pytest.raises(InterruptionError):
        segment(tiny, clip, tmp_path, after=6)
    (results,) = (tmp_path / ".livos").glob("*/results-*")
    data = bytearray(results.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    results.write_bytes(data)
    began: list[Begin] = []
    segment(tiny, clip, tmp_path, began=began)
    assert began[0].resumed == 0
    assert any("is not used" in warning for warning in began[0].warnings)


def test_one_process_at_a_time(clip: dict[str, Path], tmp_path: Path, tiny: LiVOS) -> None:
    with pytest.raises(InterruptionError):
        segment(tiny, clip, tmp_path, after=3)
    (checkpoint,) = (tmp_path / ".livos").iterdir()
    with (
        FileLock(checkpoint / "lock"),
        pytest.raises(OutputError, match=r"another process is writing .*clip\.mask\.mkv"),
    ):
        segment(tiny, clip, tmp_path)
    segment(tiny, clip, tmp_path)


def test_an_input_that_fails_keeps_its_progress(tmp_path: Path, tiny: LiVOS) -> None:
    made = scene(64, 96, FRAMES, seed=3)
    for index, (rgb, _) in enumerate(made):
        write_png(tmp_path / "v" / f"{index:03d}.png", rgb, "rgb24")
    (tmp_path / "v" / "012.png").write_bytes(b"no picture")
    clip = {"video": tmp_path / "v", "mask": write_png(tmp_path / "m.png", made[0][1], "gray")}
    with pytest.raises(InputError, match=r"012\.png"):
        segment(tiny, clip, tmp_path / "out", every=0.0)
    assert len(list((tmp_path / "out").rglob("state-*"))) == 1


# The command.


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "livos_cli", "segment", *map(str, arguments)]


def test_what_was_computed_elsewhere_is_said(
    clip: dict[str, Path], tmp_path: Path, tiny: LiVOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another card, PyTorch or number of threads rounds in another way: the bytes may differ."""
    for after, card in ((4, "card one"), (3, "card two")):
        monkeypatch.setattr("livos_cli.pipeline.resume.device_name", lambda _, card=card: card)
        with pytest.raises(InterruptionError):
            segment(tiny, clip, tmp_path, after=after)
    report = segment(tiny, clip, tmp_path)
    said = [warning for warning in report.warnings if "computed on" in warning]
    version = torch.__version__
    assert said == [
        f"the first 4 frames were computed on card one, PyTorch {version}, what follows on card "
        f"two, PyTorch {version}: results can differ in rounding from those of a single run"
    ]
    same = segment(tiny, clip, tmp_path / "once")
    assert not [warning for warning in same.warnings if "computed on" in warning]


@pytest.mark.slow
def test_the_same_command_gives_the_same_bytes(clip: dict[str, Path], tmp_path: Path) -> None:
    """Files carry no random identifiers."""
    for name in ("one", "two"):
        done = subprocess.run(
            command(clip["video"], "-m", clip["mask"], "-o", tmp_path / name, "--device", "cpu"),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert files(tmp_path / "one") == files(tmp_path / "two")
