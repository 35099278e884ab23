"""Frames in = frames out: count, timestamps, size, colour and sound, with real codecs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest
from media import decode, scene, times, write_png, write_video

from livos_cli.errors import InputError, UsageError
from livos_cli.evaluation.score import jaccard
from livos_cli.network import LiVOS
from livos_cli.options import Position, RunOptions, SegmentOptions
from livos_cli.pipeline.report import Report
from livos_cli.pipeline.run import run
from livos_cli.video.colour import from_rgb, in_bt2020, planes_of
from livos_cli.video.reader import open_source

IRREGULAR = [0, 33, 67, 150, 151, 400, 433, 500, 1000, 1040]  # ms


def images(height: int = 72, width: int = 96, frames: int = 10) -> list[Any]:
    return scene(height, width, frames, seed=5)


def make(case: str, folder: Path) -> Path:
    """A video of the table below."""
    rgb = [frame for frame, _ in images(*((71, 95) if case == "odd size" else (72, 96)))]
    path = folder / "clip.mp4"
    if case == "variable rate":
        return write_video(path, rgb, pts=IRREGULAR, time_base=Fraction(1, 1000))
    if case == "29.97 fps":
        return write_video(path, rgb, time_base=Fraction(1001, 30000), rate=Fraction(30000, 1001))
    if case == "rotated by 90 degrees":
        return write_video(path, rgb, rotation=90)
    if case == "10-bit":
        return write_video(path, rgb, codec="libx265", pix_fmt="yuv420p10le")
    if case == "odd size":
        return write_video(path, rgb, pix_fmt="yuv444p")
    if case == "no timestamps":
        return write_video(folder / "clip.h264", rgb, container="h264")
    if case == "B-frames":
        return write_video(path, rgb, options={"bf": "3", "b_strategy": "0", "g": "10"})
    if case == "late start":
        return write_video(path.with_suffix(".mkv"), rgb, pts=[n + 50 for n in range(10)])
    return write_video(path, rgb)


CASES = [
    "constant rate",
    "29.97 fps",
    "variable rate",
    "rotated by 90 degrees",
    "10-bit",
    "odd size",
    "no timestamps",
    "B-frames",
    "late start",
]


def segment(
    model: LiVOS,
    video: Path,
    mask: Path,
    out: Path,
    save: tuple[str, ...] = ("mask", "overlay", "png"),
    **options: Any,
) -> Report:
    settings = SegmentOptions(max_size=64, **options)
    return run(video, mask, model, settings, RunOptions(save=save, output=out))


@pytest.mark.parametrize("case", CASES)
def test_frames_times_and_size_out_equal_in(case: str, tmp_path: Path, tiny: LiVOS) -> None:
    video = make(case, tmp_path)
    ids = images()[0][1]
    height, width = (71, 95) if case == "odd size" else (72, 96)
    if "rotated" in case:
        height, width = width, height
        ids = np.rot90(ids)
    mask = write_png(tmp_path / "first.png", cv2.resize(ids, (width, height)), "gray")
    report = segment(tiny, video, mask, tmp_path / "out")
    assert report.frames == 10
    expected = times(video) if case != "no timestamps" else [Fraction(n, 25) for n in range(10)]

    # Matroska counts milliseconds; MP4 keeps the source's own clock.
    masks = report.outputs["mask"]
    got = times(masks)
    assert len(got) == 10
    assert all(abs(a - b) <= Fraction(1, 2000) for a, b in zip(got, expected, strict=True))
    assert decode(masks)[0].shape == (height, width)

    overlay = report.outputs["overlay"]
    assert times(overlay) == expected
    assert decode(overlay, "rgb24")[0].shape == (height, width, 3)

    numbered = sorted(report.outputs["png"].iterdir())
    assert [p.name for p in numbered] == [f"{n:05d}.png" for n in range(10)]
    assert cv2.imread(str(numbered[0])).shape == (height, width, 3)


def test_first_mask_and_pngs_agree_with_the_mask_video(tmp_path: Path, tiny: LiVOS) -> None:
    clip = scene(72, 96, 6, objects=2, seed=5)
    video = write_video(tmp_path / "two.mp4", [rgb for rgb, _ in clip])
    mask = write_png(tmp_path / "first.png", clip[0][1], "pal8")
    report = segment(tiny, video, mask, tmp_path / "out")
    ids = decode(report.outputs["mask"])
    assert np.array_equal(ids[0], clip[0][1])
    for path, frame in zip(sorted(report.outputs["png"].iterdir()), ids, strict=True):
        with av.open(str(path)) as container:
            picture: Any = next(container.decode(video=0))
            assert picture.format.name == "pal8"
            indices, palette = picture.to_ndarray(format="pal8")
        assert np.array_equal(indices, frame)
        assert palette[1].tolist() == [255, 128, 0, 0]  # DAVIS: the first object is dark red


def test_one_object_is_0_and_255(tmp_path: Path, tiny: LiVOS) -> None:
    video = make("constant rate", tmp_path)
    mask = write_png(tmp_path / "first.png", images()[0][1] * 7, "gray")
    report = segment(tiny, video, mask, tmp_path / "out", save=("mask",))
    assert report.ids == (7,)
    assert set(np.unique(decode(report.outputs["mask"]))) <= {0, 255}


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_rotation_tags_are_applied(rotation: int, turns: int, tmp_path: Path) -> None:
    rgb = [frame for frame, _ in images()]
    upright = write_video(tmp_path / "a.mp4", rgb)
    tagged = write_video(tmp_path / "b.mp4", rgb, rotation=rotation)
    with open_source(upright) as one, open_source(tagged) as other:
        for a, b in zip(one, other, strict=True):
            assert np.array_equal(np.rot90(a.rgb, turns), b.rgb)


@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "yuv444p"])
def test_colour_matrix_and_range(
    matrix: int, full_range: bool, pix_fmt: str, tmp_path: Path
) -> None:
    colour = (200, 50, 20)
    image = np.full((64, 64, 3), colour, np.uint8)
    path = write_video(
        tmp_path / "c.mkv",
        [image] * 3,
        codec="ffv1",
        pix_fmt=pix_fmt,
        matrix=matrix,
        full_range=full_range,
    )
    with open_source(path) as source:
        frame = next(iter(source))
    # Each of the two conversions may round by one step or two.
    assert np.abs(frame.rgb[32, 32].astype(int) - colour).max() <= 4


@pytest.mark.parametrize("matrix", [1, 5, 7, 9])
@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv420p10le"])
def test_what_is_drawn_is_written_in_the_sources_matrix(matrix: int, pix_fmt: str) -> None:
    """Luma of a colour, by the standards' own weights; for BT.2020 also where PyAV has none."""
    red, blue = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}[
        matrix
    ]
    rgb = np.full((64, 64, 3), (200, 50, 20), np.uint8)
    info: Any = SimpleNamespace(matrix=matrix)
    luma = (red * 200 + (1 - red - blue) * 50 + blue * 20) / 255
    depth = 4 if pix_fmt.endswith("10le") else 1
    made = [from_rgb(rgb, pix_fmt, info)]
    if matrix == 9:
        made.append(in_bt2020(rgb).reformat(format=pix_fmt))
    for picture in made:
        got = planes_of(picture)
        assert abs(int(got[0][32, 32]) - depth * (16 + 219 * luma)) <= depth
        want = 128 + 224 * (20 / 255 - luma) / (2 * (1 - blue))
        assert abs(int(got[1][16, 16]) - depth * want) <= depth


