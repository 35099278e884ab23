"""Masks of clicks: points hold, features are computed once, and training as the field does it."""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import TINY_WEIGHTS
from media import scene

from livos_cli.cli.mask import _find
from livos_cli.errors import InputError, LivosError, UsageError, WeightsError
from livos_cli.evaluation.score import jaccard
from livos_cli.interactive import clicks as clicks_module
from livos_cli.interactive.clicks import ClickPredictor, find_object, hold_points, load_networks
from livos_cli.masks.hints import Hints
from livos_cli.network.clicks import ClickConfig, ClickNet, draw_guides
from livos_cli.network.livos import LiVOS
from livos_cli.training.click_loop import ClickOptions, click_loss, train_clicks
from livos_cli.training.clicks import begin, draw_sample, next_click, spoil
from livos_cli.training.sources import Still
from livos_cli.weights.clicks import METADATA_KEY, load_clicks, write_clicks
from livos_cli.weights.load import load_model
from livos_cli.weights.registry import CLICKS, DEFAULT, WITH_CLICKS, clicks_with

SMALL = ClickConfig(widths=(16, 8, 8), heads=2)


@pytest.fixture(scope="module")
def lite() -> LiVOS:
    return load_model("lite", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def net() -> ClickNet:
    return load_clicks()


@pytest.fixture(scope="module")
def picture() -> tuple[np.ndarray, np.ndarray]:
    rgb, ids = scene(180, 240, 1, objects=2, seed=12)[0]
    return rgb, ids == 1


def say(points: list[tuple[float, float]], shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Row and column of the pixel of each point."""
    return [(min(int(y), shape[0] - 1), min(int(x), shape[1] - 1)) for x, y in points]


# ---------------------------------------------------------------- points hold


def hundreds() -> list[tuple[np.ndarray, list[tuple[float, float]], list[bool]]]:
    """Masks with points: anywhere, beside each other, along the border, in the corners."""
    rng = np.random.default_rng(0)
    drawn = []
    for case in range(400):
        height, width = (int(v) for v in rng.integers(1, 40, 2))
        if case % 10 == 0:
            height, width = 600, 500  # where a point decides more than its neighbours
        mask = rng.random((height, width)) < rng.choice([0.0, 0.5, 1.0])
        count = int(rng.integers(1, 25))
        points = [(float(x), float(y)) for x, y in rng.random((count, 2)) * (width, height)]
        if case % 3 == 0:  # neighbours
            x0, y0 = rng.integers(0, width), rng.integers(0, height)
            points = [(float(min(x0 + a, width)), float(min(y0 + b, height)))
                      for a, b in product(range(4), range(4))]  # fmt: skip
        elif case % 3 == 1:  # the border, and what lies just on its other side
            points += [(0.0, 0.0), (float(width), float(height)), (float(width), 0.0)]
        kinds: dict[tuple[int, int], bool] = {}
        for place in say(points, mask.shape):
            kinds.setdefault(place, bool(rng.random() < 0.5))
        drawn.append((mask, points, [kinds[place] for place in say(points, mask.shape)]))
    return drawn


def test_points_hold_in_hundreds_of_masks() -> None:
    for mask, points, labels in hundreds():
        held = mask.copy()
        hold_points(held, points, labels)
        assert all(held[p] == on for p, on in zip(say(points, mask.shape), labels, strict=True))
        backwards = mask.copy()
        hold_points(backwards, points[::-1], labels[::-1])
        assert np.array_equal(held, backwards)


def test_a_point_decides_a_few_pixels_around_it() -> None:
    mask = np.zeros((480, 854), bool)
    hold_points(mask, [(400.2, 200.9)], [True])
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (197, 203, 397, 403)
    mask[:] = True  # two pixels apart each keeps its half, and the middle is as it was
    hold_points(mask, [(400.2, 200.9), (402.5, 200.5)], [True, False])
    assert not mask[200, 402:406].any()
    assert mask[200, 397:402].all()
    assert mask[200, 406]


@pytest.mark.parametrize("shape", [(96, 128), (131, 70)])
def test_points_hold_whatever_the_network_says(lite: LiVOS, net: ClickNet, shape: Any) -> None:
    rng = np.random.default_rng(1)
    height, width = shape
    predictor = ClickPredictor(lite, net, rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
    previous = None
    for case in range(12):
        count = int(rng.integers(2, 12))
        points = [(float(x), float(y)) for x, y in rng.random((count, 2)) * (width, height)]
        points += [(0.0, 0.0), (float(width), float(height)), (points[0][0], 0.0)]
        labels = [True, *(bool(v) for v in rng.random(len(points) - 1) < 0.5)]
        points = [(int(x) // 3 * 3.0, int(y) // 3 * 3.0) for x, y in points]
        kinds = dict(zip(say(points, shape)[::-1], labels[::-1], strict=True))
        labels = [kinds[place] for place in say(points, shape)]
        box = (3.0, 4.0, 20.0, 30.0) if case % 3 == 0 else None
        found = predictor.mask(points, labels, box, previous)
        assert (found.shape, found.dtype) == (shape, bool)
        assert all(found[p] == on for p, on in zip(say(points, shape), labels, strict=True))
        previous = found if case % 2 else None


def test_contradicting_points_are_refused(lite: LiVOS, net: ClickNet) -> None:
    rgb = np.zeros((60, 80, 3), np.uint8)
    predictor = ClickPredictor(lite, net, rgb)
    with pytest.raises(UsageError, match="the points at 9,8 contradict each other"):
        predictor.mask([(9.2, 8.1), (9.9, 8.9)], [True, False])
    with pytest.raises(UsageError, match="79,59 contradict"):
        predictor.mask([(80, 60), (79.5, 59.5)], [True, False])


def test_a_point_on_one_object_is_not_on_the_others(picture: Any) -> None:
    places = [(60.0, 100.0), (64.0, 100.0), (70.0, 104.0)]
    hints = {i: Hints(inside=(place,)) for i, place in enumerate(places, start=1)}
    ids = np.zeros(picture[1].shape, np.uint8)
    for object_id, found, _ in _find(picture[0], hints, DEFAULT):
        ids[found] = object_id
    assert [ids[int(y), int(x)] for x, y in places] == [1, 2, 3]


# ---------------------------------------------------------------- the predictor


def test_features_are_computed_once(
    lite: LiVOS, net: ClickNet, picture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb, truth = picture
    calls = []
    real = clicks_module.trunk_features
    monkeypatch.setattr(
        clicks_module, "trunk_features", lambda *a: calls.append(a[1].shape) or real(*a)
    )
    predictor = ClickPredictor(lite, net, rgb)
    x, y, _ = next_click(np.zeros_like(truth), truth) or (0.0, 0.0, True)
    found = predictor.mask([(x, y)], [True])
    assert len(calls) == 2  # the frame, and the window around a small object
    for count in range(1, 5):
        found = predictor.mask([(x, y)] * count, [True] * count, previous=found)
    assert len(calls) <= 3
    before = len(calls)
    predictor.mask([(x, y)], [True])
    predictor.mask([(x, y)], [True], previous=found)
    assert len(calls) == before


def test_the_same_hints_give_the_same_mask(lite: LiVOS, net: ClickNet, picture: Any) -> None:
    rgb, truth = picture
    before = rgb.copy()
    predictor = ClickPredictor(lite, net, rgb)
    x, y, _ = next_click(np.zeros_like(truth), truth) or (0.0, 0.0, True)
    first = predictor.mask([(x, y)], [True])
    for place in ((10.0, 10.0), (200.0, 150.0), (120.0, 20.0), (30.0, 160.0), (220.0, 20.0)):
        predictor.mask([place], [True])
    assert np.array_equal(predictor.mask([(x, y)], [True]), first)
    assert np.array_equal(ClickPredictor(lite, net, rgb).mask([(x, y)], [True]), first)
    assert np.array_equal(rgb, before)
    rough = truth.copy()
    predictor.mask([(x, y)], [True], previous=rough)
    assert np.array_equal(rough, truth)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([], []), "nothing says where the object is"),
        (([(5, 5)], [False]), "nothing says where the object is"),
        (([(5, 5)], []), "1 points have 0 labels"),
        (([(81, 5)], [True]), "outside of the frame"),
        (([(float("nan"), 5)], [True]), "outside of the frame"),
        (([], [], (90, 90, 99, 99)), "outside of the frame"),
        (([(5, 5)], [True], None, np.zeros((9, 9), bool)), "not \\(60, 80\\)"),
    ],
)
def test_wrong_calls(lite: LiVOS, net: ClickNet, arguments: Any, said: str) -> None:
    predictor = ClickPredictor(lite, net, np.zeros((60, 80, 3), np.uint8))
    with pytest.raises(UsageError, match=said):
        predictor.mask(*arguments)


def test_another_encoder_or_frame_is_refused(lite: LiVOS, net: ClickNet, tiny: LiVOS) -> None:
    with pytest.raises(UsageError, match="does not fit these weights"):
        ClickPredictor(tiny, net, np.zeros((60, 80, 3), np.uint8))
    for frame in (np.zeros((60, 80), np.uint8), np.zeros((60, 80, 3)), np.zeros((0, 8, 3), "u1")):
        with pytest.raises(UsageError, match="uint8"):
            ClickPredictor(lite, net, frame)


@pytest.mark.parametrize("shape", [(1, 1), (2, 900), (700, 3), (17, 33)])
def test_frames_of_odd_shapes(lite: LiVOS, net: ClickNet, shape: tuple[int, int]) -> None:
    predictor = ClickPredictor(lite, net, np.full((*shape, 3), 90, np.uint8))
    found = predictor.mask([(0.0, 0.0)], [True])
    assert found.shape == shape
    assert found[0, 0]


def test_a_box_bounds_its_object(lite: LiVOS, net: ClickNet, picture: Any) -> None:
    rgb, truth = picture
    rows, columns = np.nonzero(truth)
    box = (float(columns.min()), float(rows.min()), columns.max() + 1.0, rows.max() + 1.0)
    found = find_object(ClickPredictor(lite, net, rgb), Hints(box=box))
    rows, columns = np.nonzero(found)
    assert jaccard(found, truth) > 0.8
    assert columns.min() >= box[0] - 0.1 * (box[2] - box[0])
    assert rows.max() <= box[3] + 0.1 * (box[3] - box[1])


def test_specks_without_a_point_are_left_out() -> None:
    said = np.full((60, 80), -2.0, np.float32)
    said[10:30, 10:30] = 1
    said[5:8, 60:63] = said[50:53, 60:63] = 1  # of 9 pixels: specks
    said[40:50, 10:25] = 1  # another part, large enough

    def left(*points: tuple[float, float]) -> list[bool]:
        log_odds = said.copy()
        clicks_module._drop_specks(log_odds, np.array(points, np.float32).reshape(-1, 2))
        assert np.array_equal(log_odds[said < 0], said[said < 0])
        return [bool(log_odds[y, x] > 0) for y, x in ((20, 20), (6, 61), (51, 61), (45, 15))]

    assert left() == [True, False, False, True]
    assert left((20.0, 20.0)) == [True, False, False, True]
    assert left((20.0, 20.0), (61.5, 6.5)) == [True, True, False, True]
    assert left((61.5, 6.5)) == [True, True, True, True]  # what was meant is that small
    assert left((79.0, 59.9)) == [True, False, False, True]  # in nothing that was found


# ---------------------------------------------------------------- how well


def first_frame(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    with av.open(str(folder / f"{name}.mp4")) as video:
        rgb = next(video.decode(video=0)).to_ndarray(format="rgb24")
    with av.open(str(folder / f"{name}.masks.mkv")) as masks:
        return rgb, next(masks.decode(video=0)).to_ndarray(format="gray") > 0


def test_clicks_find_real_objects_and_do_no_harm(lite: LiVOS, net: ClickNet, shared: Path) -> None:
    """Of pictures that were never trained on."""
    last = []
    for name in ("bear", "car-turn", "dance-jump", "horsejump-low", "scooter-gray"):
        rgb, truth = first_frame(shared / "data" / "davis-train", name)
        predictor = ClickPredictor(lite, net, rgb)
        found, clicks, scores = np.zeros_like(truth), [], []
        for _ in range(5):
            click = next_click(found, truth, clicks)
            assert click is not None
            clicks.append(click)
            points, labels = [(x, y) for x, y, _ in clicks], [on for *_, on in clicks]
            found = predictor.mask(points, labels, previous=found if len(clicks) > 1 else None)
            scores.append(jaccard(found, truth))
        print(name, [round(score, 3) for score in scores])
        assert np.diff(scores).min() > -0.1, name
        last.append(scores[-1])
    assert np.mean(last) > 0.87


# ---------------------------------------------------------------- the file


@pytest.mark.parametrize("weights", WITH_CLICKS)
def test_the_built_in_files_are_small(weights: str) -> None:
    name, path = clicks_with(weights)
    assert path.stat().st_size <= 2_000_000
    model, net = load_networks(weights)
    assert ClickConfig.from_json(net.config.to_json()) == net.config
    assert net.config.encoder == name == weights
    ClickPredictor(model, net, np.zeros((60, 80, 3), np.uint8))


def test_other_weights_take_the_default_s_click_network() -> None:
    for weights in ("livos-wmose-480p", "owner/repo", "own.safetensors"):
        assert clicks_with(weights) == (DEFAULT, CLICKS)


def one_line(error: LivosError) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 400


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    whole = CLICKS.read_bytes()
    tensors = safetensors.torch.load_file(CLICKS)
    config = load_clicks().config
    files = {
        "other": (TINY_WEIGHTS).read_bytes(),
        "noise": bytes(range(256)) * 9,
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "pickle": b"\x80\x04cos\nsystem\n.",
        "narrow": safetensors.torch.save(tensors, {METADATA_KEY: SMALL.to_json()}),
        "wide": safetensors.torch.save(
            tensors, {METADATA_KEY: config.to_json().replace("128", "1280000")}
        ),
        "settings": safetensors.torch.save(tensors, {METADATA_KEY: "[" * 10_000}),
        "list": safetensors.torch.save(tensors, {METADATA_KEY: "[1, 2]"}),
    }
    for name, data in files.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(data)
        with pytest.raises(WeightsError) as caught:
            load_clicks(path)
        one_line(caught.value)
    with pytest.raises(WeightsError, match="does not exist"):
        load_clicks(tmp_path / "none.safetensors")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = ClickNet(SMALL)
    path = tmp_path / "clicks.safetensors"
    write_clicks(made.state_dict(), SMALL, path)
    again = load_clicks(path)
    assert again.config == SMALL
    for name, value in again.state_dict().items():
        assert torch.equal(value, made.state_dict()[name].half().float()), name
    with pytest.raises(LivosError, match="exists already"):
        write_clicks(made.state_dict(), SMALL, path)


# ---------------------------------------------------------------- training


def test_the_next_click_is_in_the_middle_of_the_largest_error() -> None:
    truth = np.zeros((60, 90), bool)
    truth[10:41, 20:51] = True
    assert next_click(np.zeros_like(truth), truth) == (35.5, 25.5, True)
    found = truth.copy()
    found[12:19, 70:77] = True  # too much, 7 wide
    assert next_click(found, truth) == (73.5, 15.5, False)
    found[20:31, 20:31] = False  # too little, 11 wide: larger
    assert next_click(found, truth) == (25.5, 25.5, True)
    assert next_click(truth, truth) is None
    thin = np.zeros_like(truth)
    thin[5, 5] = True
    assert next_click(thin, np.zeros_like(truth)) == (5.5, 5.5, False)
    assert next_click(thin, np.zeros_like(truth), [(5.5, 5.5, False)]) is None


def test_drawn_clicks_stay_in_the_inner_half() -> None:
    truth = np.zeros((60, 90), bool)
    truth[10:41, 20:51] = True
    rng = np.random.default_rng(0)
    places = {next_click(np.zeros_like(truth), truth, (), rng) for _ in range(60)}
    assert len(places) > 10
    for x, y, on in filter(None, places):
        assert on
        assert 27 <= x <= 44
        assert 17 <= y <= 34


def stills() -> list[Still]:
    made = [scene(100, 140, 1, objects=1, seed=seed)[0] for seed in range(3)]
    return [Still(rgb, (ids > 0).astype(np.uint8)) for rgb, ids in made]


def test_sessions_click_until_they_are_over() -> None:
    rng = np.random.default_rng(0)
    kinds = set()
    for _ in range(60):
        sample = draw_sample(rng, stills(), 64)
        assert sample.rgb.shape == (64, 64, 3)
        assert sample.truth.shape == (32, 32)
        assert 4 * sample.truth.sum() >= 300
        session = begin(rng, sample, (), 8)
        kinds.add((bool(session.clicks), session.box is None, session.previous is None))
        for x, y, on in session.clicks:
            assert session.truth[int(y), int(x)] == on
        count, rounds = len(session.clicks), session.rounds
        assert 1 <= rounds <= 8
        goes_on = session.answer(rng, np.zeros_like(session.truth))
        assert goes_on == (rounds > 1)
        assert len(session.clicks) == count + 1
        assert session.guides().shape == (6, 16, 16)
        assert not session.answer(rng, session.truth)
    assert {(True, True, True), (False, False, True), (False, True, False)} <= kinds


def test_guides_show_what_was_said() -> None:
    points = torch.tensor([[20.0, 12.0], [60.0, 40.0]])
    maps = draw_guides(
        points, torch.tensor([True, False]), (8.0, 8.0, 32.0, 24.0), torch.ones(12, 20), (12, 20)
    )
    assert maps.min() >= 0
    assert maps.max() <= 1
    # A point between four cells lies in all of them.
    assert [tuple(divmod(int(m.argmax()), 20)) for m in maps[:2]] == [(2, 4), (9, 14)]
    assert maps[2].argmax() == maps[0].argmax()
    assert maps[4].sum() == 24
    assert maps[4, 2:6, 2:8].min() == 1
    assert maps[5].min() == 1
    nothing = draw_guides(torch.zeros(0, 2), torch.zeros(0, dtype=torch.bool), None, None, (4, 4))
    assert not nothing.any()


def test_spoilt_masks_are_near_the_truth() -> None:
    rng = np.random.default_rng(0)
    truth = cv2.circle(np.zeros((80, 80), np.uint8), (40, 40), 25, 1, -1) > 0
    scores = [jaccard(spoil(rng, truth), truth) for _ in range(80)]
    assert np.mean(scores) > 0.6
    assert len({round(score, 3) for score in scores}) > 40


def test_the_loss_falls_towards_the_truth() -> None:
    target = torch.zeros(1, 8, 8)
    target[:, 2:6, 2:6] = 1
    sign = 2 * target - 1
    losses = [float(click_loss(sign * s, target)) for s in (-2.0, 0.0, 2.0, 6.0)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.02


def test_training_resumes(lite: LiVOS, tmp_path: Path) -> None:
    sources = [(stills(), 1.0)]
    options = ClickOptions(steps=2, batch=2, size=64, warmup=1)
    first = train_clicks(lite, SMALL, sources, tmp_path, options)
    more = ClickOptions(steps=4, batch=2, size=64, warmup=1)
    second = train_clicks(lite, SMALL, sources, tmp_path, more)
    assert any(not torch.equal(first[name], second[name]) for name in first)
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert all(np.isfinite(float(row["loss"])) for row in rows)
    assert train_clicks(lite, SMALL, sources, tmp_path, more).keys() == second.keys()
    with pytest.raises(UsageError, match="other settings \\(batch\\)"):
        train_clicks(
            lite, SMALL, sources, tmp_path, ClickOptions(steps=5, batch=3, size=64, warmup=1)
        )
    write_clicks(second, SMALL, tmp_path / "clicks.safetensors")
    assert load_clicks(tmp_path / "clicks.safetensors").config == SMALL


def test_training_learns(lite: LiVOS, tmp_path: Path) -> None:
    """One picture's clicks, again and again."""
    options = ClickOptions(steps=40, batch=2, size=64, warmup=5, rounds=2, rate=3e-3)
    scores: list[float] = []
    train_clicks(
        lite, SMALL, [(stills()[:1], 1.0)], tmp_path, options, lambda *told: scores.append(told[2])
    )
    assert np.mean(scores[-10:]) > np.mean(scores[:10]) + 0.1


def test_nothing_found_is_an_error(
    lite: LiVOS, net: ClickNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = ClickPredictor(lite, net, np.zeros((60, 80, 3), np.uint8))
    with pytest.raises(UsageError):
        find_object(predictor, Hints())
    monkeypatch.setattr(ClickPredictor, "mask", lambda *_: np.zeros((60, 80), bool))
    with pytest.raises(InputError, match="no object"):
        find_object(predictor, Hints(box=(1, 1, 9, 9)))
