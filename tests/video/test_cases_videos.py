"""Videos as strangers bring them: each kind of fault that was found, with files made here."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from media import decode, scene, times, write_png, write_video
from video_zoo import MATRICES, turn

from livos_cli.errors import InputError, OutputError
from livos_cli.network import LiVOS
from livos_cli.options import Position, RunOptions, SegmentOptions
from livos_cli.pipeline.report import Report
from livos_cli.pipeline.run import run
from livos_cli.video.backward import read_backward
from livos_cli.video.reader import open_source

FRAMES = 12


def images(height: int = 64, width: int = 96, frames: int = FRAMES) -> list[np.ndarray]:
    return [rgb for rgb, _ in scene(height, width, frames, seed=5)]


def segment(model: LiVOS, video: Path, folder: Path, *save: str, **options: Any) -> Report:
    """With a box in the first frame."""
    with open_source(video, allow_truncated=True) as source:
        ids = np.zeros((source.info.height, source.info.width), np.uint8)
    ids[ids.shape[0] // 4 : ids.shape[0] // 2, ids.shape[1] // 4 : ids.shape[1] // 2] = 1
    mask = write_png(folder / "m.png", ids, "gray")
    settings = SegmentOptions(max_size=32, **options)
    return run(video, mask, model, settings, RunOptions(save=save or ("mask",), output=folder))


def read(video: Path, **how: Any) -> tuple[list[Any], list[str]]:
    with open_source(video, **how) as source:
        return list(source), source.warnings


def ffmpeg(*arguments: object) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg (the program) is not installed")
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)


# Mirrored and turned


def shown(picture: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """A picture put where its matrix says, pixel by pixel."""
    a, b, c, d = matrix
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width]
    right, down = x * a + y * c, x * b + y * d
    right, down = right - right.min(), down - down.min()
    out = np.zeros((down.max() + 1, right.max() + 1, 3), np.uint8)
    out[down, right] = picture[y, x]
    return out


@pytest.mark.parametrize("matrix", MATRICES)
def test_all_eight_display_matrices(matrix: tuple[int, int, int, int], tmp_path: Path) -> None:
    plain = write_video(tmp_path / "plain.mp4", images())
    tagged = tmp_path / "tagged.mp4"
    shutil.copy(plain, tagged)
    turn(tagged, matrix)
    upright, turned = read(plain)[0], read(tagged)[0]
    for one, other in zip(upright, turned, strict=True):
        assert np.array_equal(shown(one.rgb, matrix), other.rgb)


def test_what_is_written_of_a_mirrored_turn(tmp_path: Path, tiny: LiVOS) -> None:
    video = write_video(tmp_path / "a.mp4", images(), options={"crf": "10"})
    turn(video, (0, 1, 1, 0))
    report = segment(tiny, video, tmp_path / "out", "overlay", "mask")
    assert decode(report.outputs["mask"])[0].shape == (96, 64)
    want, got = read(video)[0][0].rgb, decode(report.outputs["overlay"], "rgb24")[0]
    away = np.ones((96, 64), bool)
    away[20:52, 12:36] = False  # the object, tinted
    assert np.abs(want.astype(int) - got)[away].mean() < 6


@pytest.mark.parametrize("degrees", [30, 45, 80])
def test_a_turn_that_is_no_quarter_is_refused(degrees: int, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", images(), rotation=degrees)
    with pytest.raises(InputError, match="not a quarter turn"):
        read(video)


# Timestamps that start again


def joined(folder: Path, suffix: str, times_: int = 2, *, tone: bool = True) -> Path:
    options = {"bf": "2", "g": "6"} if suffix == ".ts" else {"g": "6", "bf": "0"}
    codec = "libx264" if suffix == ".ts" else "mpeg2video"
    part = write_video(
        folder / f"part{suffix}",
        images(frames=24),
        codec=codec,
        options=options,
        tone=tone,
        sound="mp2",
        tone_format="s16",
    )
    whole = folder / f"joined{suffix}"
    whole.write_bytes(part.read_bytes() * times_)
    return whole


@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
@pytest.mark.parametrize("parts", [2, 3])
def test_files_joined_end_to_end_go_on(suffix: str, parts: int, tmp_path: Path) -> None:
    frames, warnings = read(joined(tmp_path, suffix, parts), keep_audio=True)
    assert [frame.index for frame in frames] == list(range(24 * parts))
    steps = np.diff([frame.time for frame in frames])
    # No gap but at a joint, and none there of more than a packet of sound.
    assert np.allclose(np.delete(steps, [23, 47][: parts - 1]), 0.04, atol=1e-4)
    assert ((steps > 0.039) & (steps < 0.067)).all()
    assert any("start again" in warning for warning in warnings)


def test_outputs_of_joined_files(tmp_path: Path, tiny: LiVOS) -> None:
    video = joined(tmp_path, ".ts")
    report = segment(tiny, video, tmp_path / "out", "mask", "overlay")
    for kind in ("mask", "overlay"):
        stamps = times(report.outputs[kind])
        assert len(stamps) == 48
        assert abs(float(stamps[-1] - stamps[0]) - 47 / 25) < 0.03
    with av.open(str(video)) as source, av.open(str(report.outputs["overlay"])) as out:
        want = [bytes(p) for p in source.demux(audio=0) if p.size]
        packets = [p for p in out.demux(audio=0) if p.size]
    assert [bytes(p) for p in packets] == want
    span = packets[-1].pts - packets[0].pts  # type: ignore[operator]
    assert abs(float(span * packets[0].time_base) - (len(want) - 1) * 1152 / 48000) < 0.06
    assert not [w for w in report.warnings if "sound" in w or "moved on" in w]


def test_a_leap_ahead_in_a_joined_stream_goes_on(tmp_path: Path) -> None:
    """Two recordings of a camera whose clock went on between them; as ffmpeg has it."""
    parts = []
    for number, start in enumerate((0, 25 * 3600)):
        pts = [start + n for n in range(24)]
        parts.append(write_video(tmp_path / f"{number}.ts", images(frames=24), pts=pts))
    whole = tmp_path / "whole.ts"
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames, warnings = read(whole)
    assert len(frames) == 48
    assert abs(frames[-1].time - 47 / 25) < 0.03
    assert any("start again" in warning for warning in warnings)


def test_a_pause_of_seconds_stays(tmp_path: Path) -> None:
    pts = [n + 100 * (n > 5) for n in range(FRAMES)]
    frames, warnings = read(write_video(tmp_path / "a.ts", images(), pts=pts))
    assert abs(frames[6].time - frames[5].time - 101 / 25) < 1e-3
    assert not warnings


def test_joined_files_are_not_read_backward(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="start again"):
        list(read_backward(joined(tmp_path, ".ts"), 40))


# The moving picture among several


def several(path: Path, sizes: list[tuple[int, int, int]], default: int | None = None) -> Path:
    """A file with a video stream for each (width, height, frames)."""
    with av.open(str(path), "w") as out:
        streams: list[Any] = []
        for width, height, _ in sizes:
            stream: Any = out.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            streams.append(stream)
        if default is not None:
            for number, stream in enumerate(streams):
                stream.disposition = (
                    av.stream.Disposition.default if number == default else av.stream.Disposition(0)
                )
        for index in range(max(count for _, _, count in sizes)):
            for stream, (width, height, count) in zip(streams, sizes, strict=True):
                if index < count:
                    grey = np.full((height, width, 3), 20 * index % 256, np.uint8)
                    frame: Any = av.VideoFrame.from_ndarray(grey, format="rgb24")
                    frame.pts, frame.time_base = index, Fraction(1, 25)
                    out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])  # of MP4, the first is the default
@pytest.mark.parametrize(
    ("sizes", "want"),
    [
        ([(96, 64, 1), (96, 64, 10)], (96, 64, 10)),
        ([(192, 128, 1), (96, 64, 10)], (96, 64, 10)),
        ([(96, 64, 10), (48, 32, 10)], (96, 64, 10)),
        ([(192, 128, 2), (96, 64, 10)], (96, 64, 10)),
        ([(96, 64, 10), (64, 48, 1)], (96, 64, 10)),
    ],
)
def test_the_moving_picture_is_taken(
    sizes: list[tuple[int, int, int]], want: tuple[int, int, int], suffix: str, tmp_path: Path
) -> None:
    video = several(tmp_path / f"a{suffix}", sizes)
    frames, warnings = read(video)
    assert (frames[0].rgb.shape[1], frames[0].rgb.shape[0], len(frames)) == want
    assert sum("2 video streams" in warning for warning in warnings) == 1
    back = list(read_backward(video, len(frames) - 1))
    assert all(np.array_equal(rgb, frames[index].rgb) for index, rgb in back)


def test_the_default_stream_goes_before_others_that_move(tmp_path: Path) -> None:
    sizes = [(96, 64, 20), (48, 32, 10), (64, 48, 1)]
    frames, _ = read(several(tmp_path / "a.mkv", sizes, default=1))
    assert len(frames) == 10
    frames, _ = read(several(tmp_path / "b.mkv", sizes, default=2))  # a still is no video
    assert len(frames) == 20


@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
def test_of_two_alike_the_larger_is_taken(suffix: str, tmp_path: Path) -> None:
    frames, _ = read(several(tmp_path / f"a{suffix}", [(48, 32, 12), (96, 64, 10)]))
    assert frames[0].rgb.shape == (64, 96, 3)


@pytest.mark.slow
def test_a_still_first_on_stdin(tmp_path: Path, livos: Any) -> None:
    video = several(tmp_path / "a.mkv", [(96, 64, 1), (96, 64, 10)])
    mask = write_png(tmp_path / "m.png", np.eye(64, 96, dtype=np.uint8), "gray")
    done = livos("segment", "-", "-m", mask, "-o", tmp_path, stdin=video.read_bytes())
    assert done.returncode == 0, done.stderr
    assert len(decode(tmp_path / "stdin.mask.mkv")) == 10


def test_animated_avif(tmp_path: Path) -> None:
    """Its first picture stands before the sequence, as a stream of its own."""
    video = tmp_path / "a.avif"
    plain = write_video(tmp_path / "plain.mp4", images(frames=8))
    ffmpeg("-i", plain, "-c:v", "libaom-av1", "-cpu-used", 8, "-usage", "realtime", video)
    with av.open(str(video)) as container:
        assert len(container.streams.video) == 2
    frames, warnings = read(video)
    assert len(frames) == 8
    assert any("not number 0 (av1, 96x64, a still)" in warning for warning in warnings)


# What a header claims


def set_duration(path: Path, seconds: float) -> None:
    """Write another duration over that of a Matroska or FLV file."""
    data = bytearray(path.read_bytes())
    if path.suffix == ".flv":
        at = data.index(b"duration\x00") + 9
        struct.pack_into(">d", data, at, seconds)
    else:
        at = data.index(b"\x44\x89") + 2
        assert data[at] == 0x88
        struct.pack_into(">d", data, at + 1, seconds * 1000)
    path.write_bytes(data)


LENGTHY = [(".webm", "libvpx"), (".mkv", "mpeg4"), (".flv", "flv")]


@pytest.mark.parametrize(("suffix", "codec"), LENGTHY)
@pytest.mark.parametrize("live", [False, True])
def test_a_duration_alone_is_no_damage(
    suffix: str, codec: str, live: bool, tmp_path: Path, tiny: LiVOS
) -> None:
    """Also of what was written to a pipe: there the file does not say how large it is."""
    video = tmp_path / f"a{suffix}"
    write_video(video, images(frames=24), codec=codec, options={"g": "6"})
    if live and suffix != ".flv":
        data = bytearray(video.read_bytes())
        at = data.index(b"\x18\x53\x80\x67") + 4
        data[at : at + 8] = b"\x01" + b"\xff" * 7
        video.write_bytes(data)
    set_duration(video, 4.0)
    report = segment(tiny, video, tmp_path / "out")
    assert report.frames == len(decode(report.outputs["mask"])) == 24
    assert any("claims 4.0 s" in warning for warning in report.warnings)


@pytest.mark.parametrize(("suffix", "codec"), [*LENGTHY, (".avi", "mpeg4"), (".mp4", "mpeg4")])
@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_a_cut_is_refused_before_the_work(
    suffix: str, codec: str, share: float, tmp_path: Path
) -> None:
    how = {"movflags": "faststart"} if suffix == ".mp4" else {}
    video = tmp_path / f"a{suffix}"
    write_video(video, images(frames=100), codec=codec, options={"g": "6"}, container_options=how)
    data = video.read_bytes()
    video.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match="cut or damaged"):
        open_source(video)
    frames, warnings = read(video, allow_truncated=True)
    assert 3 < len(frames) <= 100  # of an AVI, the index may be all that is cut
    assert len(warnings) >= 1


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_cut_of_what_does_not_say_its_size(share: float, tmp_path: Path) -> None:
    """A WebM of clusters without sizes: its blocks are followed to the end."""
    video = write_video(tmp_path / "a.webm", images(frames=100), codec="libvpx")
    data = bytearray(video.read_bytes())
    for name in (b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"):
        at = data.index(name, 400 if name[0] == 0x1F else 0) + 4
        length = 9 - data[at].bit_length()
        data[at] = (0xFF >> (length - 1)) & 0xFF
        data[at + 1 : at + length] = b"\xff" * (length - 1)
    video.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(InputError, match="early"):
        read(video)
    video.write_bytes(data)
    assert len(read(video)[0]) == 100


# A size that changes


def changing(folder: Path, suffix: str = ".ts") -> Path:
    parts = []
    for number, size in enumerate(((64, 96), (32, 48))):
        part = folder / f"{number}{suffix}"
        write_video(part, images(*size, frames=24), pts=[24 * number + n for n in range(24)])
        parts.append(part)
    whole = folder / f"changing{suffix}"
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    return whole


def test_a_change_of_size_is_said_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"changes size: to 48x32 at about [01]\.\d s"):
        open_source(changing(tmp_path))


def test_frames_before_a_change_of_size_are_kept(tmp_path: Path, tiny: LiVOS) -> None:
    video = changing(tmp_path)
    report = segment(tiny, video, tmp_path / "out", "mask", "overlay", allow_truncated=True)
    assert report.frames == len(decode(report.outputs["mask"])) == 24
    assert any("48x32 at frame 24" in warning for warning in report.warnings)
    assert not any("moved on" in warning for warning in report.warnings)
    frames, _ = read(video, end=Position(frame=24))  # as far as it goes
    assert len(frames) == 24
    with open_source(video, end=Position(frame=25)) as source, pytest.raises(InputError) as error:
        list(source)
    assert "at frame 24" in error.value.message


# Files that are no videos, or name others


@pytest.mark.slow
def test_playlists_do_not_read_other_files(tmp_path: Path, livos: Any) -> None:
    secret = write_video(tmp_path / "secret.ts", images())
    mask = write_png(tmp_path / "m.png", np.eye(64, 96, dtype=np.uint8), "gray")
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n"
    concat = "ffconcat version 1.0\nfile secret.ts\n"
    dash = '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"/>'
    sdp = "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"
    for name, text in (
        ("a.m3u8", hls),
        ("b.mp4", concat),
        ("c.mkv", f"\ufeff\n{concat}"),
        ("d.mp4", dash),
        ("e.mp4", sdp),
        ("f.mp4", "# made by hand\n" + concat),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError) as error:
            open_source(tmp_path / name)
        assert len(error.value.message.splitlines()) == 1
        if name[0] in "abce":
            assert "playlist" in error.value.message, name
    for text in (hls, concat):  # nor through a pipe or a URL
        done = livos("segment", "-", "-m", mask, "-o", tmp_path, stdin=text.encode())
        assert done.returncode == 1
        assert len(done.stderr.strip().splitlines()) == 1
        (tmp_path / "url.m3u8").write_text(text)
        with pytest.raises(InputError):
            open_source(f"file:{tmp_path / 'url.m3u8'}")
        with pytest.raises(InputError):
            open_source(f"file://{tmp_path / 'url.m3u8'}")
    assert not list(tmp_path.glob("*.mask.mkv"))


@pytest.mark.slow
def test_patterns_are_explained(tmp_path: Path, livos: Any) -> None:
    folder = tmp_path / "shot"
    for number in range(3):
        write_png(folder / f"{number:05d}.png", images()[number], "rgb24")
    mask = write_png(tmp_path / "m.png", np.eye(64, 96, dtype=np.uint8), "gray")
    for name in ("%05d.png", "%d.png", "*.png", "0000?.png"):
        done = livos("segment", folder / name, "-m", mask, "-o", tmp_path)
        assert done.returncode == 1
        assert f"give their folder: {folder}" in done.stderr
    # A file of such a name is a file.
    video = write_video(tmp_path / "a.mp4", images()).rename(tmp_path / "a%02d.mp4")
    assert len(read(video)[0]) == FRAMES
    image = (folder / "00000.png").rename(tmp_path / "b%05d.png")
    assert len(read(image)[0]) == 1


def animated_webp(path: Path) -> Path:
    """Three frames, put together from single pictures."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    frames = b""
    for image in images(frames=3):
        single = cv2.imencode(".webp", image)[1].tobytes()[12:]
        place = bytes(6) + (95).to_bytes(3, "little") + (63).to_bytes(3, "little")
        frames += chunk(b"ANMF", place + (40).to_bytes(3, "little") + b"\0" + single)
    size = bytes([2, 0, 0, 0]) + (95).to_bytes(3, "little") + (63).to_bytes(3, "little")
    body = b"WEBP" + chunk(b"VP8X", size) + chunk(b"ANIM", bytes(6)) + frames
    path.write_bytes(chunk(b"RIFF", body))
    return path