def test_sound_is_copied_packet_for_packet(tmp_path: Path, tiny: LiVOS) -> None:
    clip = images(frames=50)
    video = write_video(tmp_path / "loud.mp4", [rgb for rgb, _ in clip], tone=True)
    mask = write_png(tmp_path / "first.png", clip[0][1], "gray")
    report = segment(tiny, video, mask, tmp_path / "out", save=("overlay",))

    def packets(path: Path) -> list[tuple[bytes, float]]:
        with av.open(str(path)) as container:
            return [
                (bytes(p), float(p.pts * p.time_base))
                for p in container.demux(audio=0)
                if p.size and p.pts is not None and p.time_base is not None
            ]

    want, got = packets(video), packets(report.outputs["overlay"])
    assert len(want) > 90
    assert [data for data, _ in got] == [data for data, _ in want]
    assert np.allclose([t for _, t in got], [t for _, t in want], atol=1e-4)


def test_overlay_shows_the_picture(tmp_path: Path, tiny: LiVOS) -> None:
    """Away from the object, the overlay is the video, to what H.264 loses."""
    clip = images()
    video = write_video(tmp_path / "a.mp4", [rgb for rgb, _ in clip], options={"crf": "10"})
    mask = write_png(tmp_path / "first.png", clip[0][1], "gray")
    report = segment(tiny, video, mask, tmp_path / "out")
    with open_source(video) as one, open_source(report.outputs["overlay"]) as other:
        for source, drawn, ids in zip(one, other, decode(report.outputs["mask"]), strict=True):
            away = cv2.dilate(ids, np.ones((9, 9), np.uint8)) == 0
            difference = source.rgb[away].astype(float) - drawn.rgb[away]
            assert np.sqrt((difference**2).mean()) < 8


