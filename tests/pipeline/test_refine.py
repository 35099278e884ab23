"""--refine: frames between two masks are tracked from both."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from conftest import Livos
from media import decode, files, scene, visible, write_png, write_video

import livos_cli
from livos_cli.errors import InterruptionError, OutputError, UsageError
from livos_cli.evaluation.score import jaccard
from livos_cli.network import LiVOS
from livos_cli.options import Checkpointing, Drop, Position, RunOptions, SegmentOptions
from livos_cli.outputs.formats import KINDS
from livos_cli.pipeline.refine import Soft, SoftSpool, blend
from livos_cli.pipeline.report import Begin, Observer, Report
from livos_cli.pipeline.run import run

FRAMES, KEY = 24, 16
BLACK = np.zeros((96, 128), np.uint8)


def images(objects: int = 2) -> list[Any]:
    return scene(96, 128, FRAMES, objects=objects, seed=1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long groups of pictures with frames that depend on later ones, and sound."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    options = {"g": "10", "bf": "3", "b_strategy": "0", "crf": "8"}
    return write_video(path, [rgb for rgb, _ in images()], options=options, tone=True)


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first one has the two objects the wrong way round; the second corrects that."""
    folder = tmp_path_factory.mktemp("masks")
    ids = [ids for _, ids in images()]
    write_png(folder / "00000.png", np.choose(ids[0], [0, 2, 1]).astype(np.uint8), "pal8")
    write_png(folder / f"{KEY:05d}.png", ids[KEY], "pal8")
    return folder


def segment(model: LiVOS, video: Path, mask: Path, out: Path, **options: Any) -> Report:
    save = options.pop("save", ("mask",))
    return run(
        video,
        mask,
        model,
        SegmentOptions(**{"refine": True, **options}),
        RunOptions(save=save, output=out),
    )


def scores(out: Path) -> list[float]:
    """Mean J of the objects, in each frame."""
    return [
        float(np.mean([jaccard(found == i, ids == i) for i in (1, 2)]))
        for found, (_, ids) in zip(decode(out / "clip.mask.mkv"), images(), strict=True)
    ]


def test_frames_before_a_correction_gain(
    tiny: LiVOS, clip: Path, masks: Path, tmp_path: Path
) -> None:
    segment(tiny, clip, masks, tmp_path / "plain", refine=False)
    report = segment(tiny, clip, masks, tmp_path / "refined")
    plain, refined = scores(tmp_path / "plain"), scores(tmp_path / "refined")
    assert report.frames == FRAMES
    assert np.mean(refined[9:KEY]) > np.mean(plain[9:KEY]) + 0.2
    assert refined[KEY - 1] > 0.8 > 0.5 > plain[KEY - 1]
    # At a mask and after the last one nothing is different.
    one, other = (decode(tmp_path / name / "clip.mask.mkv") for name in ("plain", "refined"))
    for frame in (0, *range(KEY, FRAMES)):
        assert np.array_equal(one[frame], other[frame])


@pytest.mark.slow
def test_a_real_sequence_gains(shared: Path, tiny: LiVOS, tmp_path: Path) -> None:
    data = shared / "data" / "davis-train"
    with av.open(str(data / "dance-jump.masks.mkv")) as truth:
        true = [f.to_ndarray(format="gray") > 127 for f in truth.decode(video=0)]
    for frame in (0, 20):
        write_png(tmp_path / "masks" / f"{frame:05d}.png", true[frame].astype(np.uint8), "gray")
    before = []
    for refine in (False, True):
        options = SegmentOptions(end=Position(frame=21), refine=refine)
        found = livos_cli.segment(
            data / "dance-jump.mp4", tmp_path / "masks", model=tiny, options=options
        )
        before.append(np.mean([jaccard(r.mask > 0, true[r.index]) for r in found][:20]))
    print(f"J of the 20 frames before: {before[0]:.4f}, refined {before[1]:.4f}")
    assert before[1] > before[0] + 0.05


