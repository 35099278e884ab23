"""Frames computed in strips: the same numbers, within the memory that was allowed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import reference_weights

from livos_cli.errors import InputError
from livos_cli.network import BASE, LITE, SMALL, TINY, LiVOS, LiVOSConfig
from livos_cli.network.budget import FEWEST_ROWS, rows_within, working_memory
from livos_cli.network.inference import to_device
from livos_cli.network.livos import Features, Memory
from livos_cli.network.strips import encoder_halo, mask_encoder_halo, split
from livos_cli.tracker.tracker import Tracker

NARROW = replace(
    TINY, image_block="bottleneck", image_depths=(3, 4, 6), stages=(16, 32, 64), normaliser="gated"
)


def relative(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got - want).norm() / want.norm())


class Clip:
    """Two frames with two objects: 27 rows of the 1/16 grid, more than two halos of 10."""

    def __init__(self, model: LiVOS) -> None:
        generator = torch.Generator().manual_seed(0)
        size = (27 * 16, 5 * 16)
        self.frames = torch.randint(0, 256, (2, 3, *size), generator=generator, dtype=torch.uint8)
        self.masks = torch.zeros(1, 2, *size)
        self.masks[:, 0, 30:200, 10:50] = 1
        self.masks[:, 1, 220:400, 20:70] = 1
        self.model = model

    def encode(self, index: int, rows: int) -> Features:
        return self.model.encode_image(self.frames[index : index + 1], rows)

    def read(self, features: Features, memory: Memory, rows: int) -> tuple[torch.Tensor, Memory]:
        return self.model.read(features, memory, chunk=1, rows=rows)

    def write(self, features: Features, memory: Memory, rows: int) -> Memory:
        written = self.model.write(features, memory, self.masks, chunk=1, rows=rows)
        return written.mark_given([0, 1])


def tensors(*things: object) -> list[torch.Tensor]:
    found = []
    for thing in things:
        if isinstance(thing, torch.Tensor):
            found.append(thing)
        else:
            found += [v for v in vars(thing).values() if v.is_floating_point()]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "config", [NARROW, SMALL, BASE, LITE, None], ids=["narrow", "small", "base", "lite", "tiny"]
)
@torch.inference_mode()
def test_every_stage_gives_the_same_numbers(config: LiVOSConfig | None, tiny: LiVOS) -> None:
    """Three heights of strips, from the same input, in float32; the last with trained weights."""
    torch.manual_seed(0)
    model = tiny if config is None else LiVOS(config)
    clip = Clip(model if config is None else to_device(model, torch.device("cpu"), torch.float32))
    first, second = clip.encode(0, 0), clip.encode(1, 0)
    empty = clip.model.add_objects(first, None, 2)
    memory = clip.write(first, empty, 0)
    odds, read = clip.read(second, memory, 0)
    want = tensors(second, memory, odds, read)
    for rows in (1, 4, 13):
        got = tensors(
            clip.encode(1, rows),
            clip.write(first, empty, rows),
            *clip.read(second, memory, rows),
        )
        for one, other in zip(got, want, strict=True):
            assert one.shape == other.shape
            assert relative(one, other) < 1e-5


@pytest.mark.slow
@torch.inference_mode()
def test_a_whole_step_is_the_same_in_double_precision() -> None:
    """One stage after the other, with weights that upsample whatever differs."""
    clip = Clip(to_device(reference_weights(LiVOS(BASE)), torch.device("cpu"), torch.float64))

    def play(rows: int) -> list[torch.Tensor]:
        first, second = clip.encode(0, rows), clip.encode(1, rows)
        memory = clip.write(first, clip.model.add_objects(first, None, 2), rows)
        odds, memory = clip.read(second, memory, rows)
        return [second.pixel, second.skip4, odds, memory.sensory, memory.state, memory.objects]

    want = play(0)
    for rows in (1, 4, 13):
        for one, other in zip(play(rows), want, strict=True):
            assert relative(one.double(), other.double()) < 2e-7  # the state is float32 always


@pytest.mark.slow
@torch.inference_mode()
def test_a_smaller_halo_is_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the equality above is not for want of anything to get wrong."""
    clip = Clip(to_device(reference_weights(LiVOS(BASE)), torch.device("cpu"), torch.float64))
    want = clip.encode(0, 0)
    assert relative(clip.encode(0, 4).pixel, want.pixel) < 1e-13
    less = encoder_halo(BASE) - 2
    monkeypatch.setattr("livos_cli.network.livos.encoder_halo", lambda _: less)
    assert relative(clip.encode(0, 4).pixel, want.pixel) > 1e-11