def test_animated_webp_is_named(tmp_path: Path) -> None:
    video = animated_webp(tmp_path / "a.webp")
    with pytest.raises(InputError, match="animated WebP") as error:
        open_source(video)
    assert "a.gif" in error.value.hint
    single = tmp_path / "b.webp"
    single.write_bytes(cv2.imencode(".webp", images()[0])[1].tobytes())
    assert len(read(single)[0]) == 1


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_interlaced_sources_are_said(codec: str, tmp_path: Path) -> None:
    plain = write_video(tmp_path / "plain.mkv", images())
    video = tmp_path / "a.mkv"
    ffmpeg("-i", plain, "-vf", "setfield=tff", "-c:v", codec, "-flags", "+ildct+ilme", video)
    frames, warnings = read(video)
    assert len(frames) == FRAMES
    assert any("is interlaced" in warning for warning in warnings)
    assert not read(plain)[1]


# Rates and jumps that a format does not hold


def leaping(path: Path, hours: int = 600) -> Path:
    pts = [n + hours * 3_600_000 * (n > 5) for n in range(FRAMES)]
    return write_video(path, images(), pts=pts, time_base=Fraction(1, 1000))


@pytest.mark.parametrize("lost", ["overlay", "cutout", "alpha"])
def test_a_kind_that_cannot_be_written_does_not_take_the_others(
    lost: str, tmp_path: Path, tiny: LiVOS
) -> None:
    video = leaping(tmp_path / "a.mkv")
    with pytest.raises(OutputError, match="frame 6 is 600 hours later") as error:
        segment(tiny, video, tmp_path / "out", lost, "mask", "png", "rle")
    assert str(tmp_path / "out" / "a.mask.mkv") in error.value.message
    assert "free some space" not in str(error.value)
    written = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert written == ["a", "a.mask.mkv", "a.rle.jsonl", "m.png"]  # and no leftovers
    stamps = times(tmp_path / "out" / "a.mask.mkv")
    assert [float(t - stamps[0]) for t in stamps] == pytest.approx(
        [0.001 * n + 600 * 3600 * (n > 5) for n in range(FRAMES)], abs=0.0011
    )


