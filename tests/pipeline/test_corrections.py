"""A mask for a known object is the truth from then on; a black one ends it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from conftest import TINY_WEIGHTS, Livos
from media import decode, files, scene, write_png, write_video

import livos_cli
from livos_cli import Tracker, load_model
from livos_cli.errors import InterruptionError
from livos_cli.evaluation.score import jaccard
from livos_cli.masks.reference_masks import ReferenceMasks
from livos_cli.network import LiVOS
from livos_cli.options import Checkpointing, Drop, Position, RunOptions, SegmentOptions
from livos_cli.pipeline.report import Report
from livos_cli.pipeline.run import run

FRAMES, CORRECTED = 24, 10


@pytest.fixture(scope="module")
def clip() -> list[tuple[np.ndarray, np.ndarray]]:
    return scene(96, 128, FRAMES, objects=2, seed=1)


def polluted(tracker: Tracker, clip: list) -> None:
    """Frames before the correction, with the masks of the two objects the wrong way round."""
    for index in range(CORRECTED):
        rgb, ids = clip[index]
        tracker.step(rgb, np.choose(ids, [0, 2, 1]) if index == 0 else None)


def after(tracker: Tracker, clip: list) -> list[float]:
    """J of both objects in the frames that follow the correction."""
    scores = []
    for rgb, ids in clip[CORRECTED + 1 :]:
        found = tracker.step_ids(rgb)
        scores += [jaccard(found == i, ids == i) for i in (1, 2)]
    return scores


def test_a_correction_holds(tiny: LiVOS, clip: list) -> None:
    """Whatever was followed before: as well as if the objects had only begun there (was 0.46)."""
    rgb, ids = clip[CORRECTED]
    corrected, fresh = Tracker(tiny), Tracker(tiny)
    polluted(corrected, clip)
    corrected.step(rgb, ids)
    fresh.step(rgb, ids)
    held, begun = after(corrected, clip), after(fresh, clip)
    assert np.mean(held) > 0.85
    # Masks that were given before still count a little; these were as wrong as can be.
    assert np.mean(held) > np.mean(begun) - 0.002


@pytest.mark.slow
def test_a_correction_holds_on_a_real_sequence(shared: Path, tiny: LiVOS) -> None:
    """True masks at frames 0 and 20; begun afresh at 20: 0.77, 0.64, 0.55, 0.52."""
    data = shared / "data" / "davis-train"
    with (
        av.open(str(data / "dance-jump.mp4")) as video,
        av.open(str(data / "dance-jump.masks.mkv")) as masks,
    ):
        pairs = list(zip(video.decode(video=0), masks.decode(video=0), strict=True))
    corrected, fresh = Tracker(tiny), Tracker(tiny)
    held, begun = [], []
    for index, (picture, mask) in enumerate(pairs[:41]):
        rgb, truth = picture.to_ndarray(format="rgb24"), mask.to_ndarray(format="gray") > 127
        given = truth.astype(np.uint8) if index in (0, 20) else None
        found = corrected.step_ids(rgb, given)
        if index >= 20:
            other = fresh.step_ids(rgb, given)
        if index > 20:
            held.append(jaccard(found == 1, truth))
            begun.append(jaccard(other == 1, truth))
    print(f"J of the 20 frames after: {np.mean(held):.4f}, begun afresh {np.mean(begun):.4f}")
    assert np.mean(held) >= np.mean(begun)
    assert held[0] > 0.75  # was 0.54
    assert min(held) > 0.45  # was 0.18


def test_only_what_is_corrected_starts_again(tiny: LiVOS, clip: list) -> None:
    rgb, ids = clip[CORRECTED]
    one, other = Tracker(tiny), Tracker(tiny)
    for tracker in (one, other):
        polluted(tracker, clip)
    one.step(rgb)
    other.step(rgb, np.where(ids == 2, 2, 0))
    plain, state = one.state_dict(), other.state_dict()
    groups = state["memory.group"].tolist()
    assert len(set(groups)) == state["memory.key_sum"].shape[1] == 2
    # Object 1 keeps its norm and what its own mask gave; nothing predicted is left of object 2.
    assert torch.equal(state["memory.key_sum"][:, groups[0]], plain["memory.key_sum"][:, 0])
    for name in ("given_state", "given_key_sum"):
        row = 0 if name == "given_state" else groups[0]
        assert torch.equal(state[f"memory.{name}"][:, row], plain[f"memory.{name}"][:, 0])
    assert torch.equal(state["memory.state"][:, 1], state["memory.given_state"][:, 1])
    areas = state["memory.objects"][0, :, :, -1].sum(dim=1)
    assert float(areas[1]) < float(areas[0]) / CORRECTED * 2


def test_corrected_objects_share_a_norm_and_none_is_left_behind(tiny: LiVOS, clip: list) -> None:
    """However often: memory stays as large as it was."""
    tracker = Tracker(tiny)
    sizes = []
    for index, (rgb, ids) in enumerate(clip[:12]):
        only = {1: 1, 2: 2, 4: 1, 5: 1}.get(index)
        given = ids if index in (0, 3, 6, 7, 8) else np.where(ids == only, only, 0)
        tracker.step(rgb, given if only or given is ids else None)
        state = tracker.state_dict()
        sizes.append(state["memory.key_sum"].shape[1])
        assert state["memory.given_key_sum"].shape == state["memory.key_sum"].shape
    # Together at first; apart once one alone is corrected, for what masks gave them differs.
    assert sizes[0] == 1
    assert set(sizes[1:]) == {2}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("cut", [CORRECTED - 2, CORRECTED + 1, CORRECTED + 3])
def test_state_continues_bit_for_bit(precision: str, cut: int, clip: list) -> None:
    """Saved before a correction, right after it, and later."""
    model = load_model(TINY_WEIGHTS, device="cpu", precision=precision)

    def given(index: int) -> np.ndarray | None:
        ids: np.ndarray = clip[index][1]
        return {0: ids, CORRECTED: np.where(ids == 2, 2, 0), CORRECTED + 5: ids}.get(index)

    whole, first, second = Tracker(model), Tracker(model), Tracker(model)
    for index in range(CORRECTED + 8):
        want = whole.step(clip[index][0], given(index))
        if index < cut:
            first.step(clip[index][0], given(index))
            continue
        if index == cut:
            second.load_state_dict({k: v.clone() for k, v in first.state_dict().items()})
        assert torch.equal(second.step(clip[index][0], given(index)), want)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_without_a_correction_nothing_is_read_of_what_is_kept_for_one(
    precision: str, clip: list
) -> None:
    """To the bit, objects that enter later and one that is dropped included."""
    model = load_model(TINY_WEIGHTS, device="cpu", precision=precision)
    plain, spoilt = Tracker(model), Tracker(model)
    for index, (rgb, ids) in enumerate(clip[:8]):
        given = {0: np.where(ids == 1, 1, 0), 3: np.where(ids == 2, 2, 0)}.get(index)
        if index == 6:
            plain.drop([1])
            spoilt.drop([1])
        assert torch.equal(spoilt.step(rgb, given), plain.step(rgb, given))
        state = spoilt.state_dict()
        for name in ("memory.given_state", "memory.given_key_sum"):
            state[name].fill_(1e30)
        spoilt.load_state_dict(state)
    ends = plain.state_dict(), spoilt.state_dict()
    assert all(torch.equal(ends[0][k], ends[1][k]) for k in ends[0] if "given" not in k)


def test_the_memory_of_an_older_version_is_refused(tiny: LiVOS, clip: list) -> None:
    tracker = Tracker(tiny)
    tracker.step(*clip[0])
    state = {k: v for k, v in tracker.state_dict().items() if "given" not in k}
    with pytest.raises(ValueError, match=r"given_key_sum is missing: another version"):
        Tracker(tiny).load_state_dict(state)


def test_strips_and_chunks_correct_the_same(tiny: LiVOS, clip: list) -> None:
    whole, small = Tracker(tiny, max_size=-1), Tracker(tiny, max_size=-1, chunk_objects=1)
    small._strips.at_most = 4
    for index, (rgb, ids) in enumerate(clip[:8]):
        given = {0: ids, 4: np.where(ids == 1, 1, 0)}.get(index)
        assert torch.allclose(whole.step(rgb, given), small.step(rgb, given), atol=1e-4)
    assert small.strip_rows


# Whole videos.


def segment(model: LiVOS, video: Path, masks: Path, out: Path, **options: Any) -> Report:
    keep = options.pop("keep", None)
    given = SegmentOptions(**options)
    return run(video, masks, model, given, RunOptions(output=out), keep=keep)


@pytest.fixture(scope="module")
def video(clip: list, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    images = [rgb for rgb, _ in clip[:16]]
    return write_video(path, images, codec="ffv1", pix_fmt="bgr0")


def test_a_run_with_a_correction_resumes_to_the_same_bytes(
    tiny: LiVOS, clip: list, video: Path, tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    write_png(masks / "00000.png", np.choose(clip[0][1], [0, 2, 1]).astype(np.uint8), "pal8")
    write_png(masks / "00005.png", np.where(clip[5][1] == 1, 1, 0).astype(np.uint8), "pal8")
    write_png(masks / "00010.png", clip[10][1], "pal8")
    segment(tiny, video, masks, tmp_path / "left")
    for stops in ((5,), (6,), (8, 5)):
        out = tmp_path / f"cut{stops[0]}"
        for stop in stops:
            asked = iter(range(1, 1 << 30))
            keep = Checkpointing("w", 1e9, stop=lambda asked=asked, stop=stop: next(asked) >= stop)  # type: ignore[misc]
            with pytest.raises(InterruptionError):
                segment(tiny, video, masks, out, keep=keep)
        segment(tiny, video, masks, out, keep=Checkpointing("w", 1e9))
        assert files(out) == files(tmp_path / "left")


BLACK = np.zeros((96, 128), np.uint8)


def test_a_black_mask_ends_every_object(
    tiny: LiVOS, clip: list, video: Path, tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    for frame, ids in ((0, clip[0][1]), (5, BLACK), (6, BLACK), (9, clip[9][1])):
        write_png(masks / f"{frame:05d}.png", ids, "pal8")
    report = segment(tiny, video, masks, tmp_path / "out")
    found = decode(tmp_path / "out" / "clip.mask.mkv")
    seen = [bool(ids.any()) for ids in found]
    assert seen == [True] * 5 + [False] * 4 + [True] * 7
    said = [w for w in report.warnings if "black" in w]
    assert said == ["the mask of frame 5 is black for objects 1, 2: not followed from there on"]


def test_a_black_mask_in_an_objects_folder_ends_that_object(
    tiny: LiVOS, clip: list, video: Path, tmp_path: Path
) -> None:
    """Black before it has begun says nothing: so tools write objects that enter late."""
    masks = tmp_path / "masks"
    for frame in (0, 3, 8):
        left = {0: np.where(clip[0][1] == 1, 255, 0).astype(np.uint8), 8: BLACK}
        right = {0: BLACK, 3: np.where(clip[3][1] == 2, 255, 0).astype(np.uint8)}
        for name, drawn in (("1", left), ("2", right)):
            if frame in drawn:
                write_png(masks / name / f"{frame:05d}.png", drawn[frame], "gray")
    report = segment(tiny, video, masks, tmp_path / "out")
    found = [set(np.unique(ids)) - {0} for ids in decode(tmp_path / "out" / "clip.mask.mkv")]
    assert found == [{1}] * 3 + [{1, 2}] * 5 + [{2}] * 8
    said = [w for w in report.warnings if "black" in w]
    assert said == ["the mask of frame 8 is black for object 1: not followed from there on"]


def test_a_mask_that_shows_some_objects_says_nothing_of_the_others(
    tiny: LiVOS, clip: list, video: Path, tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    write_png(masks / "00000.png", clip[0][1], "pal8")
    write_png(masks / "00005.png", np.where(clip[5][1] == 1, 1, 0).astype(np.uint8), "pal8")
    report = segment(tiny, video, masks, tmp_path / "out")
    assert all({1, 2} <= set(np.unique(f)) for f in decode(tmp_path / "out" / "clip.mask.mkv"))
    assert not [w for w in report.warnings if "black" in w]


def test_a_black_mask_ends_on_the_way_back_too(
    tiny: LiVOS, clip: list, video: Path, tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    write_png(masks / "00004.png", BLACK, "pal8")
    write_png(masks / "00010.png", clip[10][1], "pal8")
    segment(tiny, video, masks, tmp_path / "out", direction="both", origin=10)
    seen = [bool(ids.any()) for ids in decode(tmp_path / "out" / "clip.mask.mkv")]
    assert seen == [False] * 5 + [True] * 11


def test_which_objects_a_mask_ends(tmp_path: Path) -> None:
    write_png(tmp_path / "whole" / "0.png", BLACK, "gray")
    write_png(tmp_path / "whole" / "1.png", BLACK + np.uint8(3), "gray")
    write_png(tmp_path / "apart" / "a" / "0.png", BLACK, "gray")
    write_png(tmp_path / "apart" / "b" / "0.png", BLACK + np.uint8(255), "gray")
    whole, apart = ReferenceMasks(tmp_path / "whole"), ReferenceMasks(tmp_path / "apart")
    for keys in (whole, apart):
        for frame in (0, 1, 2):
            keys.at(frame, first=False, width=128, height=96)
    assert whole.ends(0, [1, 7]) == {1, 7}
    assert whole.ends(0, []) == whole.ends(1, [1, 7]) == whole.ends(2, [1, 7]) == set()
    assert apart.object_names == {1: "a", 2: "b"}
    assert apart.ends(0, [1, 2]) == {1}
    assert apart.ends(0, [2]) == set()


@pytest.mark.slow
def test_a_dropped_object_is_there_until_the_frame_before(
    tiny: LiVOS, clip: list, video: Path, tmp_path: Path, livos: Livos
) -> None:
    mask = write_png(tmp_path / "first.png", clip[0][1], "pal8")
    segment(tiny, video, mask, tmp_path / "out", drop=(Drop(1, 6),))
    found = [1 in ids for ids in decode(tmp_path / "out" / "clip.mask.mkv")]
    assert found == [True] * 6 + [False] * 10
    shown = livos("segment", "--help", env={"COLUMNS": "200"})
    assert "that frame is the first without it" in " ".join(shown.stdout.split())
    wrong = livos("segment", video, "-m", mask, "--drop", "1")
    assert wrong.returncode == 2
    assert "frame 120 is the first without object 2" in wrong.stderr


def test_python_users_correct_too(tiny: LiVOS, clip: list, video: Path, tmp_path: Path) -> None:
    """`livos_cli.segment` is the same as the command."""
    for frame, ids in ((0, np.choose(clip[0][1], [0, 2, 1])), (8, clip[8][1]), (12, BLACK)):
        path = tmp_path / "masks" / f"{frame}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), ids.astype(np.uint8))
    options = SegmentOptions(end=Position(frame=14))
    got = list(livos_cli.segment(video, tmp_path / "masks", model=tiny, options=options))
    for result in got[8:12]:
        assert jaccard(result.mask == 1, clip[result.index][1] == 1) > 0.8
    assert [bool(result.mask.any()) for result in got[11:]] == [True, False, False]