def test_halos_are_those_of_the_receptive_fields() -> None:
    # ResNet-50 to layer 3 sees 267 pixels: 133 on each side; the key's convolution one row more.
    assert encoder_halo(BASE) == -(-(133 + 16) // 16)
    assert mask_encoder_halo(BASE) == -(-105 // 16)
    strips = list(split(27, 10, 3))
    assert [(s.top, s.bottom) for s in strips] == [(0, 10), (10, 20), (20, 27)]
    assert [(s.first, s.last) for s in strips] == [(0, 13), (7, 23), (17, 27)]


def test_less_memory_means_lower_strips() -> None:
    frame = (135, 240, 1, 2)
    needs = [working_memory(BASE, *frame, rows=rows) for rows in (64, 32, 16, FEWEST_ROWS)]
    assert needs == sorted(needs, reverse=True)
    assert rows_within(working_memory(BASE, *frame), BASE, *frame) == 0
    for need in needs:
        rows = rows_within(need, BASE, *frame)
        assert rows
        assert working_memory(BASE, *frame, rows=rows) <= need
    assert rows_within(needs[-1] // 2, BASE, *frame) is None


def test_a_tracker_within_a_budget(tiny: LiVOS) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (400, 90, 3), dtype=np.uint8) for _ in range(4)]
    mask = np.zeros((400, 90), np.uint8)
    mask[50:300, 20:60] = 1
    weights = sum(p.numel() * p.itemsize for p in tiny.parameters())
    least = working_memory(tiny.config, 25, 6, 1, 4, rows=FEWEST_ROWS)
    free = Tracker(tiny, max_size=-1)
    tight = Tracker(tiny, max_size=-1, memory_budget=weights + least)
    assert tight._strips.rows(25, 6, 0) in range(FEWEST_ROWS, 25)
    for t, frame in enumerate(frames):
        given = mask if t == 0 else None
        prob = tight.step(frame, given)
        assert torch.allclose(prob, free.step(frame, given), atol=1e-4)
    with pytest.raises(InputError, match="--memory-budget"):
        Tracker(tiny, max_size=-1, memory_budget=weights + least // 2).step(frames[0], mask)
    with pytest.raises(ValueError, match="memory_budget must be above 0"):
        Tracker(tiny, memory_budget=0)


def test_where_memory_runs_out_the_frame_is_computed_again(
    tiny: LiVOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Allocations above a limit fail, as on a full GPU; memory that cannot fill here stands in."""
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (400, 90, 3), dtype=np.uint8) for _ in range(3)]
    mask = np.zeros((400, 90), np.uint8)
    mask[50:300, 20:60] = 1
    want = Tracker(tiny, max_size=-1)
    got = Tracker(tiny, max_size=-1)
    encode, limit, calls = LiVOS.encode_image, [25], []

    def full(self: LiVOS, image: torch.Tensor, rows: int = 0) -> object:
        calls.append(rows)
        if (rows or 25) > limit[0]:
            raise torch.OutOfMemoryError("full")
        return encode(self, image, rows)

    monkeypatch.setattr(LiVOS, "encode_image", full)
    got.step(frames[0], mask)
    limit[0] = 12
    prob = got.step(frames[1])
    assert calls == [0, 0, 12]
    got.step(frames[2])
    assert calls[-1] == 12  # not found out anew at every frame
    before = {k: v.clone() for k, v in got.state_dict().items()}
    limit[0] = 1
    with pytest.raises(torch.OutOfMemoryError):
        got.step(frames[2])
    after = got.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    monkeypatch.undo()
    want.step(frames[0], mask)
    assert torch.allclose(prob, want.step(frames[1]), atol=1e-4)


def test_weights_are_counted_once(tiny: LiVOS, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at every frame: there are hundreds of tensors."""
    tracker = Tracker(tiny, max_size=-1)
    monkeypatch.setattr(tiny, "parameters", lambda: pytest.fail("counted again"))
    tracker.step_ids(np.zeros((32, 32, 3), np.uint8), np.ones((32, 32), np.uint8))
    tracker.step_ids(np.zeros((32, 32, 3), np.uint8))


def test_freed_memory_is_given_back_between_the_stages_of_strips(
    tiny: LiVOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[torch.device] = []
    monkeypatch.setattr("livos_cli.tracker.tracker.give_back_memory", given_back.append)
    frame = np.zeros((400, 96, 3), np.uint8)
    mask = np.zeros((400, 96), np.uint8)
    mask[50:200, 20:80] = 1
    tight = working_memory(tiny.config, 25, 6, 1, 4, rows=FEWEST_ROWS)
    tight += sum(p.numel() * p.itemsize for p in tiny.parameters())
    for budget, calls in ((4 << 30, 0), (tight, 6)):
        tracker = Tracker(tiny, max_size=-1, memory_budget=budget)
        tracker.step_ids(frame, mask)
        given_back.clear()
        tracker.step_ids(frame)
        assert bool(tracker.strip_rows) == bool(calls)
        # After the encoder, twice in `read`, before, in and after `write`.
        assert len(given_back) == calls


def test_many_objects_one_at_a_time(tiny: LiVOS) -> None:
    """Strips as high as the frame, where only so many objects at once are too much; from the first
    frame on, whose objects come with its mask.
    """
    objects, height, width = 40, 8, 12
    frame = (tiny.config, height, width, objects, 4)
    need = working_memory(*frame, rows=height)
    assert need < working_memory(*frame) / 2
    assert rows_within(need, *frame) == height
    ids = np.zeros((height * 16, width * 16), np.uint8)
    for i in range(objects):
        top, left = i // 8 * 24, i % 8 * 24
        ids[top : top + 16, left : left + 16] = i + 1
    rgb = np.random.default_rng(0).integers(0, 255, (*ids.shape, 3), dtype=np.uint8)
    weights = sum(p.numel() * p.itemsize for p in tiny.parameters())
    whole = Tracker(tiny, max_size=-1)
    strips = Tracker(tiny, max_size=-1, memory_budget=weights + need)
    for index in range(3):
        given = ids if index == 0 else None
        want = whole.step(rgb, given)
        assert torch.allclose(strips.step(rgb, given), want, atol=1e-5)
        assert strips.strip_rows == height * 16
