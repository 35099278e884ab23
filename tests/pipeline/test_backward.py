"""Backward and both ways, corrections, drops; and frames read backward, bit for bit."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media import decode, scene, times, write_png, write_video

import livos_cli
from livos_cli.errors import InputError, UsageError
from livos_cli.evaluation.score import jaccard
from livos_cli.network import LiVOS
from livos_cli.options import Drop, Position, RawVideo, RunOptions, SegmentOptions
from livos_cli.pipeline.report import Report
from livos_cli.pipeline.run import run
from livos_cli.video.backward import read_backward
from livos_cli.video.reader import open_source

FRAMES = 40


def images(frames: int = FRAMES, objects: int = 1) -> list[Any]:
    return scene(96, 128, frames, objects=objects, seed=5)


def make(case: str, folder: Path) -> Path:
    """Videos whose groups of pictures differ."""
    rgb = [frame for frame, _ in images()]
    if case == "B-frames":
        options = {"bf": "3", "b_strategy": "0", "g": "10"}
        return write_video(folder / "a.mp4", rgb, options=options)
    if case == "open groups":
        options = {"x264-params": "keyint=12:min-keyint=12:open-gop=1:bframes=3:scenecut=0"}
        return write_video(folder / "a.mkv", rgb, options=options)
    if case == "one group":
        return write_video(folder / "a.mp4", rgb, options={"g": "1000"})
    if case == "HEVC":
        options = {"x265-params": "keyint=15:open-gop=1:log-level=error"}
        return write_video(folder / "a.mp4", rgb, codec="libx265", options=options)
    if case == "transport stream":
        return write_video(folder / "a.ts", rgb, options={"g": "9", "bf": "2"})
    if case == "late, uneven":
        pts = [700 + 40 * n + 7 * (n % 3) for n in range(FRAMES)]
        return write_video(folder / "a.mkv", rgb, pts=pts, time_base=Fraction(1, 1000))
    if case == "raw":
        (folder / "a.rgb").write_bytes(b"".join(image.tobytes() for image in rgb))
        return folder / "a.rgb"
    if case == "turned":
        return write_video(folder / "a.mp4", rgb, rotation=90, options={"g": "8"})
    if case == "images":
        for index, image in enumerate(rgb):
            write_png(folder / "frames" / f"{index:03d}.png", image, "rgb24")
        return folder / "frames"
    return write_video(folder / "a.mkv", rgb, codec="ffv1", pix_fmt="yuv444p")


CASES = [
    "B-frames",
    "open groups",
    "one group",
    "HEVC",
    "transport stream",
    "late, uneven",
    "turned",
    "images",
    "raw",
    "intra",
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("cache", [1, 1 << 30])
def test_frames_read_backward_are_those_read_forward(case: str, cache: int, tmp_path: Path) -> None:
    video = make(case, tmp_path)
    raw = RawVideo(128, 96) if case == "raw" else None
    with open_source(video, raw=raw) as source:
        forward = {frame.index: frame.rgb for frame in source}
    assert len(forward) == FRAMES
    for last, start in ((FRAMES - 1, None), (25, None), (30, Position(frame=13)), (0, None)):
        back = list(read_backward(video, last, start=start, raw=raw, cache_bytes=cache))
        first = 0 if start is None else 13
        assert [index for index, _ in back] == list(range(last, first - 1, -1))
        assert all(np.array_equal(rgb, forward[index]) for index, rgb in back)


def test_what_cannot_be_read_backward_says_so(tmp_path: Path) -> None:
    rgb = [frame for frame, _ in images(6)]
    bare = write_video(tmp_path / "a.h264", rgb, container="h264")
    with pytest.raises(InputError, match="do not tell its frames apart"):
        list(read_backward(bare, 5))
    for stream in ("-", "rtsp://camera/1"):
        with pytest.raises(InputError, match="is a stream"):
            list(read_backward(stream, 5))


def segment(model: LiVOS, video: Path, mask: Path, out: Path, *save: str, **options: Any) -> Report:
    settings = SegmentOptions(max_size=96, **options)
    return run(video, mask, model, settings, RunOptions(save=save or ("mask",), output=out))


def folders(tmp_path: Path, frames: list[np.ndarray]) -> tuple[Path, Path]:
    """A clip as PNGs, and the same reversed: the very same pixels."""
    for index, rgb in enumerate(frames):
        write_png(tmp_path / "clip" / f"{index:03d}.png", rgb, "rgb24")
        write_png(tmp_path / "reversed" / f"{len(frames) - 1 - index:03d}.png", rgb, "rgb24")
    return tmp_path / "clip", tmp_path / "reversed"


@pytest.mark.slow
def test_backward_is_forward_of_the_reversed_clip(tmp_path: Path, tiny: LiVOS) -> None:
    made = images(objects=2)
    clip, turned = folders(tmp_path, [rgb for rgb, _ in made])
    video = write_video(
        tmp_path / "clip.mkv",
        [rgb for rgb, _ in made],
        codec="libx264rgb",
        pix_fmt="rgb24",
        options={"qp": "0", "g": "12", "bf": "2"},
    )
    mask = write_png(tmp_path / "last.png", made[-1][1], "pal8")
    ids = decode(segment(tiny, turned, mask, tmp_path / "out").outputs["mask"])[::-1]
    assert len(np.unique(ids[0])) == 3  # both objects are still there after forty frames
    for source in (clip, video):
        found = segment(
            tiny,
            source,
            mask,
            tmp_path / f"out-{source.name}",
            direction="backward",
            origin=FRAMES - 1,
        )
        got = decode(found.outputs["mask"])
        assert found.frames == len(got) == FRAMES
        assert all(np.array_equal(a, b) for a, b in zip(got, ids, strict=True))


@pytest.mark.slow
def test_both_ways_are_each_way_merged_in_order(tmp_path: Path, tiny: LiVOS) -> None:
    made = images(objects=2)
    video = write_video(tmp_path / "a.mp4", [rgb for rgb, _ in made], options={"g": "7"})
    mask = write_png(tmp_path / "mid.png", made[17][1], "pal8")
    kinds = ("mask", "matte", "png")

    def way(direction: str) -> Report:
        out = tmp_path / direction
        return segment(tiny, video, mask, out, *kinds, direction=direction, origin=17)

    back, forth, both = way("backward"), way("forward"), way("both")
    assert (back.frames, forth.frames, both.frames) == (18, 23, FRAMES)
    for kind in ("mask", "matte"):
        one, other = (decode(report.outputs[kind]) for report in (back, forth))
        got = decode(both.outputs[kind])
        want = [*one[:17], *other]
        assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True)), kind
    assert [p.stem for p in sorted(both.outputs["png"].iterdir())] == [
        f"{n:05d}" for n in range(FRAMES)
    ]
    gaps = [abs(a - b) for a, b in zip(times(both.outputs["mask"]), times(video), strict=True)]
    assert max(gaps) <= Fraction(1, 2000)
    # The API, too.
    options = SegmentOptions(max_size=96, direction="both", origin=17)
    results = list(livos_cli.segment(video, mask, model=tiny, options=options))
    assert [r.index for r in results] == list(range(FRAMES))
    assert all(
        np.array_equal(r.mask, ids)
        for r, ids in zip(results, decode(both.outputs["mask"]), strict=True)
    )


@pytest.mark.slow
def test_key_masks_both_ways(tmp_path: Path, tiny: LiVOS) -> None:
    """Tracking begins at the first; the others enter when their frame comes."""
    made = images(objects=2)
    video = write_video(tmp_path / "a.mp4", [rgb for rgb, _ in made])
    one = np.where(made[12][1] == 1, 1, 0).astype(np.uint8)
    two = np.where(made[30][1] == 2, 2, 0).astype(np.uint8)
    three = np.where(made[5][1] == 2, 3, 0).astype(np.uint8)
    for frame, mask in ((12, one), (30, two), (5, three)):
        write_png(tmp_path / "masks" / f"{frame:05d}.png", mask, "pal8")
    report = segment(tiny, video, tmp_path / "masks", tmp_path / "out", direction="both", origin=12)
    seen = [set(np.unique(ids)) - {0} for ids in decode(report.outputs["mask"])]
    assert all(3 in ids for ids in seen[:6])  # enters at 5 on the way back
    assert not any(3 in ids for ids in seen[6:])
    assert all(1 in ids for ids in seen)
    assert not any(2 in ids for ids in seen[:30])
    assert all(2 in ids for ids in seen[30:])
    first = segment(tiny, video, tmp_path / "masks", tmp_path / "first", direction="both")
    assert 3 in np.unique(decode(first.outputs["mask"])[0])  # begins at frame 5 if not told


def test_drop(tmp_path: Path, tiny: LiVOS) -> None:
    made = images(objects=2)
    video = write_video(tmp_path / "a.mp4", [rgb for rgb, _ in made])
    mask = write_png(tmp_path / "mid.png", made[20][1], "pal8")
    report = segment(
        tiny, video, mask, tmp_path / "out", direction="both", origin=20,
        drop=(Drop(2, 30), Drop(1, 9)),
    )  # fmt: skip
    seen = [set(np.unique(ids)) - {0} for ids in decode(report.outputs["mask"])]
    assert all(2 in ids for ids in seen[:30])
    assert not any(2 in ids for ids in seen[30:])
    assert all(1 in ids for ids in seen[10:])
    assert not any(1 in ids for ids in seen[:10])
    everything = segment(
        tiny, video, mask, tmp_path / "none", origin=20, drop=(Drop(1, 25), Drop(2, 25))
    )
    seen = [set(np.unique(ids)) - {0} for ids in decode(everything.outputs["mask"])]
    assert all(seen[:5])
    assert not any(seen[5:])
    with pytest.raises(UsageError, match="no mask has an object 7"):
        segment(tiny, video, mask, tmp_path / "x", origin=20, drop=(Drop(7, 25),))


@pytest.mark.slow
def test_a_wrong_mask_is_corrected(shared: Path, tmp_path: Path, tiny: LiVOS) -> None:
    """`car-turn` begun with half of the car and some road; put right at frame 40."""
    folder = shared / "data" / "davis-train"
    with av.open(str(folder / "car-turn.masks.mkv")) as container:
        truth = [f.to_ndarray(format="gray") > 0 for f in container.decode(video=0)]
    right = (truth[0] * 255).astype(np.uint8)
    columns = np.flatnonzero(truth[0].any(axis=0))
    middle = int(columns.mean())
    wrong = right.copy()
    wrong[:, middle:] = 0
    wrong[-120:, : middle // 2] = 255
    write_png(tmp_path / "wrong" / "00000.png", wrong, "gray")
    write_png(tmp_path / "fixed" / "00000.png", wrong, "gray")
    write_png(tmp_path / "fixed" / "00040.png", (truth[40] * 255).astype(np.uint8), "gray")

    def after(masks: Path) -> tuple[float, float]:
        out = tmp_path / f"out-{masks.name}"
        report = run(
            folder / "car-turn.mp4",
            masks,
            tiny,
            SegmentOptions(max_size=192, end=Position(frame=60)),
            RunOptions(output=out),
        )
        found = decode(report.outputs["mask"])
        scores = [jaccard(a > 0, b) for a, b in zip(found, truth, strict=False)]
        return float(np.mean(scores[1:40])), float(np.mean(scores[41:60]))

    uncorrected, corrected = after(tmp_path / "wrong"), after(tmp_path / "fixed")
    print(f"J of frames 1-39, 41-59: {uncorrected} without, {corrected} with the correction")
    assert corrected[0] == uncorrected[0]
    assert corrected[1] > uncorrected[1] + 0.2


@pytest.mark.slow
def test_wrong_usage_is_said_before_any_work(livos: Any, tmp_path: Path) -> None:
    made = images(4)
    video = write_video(tmp_path / "a.mp4", [rgb for rgb, _ in made])
    mask = write_png(tmp_path / "m.png", made[0][1], "gray")
    cases = [
        (["--direction", "both"], "add --from FRAME"),
        (["--direction", "sideways"], "unknown direction"),
        (["--from", "x"], "is not a position"),
        (["--from", "3f", "--end", "2f"], "not before --end"),
        (["--from", "1f", "--start", "2f"], "before --start"),
        (["--drop", "2"], "not ID@POS"),
    ]
    for arguments, said in cases:
        done = livos("segment", video, "-m", mask, "-o", tmp_path / "out", *arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    for arguments, said in (
        (["--direction", "both", "--from", "1f", "--start", "0.08"], "--from 1f is before --start"),
        (["--direction", "both", "--from", "3f", "--end", "0.08"], "--from 3f is not before --end"),
    ):
        late = livos("segment", video, "-m", mask, "-o", tmp_path / "out", *arguments)
        assert late.returncode == 1
        assert said in late.stderr
    past = livos("segment", video, "-m", mask, "--direction", "both", "--from", "9f")
    assert past.returncode == 1
    assert "has no frame 9" in past.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "m.png"]


def test_times_do_not_repeat(tmp_path: Path, tiny: LiVOS) -> None:
    made = images(12)
    video = write_video(tmp_path / "a.mp4", [rgb for rgb, _ in made], tone=True)
    mask = write_png(tmp_path / "m.png", made[6][1], "gray")
    report = segment(tiny, video, mask, tmp_path / "out", "overlay", direction="both", origin=6)
    shown = times(report.outputs["overlay"])
    assert shown == times(video)
    assert all(a < b for a, b in pairwise(shown))


def test_a_way_back_without_a_mask_is_no_success(tmp_path: Path, tiny: LiVOS) -> None:
    made = images(30)
    video = write_video(tmp_path / "a.mp4", [rgb for rgb, _ in made])
    write_png(tmp_path / "masks" / "00025.png", made[25][1], "gray")
    for direction, more in (("backward", {}), ("both", {"end": Position(frame=20)})):
        with pytest.raises(InputError, match="no mask belongs to a frame"):
            segment(
                tiny, video, tmp_path / "masks", tmp_path / "out", direction=direction,
                origin=10, **more,
            )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_corrections_and_drops_are_no_faults(tmp_path: Path, tiny: LiVOS) -> None:
    """The area jumps where a mask says so, on the way back as forward."""
    made = images(objects=2)
    video = write_video(tmp_path / "a.mp4", [rgb for rgb, _ in made])
    whole = made[20][1]
    small = np.zeros_like(made[10][1])
    rows, columns = np.nonzero(made[10][1] == 1)
    small[rows[: len(rows) // 8], columns[: len(rows) // 8]] = 1
    for frame, ids in ((20, whole), (10, small), (30, np.where(small, 1, 0).astype(np.uint8))):
        write_png(tmp_path / "masks" / f"{frame:05d}.png", ids, "pal8")
    report = segment(
        tiny, video, tmp_path / "masks", tmp_path / "out", direction="both", origin=20,
        drop=(Drop(2, 35),),
    )  # fmt: skip
    areas = [int((ids == 1).sum()) for ids in decode(report.outputs["mask"])]
    assert areas[10] * 3 < areas[11]  # there is something to be silent about
    assert not [w for w in report.warnings if "frame 10" in w or "frame 11" in w]
    assert not [w for w in report.warnings if "frame 30" in w or "vanishes at frame 35" in w]


def test_images_of_another_size_are_one_line(tmp_path: Path, tiny: LiVOS) -> None:
    clip, _ = folders(tmp_path, [rgb for rgb, _ in images(6)])
    write_png(clip / "001.png", np.zeros((32, 48, 3), np.uint8), "rgb24")
    mask = write_png(tmp_path / "m.png", images(6)[4][1], "gray")
    with pytest.raises(InputError, match=r"001\.png is 48x32"):
        segment(tiny, clip, mask, tmp_path / "out", direction="both", origin=4)


def test_a_full_disk_on_the_way_back_is_one_line() -> None:
    """/dev/full stands for the disk of temporary files."""
    from livos_cli.errors import OutputError
    from livos_cli.outputs.formats import FrameResult
    from livos_cli.pipeline.spool import Spool

    def fill() -> None:
        with Path("/dev/full").open("r+b", buffering=1 << 14) as full, Spool() as spool:
            spool._file.close()
            spool._file = full
            rng = np.random.default_rng(0)
            for _ in range(100):
                spool.push(FrameResult(rng.integers(0, 255, (64, 64), dtype=np.uint8)))

    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(OutputError, match="way back"):
        fill()