@pytest.mark.parametrize(
    ("start", "end", "want"),
    [
        ("3f", None, range(3, 10)),
        (None, "4f", range(4)),
        ("2f", "5f", range(2, 5)),
        ("0.12", "0.2", range(3, 5)),
        ("0:00.2", None, range(5, 10)),
    ],
)
def test_start_and_end(start: str | None, end: str | None, want: range, tmp_path: Path) -> None:
    video = make("constant rate", tmp_path)
    with open_source(
        video,
        start=Position.parse(start) if start else None,
        end=Position.parse(end) if end else None,
    ) as source:
        frames = list(source)
    assert [frame.index for frame in frames] == list(want)
    assert [frame.pts * source.info.time_base for frame in frames] == [
        Fraction(n, 25) for n in want
    ]


def test_a_range_keeps_the_sources_numbers_and_times(tmp_path: Path, tiny: LiVOS) -> None:
    clip = images()
    video = write_video(tmp_path / "a.mp4", [rgb for rgb, _ in clip])
    mask = write_png(tmp_path / "third.png", clip[3][1], "gray")
    report = segment(
        tiny, video, mask, tmp_path / "out", start=Position(frame=3), end=Position(frame=7)
    )
    assert times(report.outputs["mask"]) == [Fraction(n, 25) for n in range(3, 7)]
    names = sorted(p.name for p in report.outputs["png"].iterdir())
    assert names == [f"{n:05d}.png" for n in range(3, 7)]


@pytest.mark.parametrize("text", ["", "f", "-3f", "1:2:3:4", "abc", "1.5f", "12,5"])
def test_what_is_no_position(text: str) -> None:
    with pytest.raises(UsageError):
        Position.parse(text)


def test_image_folder_in_natural_order(tmp_path: Path, tiny: LiVOS) -> None:
    clip = scene(48, 64, 12, seed=5)
    folder = tmp_path / "shot"
    folder.mkdir()
    for n, (rgb, _) in enumerate(clip, start=1):
        cv2.imwrite(str(folder / f"frame{n}.png"), rgb[..., ::-1])
    (folder / "notes.txt").write_text("not an image")
    mask = write_png(tmp_path / "first.png", clip[0][1], "gray")
    report = segment(tiny, folder, mask, tmp_path / "out", save=("png", "mask"))
    assert report.frames == 12
    assert {p.name for p in report.outputs["png"].iterdir()} == {
        f"frame{n}.png" for n in range(1, 13)
    }
    with open_source(folder) as source:
        for frame, (rgb, _) in zip(source, clip, strict=True):
            assert np.array_equal(frame.rgb, rgb)


