"""The tracker, through its public methods, with the built-in network."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY_WEIGHTS
from media import scene

from livos_cli import Tracker, load_model
from livos_cli.network import LiVOS
from livos_cli.network.budget import working_memory
from livos_cli.tracker.cuda_graph import StepGraph


@pytest.fixture(scope="module")
def clip() -> list[tuple[np.ndarray, np.ndarray]]:
    return scene(96, 128, 8, objects=2)


def play(tracker: Tracker, clip: list, first: int = 0) -> list[torch.Tensor]:
    return [
        tracker.step(rgb, ids if t == 0 else None)
        for t, (rgb, ids) in enumerate(clip[first:], first)
    ]


def test_probabilities_are_whole(tiny: LiVOS, clip: list) -> None:
    for prob in play(Tracker(tiny), clip):
        assert prob.shape == (3, 96, 128)
        assert prob.dtype == torch.float32
        assert torch.allclose(prob.sum(0), torch.ones(96, 128), atol=1e-5)


def test_first_frame_is_the_given_mask(tiny: LiVOS, clip: list) -> None:
    rgb, ids = clip[0]
    assert np.array_equal(Tracker(tiny).step_ids(rgb, ids), ids)
    # Reduced for the network or not: what is given stays as given.
    downsampled = Tracker(tiny, max_size=48)
    assert np.array_equal(downsampled.step_ids(rgb, ids), ids)


def test_ids_may_be_any_integers(tiny: LiVOS, clip: list) -> None:
    rgb, ids = clip[0]
    wide = np.select([ids == 1, ids == 2], [100_000, -7], 0)
    tracker = Tracker(tiny)
    assert np.array_equal(tracker.step_ids(rgb, wide), wide)
    assert tracker.object_ids == [-7, 100_000]
    assert set(np.unique(tracker.step_ids(clip[1][0]))) <= {-7, 0, 100_000}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_step_and_step_ids_agree(precision: str, clip: list) -> None:
    """Masks do not depend on what else is asked for, in half precision neither."""
    model = load_model(TINY_WEIGHTS, device="cpu", precision=precision)
    for size in (-1, 64):
        one, other = Tracker(model, max_size=size), Tracker(model, max_size=size)
        for t, (rgb, ids) in enumerate(clip):
            given = ids if t == 0 else None
            prob, decided = one.step(rgb, given), other.step_ids(rgb, given)
            channels = torch.tensor([0, *one.object_ids])
            assert np.array_equal(channels[prob.argmax(0)].numpy(), decided)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_state_continues_bit_for_bit(precision: str, clip: list) -> None:
    model = load_model(TINY_WEIGHTS, device="cpu", precision=precision)
    whole = play(Tracker(model), clip)
    first = Tracker(model)
    play(first, clip[:4])
    saved = {k: v.clone() for k, v in first.state_dict().items()}
    second = Tracker(model)
    second.load_state_dict(saved)
    assert second.object_ids == [1, 2]
    for t in range(4, 8):
        assert torch.equal(second.step(clip[t][0]), whole[t])


def test_static_buffers_change_nothing(tiny: LiVOS, clip: list) -> None:
    """What a CUDA graph replays, run as it is: masks midway, a drop and a resume come through."""
    one, other = Tracker(tiny, max_size=64), Tracker(tiny, max_size=64, graphs=True)
    native, replayed = Tracker(tiny, max_size=-1), Tracker(tiny, max_size=-1, graphs=True)
    for t, (rgb, ids) in enumerate(clip):
        given = {0: np.where(ids == 1, 1, 0), 3: np.where(ids == 2, 2, 0), 5: ids}.get(t)
        if t == 7:
            for tracker in (one, other, native, replayed):
                tracker.drop([1])
        assert torch.equal(other.step(rgb, given), one.step(rgb, given))
        assert np.array_equal(replayed.step_ids(rgb, given), native.step_ids(rgb, given))
    state, want = other.state_dict(), one.state_dict()
    assert all(torch.equal(state[name], want[name]) for name in want)
    saved = replayed.state_dict()
    first = replayed.step_ids(clip[1][0])
    replayed.load_state_dict(saved)
    assert np.array_equal(replayed.step_ids(clip[1][0]), first)


def test_one_set_of_static_buffers_at_a_time(
    tiny: LiVOS, clip: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old ones go before the new ones come, and before a frame is tried once more."""
    living: list[weakref.ref] = []

    class Counted(StepGraph):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            assert not [one for one in living if one() is not None]
            living.append(weakref.ref(self))
            super().__init__(*args, **kwargs)

    monkeypatch.setattr("livos_cli.tracker.tracker.StepGraph", Counted)
    tracker = Tracker(tiny, max_size=-1, graphs=True)
    tracker.step(*clip[0])
    tracker.step(clip[1][0])
    tracker.step_ids(clip[2][0])  # another result, so other buffers
    tracker.step(clip[3][0], np.where(clip[3][1] == 1, 9, 0))  # one object more
    tracker.step(clip[4][0])
    assert len(living) == 3

    def short(*_: Any, **__: Any) -> Any:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(Counted, "run", short)
    compute = tracker._compute

    def again(*args: Any, **kwargs: Any) -> torch.Tensor:
        if args[3]:  # in strips: the second try
            assert not [one for one in living if one() is not None]
        return compute(*args, **kwargs)

    monkeypatch.setattr(tracker, "_compute", again)
    tracker.step(clip[5][0])
    assert tracker.strip_rows