@pytest.mark.slow
def test_a_lost_kind_is_a_failure_of_the_command(tmp_path: Path, livos: Any) -> None:
    (tmp_path / "in").mkdir()
    video = leaping(tmp_path / "in" / "a.mkv")
    mask = write_png(tmp_path / "in" / "a.png", np.eye(64, 96, dtype=np.uint8), "gray")
    arguments = ["segment", video, "-m", mask, "-o", tmp_path / "out", "--save", "mask"]
    done = livos(*arguments, "--save", "overlay", "--max-size", "32")
    assert done.returncode == 1
    assert sum("cannot write a.overlay.mp4" in line for line in done.stderr.splitlines()) == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.mask.mkv"]
    # Alone, nothing is left; of many, the others are done.
    alone = livos(*arguments[:5], tmp_path / "none", "--save", "overlay", "--max-size", "32")
    assert alone.returncode == 1
    assert not (tmp_path / "none").exists()
    write_video(tmp_path / "in" / "b.mp4", images())
    shutil.copy(mask, tmp_path / "in" / "b.png")
    many = ["segment", tmp_path / "in", "-m", tmp_path / "in", "-o", tmp_path / "many", "--json"]
    done = livos(*many, "--save", "mask", "--save", "overlay", "--max-size", "32")
    records = {Path(r["video"]).stem: r for r in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 1
    assert (records["a"]["status"], records["b"]["status"]) == ("failed", "done")
    assert (tmp_path / "many" / "a.mask.mkv").exists()
    again = livos(*many, "--save", "mask", "--max-size", "32")  # what is there counts
    assert again.returncode == 0, again.stderr
    assert '"skipped"' in again.stdout


def test_long_frames_with_b_frames_are_in_order(tmp_path: Path) -> None:
    """A slide show: times of display run to and fro by more than a second."""
    pts = [n * 20_000 for n in range(FRAMES)]
    options = {"bf": "3", "b_strategy": "0"}
    video = write_video(
        tmp_path / "a.mkv", images(), pts=pts, time_base=Fraction(1, 1000), rate=Fraction(1, 20),
        options=options,
    )  # fmt: skip
    frames, warnings = read(video)
    assert [frame.pts for frame in frames] == pts
    assert not warnings


def test_frames_without_times_before_the_first_that_has_one(tmp_path: Path, tiny: LiVOS) -> None:
    """Of a Matroska file that begins before zero, FFmpeg does not say the first times."""
    plain = write_video(tmp_path / "plain.mp4", images(frames=24), options={"bf": "2", "g": "6"})
    video = tmp_path / "a.mkv"
    ffmpeg(
        "-i", plain, "-c", "copy", "-output_ts_offset", "-0.4", "-avoid_negative_ts", "disabled",
        video,
    )  # fmt: skip
    frames, warnings = read(video)
    assert np.allclose([frame.time for frame in frames], np.arange(24) / 25, atol=0.0021)
    assert not any("moved on" in warning for warning in warnings)
    assert any("before zero" in warning for warning in warnings)
    stamps = times(segment(tiny, video, tmp_path / "out", "overlay").outputs["overlay"])
    assert np.allclose(np.diff([float(stamp) for stamp in stamps]), 0.04, atol=0.0021)


# Those that were brought


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "name", "frames", "said"),
    [
        ("animated-webp", "a.webp", None, "animated WebP"),
        ("duration-overstated", "durfix.webm", 24, "claims"),
        ("first-stream-is-a-still", "still.mkv", 24, "2 video streams"),
        ("mirrored-quarter-turn", "m_transp.mp4", 24, None),
        ("size-change-midstream", "reschange.ts", 24, "changes size"),
        ("ts-concatenated", "cat.ts", 48, "start again"),
    ],
)
def test_cases(
    case: str, name: str, frames: int | None, said: str | None, shared: Path, tmp_path: Path,
    livos: Any,
) -> None:  # fmt: skip
    folder = shared / "cases" / case
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    mask = folder / ("mask_as_shown.png" if "mirrored" in case else "m.png")
    done = livos(
        "segment", folder / name, "-m", mask, "-o", tmp_path, "--allow-truncated", "--device",
        "cpu", "--save", "mask", "--save", "overlay",
    )  # fmt: skip
    assert done.returncode == (0 if frames else 1), done.stderr
    assert said is None or said in done.stderr
    if frames is None:
        return
    stem = Path(name).stem
    assert len(decode(tmp_path / f"{stem}.mask.mkv")) == frames
    stamps = times(tmp_path / f"{stem}.overlay.mp4")
    assert len(stamps) == frames
    assert abs(float(stamps[-1] - stamps[0]) - (frames - 1) / 25) < 0.02
    if case == "mirrored-quarter-turn":
        first = decode(tmp_path / f"{stem}.mask.mkv")
        areas = [int((ids > 0).sum()) for ids in first]
        assert min(areas) > 0.5 * areas[0]  # the object is followed
