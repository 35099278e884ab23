"""Where a mask is probably wrong, livos says so; frame by frame, from calibrated signs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY_WEIGHTS, Livos
from media import scene

from livos_cli import Tracker, load_model
from livos_cli.errors import WeightsError
from livos_cli.evaluation.score import jaccard
from livos_cli.network import LiVOS
from livos_cli.network.calibration import TERMS, Calibration
from livos_cli.tracker.certainty import Certainty, describe
from livos_cli.weights.registry import REGISTRY

LOST = 10  # the frame from which the object is gone, in `lost`
Scene = list[tuple[np.ndarray, np.ndarray]]


def lost(seed: int = 1, frames: int = 20) -> Scene:
    """A scene that is cut to another one, which the network takes for the object."""
    before, after = scene(96, 128, LOST, seed=seed), scene(96, 128, frames - LOST, seed=seed + 20)
    return before + [(rgb, np.zeros_like(ids)) for rgb, ids in after]


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
        ways[2].step_alpha(rgb, mask)
        ways[3].step(rgb, mask)
        for other in ways[1:]:
            assert other.certainty == pytest.approx(ways[0].certainty, abs=1e-4)


def test_strips_change_it_by_rounding_alone(tiny: LiVOS) -> None:
    made = scene(96, 128, 6, seed=3)
    whole, tight = Tracker(tiny), Tracker(tiny)
    tight._strips.at_most = 2
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

    for name in [name for name, entry in REGISTRY.items() if entry.file]:
        model = load_model(name, device="cpu", precision="fp32")
        assert model.calibration is not None
        # Every sign speaks against a mask.
        assert all(weight <= 0 for weight in model.calibration.weights.values())
    tensors, config = read_checkpoint(TINY_WEIGHTS)
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

    out = tmp_path / "copy.safetensors"
    done = livos("weights", "convert", TINY_WEIGHTS, out)
    assert done.returncode == 0, done.stderr
    tiny, copy = load_model(TINY_WEIGHTS, device="cpu"), load_model(out, device="cpu")
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
