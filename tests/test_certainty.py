"""Where a mask is probably wrong, livos says so: per frame, in warnings, reports and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import EXAMPLES, ROOT, Livos
from media import files, scene, write_png, write_video

from livos_cli import Tracker, load_model
from livos_cli.certainty import Certainty, describe
from livos_cli.errors import InterruptionError, WeightsError
from livos_cli.evaluation.score import jaccard
from livos_cli.network import LiVOS
from livos_cli.network.calibration import TERMS, Calibration
from livos_cli.options import Drop, Keep, RunOptions, SegmentOptions
from livos_cli.pipeline import Begin, Report, run
from livos_cli.spool import Spool
from livos_cli.video.preview import DOUBT, Preview
from livos_cli.video.sinks import Decided, Job
from livos_cli.video.source import Frame, SourceInfo
from livos_cli.watch import DoubtWatch, Watch

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


# The tracker.


@pytest.mark.parametrize("seed", [0, 1, 3, 4])
def test_what_goes_well_is_certain_and_what_is_lost_is_not(seed: int, tiny: LiVOS) -> None:
    tracker = Tracker(tiny)
    for index, (rgb, ids) in enumerate(lost(seed)):
        found = tracker.step_ids(rgb, ids if index == 0 else None)
        sure = tracker.certainty[1]
        if index < LOST:
            assert jaccard(found == 1, ids == 1) >= 0.7
            assert sure > 0.5, (index, sure)
        else:
            assert (found == 1).any()  # it follows something, which is not the object
            assert sure < 0.2, (index, sure)


def test_the_certainty_is_of_the_ways_to_step_alike(tiny: LiVOS) -> None:
    made = lost()
    ways = [Tracker(tiny) for _ in range(3)] + [Tracker(tiny, graphs=True)]
    for index, (rgb, ids) in enumerate(made):
        mask = ids if index == 0 else None
        ways[0].step(rgb, mask)
        ways[1].step_ids(rgb, mask)
        ways[2].step_matte(rgb, mask)
        ways[3].step(rgb, mask)
        for other in ways[1:]:
            assert other.certainty == pytest.approx(ways[0].certainty, abs=1e-4)


def test_strips_change_it_by_rounding_alone(tiny: LiVOS) -> None:
    made = scene(96, 128, 6, seed=3)
    whole, tight = Tracker(tiny), Tracker(tiny)
    tight._rows_at_most = 2
    for index, (rgb, ids) in enumerate(made):
        whole.step(rgb, ids if index == 0 else None)
        tight.step(rgb, ids if index == 0 else None)
    assert tight.strip_rows == 32
    assert tight.certainty == pytest.approx(whole.certainty, abs=1e-3)


def test_a_given_mask_ends_the_doubt_of_its_object_alone(tiny: LiVOS) -> None:
    """Two objects are lost by a cut; then a mask is given for one of them."""
    before, after = scene(96, 128, 4, objects=2, seed=3), scene(96, 128, 8, objects=2, seed=35)
    tracker = Tracker(tiny)
    for index, (rgb, ids) in enumerate(before + after[:4]):
        tracker.step(rgb, ids if index == 0 else None)
    assert tracker.certainty[1] < 0.3
    other = tracker.certainty.get(2, 0.0)
    assert other < 0.5
    rgb, ids = after[4]
    tracker.step(rgb, np.where(ids == 1, 1, 0))
    assert tracker.certainty[1] == 1
    assert tracker.certainty.get(2, 0.0) < 0.5
    tracker.step(after[5][0])
    assert tracker.certainty[1] > 0.5


def test_an_object_without_a_pixel_has_no_certainty(tiny: LiVOS) -> None:
    rgb, ids = scene(96, 128, 1, seed=1)[0]
    tracker = Tracker(tiny)
    tracker.step(rgb, ids)
    blank = np.full_like(rgb, 128)
    for _ in range(6):
        found = tracker.step_ids(blank)
    assert not found.any()
    assert tracker.certainty == {}
    assert tracker.object_ids == [1]


def test_ids_keep_their_certainty_when_others_are_dropped(tiny: LiVOS) -> None:
    made = scene(96, 128, 6, objects=2, seed=2)
    both, one = Tracker(tiny), Tracker(tiny)
    for index, (rgb, ids) in enumerate(made[:3]):
        both.step(rgb, ids if index == 0 else None)
        one.step(rgb, ids if index == 0 else None)
    kept = one.certainty
    one.drop([1])
    assert one.certainty == {2: kept[2]}
    one.step(made[3][0])
    assert set(one.certainty) == {2}
    one.drop([2])
    assert one.certainty == {}


def test_a_loaded_state_goes_on_exactly_and_has_constant_size(tiny: LiVOS) -> None:
    made = lost()
    whole, sizes = Tracker(tiny), set()
    expected, states = [], []
    for index, (rgb, ids) in enumerate(made):
        whole.step(rgb, ids if index == 0 else None)
        expected.append(whole.certainty)
        states.append({k: v.clone() for k, v in whole.state_dict().items()})
        sizes.add(sum(t.numel() * t.itemsize for t in states[-1].values()))
    assert len(sizes) == 1
    for at in (0, 5, LOST, LOST + 3):
        tracker = Tracker(tiny)
        tracker.load_state_dict(states[at])
        for index in range(at + 1, len(made)):
            tracker.step(made[index][0])
            assert tracker.certainty == expected[index]


def test_a_state_from_before_there_was_certainty_says_nothing_until_a_mask(tiny: LiVOS) -> None:
    made = scene(96, 128, 4, seed=1)
    first, second = Tracker(tiny), Tracker(tiny)
    first.step(*made[0])
    state = {k: v for k, v in first.state_dict().items() if not k.startswith("certainty.")}
    second.load_state_dict(state)
    second.step(made[1][0])
    assert second.certainty == {}
    second.step(*made[2])
    assert second.certainty == {1: 1.0}


# Calibrations.


def test_the_built_in_weights_are_calibrated_and_others_say_nothing(tmp_path: Path) -> None:
    """New built-in weights: run examples/calibrate_certainty.py on them."""
    from livos_cli.weights.convert import read_checkpoint, write_safetensors
    from livos_cli.weights.locate import locate

    model = load_model("tiny", device="cpu", precision="fp32")
    assert model.calibration is not None
    # Every sign speaks against a mask.
    assert all(weight <= 0 for weight in model.calibration.weights.values())
    tensors, config = read_checkpoint(locate("tiny"))
    plain = tmp_path / "plain.safetensors"
    write_safetensors(tensors, config, plain)
    bare = load_model(plain, device="cpu", precision="fp32")
    assert bare.calibration is None
    tracker = Tracker(bare)
    rgb, ids = scene(96, 128, 1)[0]
    tracker.step(rgb, ids)
    assert tracker.certainty == {}
    assert not any(name.startswith("certainty") for name in tracker.state_dict())


def test_converting_weights_keeps_their_calibration(livos: Livos, tmp_path: Path) -> None:
    from livos_cli.weights.locate import locate

    out = tmp_path / "copy.safetensors"
    done = livos("weights", "convert", locate("tiny"), out)
    assert done.returncode == 0, done.stderr
    tiny, copy = load_model("tiny", device="cpu"), load_model(out, device="cpu")
    assert copy.calibration == tiny.calibration


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"bias": "x", "weights": {}}',
        '{"bias": 0, "weights": 3}',
        '{"bias": NaN, "weights": {}}',
        '{"bias": 0, "weights": {"smell": 1}}',
        '{"bias": 0, "weights": {"blur": Infinity}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_calibration_is_one_error(text: str) -> None:
    with pytest.raises(WeightsError, match="calibration cannot be read"):
        Calibration.from_json(text)


def test_a_calibration_comes_back_as_it_was_stored() -> None:
    made = Calibration(0.25, dict.fromkeys(TERMS, -1.5), "here")
    assert Calibration.from_json(made.to_json()) == made


def test_the_script_recovers_what_it_is_given() -> None:
    """Signs whose effect is known, one of them of the wrong kind."""
    import importlib.util
    import sys

    spec = importlib.util.spec_from_file_location(
        "calibrate_certainty", ROOT / "examples" / "calibrate_certainty.py"
    )
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script
    spec.loader.exec_module(script)
    rng = np.random.default_rng(0)
    runs = []
    for place in range(40):
        signs = rng.normal(0, 1, (100, len(TERMS)))
        odds = 0.5 - 2.0 * signs[:, 0] - 1.0 * signs[:, 2] + 0.5 * signs[:, 3]
        good = rng.random(100) < 1 / (1 + np.exp(-odds))
        runs.append(script.Run(f"n{place}", "third", signs, np.where(good, 0.9, 0.1)))
    made = script.fit(runs)
    assert made.weights["blur"] == pytest.approx(-2, abs=0.3)
    assert made.weights["colour"] == pytest.approx(-1, abs=0.25)
    assert abs(made.weights.get("blur_so_far", 0)) < 0.15
    assert "likeness" not in made.weights  # it speaks for a mask
    assert "left-out sequences" in script.cross_validate(runs)


# What is described.


def description(image: np.ndarray, soft: np.ndarray) -> torch.Tensor:
    return describe(torch.from_numpy(image)[None], torch.from_numpy(soft)[None])


@pytest.mark.parametrize("size", [(16, 16), (96, 128), (98, 131), (384, 688), (1080, 1920)])
def test_any_size_is_described_alike(size: tuple[int, int]) -> None:
    """A half that is red and sure, a half that is blue: colours and areas by their share."""
    height, width = size
    image = np.zeros((3, height, width), np.uint8)
    image[0, :, : width // 2], image[2, :, width // 2 :] = 255, 255
    soft = np.zeros((1, height, width), np.float32)
    soft[:, :, : width // 2] = 0.9
    terms = Certainty(Calibration(0, {})).terms(description(image, soft), [0])[0]
    assert terms[0] == pytest.approx(np.log(0.1 / 0.9), abs=1e-3)
    assert terms[2] == pytest.approx(0, abs=1e-6)
    assert 0 < terms[3] < 0.6  # a tenth of red is outside of the mask, by its probability
    likewise = description(image.astype(np.float32) / 255, soft)
    assert torch.equal(description(image, soft), likewise)


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
        keep = Keep("w", 1e9, stop=lambda: after is not None and next(asked) >= after)
        return run(
            clip["video"], clip["mask"], model, how, output, keep=keep, on_begin=began.append
        )

    for stop in stops:
        with pytest.raises(InterruptionError):
            once(stop, [])
    began: list[Begin] = []
    report = once(None, began)
    assert began[0].resumed == (stops[-1] if stops else 0)
    return report


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
        spool.push(Decided(ids, None, frozenset({3}), sure))
        spool.push(Decided(ids))
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
    steps = lines[lines.index("to correct object 1:") + 1 :]
    assert steps[0] == "  copy first.png to masks/00000.png"
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "00000.png").write_bytes((tmp_path / "first.png").read_bytes())
    y, x = np.nonzero(after[0][1])
    box = f"{x.min()},{y.min()},{x.max() + 1},{y.max() + 1}"
    command = steps[1].split()
    assert command[:2] == ["livos", "mask"]
    done = livos(*[box if word == "X0,Y0,X1,Y1" else word for word in command[1:]], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "masks" / f"{LOST:05d}.png").exists()
    command = steps[2].split(",")[0].split()
    done = livos(*command[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "doubtful" not in done.stderr


def test_a_clip_that_goes_well_is_left_in_peace(livos: Livos, tmp_path: Path) -> None:
    """The example of the project, on which mean J is 0.96."""
    arguments = ["segment", EXAMPLES / "clip.mp4", "-m", EXAMPLES / "first.png", "--max-size", 160]
    done = livos(*arguments, "--end", "40f", "-o", tmp_path, "--json")
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
        sink.write(Frame(index, index, index / 25, picture), Decided(mask, certainty=sure))
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
