"""livos mask: hints in, an index PNG out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from media import scene, write_png, write_video

from livos_cli.errors import UsageError
from livos_cli.evaluation.score import jaccard
from livos_cli.interactive.clicks import ClickPredictor, find_object
from livos_cli.masks.hints import (
    Hints,
    check_hints,
    parse_box,
    parse_point,
    parse_polygon,
    pick_backdrop,
)
from livos_cli.masks.palette import decode_index_png
from livos_cli.weights.clicks import load_clicks
from livos_cli.weights.load import load_model

DEV = ("bear", "car-turn", "dance-jump", "horsejump-low", "scooter-gray")


@pytest.fixture(scope="module")
def grab() -> Callable[[np.ndarray, Hints], np.ndarray]:
    """What `livos mask` does with the hints of one object."""
    model, net = load_model("lite", device="cpu", precision="fp32"), load_clicks()
    return lambda rgb, hints: find_object(ClickPredictor(model, net, rgb), hints)


def first_frame(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    with av.open(str(folder / f"{name}.mp4")) as video:
        rgb = next(video.decode(video=0)).to_ndarray(format="rgb24")
    with av.open(str(folder / f"{name}.masks.mkv")) as masks:
        return rgb, next(masks.decode(video=0)).to_ndarray(format="gray") > 0


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def test_boxes_of_real_objects(grab: Any, shared: Path) -> None:
    scores = {}
    for name in DEV:
        rgb, truth = first_frame(shared / "data" / "davis-train", name)
        scores[name] = jaccard(grab(rgb, Hints(box=box_of(truth))), truth)
    mean = float(np.mean(list(scores.values())))
    print({name: round(score, 3) for name, score in scores.items()}, f"mean {mean:.3f}")
    assert mean >= 0.80


def test_a_box_is_the_same_every_time(grab: Any, shared: Path) -> None:
    rgb, truth = first_frame(shared / "data" / "davis-train", "bear")
    before = rgb.copy()
    hints = Hints(box=box_of(truth))
    assert np.array_equal(grab(rgb, hints), grab(rgb, hints))
    assert np.array_equal(rgb, before)


def test_a_polygon_does_better_than_a_box_alone(grab: Any, shared: Path) -> None:
    rgb, truth = first_frame(shared / "data" / "davis-train", "horsejump-low")
    box = box_of(truth)
    alone = jaccard(grab(rgb, Hints(box=box)), truth)
    outline, _ = cv2.findContours(
        cv2.dilate(truth.astype(np.uint8), np.ones((15, 15))), cv2.RETR_EXTERNAL, 2
    )
    rough = cv2.approxPolyDP(max(outline, key=cv2.contourArea), 8, closed=True)[:, 0]
    polygon = tuple((float(x), float(y)) for x, y in rough)
    found = jaccard(grab(rgb, Hints(polygon=polygon)), truth)
    assert found > alone
    assert found > 0.84


def test_points_alone(grab: Any) -> None:
    """A disc on a ramp: found from one point on it; a second disc is left out by another."""
    x = np.linspace(60, 110, 200)
    rgb = np.repeat(np.repeat(x[None, :, None], 140, axis=0), 3, axis=2).astype(np.uint8)
    cv2.circle(rgb, (60, 70), 25, (200, 60, 50), cv2.FILLED)
    cv2.circle(rgb, (150, 70), 25, (200, 60, 50), cv2.FILLED)
    disc = np.zeros((140, 200), np.uint8)
    cv2.circle(disc, (60, 70), 25, 1, cv2.FILLED)
    hints = Hints(inside=((60.0, 70.0),), outside=((150.0, 70.0), (10.0, 10.0)))
    assert jaccard(grab(rgb, hints), disc > 0) > 0.95


def test_large_frames(grab: Any) -> None:
    rgb, ids = scene(1200, 1600, 1, objects=1, seed=3)[0]
    truth = ids > 0
    found = grab(rgb, Hints(box=box_of(truth)))
    assert jaccard(found, truth) > 0.97
    # The border is finer than the downsampled size could give: few pixels differ from the truth.
    border = cv2.morphologyEx(truth.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3)))
    assert (found != truth).sum() < 2 * border.sum()


@pytest.mark.parametrize("limit", [None, 20.0])
def test_backdrop(limit: float | None) -> None:
    rgb, ids = scene(120, 160, 1, objects=1, seed=3)[0]
    truth = ids > 0
    screen = np.where(truth[..., None], rgb, np.array([20, 180, 60], np.uint8))
    noise = np.random.default_rng(0).normal(0, 3, rgb.shape)
    screen = np.clip(screen + noise, 0, 255).astype(np.uint8)
    assert jaccard(pick_backdrop(screen, limit), truth) > 0.95


@pytest.mark.parametrize(
    "bad",
    [
        lambda: parse_box("1,2,3"),
        lambda: parse_box("5,5,5,9"),
        lambda: parse_box("a,b,c,d"),
        lambda: parse_box("0,0,nan,9"),
        lambda: parse_point("1"),
        lambda: parse_point("1,2,*"),
        lambda: parse_polygon("1,2,3,4"),
        lambda: parse_polygon("1,2,3,4,5"),
        lambda: check_hints(Hints(), 9, 9),
        lambda: check_hints(Hints(outside=((1, 1),)), 9, 9),
        lambda: check_hints(Hints(box=(10, 10, 20, 20)), 9, 9),
        lambda: check_hints(Hints(inside=((100, 1),)), 9, 9),
    ],
)
def test_wrong_hints(bad: Any) -> None:
    with pytest.raises(UsageError):
        bad()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("two")
    made = scene(180, 240, 5, objects=2, seed=12)
    video = write_video(folder / "two.mp4", [rgb for rgb, _ in made], options={"crf": "5"})
    boxes = {
        (frame, i): ",".join(map(str, box_of(made[frame][1] == i)))
        for frame in (0, 3)
        for i in (1, 2)
    }
    return {"video": video, "ids": [ids for _, ids in made], "boxes": boxes}


@pytest.mark.slow
def test_the_command(two: dict[str, Any], livos: Any, tmp_path: Path) -> None:
    video, boxes = two["video"], two["boxes"]
    one, other = boxes[0, 1], boxes[0, 2]
    out = tmp_path / "first.png"
    done = livos("mask", video, "--box", one, "--box", other, "-o", out)
    assert done.returncode == 0, done.stderr
    assert [Path(line).name for line in done.stdout.split()] == ["first.png", "first.look.jpg"]
    found = decode_index_png(out)
    for object_id in (1, 2):
        assert jaccard(found == object_id, two["ids"][0] == object_id) > 0.9
    assert cv2.imread(str(tmp_path / "first.look.jpg")).shape == (180, 240, 3)
    # It is what segment takes.
    done = livos("segment", video, "-m", out, "-o", tmp_path / "two.mkv", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    again = livos("mask", video, "--box", one, "-o", out)
    assert again.returncode == 1
    assert "exists already" in again.stderr


@pytest.mark.slow
def test_ids_before_or_after_their_hints(two: dict[str, Any], livos: Any, tmp_path: Path) -> None:
    video, boxes = two["video"], two["boxes"]
    one, other = boxes[3, 1], boxes[3, 2]
    before = ["--id", 7, "--box", one, "--id", 3, "--box", other, "--point", "1,1,-"]
    after = ["--box", one, "--id", 7, "--box", other, "--point", "1,1,-", "--id", 3]
    areas = []
    for name, order in (("before", before), ("after", after)):
        folder = tmp_path / name
        done = livos("mask", video, "--frame", "3f", *order, "-o", folder, "--json")
        assert done.returncode == 0, done.stderr
        areas.append(json.loads(done.stdout)["areas"])
        found = decode_index_png(folder / "00003.png")
        assert set(np.unique(found)) == {0, 3, 7}
        assert jaccard(found == 7, two["ids"][3] == 1) > 0.9
        assert [p.name for p in folder.iterdir()] == ["00003.png"]  # a folder of masks alone
    assert areas[0] == areas[1]


@pytest.mark.slow
def test_wrong_usage(two: dict[str, Any], livos: Any, tmp_path: Path) -> None:
    video, box = two["video"], two["boxes"][0, 1]
    cases: list[tuple[list[Any], int, str]] = [
        ([], 2, "give hints or --threshold"),
        (["--box", box, "--threshold", "9"], 2, "give hints or --threshold"),
        (["--box", box, "--id", 1, "--box", box], 2, "the last hints have no --id"),
        (["--id", 1, "--box", box, "--id", 1, "--box", box], 2, "given twice"),
        (["--box", box, "--frame", "99f"], 1, "has no frame at --frame 99f"),
        (["--box", "900,900,950,950"], 2, "outside of the frame"),
        (["--box", box, "-o", "first.jpg"], 2, "is not a PNG"),
        (["--threshold", "green"], 2, "is not a number"),
    ]
    for arguments, code, said in cases:
        done = livos("mask", video, *arguments, cwd=tmp_path)
        assert done.returncode == code, (arguments, done.stderr)
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
    assert [p.name for p in video.parent.iterdir()] == ["two.mp4"]


@pytest.mark.slow
def test_image_folders_keep_their_names(livos: Any, tmp_path: Path) -> None:
    rgb, ids = scene(180, 240, 1, objects=1, seed=4)[0]
    for name in ("a_001", "a_002"):
        write_png(tmp_path / "frames" / f"{name}.png", rgb, "rgb24")
    box = ",".join(map(str, box_of(ids > 0)))
    done = livos(
        "mask", tmp_path / "frames", "--frame", "1f", "--box", box, "-o", tmp_path / "masks"
    )
    assert done.returncode == 0, done.stderr
    assert [p.name for p in (tmp_path / "masks").iterdir()] == ["a_002.png"]
    assert Path(done.stdout.split()[0]).name == "a_002.png"
