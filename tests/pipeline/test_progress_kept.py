"""What was found until an error stays, until the outputs are there or the user removes it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from media import files, scene, write_png, write_video

from livos_cli.errors import InputError, InterruptionError, ShortMemoryError
from livos_cli.memory import too_little_memory
from livos_cli.network import LiVOS
from livos_cli.options import Checkpointing, Drop, RunOptions, SegmentOptions
from livos_cli.pipeline.report import Begin, Observer, Progress, Report
from livos_cli.pipeline.run import run

FRAMES = 40


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("source")
    made = scene(96, 128, FRAMES, objects=2, seed=4)
    return {
        "video": write_video(folder / "clip.mp4", [rgb for rgb, _ in made]),
        "mask": write_png(folder / "m.png", made[0][1], "pal8"),
    }


@pytest.fixture
def clip(source: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """A copy that may be harmed."""
    shutil.copy2(source["video"], tmp_path / "clip.mp4")
    return {**source, "video": tmp_path / "clip.mp4"}


def segment(
    model: LiVOS,
    clip: dict[str, Path],
    out: Path,
    *,
    at: dict[int, Callable[[], object]] | None = None,
    every: float = 1e9,
    stop: int = 1 << 30,
    **options: Any,
) -> tuple[Report, int | None]:
    """A run, in which something happens after some frames; and how many were known."""
    asked = iter(range(1, 1 << 30))
    began: list[Begin] = []

    def happen(progress: Progress) -> None:
        if at is not None and progress.done in at:
            at[progress.done]()

    report = run(
        clip["video"],
        clip["mask"],
        model,
        SegmentOptions(max_size=48, **options),
        RunOptions(output=out),
        keep=Checkpointing("w", every, stop=lambda: next(asked) >= stop),
        observer=Observer(began.append, happen),
    )
    return report, began[0].resumed


@pytest.mark.slow
def test_a_source_cut_while_it_is_read(tmp_path: Path, tiny: LiVOS) -> None:
    """It is said, progress stays, a run in between does no harm; put back, it resumes."""
    # Too large for any buffer to have all of it after a few frames.
    made = scene(240, 320, 80, objects=2, seed=4)
    noise = torch.Generator().manual_seed(1)
    (tmp_path / "in").mkdir()
    frames = [
        rgb // 2 + torch.randint(0, 128, rgb.shape, generator=noise).numpy().astype(rgb.dtype)
        for rgb, _ in made
    ]
    source = {
        "video": write_video(tmp_path / "in" / "clip.mp4", frames),
        "mask": write_png(tmp_path / "m.png", made[0][1], "pal8"),
    }
    shutil.copy2(source["video"], tmp_path / "clip.mp4")
    clip = {**source, "video": tmp_path / "clip.mp4"}
    video, out = clip["video"], tmp_path / "out"
    size, stat = video.stat().st_size, video.stat()

    def cut() -> None:
        os.truncate(video, size // 2)

    with pytest.raises(InputError, match=r"clip\.mp4 was changed while it was read.*resumes"):
        segment(tiny, clip, out, at={5: cut}, every=0.0)
    with pytest.raises(InputError, match="cannot be read as a video"):
        segment(tiny, clip, out)  # the same command, while it is still cut
    shutil.copyfile(source["video"], video)
    os.utime(video, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    _, resumed = segment(tiny, clip, out)
    assert resumed is not None
    assert resumed >= 3
    segment(tiny, source, tmp_path / "left")
    assert files(out) == files(tmp_path / "left")


def test_a_damaged_source_is_resumed_with_the_option_that_is_named(
    tmp_path: Path, tiny: LiVOS
) -> None:
    """Packets that hold nonsense are seen only when they are decoded."""
    made = scene(48, 64, 30, objects=2, seed=4)
    whole = write_video(
        tmp_path / "whole.mov", [rgb for rgb, _ in made], codec="png", pix_fmt="rgb24"
    )
    video = tmp_path / "clip.mov"
    data, middle = bytearray(whole.read_bytes()), whole.stat().st_size * 2 // 3
    data[middle : middle + 400] = bytes(400)
    video.write_bytes(data)
    mask = write_png(tmp_path / "m.png", made[0][1], "pal8")
    cut = {"video": video, "mask": mask}
    with pytest.raises(InputError, match="--allow-truncated"):
        segment(tiny, cut, tmp_path / "out")  # no checkpoint was due: the error is one
    report, resumed = segment(tiny, cut, tmp_path / "out", allow_truncated=True)
    assert resumed is not None
    assert resumed >= 10
    again, _ = segment(tiny, cut, tmp_path / "left", allow_truncated=True)
    assert files(tmp_path / "out") == files(tmp_path / "left")
    assert report.warnings == again.warnings


@pytest.mark.parametrize("drop", [(), (Drop(2, 9),), (Drop(2, 8),)])
def test_out_of_memory(
    drop: tuple[Drop, ...],
    clip: dict[str, Path],
    tmp_path: Path,
    tiny: LiVOS,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read, calls = tiny.read, iter(range(1 << 30))

    def fail(*arguments: Any, **named: Any) -> Any:
        if next(calls) >= 8:  # the first frame reads nothing
            raise torch.OutOfMemoryError("CUDA out of memory")
        return read(*arguments, **named)

    monkeypatch.setattr(tiny, "read", fail)
    with pytest.raises(ShortMemoryError, match="too little memory on cpu at frame 9"):
        segment(tiny, clip, tmp_path / "out", drop=drop)
    monkeypatch.undo()
    _, resumed = segment(tiny, clip, tmp_path / "out", drop=drop)
    assert resumed == (0 if drop == (Drop(2, 9),) else 9)  # there it was gone already
    segment(tiny, clip, tmp_path / "left", drop=drop)
    assert files(tmp_path / "out") == files(tmp_path / "left")


@pytest.mark.parametrize(("black", "known"), [(9, 0), (8, 9)])
def test_out_of_memory_where_a_black_mask_ends_objects(
    black: int,
    known: int,
    clip: dict[str, Path],
    tmp_path: Path,
    tiny: LiVOS,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They were gone from what was kept, and the resumed run did not say what ended them."""
    (keys := tmp_path / "keys").mkdir()
    shutil.copy(clip["mask"], keys / "00000.png")
    write_png(keys / f"{black:05d}.png", np.zeros((96, 128), np.uint8), "gray")
    clip = {**clip, "mask": keys}
    encode, calls = tiny.encode_image, iter(range(1 << 30))

    def fail(*arguments: Any, **named: Any) -> Any:
        if next(calls) >= 9:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(*arguments, **named)

    monkeypatch.setattr(tiny, "encode_image", fail)
    with pytest.raises(ShortMemoryError, match="at frame 9"):
        segment(tiny, clip, tmp_path / "out")
    monkeypatch.undo()
    again, resumed = segment(tiny, clip, tmp_path / "out")
    assert resumed == known
    left, _ = segment(tiny, clip, tmp_path / "left")
    assert files(tmp_path / "out") == files(tmp_path / "left")
    assert again.warnings == left.warnings
    assert any(f"mask of frame {black} is black" in warning for warning in again.warnings)


