"""Pipes, raw video and live sources, with the real ffmpeg at the other end."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from media import decode, scene, times, write_png, write_video
from pycocotools import mask as coco_mask

from livos_cli.errors import UsageError
from livos_cli.options import RunOptions, SegmentOptions
from livos_cli.pipeline.run import run
from livos_cli.video.reader import open_source
from livos_cli.weights.load import load_model

FFMPEG = shutil.which("ffmpeg")
needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="ffmpeg is not installed")
LIVOS = f"{sys.executable} -m livos_cli"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pipes")
    made = scene(96, 128, 30, objects=2, seed=5)
    return {
        "video": write_video(folder / "clip.mp4", [rgb for rgb, _ in made], tone=True),
        "mask": write_png(folder / "first.png", made[0][1], "pal8"),
    }


@pytest.fixture(scope="module")
def masks(clip: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    """What a run from file to file gives, with the weights that the command takes."""
    out = tmp_path_factory.mktemp("file")
    model = load_model(device="cpu")
    report = run(clip["video"], clip["mask"], model, SegmentOptions(), RunOptions(output=out))
    return decode(report.outputs["mask"])


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], cwd=cwd, capture_output=True, check=False
    )


def same(got: list[np.ndarray], want: list[np.ndarray]) -> bool:
    return len(got) == len(want) and all(
        np.array_equal(a, b) for a, b in zip(got, want, strict=True)
    )


@needs_ffmpeg
def test_ffmpeg_livos_ffmpeg(clip: dict[str, Path], masks: Any, tmp_path: Path) -> None:
    """The masks arrive, with their times, through three processes."""
    done = shell(
        f"ffmpeg -v error -i {clip['video']} -map 0:v -c copy -f matroska - "
        f"| {LIVOS} segment - -m {clip['mask']} -o - --device cpu "
        "| ffmpeg -v error -i - -c copy out.mkv",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert same(decode(tmp_path / "out.mkv"), masks)
    gaps = zip(times(tmp_path / "out.mkv"), times(clip["video"]), strict=True)
    assert max(abs(a - b) for a, b in gaps) <= Fraction(1, 1000)


@pytest.mark.slow
@needs_ffmpeg
def test_ffmpeg_uses_the_masks(clip: dict[str, Path], masks: Any, tmp_path: Path) -> None:
    """A filter of the picture by its mask: blurred outside of the objects."""
    done = shell(
        f"{LIVOS} segment {clip['video']} -m {clip['mask']} -o - -q --device cpu "
        f"| ffmpeg -v error -i {clip['video']} -i - -filter_complex "
        "'[1]lut=y=if(val\\,255\\,0)[m];[0]split[a][b];[b]boxblur=9[c];"
        "[a][m]alphamerge[d];[c][d]overlay' -c:v ffv1 blurred.mkv",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr.decode()
    with open_source(clip["video"]) as one, open_source(tmp_path / "blurred.mkv") as other:
        for frame, blurred, ids in zip(one, other, masks, strict=True):
            inside = cv2.erode((ids > 0).astype(np.uint8), np.ones((5, 5))) > 0
            away = cv2.dilate((ids > 0).astype(np.uint8), np.ones((5, 5))) == 0
            change = np.abs(frame.rgb.astype(int) - blurred.rgb).mean(axis=2)
            assert change[inside].mean() < 1 < 4 < change[away].mean()


@pytest.mark.slow
@needs_ffmpeg
def test_raw_video_in(clip: dict[str, Path], masks: Any, tmp_path: Path) -> None:
    done = shell(
        f"ffmpeg -v error -i {clip['video']} -f rawvideo -pix_fmt yuv420p - "
        f"| {LIVOS} segment - --size 128x96 --pix-fmt yuv420p --fps 25 "
        f"-m {clip['mask']} -o out.mkv --device cpu --json",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["frames"] == 30
    assert same(decode(tmp_path / "out.mkv"), masks)
    assert times(tmp_path / "out.mkv")[:3] == [Fraction(n, 25) for n in range(3)]


@pytest.mark.slow
@needs_ffmpeg
def test_yuv4mpeg_in_json_lines_out(clip: dict[str, Path], masks: Any, tmp_path: Path) -> None:
    done = shell(
        f"ffmpeg -v error -i {clip['video']} -f yuv4mpegpipe - "
        f"| {LIVOS} segment - -m {clip['mask']} -o - --save rle --device cpu",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr.decode()
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    found = []
    for row in rows:
        ids = np.zeros(row["size"], np.uint8)
        for item in row["objects"]:
            ids[coco_mask.decode(item["segmentation"]) > 0] = item["id"]
        found.append(ids)
    assert same(found, masks)
    assert [row["time"] for row in rows] == [n / 25 for n in range(30)]


@pytest.mark.slow
def test_frames_leave_before_the_input_ends(clip: dict[str, Path]) -> None:
    """Whoever waits for masks while frames still come does not wait for the end."""
    frames = []
    with open_source(clip["video"]) as source:
        frames = [frame.rgb.tobytes() for frame in source][:12]
    for kind in ("rle", "mask"):
        process = subprocess.Popen(
            f"exec {LIVOS} segment - --size 128x96 --device cpu -m {clip['mask']} "
            f"-o - --save {kind} -q",
            shell=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"".join(frames))
        process.stdin.flush()
        got = b""
        until = time.monotonic() + 60
        # Ten of twelve frames: a decoder and a muxer may each hold one back.
        while time.monotonic() < until and whole_frames(kind, got) < 10:
            got += os.read(process.stdout.fileno(), 1 << 16)
        assert process.poll() is None
        process.stdin.close()
        got += process.stdout.read()
        assert process.wait() == 0
        assert whole_frames(kind, got) == 12


def whole_frames(kind: str, data: bytes) -> int:
    if kind == "rle":
        return data.count(b"\n")
    try:
        with av.open(io.BytesIO(data)) as container:
            return sum(1 for _ in container.decode(video=0))
    except av.error.FFmpegError:
        return 0


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_fault(clip: dict[str, Path], tmp_path: Path) -> None:
    for kind in ("rle", "mask"):
        done = shell(
            f"{LIVOS} segment {clip['video']} -m {clip['mask']} -o - --save {kind} -q "
            "--device cpu | head -c 100 > /dev/null",
            tmp_path,
        )
        assert done.returncode == 141  # as of a program that SIGPIPE ended
        assert done.stderr == b""
        assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "-", "--save", "overlay"], "-o - takes one of mask, rle"),
        (["-o", "-", "--save", "mask", "--save", "rle"], "-o - takes one of mask, rle"),
        (["-o", "-", "--save", "contours"], "--contours json"),
        (["-o", "-", "--json"], "both write to stdout"),
        (["--size", "10by10"], "is not a size"),
        (["--size", "10x10", "--fps", "fast"], "is not a rate"),
        (["--fps", "30"], "add --size"),
        (["--latency-first"], "is a file"),
        (["--alpha-codec", "h264"], "unknown --alpha-codec"),
        (["--background", "mauve"], "is not a colour"),
        (["--palette", "x,y"], "is not a colour"),
        (["--preview", "sheet.gif"], "not a picture"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], said: str, clip: dict[str, Path], tmp_path: Path, livos: Any
) -> None:
    done = livos("segment", clip["video"], "-m", clip["mask"], *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
    assert sorted(p.name for p in clip["video"].parent.iterdir()) == ["clip.mp4", "first.png"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
@needs_ffmpeg
def test_a_live_source_drops_what_comes_late(
    clip: dict[str, Path], tmp_path: Path, livos: Any
) -> None:
    """A camera of 250 frames/s for two seconds, faster than any CPU is here."""
    port = free_port()
    sender = subprocess.Popen(
        f"exec ffmpeg -v error -re -stream_loop 15 -r 250 -i {clip['video']} -an -c:v libx264 "
        f"-preset ultrafast -tune zerolatency -g 10 -f mpegts tcp://127.0.0.1:{port}?listen=1",
        shell=True,
    )
    time.sleep(1)  # it takes one caller, so nothing may try whether it listens
    url = f"tcp://127.0.0.1:{port}"
    done = livos(
        "segment", url, "-m", clip["mask"], "-o", tmp_path / "live.mkv", "--latency-first",
        "--json", "--device", "cpu",
    )  # fmt: skip
    sender.wait(timeout=30)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    warning = next(w for w in report["warnings"] if "--latency-first" in w)
    dropped, total = int(warning.split()[0]), int(warning.split()[2])
    assert dropped > 0
    assert report["frames"] == total - dropped
    shown = times(tmp_path / "live.mkv")
    assert len(shown) == report["frames"]
    assert all(a < b for a, b in pairwise(shown))
    assert shown[-1] - shown[0] > 1.2  # gaps, not a shortened video


@pytest.mark.slow
@needs_ffmpeg
def test_a_live_source_without_it_keeps_every_frame(
    clip: dict[str, Path], tmp_path: Path, livos: Any
) -> None:
    port = free_port()
    sender = subprocess.Popen(
        f"exec ffmpeg -v error -re -i {clip['video']} -an -c:v copy "
        f"-f mpegts tcp://127.0.0.1:{port}?listen=1",
        shell=True,
    )
    time.sleep(1)
    done = livos(
        "segment", f"tcp://127.0.0.1:{port}", "-m", clip["mask"], "-o", tmp_path, "--json",
        "--device", "cpu",
    )  # fmt: skip
    sender.wait(timeout=30)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"] == 30


def test_the_first_frame_is_never_left_out() -> None:
    """It has the mask. Of the others the newest is kept, with the sound of those before."""
    from livos_cli.video.source import Ahead, Frame

    frames = [
        Frame(n, n, float(n), np.zeros((1, 1, 3), np.uint8), audio=(f"a{n}",)) for n in range(20)
    ]
    ahead = Ahead(iter(frames), 3, latency_first=True)
    time.sleep(0.3)  # all have come before anybody asks
    got = list(ahead)
    assert got[0].index == 0
    assert len(got) + ahead.dropped == 20
    with pytest.raises(UsageError, match="is a file"):
        open_source(__file__, latency_first=True)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_the_first_frame_is_awaited(
    sent: signal.Signals, clip: dict[str, Path], tmp_path: Path
) -> None:
    """Not taken for the input's end: nothing is written."""
    process = subprocess.Popen(
        f"exec {LIVOS} segment - --size 128x96 -m {clip['mask']} -o {tmp_path} --device cpu",
        shell=True,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(b"\0" * 5000)  # a part of a frame
    process.stdin.flush()
    time.sleep(8)
    process.send_signal(sent)
    _, said = process.communicate(timeout=20)
    assert process.returncode == (130 if sent == signal.SIGINT else 128 + sent), said
    assert b"Traceback" not in said
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_silent_network_can_be_interrupted(clip: dict[str, Path], tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        url = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        process = subprocess.Popen(
            f"exec {LIVOS} segment {url} -m {clip['mask']} -o {tmp_path} --device cpu",
            shell=True,
            stderr=subprocess.PIPE,
        )
        server.settimeout(60)
        caller, _ = server.accept()
        with caller:
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=15)
    assert process.returncode == 130, said
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_closed_stdin_is_one_line(clip: dict[str, Path], tmp_path: Path) -> None:
    done = shell(f"{LIVOS} segment - -m {clip['mask']} -o {tmp_path} <&-", tmp_path)
    assert done.returncode == 1
    assert b"stdin is closed" in done.stderr