def test_images_of_another_size_are_an_error(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((8, 8, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "2.png"), np.zeros((8, 9, 3), np.uint8))
    with open_source(tmp_path) as source, pytest.raises(InputError, match="9x8"):
        list(source)


@pytest.mark.slow
def test_streams_on_stdin(tmp_path: Path, livos: Any) -> None:
    clip = images()
    video = write_video(tmp_path / "a.mkv", [rgb for rgb, _ in clip], tone=True)
    mask = write_png(tmp_path / "first.png", clip[0][1], "gray")
    out = tmp_path / "out"
    (tmp_path / "-").mkdir()  # a folder of that name is `./-`
    arguments = ["segment", "-", "-m", mask, "-o", out, "--save", "overlay", "--save", "mask"]
    done = livos(*arguments, "--device", "cpu", stdin=video.read_bytes(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert times(out / "stdin.mask.mkv") == times(video)
    assert times(out / "stdin.overlay.mp4") == times(video)
    with av.open(str(out / "stdin.overlay.mp4")) as container:
        assert len(container.streams.audio) == 1
    assert jaccard(decode(out / "stdin.mask.mkv")[0] > 0, clip[0][1] > 0) == 1


def test_a_consumer_that_stops_early_leaves_no_thread(tmp_path: Path) -> None:
    import threading

    video = make("constant rate", tmp_path)
    with open_source(video) as source:
        next(iter(source))
    assert not [t for t in threading.enumerate() if t.name == "livos-decode"]


def sound_span(path: Path) -> tuple[float, float]:
    with av.open(str(path)) as container:
        pieces = [
            (float(p.pts * p.time_base), float(p.duration * p.time_base))
            for p in container.demux(audio=0)
            if p.size and p.pts is not None and p.time_base is not None and p.duration
        ]
    return pieces[0][0], sum(pieces[-1])


def test_a_range_has_its_own_sound(tmp_path: Path, tiny: LiVOS) -> None:
    clip = images(frames=100)
    video = write_video(
        tmp_path / "a.mp4", [rgb for rgb, _ in clip], tone=True, options={"bf": "3"}
    )
    mask = write_png(tmp_path / "m.png", clip[50][1], "gray")
    report = segment(
        tiny, video, mask, tmp_path / "out", ("overlay",),
        start=Position(seconds=2.0), end=Position(seconds=3.0),
    )  # fmt: skip
    begin, end = sound_span(report.outputs["overlay"])
    assert abs(begin - 2.0) < 0.05  # a packet of sound lasts 21 ms, a frame 40
    assert abs(end - 3.0) < 0.05


@pytest.mark.parametrize("codec", ["libmp3lame", "ac3"])
def test_sound_of_other_codecs_is_copied(codec: str, tmp_path: Path, tiny: LiVOS) -> None:
    clip = images(frames=20)
    video = write_video(tmp_path / "a.mkv", [rgb for rgb, _ in clip], tone=True, sound=codec)
    mask = write_png(tmp_path / "m.png", clip[0][1], "gray")
    report = segment(tiny, video, mask, tmp_path / "out", ("overlay",))
    assert all("doubtful" in warning for warning in report.warnings)  # none is of the sound
    with av.open(str(report.outputs["overlay"])) as container:
        assert len(container.streams.audio) == 1


def test_times_before_zero_are_moved_and_said(tmp_path: Path, tiny: LiVOS) -> None:
    clip = images()
    video = write_video(
        tmp_path / "early.ts",
        [rgb for rgb, _ in clip],
        pts=[n - 5 for n in range(10)],
        container_options={"muxdelay": "0", "avoid_negative_ts": "disabled", "mpegts_copyts": "1"},
    )
    if times(video)[0] >= 0:
        pytest.skip("this FFmpeg does not write times before zero")
    mask = write_png(tmp_path / "m.png", clip[0][1], "gray")
    report = segment(tiny, video, mask, tmp_path / "out", ("mask", "overlay"))
    assert any("before zero" in warning for warning in report.warnings)
    expected = [t - times(video)[0] for t in times(video)]
    assert times(report.outputs["overlay"]) == expected


@pytest.mark.slow
def test_names_with_colons(tmp_path: Path, livos: Any) -> None:
    clip = images()
    write_video(tmp_path / "a.mp4", [rgb for rgb, _ in clip]).rename(tmp_path / "12:30 a.mp4")
    write_png(tmp_path / "m.png", clip[0][1], "gray").rename(tmp_path / "m:1.png")
    done = livos("segment", "12:30 a.mp4", "-m", "m:1.png", "-o", "o:ut", "-q", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(decode(tmp_path / "o:ut" / "12:30 a.mask.mkv")) == 10


@pytest.mark.slow
def test_a_bad_packet_costs_its_own_frames_only(tmp_path: Path, livos: Any) -> None:
    clip = images(frames=100)
    video = write_video(tmp_path / "a.mp4", [rgb for rgb, _ in clip], options={"g": "10"})
    with av.open(str(video)) as container:
        entries = container.streams.video[0].index_entries
        place = entries[50].pos
    data = bytearray(video.read_bytes())
    data[place : place + 300] = b"\xff" * 300
    video.write_bytes(data)
    mask = write_png(tmp_path / "m.png", clip[0][1], "gray")
    arguments = ["segment", video, "-m", mask, "-o", tmp_path / "out", "--max-size", "64"]
    assert "damaged" in livos(*arguments).stderr
    done = livos(*arguments, "--allow-truncated", "-y")
    assert done.returncode == 0, done.stderr
    assert len(decode(tmp_path / "out" / "a.mask.mkv")) > 80


def test_even_times_from_avi_with_b_frames(tmp_path: Path) -> None:
    video = write_video(
        tmp_path / "a.avi", [rgb for rgb, _ in images()], options={"bf": "2", "b_strategy": "0"}
    )
    with open_source(video) as source:
        pts = [frame.pts for frame in source]
    assert set(np.diff(pts)) == {1}
    assert not source.warnings