def test_graphs_are_for_cuda_where_there_is_memory(
    tiny: LiVOS, clip: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    class Counted(StepGraph):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            made.append(1)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr("livos_cli.tracker.tracker.StepGraph", Counted)
    play(Tracker(tiny), clip[:3])
    assert not made  # on a CPU it is all the same
    weights = sum(p.numel() * p.itemsize for p in tiny.parameters())
    height, width = (-(-side // 16) for side in clip[0][0].shape[:2])
    once = weights + working_memory(tiny.config, height, width, 2, 4)
    for budget, some in ((once, False), (2 * once, True)):
        tracker = Tracker(tiny, max_size=-1, memory_budget=budget, graphs=True)
        play(tracker, clip[:3])
        assert not tracker.strip_rows
        assert bool(made) is some


def test_a_graph_goes_with_its_tracker(tiny: LiVOS, clip: list) -> None:
    """At once, not when circles are looked for: on a GPU it holds the memory of a frame."""
    tracker = Tracker(tiny, max_size=-1, graphs=True)
    play(tracker, clip[:3])
    graph = weakref.ref(tracker._graph)
    gc.disable()
    try:
        del tracker
        assert graph() is None
    finally:
        gc.enable()


def test_a_graph_goes_where_frames_are_computed_in_strips(tiny: LiVOS, clip: list) -> None:
    tracker = Tracker(tiny, max_size=-1, graphs=True)
    play(tracker, clip[:3])
    assert tracker._graph is not None
    tracker._strips.at_most = 2  # as after memory ran out
    tracker.step(clip[3][0], np.where(clip[3][1] == 1, 9, 0))
    assert tracker.strip_rows
    assert tracker._graph is None


def test_out_of_memory_before_a_replay_leaves_the_memory(
    tiny: LiVOS, clip: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frame is computed once more then: its key must not be counted twice."""
    tracker = Tracker(tiny, max_size=-1, graphs=True)
    play(tracker, clip[:3])
    graph = tracker._graph
    assert graph is not None

    class Recorded:
        def replay(self) -> None:
            graph._body()

    def full(*_: object, **__: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    graph._graph = Recorded()  # type: ignore[assignment]
    before = {name: tensor.clone() for name, tensor in tracker.state_dict().items()}
    with monkeypatch.context() as short:
        short.setattr(torch, "empty_like", full)
        with pytest.raises(torch.OutOfMemoryError), torch.inference_mode():
            graph.run(graph._image, graph.memory)
    assert all(torch.equal(before[name], now) for name, now in tracker.state_dict().items())


def test_results_of_static_buffers_are_not_overwritten(tiny: LiVOS, clip: list) -> None:
    tracker = Tracker(tiny, max_size=-1, graphs=True)
    kept = [tracker.step(rgb, ids if t == 0 else None) for t, (rgb, ids) in enumerate(clip)]
    plain = play(Tracker(tiny, max_size=-1), clip)
    assert all(torch.equal(a, b) for a, b in zip(kept, plain, strict=True))


def test_state_does_not_grow(tiny: LiVOS, clip: list) -> None:
    tracker = Tracker(tiny)
    sizes = []
    for _ in range(3):
        for t, (rgb, ids) in enumerate(clip):
            tracker.step(rgb, ids if not sizes and t == 0 else None)
        sizes.append(sum(v.numel() for v in tracker.state_dict().values()))
    assert len(set(sizes)) == 1


def test_state_of_other_weights_is_refused(tiny: LiVOS, clip: list) -> None:
    tracker = Tracker(tiny)
    play(tracker, clip[:2])
    state = tracker.state_dict()
    state["memory.state"] = state["memory.state"][:, :, :32]
    with pytest.raises(ValueError, match="other weights or precision"):
        Tracker(tiny).load_state_dict(state)
    with pytest.raises(ValueError, match="max_size"):
        Tracker(tiny, max_size=-1).load_state_dict(tracker.state_dict())


def test_before_the_first_mask_there_is_background(tiny: LiVOS, clip: list) -> None:
    tracker = Tracker(tiny)
    prob = tracker.step(clip[0][0])
    assert prob.shape == (1, 96, 128)
    assert bool((prob == 1).all())
    # Such a frame leaves no memory: what follows is as if it had not been.
    fresh = Tracker(tiny)
    for t in range(1, 4):
        given = clip[1][1] if t == 1 else None
        assert torch.equal(tracker.step(clip[t][0], given), fresh.step(clip[t][0], given))


def test_an_object_may_enter_later(tiny: LiVOS, clip: list) -> None:
    tracker = Tracker(tiny)
    tracker.step(clip[0][0], np.where(clip[0][1] == 1, 1, 0))
    late = np.where(clip[2][1] == 2, 2, 0)
    tracker.step(clip[1][0])
    prob = tracker.step(clip[2][0], late)
    assert tracker.object_ids == [1, 2]
    on = torch.from_numpy(late == 2)
    assert bool((prob[2][on] == 1).all())
    assert float(prob[:2, on].abs().max()) == 0
    assert tracker.step(clip[3][0]).shape[0] == 3


def test_a_known_id_is_corrected_not_added(tiny: LiVOS, clip: list) -> None:
    tracker = Tracker(tiny)
    wrong = np.zeros_like(clip[0][1])
    wrong[:20, :20] = 1
    tracker.step(clip[0][0], wrong)
    tracker.step(clip[1][0])
    right = np.where(clip[2][1] == 1, 1, 0).astype(np.uint8)
    prob = tracker.step(clip[2][0], right)
    assert tracker.object_ids == [1]
    assert np.array_equal(prob[1].numpy() > 0.5, right > 0)
    assert torch.allclose(prob.sum(0), torch.ones(96, 128), atol=1e-5)
    after = tracker.step_ids(clip[3][0])
    truth = clip[3][1] == 1
    assert (np.logical_and(after == 1, truth).sum() / truth.sum()) > 0.5


def test_dropping_leaves_the_others_as_they_are(tiny: LiVOS, clip: list) -> None:
    tracker = Tracker(tiny)
    play(tracker, clip[:3])
    tracker.drop([1])
    assert tracker.object_ids == [2]
    assert tracker.state_dict()["memory.state"].shape[1] == 1
    assert tracker.step(clip[3][0]).shape[0] == 2
    with pytest.raises(ValueError, match="not followed"):
        tracker.drop([1])
    tracker.drop([2])
    assert tracker.step(clip[4][0]).shape[0] == 1


def test_late_objects_have_their_own_norm_after_a_drop(tiny: LiVOS, clip: list) -> None:
    """Key sums are kept by group of entry; dropping a whole group must not shift the others."""
    tracker = Tracker(tiny)
    tracker.step(clip[0][0], np.where(clip[0][1] == 1, 1, 0))
    tracker.step(clip[1][0], np.where(clip[1][1] == 2, 2, 0))
    state = tracker.state_dict()
    assert state["memory.key_sum"].shape[1] == 2
    tracker.drop([1])
    left = tracker.state_dict()
    assert torch.equal(left["memory.key_sum"][:, 0], state["memory.key_sum"][:, 1])
    assert left["memory.group"].tolist() == [0]


def test_chunks_of_objects_change_nothing(tiny: LiVOS) -> None:
    clip = scene(64, 96, 3, objects=5, seed=3)
    whole, chunked = play(Tracker(tiny), clip), play(Tracker(tiny, chunk_objects=2), clip)
    for one, other in zip(whole, chunked, strict=True):
        assert torch.allclose(one, other, atol=1e-4)
        assert float((one.argmax(0) == other.argmax(0)).float().mean()) > 0.999


def test_no_object_is_lost_when_the_frame_is_reduced(tiny: LiVOS) -> None:
    rgb = np.zeros((512, 512, 3), np.uint8)
    ids = np.zeros((512, 512), np.uint8)
    ids[100:300, 100:300] = 1
    ids[200:202, 200:202] = 2  # a quarter of a pixel at the network's size
    tracker = Tracker(tiny, max_size=128)
    assert np.array_equal(tracker.step_ids(rgb, ids), ids)
    assert tracker.object_ids == [1, 2]
    assert float(tracker.state_dict()["memory.masks"][0, 1].sum()) > 0


def test_memories_stay_float32_in_low_precision(clip: list) -> None:
    tracker = Tracker(load_model(TINY_WEIGHTS, device="cpu", precision="bf16"))
    play(tracker, clip[:3])
    state = tracker.state_dict()
    for name in ("state", "key_sum", "objects"):
        assert state[f"memory.{name}"].dtype == torch.float32
    assert state["memory.sensory"].dtype == torch.bfloat16


def test_flipped_views_and_tensors_are_taken(tiny: LiVOS, clip: list) -> None:
    """OpenCV users write frame[..., ::-1]."""
    rgb, ids = clip[0]
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    one, other, third = Tracker(tiny), Tracker(tiny), Tracker(tiny)
    one.step(rgb, ids)
    other.step(bgr[..., ::-1], np.ascontiguousarray(ids[::-1])[::-1])
    third.step(torch.from_numpy(rgb), torch.from_numpy(ids.astype(np.int64)))
    want = one.step(clip[1][0])
    assert torch.equal(other.step(clip[1][0]), want)
    assert torch.equal(third.step(torch.from_numpy(clip[1][0])), want)


@pytest.mark.parametrize(
    ("frame", "mask"),
    [
        (np.zeros((32, 32), np.uint8), None),
        (np.zeros((32, 32, 3), np.float32), None),
        (np.zeros((32, 32, 3), np.uint8), np.zeros((16, 16), np.uint8)),
        (np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.float32)),
    ],
)
def test_wrong_arrays_are_refused(tiny: LiVOS, frame: np.ndarray, mask: np.ndarray | None) -> None:
    with pytest.raises(ValueError, match="must be"):
        Tracker(tiny).step(frame, mask)


def test_a_change_of_size_is_refused(tiny: LiVOS) -> None:
    tracker = Tracker(tiny)
    tracker.step(np.zeros((32, 48, 3), np.uint8))
    with pytest.raises(ValueError, match="after frames of"):
        tracker.step(np.zeros((48, 32, 3), np.uint8))


def test_arrays_that_may_not_be_written_are_taken_without_a_warning(
    tiny: LiVOS, recwarn: pytest.WarningsRecorder
) -> None:
    """`np.asarray(picture)` of Pillow's is one."""
    frame, mask = np.zeros((32, 48, 3), np.uint8), np.zeros((32, 48), np.int64)
    mask[8:20, 8:30] = 1
    frame.flags.writeable = mask.flags.writeable = False
    Tracker(tiny).step(frame, mask)
    assert not [str(one.message) for one in recwarn if "writable" in str(one.message)]