def test_a_result_that_needs_too_much_memory_says_so(
    clip: dict[str, Path], tmp_path: Path, tiny: LiVOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone and among many: what it was too little for is in the reason."""
    from livos_cli.batch.discover import discover
    from livos_cli.batch.job import Batch, Job
    from livos_cli.batch.work import work
    from livos_cli.outputs.mask_video import MaskVideo

    def fail(*_: Any) -> None:
        raise too_little_memory("to write clip.mask.mkv")

    monkeypatch.setattr(MaskVideo, "write", fail)
    with pytest.raises(ShortMemoryError, match=r"too little memory to write clip\.mask\.mkv"):
        segment(tiny, clip, tmp_path / "out")
    batch = Batch(SegmentOptions(max_size=48), RunOptions(output=tmp_path / "many"), "w", 0.0)
    (item,) = discover([str(clip["video"])], str(clip["mask"]), batch.output)
    assert work(Job(item, batch), tiny).error == "there is too little memory to write clip.mask.mkv"


def test_other_settings_leave_it(clip: dict[str, Path], tmp_path: Path, tiny: LiVOS) -> None:
    out = tmp_path / "out"
    with pytest.raises(InterruptionError):
        segment(tiny, clip, out, stop=9)
    with pytest.raises(InterruptionError):
        segment(tiny, clip, out, stop=4, chunk_objects=1)
    _, resumed = segment(tiny, clip, out)
    assert resumed == 9
    assert [path.name for path in out.iterdir()] == ["clip.mask.mkv"]  # now all are gone


def test_an_input_that_cannot_be_opened_leaves_it(
    clip: dict[str, Path], tmp_path: Path, tiny: LiVOS
) -> None:
    out, mask = tmp_path / "out", tmp_path / "m.png"
    clip = {**clip, "mask": mask}
    good = (write_png(mask, scene(96, 128, 1, objects=2, seed=4)[0][1], "pal8")).read_bytes()
    with pytest.raises(InterruptionError):
        segment(tiny, clip, out, stop=9)
    mask.write_bytes(b"no mask")
    with pytest.raises(InputError):
        segment(tiny, clip, out)
    mask.write_bytes(good)
    assert segment(tiny, clip, out)[1] == 9


@pytest.mark.parametrize("how", ["overwritten", "touched", "replaced", "removed"])
def test_a_source_that_changes_is_said(
    how: str, clip: dict[str, Path], tmp_path: Path, tiny: LiVOS
) -> None:
    """And nothing that was found after it is kept as what belongs to the file before."""
    video, out = clip["video"], tmp_path / "out"
    stat = video.stat()

    def change() -> None:
        if how == "overwritten":
            with video.open("r+b") as file:
                file.write(file.read(100))
        elif how == "touched":
            os.utime(video, (1, 1))
        elif how == "replaced":  # of the same size and time
            shutil.copy2(video, tmp_path / "other")
            os.replace(tmp_path / "other", video)
        else:
            video.rename(tmp_path / "away")

    report, _ = segment(tiny, clip, out, at={20: change})
    said = [text for text in report.warnings if "while it was read" in text]
    assert len(said) == 1
    assert "clip.mp4 was changed, replaced or removed" in said[0]
    (out / "clip.mask.mkv").unlink()
    if how == "removed":
        (tmp_path / "away").rename(video)
    os.utime(video, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(InterruptionError):
        segment(tiny, clip, out, at={5: change}, every=0.0, stop=9)
    if how == "removed":
        (tmp_path / "away").rename(video)
    os.utime(video, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    resumed = segment(tiny, clip, out)[1]
    assert resumed is not None
    assert resumed <= 5


def test_a_source_that_stays_is_not_said(
    clip: dict[str, Path], tmp_path: Path, tiny: LiVOS
) -> None:
    report, _ = segment(tiny, clip, tmp_path / "out")
    assert not any("while it was read" in text for text in report.warnings)
