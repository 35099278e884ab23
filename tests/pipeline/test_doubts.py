"""What a run says of doubtful objects: warnings, reports, the command line and the sheet."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import EXAMPLES, Livos
from media import files, scene, write_png, write_video

from livos_cli.errors import InterruptionError
from livos_cli.network import LiVOS
from livos_cli.options import Checkpointing, Drop, RunOptions, SegmentOptions
from livos_cli.outputs.formats import FrameResult, Job
from livos_cli.outputs.preview import DOUBT, Preview
from livos_cli.pipeline.doubts import DoubtWatch, Watch
from livos_cli.pipeline.report import Begin, Observer, Report
from livos_cli.pipeline.run import run
from livos_cli.pipeline.spool import Spool
from livos_cli.video.source import Frame, SourceInfo

LOST = 10  # the frame from which the object is gone, in `lost`
Scene = list[tuple[np.ndarray, np.ndarray]]


def lost(seed: int = 1, frames: int = 20) -> Scene:
    """A scene that is cut to another one, which the network takes for the object."""
    before, after = scene(96, 128, LOST, seed=seed), scene(96, 128, frames - LOST, seed=seed + 20)
    return before + [(rgb, np.zeros_like(ids)) for rgb, ids in after]


def write(folder: Path, made: Scene) -> dict[str, Path]:
    """A clip and its first mask."""
    folder.mkdir(parents=True, exist_ok=True)
    video = write_video(folder / "clip.mp4", [rgb for rgb, _ in made], options={"crf": "10"})
    return {"video": video, "mask": write_png(folder / "first.png", made[0][1], "gray")}


def segment(model: LiVOS, clip: dict[str, Path], out: Path, **options: Any) -> Report:
    return run(
        clip["video"], clip["mask"], model, SegmentOptions(**options), RunOptions(output=out)
    )


# Warnings.


def told(values: list[float | None], origin: int = 0, given: tuple[int, ...] = ()) -> list[str]:
    """Warnings of object 4 at ten frames a second."""
    watch = DoubtWatch(origin)
    for frame, value in enumerate(values):
        known = {} if value is None else {4: value}
        watch.see(frame, frame / 10, known, (4,) if frame in given else ())
    return watch.warnings()


def test_a_doubt_is_told_with_frame_and_time() -> None:
    assert told([1.0] * 30) == []
    assert told([0.9] * 14 + [0.1] * 6) == [
        "object 4: doubtful from frame 14 (0:01.4) on; look there"
    ]
    assert told([0.9] * 700 + [0.1] * 6 + [0.9] * 10) == [
        "object 4: doubtful from frame 700 (1:10.0) to 705; look there"
    ]


def test_a_blink_is_no_doubt_and_does_not_end_one() -> None:
    assert told(([0.9] * 5 + [0.1] * 2) * 5 + [0.9]) == []
    assert told([0.9] * 5 + [0.1] * 4 + [0.9] * 3 + [0.1] * 4) == [
        "object 4: doubtful from frame 5 (0:00.5) on; look there"
    ]
    assert told([0.9] * 5 + [0.1, None, 0.1, None, 0.1] + [None] * 5) == [
        "object 4: doubtful from frame 5 (0:00.5) to 9; look there"
    ]


def test_many_doubts_are_counted_and_few_are_named() -> None:
    (line,) = told(([0.9] * 6 + [0.1] * 4) * 250)
    assert line.startswith("object 4: doubtful from frame 6 (0:00.6) to 9, from frame 16")
    assert line.endswith("from frame 46 (0:04.6) to 49 and 245 times more; look there")


def test_a_given_mask_ends_a_doubt() -> None:
    assert told([0.9] * 5 + [0.1] * 4 + [1.0] + [0.1] * 4, given=(9,)) == [
        "object 4: doubtful from frame 5 (0:00.5) to 8, from frame 10 (0:01.0) on; look there"
    ]


def test_on_the_way_back_the_place_to_look_is_the_last_frame() -> None:
    assert told([0.1] * 6 + [0.9] * 14 + [1.0] * 20, origin=30) == [
        "object 4: doubtful from frame 5 (0:00.5) backward; look there"
    ]
    assert told([0.9] * 6 + [0.1] * 6 + [0.9] * 10 + [1.0] * 20, origin=30) == [
        "object 4: doubtful from frame 11 (0:01.1) back to 6; look there"
    ]


def test_what_a_doubt_tells_the_areas_do_not_tell_again() -> None:
    watch = Watch()
    for frame in range(30):
        areas = np.zeros(256, np.int64)
        areas[4] = 500 if frame < 10 else 3000 if frame < 20 else 500
        areas[0] = 10_000 - areas[4]
        watch.see(frame, frame / 10, areas, {4: 0.1 if 10 <= frame < 15 else 0.9})
    assert watch.warnings() == [
        "object 4: doubtful from frame 10 (0:01.0) to 14; look there",
        "object 4: its area jumps at frame 20 (to 0.17 times)",
    ]


# Runs.


def test_a_run_that_loses_its_object_says_where(tmp_path: Path, tiny: LiVOS) -> None:
    report = segment(tiny, write(tmp_path, lost()), tmp_path / "out")
    assert report.warnings == (f"object 1: doubtful from frame {LOST} (0:00.4) on; look there",)
    (doubt,) = report.doubts
    assert (doubt.object, doubt.frame, doubt.until, doubt.open) == (1, LOST, 19, True)
    assert doubt.seconds == pytest.approx(0.4)
    assert doubt.certainty < 0.1


def test_a_run_that_goes_well_says_nothing(tmp_path: Path, tiny: LiVOS) -> None:
    report = segment(tiny, write(tmp_path, scene(96, 128, 20, seed=1)), tmp_path / "out")
    assert report.warnings == ()
    assert report.doubts == ()


def test_a_correction_ends_it(tmp_path: Path, tiny: LiVOS) -> None:
    """After the cut the mask of something in the new scene is given for the same id."""
    before, after = scene(96, 128, LOST, seed=1), scene(96, 128, 8, seed=25)
    clip = write(tmp_path, before + after)
    write_png(tmp_path / "masks" / "00000.png", before[0][1], "gray")
    write_png(tmp_path / "masks" / "00014.png", after[4][1], "gray")
    clip["mask"] = tmp_path / "masks"
    report = segment(tiny, clip, tmp_path / "out")
    assert [(d.frame, d.until, d.open) for d in report.doubts] == [(LOST, 13, False)]


def test_backward_and_both_ways_say_it_too(tmp_path: Path, tiny: LiVOS) -> None:
    clip = write(tmp_path, lost()[::-1])  # gone before frame 10
    write_png(clip["mask"], lost()[0][1], "gray")
    for way in ("backward", "both"):
        report = segment(tiny, clip, tmp_path / way, origin=19, direction=way)
        assert report.warnings == ("object 1: doubtful from frame 9 (0:00.4) backward; look there",)


def resumed(model: LiVOS, clip: dict[str, Path], out: Path, *stops: int) -> Report:
    """A run that is stopped after each of these frames, in several kinds, and then completed."""
    output = RunOptions(save=("mask", "rle", "matte"), output=out, preview=out / "sheet.png")
    how = SegmentOptions(drop=(Drop(1, 18),))

    def once(after: int | None, began: list[Begin]) -> Report:
        asked = iter(range(1, 1 << 30))
        keep = Checkpointing("w", 1e9, stop=lambda: after is not None and next(asked) >= after)
        return run(
            clip["video"],
            clip["mask"],
            model,
            how,
            output,
            keep=keep,
            observer=Observer(begin=began.append),
        )

    for stop in stops:
        with pytest.raises(InterruptionError):
            once(stop, [])
    began: list[Begin] = []
    report = once(None, began)
    assert began[0].resumed == (stops[-1] if stops else 0)
    return report


@pytest.mark.slow
def test_a_resumed_run_says_the_same_and_writes_the_same_bytes(tmp_path: Path, tiny: LiVOS) -> None:
    clip = write(tmp_path, lost())
    whole = resumed(tiny, clip, tmp_path / "whole")
    assert whole.doubts
    for stops in ((5,), (LOST + 1,), (4, LOST + 4)):
        out = tmp_path / str(stops)
        again = resumed(tiny, clip, out, *stops)
        assert again.warnings == whole.warnings
        assert again.doubts == whole.doubts
        assert files(out) == files(tmp_path / "whole")


def test_results_on_disk_keep_it() -> None:
    ids = np.zeros((4, 6), np.uint8)
    sure = {1: float(np.float32(0.1)), 200: 1.0}
    with Spool() as spool:
        spool.push(FrameResult(ids, None, frozenset({3}), sure))
        spool.push(FrameResult(ids))
        assert spool.pop().certainty == {}
        back = spool.pop()
    assert back.certainty == sure
    assert back.given == {3}


def test_python_sees_it(tmp_path: Path) -> None:
    import livos_cli

    clip = write(tmp_path, lost())
    results = list(livos_cli.segment(clip["video"], clip["mask"], device="cpu", precision="fp32"))
    assert all(r.certainty[1] > 0.5 for r in results[:LOST])
    assert all(r.certainty[1] < 0.5 for r in results[LOST:])


# The command line.


@pytest.mark.slow
def test_the_command_says_it_and_what_to_type(livos: Livos, tmp_path: Path) -> None:
    """The steps that it names are taken as they are, and end the doubt where they say."""
    before, after = scene(96, 128, LOST, seed=1), scene(96, 128, 10, seed=23)
    write(tmp_path, before + after)
    done = livos("segment", "clip.mp4", "-m", "first.png", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert f"warning: object 1: doubtful from frame {LOST} (0:00.4) on; look there" in lines
    told = json.loads(done.stdout)["doubts"]
    assert [(d["object"], d["frame"], d["until"], d["open"]) for d in told] == [(1, LOST, 19, True)]
    said = "to correct object 1, with the other options as before:"
    steps = lines[lines.index(said) + 1 :]
    assert steps[0] == "  mkdir -p masks && cp first.png masks/00000.png"
    subprocess.run(steps[0], shell=True, check=True, cwd=tmp_path)
    y, x = np.nonzero(after[0][1])
    box = f"{x.min()},{y.min()},{x.max() + 1},{y.max() + 1}"
    command = steps[1].split()
    assert command[:2] == ["livos", "mask"]
    done = livos(*[box if word == "X0,Y0,X1,Y1" else word for word in command[1:]], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "masks" / f"{LOST:05d}.png").exists()
    command = steps[2].split()
    done = livos(*command[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "doubtful" not in done.stderr


@pytest.mark.slow
def test_a_clip_that_goes_well_is_left_in_peace(livos: Livos, tmp_path: Path) -> None:
    """The example of the project, on which mean J is 0.97."""
    arguments = ["segment", EXAMPLES / "clip.mp4", "-m", EXAMPLES / "first.png", "--max-size", 160]
    done = livos(*arguments, "--end", "20f", "-o", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["doubts"] == []
    assert "doubtful" not in done.stderr


def test_the_report_of_many_has_it(livos: Livos, tmp_path: Path) -> None:
    for name, made in (("bad", lost()), ("good", scene(96, 128, 12, seed=1))):
        clip = write(tmp_path / name, made)
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "masks").mkdir(exist_ok=True)
        clip["video"].rename(tmp_path / "in" / f"{name}.mp4")
        clip["mask"].rename(tmp_path / "masks" / f"{name}.png")
    done = livos("segment", "in", "-m", "masks", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "out" / "report.jsonl").read_text().splitlines()
    found = {Path(r["video"]).stem: r["doubts"] for r in map(json.loads, lines)}
    assert [d["frame"] for d in found["bad"]] == [LOST]
    assert found["good"] == []
    assert 'doubtful: 1; see "doubts" in the report' in done.stderr


# The sheet.


def sheet(certainties: list[dict[int, float]], tmp_path: Path) -> tuple[np.ndarray, int]:
    """A sheet of one object, RGB, and how many of its rows belong to frames."""
    from fractions import Fraction

    frames = len(certainties)
    info = SourceInfo("x", None, 96, 64, Fraction(1, 25), Fraction(25), frames, None, 1, 1, 1, 1)
    sink = Preview(tmp_path / "sheet.png", Job(info, (1,)))
    picture = np.full((64, 96, 3), 90, np.uint8)
    mask = np.zeros((64, 96), np.uint8)
    mask[20:40, 20:40] = 1
    for index, sure in enumerate(certainties):
        sink.write(Frame(index, index, index / 25, picture), FrameResult(mask, certainty=sure))
    sink.finish()
    sink.publish(overwrite=True)
    image = cv2.imread(str(tmp_path / "sheet.png"))
    assert image is not None
    return image[..., ::-1], image.shape[0] - 90 - 30


@pytest.mark.parametrize("frames", [12, 5000])
def test_the_sheet_marks_doubtful_frames(frames: int, tmp_path: Path) -> None:
    half = frames // 2
    image, grid = sheet([{1: 0.95}] * half + [{1: 0.05}] * (frames - half), tmp_path)
    marked = (image == DOUBT).all(axis=2)
    columns = np.flatnonzero(marked[grid:].any(axis=0))
    # The strip has 1440 columns from the 150th on: its second half is marked.
    assert abs(int(columns.min()) - (150 + 720)) < 5
    assert columns.max() > 1570
    rows = np.flatnonzero(marked[:grid].sum(axis=1) > 100)
    assert rows.min() > grid * 0.3  # the frames of the second half
    assert rows.max() > grid * 0.9
    # The curve: near the top on the left, near the bottom on the right.
    blue = (image[grid : grid + 90].astype(int) - (20, 60, 200)).__abs__().sum(axis=2) < 60
    left, right = np.nonzero(blue[:, 200:800])[0], np.nonzero(blue[:, 900:1500])[0]
    assert left.mean() < 15
    assert right.mean() > 75


def test_a_sheet_without_certainties_has_neither_mark_nor_curve(tmp_path: Path) -> None:
    image, grid = sheet([{}] * 12, tmp_path)
    assert not (image == DOUBT).all(axis=2).any()
    assert not (np.abs(image[grid:].astype(int) - (20, 60, 200)).sum(axis=2) < 60).any()


# Real footage.