def test_every_kind_of_output(tiny: LiVOS, clip: Path, tmp_path: Path) -> None:
    masks, ids = tmp_path / "masks", [ids for _, ids in images()]
    for frame in (0, KEY):
        write_png(masks / f"{frame}.png", ids[frame], "pal8")
    report = segment(tiny, clip, masks, tmp_path, save=tuple(KINDS))
    assert set(report.outputs) == set(KINDS)
    decided = decode(tmp_path / "clip.mask.mkv")
    mattes = decode(tmp_path / "clip.matte.mkv")
    assert len(decided) == len(mattes) == FRAMES
    for found, matte in zip(decided, mattes, strict=True):
        # Background may be likelier than either of two objects, and not than both together.
        assert ((found > 0) == (matte > 127)).mean() > 0.97
    assert len(list((tmp_path / "clip").glob("*.png"))) == FRAMES


@pytest.mark.slow
def test_what_is_not_in_both_masks(tiny: LiVOS, clip: Path, tmp_path: Path) -> None:
    """Object 2 enters at its mask, not before; object 1, missing there, goes on as predicted."""
    ids = [ids for _, ids in images()]
    for frame, only in ((2, 1), (10, 2), (18, 1)):
        drawn = np.where(ids[frame] == only, only, 0).astype(np.uint8)
        write_png(tmp_path / "masks" / f"{frame}.png", drawn, "pal8")
    segment(tiny, clip, tmp_path / "masks", tmp_path / "out")
    found = [set(np.unique(f)) - {0} for f in decode(tmp_path / "out" / "clip.mask.mkv")]
    assert found == [set()] * 2 + [{1}] * 8 + [{1, 2}] * (FRAMES - 10)
    # The mask of frame 18 reaches back past that of frame 10, which says nothing of object 1.
    segment(tiny, clip, tmp_path / "masks", tmp_path / "plain", refine=False)
    one, other = (decode(tmp_path / name / "clip.mask.mkv") for name in ("plain", "out"))
    assert any(not np.array_equal(one[f] == 1, other[f] == 1) for f in range(3, 10))


def test_ends_hold_both_ways(tiny: LiVOS, clip: Path, tmp_path: Path) -> None:
    """Object 1 is dropped at 8 and shown again at 16; all ends at 12, where the mask is black."""
    ids = [ids for _, ids in images()]
    for frame, drawn in ((0, ids[0]), (12, BLACK), (16, ids[16])):
        write_png(tmp_path / "masks" / f"{frame}.png", drawn, "pal8")
    report = segment(tiny, clip, tmp_path / "masks", tmp_path / "out", drop=(Drop(1, 8),))
    found = [set(np.unique(f)) - {0} for f in decode(tmp_path / "out" / "clip.mask.mkv")]
    assert found == [{1, 2}] * 8 + [{2}] * 4 + [set()] * 4 + [{1, 2}] * 8
    said = [w for w in report.warnings if "black" in w or "drop" in w]
    assert said == ["the mask of frame 12 is black for object 2: not followed from there on"]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"start": Position(frame=4), "end": Position(frame=20)}, range(4, 20)),
        ({"start": Position(seconds=0.16), "end": Position(seconds=0.8)}, range(4, 20)),
        ({"end": Position(seconds=0.4)}, range(10)),  # what its mask says counts all the same
        ({"origin": 3}, range(3, FRAMES)),
    ],
)
def test_a_part_of_the_video(
    options: dict[str, Any], kept: range, tiny: LiVOS, clip: Path, tmp_path: Path
) -> None:
    ids = [ids for _, ids in images()]
    for frame in (0, 5, KEY):
        write_png(tmp_path / "masks" / f"{frame}.png", ids[frame], "pal8")
    given = SegmentOptions(refine=True, **options)
    got = list(livos_cli.segment(clip, tmp_path / "masks", model=tiny, options=given))
    assert [result.index for result in got] == list(kept)
    for result in got:
        if result.index in (5, KEY):
            assert np.array_equal(result.mask, ids[result.index])
        elif result.index > 5:
            assert jaccard(result.mask == 1, ids[result.index] == 1) > 0.6


def test_one_mask_has_nothing_to_refine(tiny: LiVOS, clip: Path, tmp_path: Path) -> None:
    mask = write_png(tmp_path / "first.png", images()[0][1], "pal8")
    report = segment(tiny, clip, mask, tmp_path / "out")
    segment(tiny, clip, mask, tmp_path / "plain", refine=False)
    assert any("--refine has nothing to do" in warning for warning in report.warnings)
    assert files(tmp_path / "out") == files(tmp_path / "plain")


@pytest.mark.slow
@pytest.mark.parametrize("more", [(KEY,), ()])
def test_masks_past_the_end_are_said(
    more: tuple[int, ...], tiny: LiVOS, clip: Path, tmp_path: Path
) -> None:
    """As without --refine, which refused them; the other masks count as they do without it."""
    ids = [ids for _, ids in images()]
    for name, frames in (("with", (0, *more, FRAMES, FRAMES + 7)), ("without", (0, *more))):
        for frame in frames:
            shown = ids[min(frame, FRAMES - 1)]
            write_png(tmp_path / name / f"{frame:05d}.png", shown, "pal8")
    report = segment(tiny, clip, tmp_path / "with", tmp_path / "a")
    segment(tiny, clip, tmp_path / "without", tmp_path / "b")
    said = f"no frame was read for the masks of frames {FRAMES}, {FRAMES + 7}"
    assert said in report.warnings
    assert files(tmp_path / "a") == files(tmp_path / "b")


@pytest.mark.slow
def test_a_refined_run_begins_anew(tiny: LiVOS, clip: Path, masks: Path, tmp_path: Path) -> None:
    """As a way back does: nothing is left of it, and the next one does all of it again."""
    asked = iter(range(1, 1 << 30))
    keep = Checkpointing("w", 0.0, stop=lambda: next(asked) >= 5)
    begun: list[Begin] = []
    options, output = SegmentOptions(refine=True), RunOptions(output=tmp_path / "cut")
    run(clip, masks, tiny, options, output, keep=keep, observer=Observer(begin=begun.append))
    assert begun[0].resumed is None
    assert begun[0].back == KEY - 1
    segment(tiny, clip, masks, tmp_path / "left")
    assert files(tmp_path / "cut") == files(tmp_path / "left")
    # A checkpoint of a run without it is of other settings.
    plain = RunOptions(output=tmp_path / "plain")
    with pytest.raises(InterruptionError):
        run(clip, masks, tiny, SegmentOptions(), plain, keep=keep)
    segment(tiny, clip, masks, tmp_path / "plain")
    kept = {n: b for n, b in files(tmp_path / "plain").items() if visible(n)}
    assert kept == files(tmp_path / "left")


def test_the_command(livos: Livos, clip: Path, masks: Path, tmp_path: Path) -> None:
    done = livos("segment", clip, "-m", masks, "-o", tmp_path, "--refine", "--save", "overlay")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "clip.overlay.mp4").exists()


def test_streams_are_refused_in_one_line(livos: Livos, clip: Path, masks: Path) -> None:
    done = livos("segment", "-", "-m", masks, "-o", "x", "--refine", stdin=clip.read_bytes())
    assert done.returncode == 2
    assert "a stream cannot be read twice" in done.stderr
    assert "save it to a file first" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"direction": "both", "origin": 3}, "remove --direction"),
        ({"direction": "backward", "origin": 3}, "remove --direction"),
        ({"latency_first": True}, "a live source has no way back"),
    ],
)
def test_what_it_does_not_go_with(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        SegmentOptions(refine=True, **options)


def test_stretches_are_refused(clip: Path, masks: Path, tmp_path: Path) -> None:
    from livos_cli.batch.split import plan_stretches

    with pytest.raises(UsageError, match="remove --refine"):
        plan_stretches(
            clip, masks, SegmentOptions(refine=True), RunOptions(output=tmp_path), "weights"
        )


# How two ways become one.


def soft(since: dict[int, int], *values: float) -> Soft:
    """One pixel with these probabilities of objects."""
    prob = torch.tensor([1 - sum(values), *values]).view(-1, 1, 1)
    return Soft(prob, since)


def test_where_both_ways_agree_they_stay() -> None:
    for index in range(1, 10):
        both = blend(soft({7: 0}, 0.9), soft({7: 10}, 0.9), index)
        assert torch.allclose(both, torch.tensor([0.1, 0.9]).view(2, 1, 1), atol=1e-6)


def test_the_nearer_mask_has_more_say() -> None:
    found = [float(blend(soft({7: 0}, 0.9), soft({7: 10}, 0.1), i)[1]) for i in range(1, 10)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.8
    assert found[4] == pytest.approx(0.5)
    assert found[-1] < 0.2


def test_objects_are_matched_by_id_and_weighed_by_their_own_masks() -> None:
    forth = soft({1: 0, 2: 4, 3: 0}, 0.8, 0.1, 0.05)
    back = soft({9: 6, 2: 6, 1: 20}, 0.9, 0.3, 0.6)
    prob = blend(forth, back, 5)
    assert prob.shape == (4, 1, 1)
    assert float(prob.sum()) == pytest.approx(1)
    only = blend(soft({3: 0}, 0.05), back, 5)
    assert float(only[1]) == pytest.approx(0.05)  # the way back does not know it
    # A quarter of the way back for object 1, half of it for object 2.
    expected = [torch.logit(torch.tensor(p)) for p in (0.8, 0.6, 0.1, 0.3)]
    first = torch.lerp(expected[0], expected[1], 0.25).sigmoid()
    second = torch.lerp(expected[2], expected[3], 0.5).sigmoid()
    assert float(prob[1] / prob[2]) == pytest.approx(float(first / second), rel=1e-4)


def test_a_given_mask_is_not_blended() -> None:
    forth = soft({1: 5}, 1.0)
    assert torch.equal(blend(forth, soft({1: 5}, 0.2), 5), forth.prob)


def test_soft_results_wait_on_disk() -> None:
    rng = np.random.default_rng(0)
    kept = []
    with SoftSpool() as spool:
        for count in (0, 1, 3):
            found = torch.from_numpy(rng.dirichlet(np.ones(count + 1), (8, 12))).float()
            kept.append(Soft(found.movedim(-1, 0), {10 + n: n for n in range(count)}))
            spool.push(kept[-1])
        assert len(spool) == 3
        for item in reversed(kept):
            got = spool.pop()
            assert list(got.since.items()) == list(item.since.items())
            assert torch.allclose(got.prob[1:], item.prob[1:], atol=0.5 / 255 + 1e-6)
        assert not spool


def test_a_full_disk_is_one_line() -> None:
    def fill() -> None:
        with Path("/dev/full").open("r+b", buffering=1 << 14) as full, SoftSpool() as spool:
            spool._file.close()
            spool._file = full
            for _ in range(100):
                spool.push(Soft(torch.rand(2, 64, 64), {1: 0}))

    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(OutputError, match="way back"):
        fill()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_distance_of_masks(tmp_path: Path) -> None:
    """Peak of a process with two masks 40 and 240 frames apart."""
    made = images(1)
    peaks = []
    for count in (40, 240):
        folder = tmp_path / str(count)
        rgb = [made[n % FRAMES][0] for n in range(count)]
        folder.mkdir()
        video = write_video(folder / "clip.mp4", rgb, options={"g": "12"})
        for frame in (0, count - 1):
            write_png(folder / "masks" / f"{frame}.png", made[frame % FRAMES][1], "gray")
        code = (
            "import resource, sys, livos_cli\n"
            "from livos_cli.options import SegmentOptions\n"
            "options = SegmentOptions(max_size=32, refine=True)\n"
            "for _ in livos_cli.segment(sys.argv[1], sys.argv[2], device='cpu',"
            " options=options): pass\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        if sys.platform != "linux":
            pytest.skip("ru_maxrss is in kilobytes on Linux alone")
        done = subprocess.run(
            [sys.executable, "-c", code, str(video), str(folder / "masks")],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout))
    # All results at once would be 200 x 12 KB in masks alone, and 7 MB in probabilities; a
    # decoded frame is 18 KB, 3.6 MB for all.
    assert peaks[1] < peaks[0] * 1.03
