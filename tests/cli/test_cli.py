"""The command as its user sees it: exit codes, one-line errors, nothing half-written."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import EXAMPLES, TINY_WEIGHTS
from media import decode, scene, times, write_png, write_video

import livos_cli


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Good and bad files, made once."""
    folder = tmp_path_factory.mktemp("inputs")
    clip = scene(64, 96, 40, seed=5)
    rgb = [frame for frame, _ in clip]
    made = {
        "video": write_video(folder / "video.mp4", rgb),
        "mask": write_png(folder / "mask.png", clip[0][1], "gray"),
        "empty mask": write_png(folder / "empty.png", np.zeros((64, 96), np.uint8), "gray"),
        "square mask": write_png(folder / "square.png", np.ones((64, 64), np.uint8), "gray"),
        "not a mask": folder / "mask.txt",
        "missing": folder / "missing.mp4",
        "text": folder / "text.mp4",
        "bad png": folder / "bad.png",
        "zero": folder / "zero.mp4",
        "cut": folder / "cut.mp4",
        "cut late": folder / "late.mp4",
        "cut mkv": folder / "cut.mkv",
        "headless": folder / "headless.mp4",
        "sound": folder / "sound.mp4",
        "folder": folder / "nothing",
        "unknown codec": folder / "codec.mp4",
        "strange weights": folder / "strange.safetensors",
        "broken weights": folder / "broken.safetensors",
        "short weights": folder / "short.safetensors",
        "broken pth": folder / "broken.pth",
        "other pth": folder / "other.pth",
        "evil pth": folder / "evil.pth",
    }
    made["text"].write_text("this is not a video\n" * 100)
    made["not a mask"].write_text("nor a mask")
    made["bad png"].write_text("no image")
    made["zero"].touch()
    made["folder"].mkdir()
    # With its index first, a cut file still opens.
    whole = write_video(folder / "whole.mp4", rgb, options={"x264-params": "keyint=10"})
    moved = folder / "moved.mp4"
    remux(whole, moved, {"movflags": "faststart"})
    made["cut"].write_bytes(moved.read_bytes()[: int(moved.stat().st_size * 0.6)])
    made["cut late"].write_bytes(moved.read_bytes()[:-10])
    made["headless"].write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    matroska = write_video(folder / "whole.mkv", rgb)
    made["cut mkv"].write_bytes(matroska.read_bytes()[: int(matroska.stat().st_size * 0.5)])
    write_sound(made["sound"])
    builtin = TINY_WEIGHTS
    made["unknown codec"].write_bytes(whole.read_bytes().replace(b"avc1", b"zzz1"))
    metadata = {"livos_config": '{"key": 1000000000}'}
    made["strange weights"].write_bytes(safetensors.torch.save({"a": torch.zeros(1)}, metadata))
    made["broken weights"].write_bytes(b"\x00" * 1000)
    made["short weights"].write_bytes(builtin.read_bytes()[:100_000])
    made["broken pth"].write_bytes(b"not a pickle at all")
    torch.save({"a": torch.zeros(3)}, made["other pth"])
    with made["evil pth"].open("wb") as file:
        pickle.dump(Evil(folder / "harm"), file)
    return made


class Evil:
    """A pickle that runs a command when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def remux(source: Path, target: Path, options: dict[str, str]) -> None:
    import av

    with av.open(str(source)) as one, av.open(str(target), "w", options=options) as other:
        stream = other.add_stream_from_template(one.streams.video[0])
        for packet in one.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                other.mux(packet)


def write_sound(path: Path) -> None:
    from fractions import Fraction

    import av

    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("aac", rate=48000)
        stream.layout = "mono"
        for n in range(20):
            frame: Any = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts, frame.time_base = 48000, n * 1024, Fraction(1, 48000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


# name: (video, mask, further arguments, exit code, what the error says)
BAD: dict[str, tuple[str, str, list[str], int, str]] = {
    "missing file": ("missing", "mask", [], 1, "does not exist"),
    "not a video": ("text", "mask", [], 1, "cannot be read as a video"),
    "zero bytes": ("zero", "mask", [], 1, "empty (0 bytes)"),
    "cut mid-file": ("cut", "mask", [], 1, "--allow-truncated"),
    "cut mid-file, Matroska": ("cut mkv", "mask", [], 1, "--allow-truncated"),
    "cut by a hair": ("cut late", "mask", [], 1, "lie beyond its end"),
    "cut before its index": ("headless", "mask", [], 1, "cannot be read as a video"),
    "audio only": ("sound", "mask", [], 1, "no video stream"),
    "empty folder": ("folder", "mask", [], 1, "no video and no folder of images"),
    "mask missing": ("video", "missing", [], 1, "does not exist"),
    "mask empty": ("video", "empty mask", [], 1, "every pixel is background"),
    "mask of another aspect": ("video", "square mask", [], 1, "64x64, the video 96x64"),
    "mask is no image": ("video", "not a mask", [], 1, "is not an image"),
    "mask is a video": ("video", "video", [], 1, "is not an image"),
    "mask is a damaged image": ("video", "bad png", [], 1, "cannot be read as an image"),
    "unknown weights": ("video", "mask", ["-w", "huge"], 1, "unknown weights 'huge'"),
    "missing weights": ("video", "mask", ["-w", "gone.pth"], 1, "does not exist"),
    "broken weights": ("video", "mask", ["-w", "@broken weights"], 1, "damaged"),
    "cut weights": ("video", "mask", ["-w", "@short weights"], 1, "damaged"),
    "broken .pth": ("video", "mask", ["-w", "@broken pth"], 1, "damaged"),
    "weights of something else": ("video", "mask", ["-w", "@other pth"], 1, "not a LiVOS"),
    "a pickle that runs code": ("video", "mask", ["-w", "@evil pth"], 1, "holds code"),
    "published weights": ("video", "mask", ["-w", "livos-wmose-480p"], 1, "LIVOS_HUB_REPO"),
    "start past the end": ("video", "mask", ["--start", "999f"], 1, "past the end"),
    "end before start": ("video", "mask", ["--start", "9f", "--end", "3f"], 2, "not after --start"),
    "unknown codec": ("unknown codec", "mask", [], 1, "codec"),
    "stdout for a picture": ("video", "mask", ["-o", "-", "--save", "overlay"], 2, "takes one of"),
    "strange configuration": ("video", "mask", ["-w", "@strange weights"], 1, "configuration"),
    "start in no format": ("video", "mask", ["--start", "soon"], 2, "not a position"),
    "unknown device": ("video", "mask", ["--device", "tpu"], 2, "unknown device 'tpu'"),
    "device not here": ("video", "mask", ["--device", "cuda:99"], 2, "not available here"),
    "unknown precision": ("video", "mask", ["--precision", "fp8"], 2, "unknown precision"),
    "precision not for CPUs": ("video", "mask", ["--precision", "fp16"], 2, "fp16 is for GPUs"),
    "unknown kind": ("video", "mask", ["--save", "gif"], 2, "unknown kind 'gif'"),
    "size of nothing": ("video", "mask", ["--max-size", "0"], 2, "max_size"),
    "file of another kind": ("video", "mask", ["-o", "x.mp4"], 2, "kind 'mask'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(
    case: str, inputs: dict[str, Path], tmp_path: Path, livos: Any
) -> None:
    video, mask, more, code, says = BAD[case]
    more = [str(inputs[a[1:]]) if a.startswith("@") else a for a in more]
    if "-o" not in more:
        more += ["-o", "out"]
    arguments = ["segment", inputs[video], "-m", inputs[mask], "--device", "cpu", *more]
    env = {"LIVOS_HUB_REPO": "", "COLUMNS": "80"}
    done = livos(*arguments, "--save", "mask", cwd=tmp_path, env=env)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("livos: ")
    assert says in last
    assert " — " in last  # what to do about it
    assert not list(tmp_path.iterdir())
    assert not (inputs["video"].parent / "harm").exists()


def test_existing_output_is_kept_unless_told(
    inputs: dict[str, Path], tmp_path: Path, livos: Any
) -> None:
    out = tmp_path / "video.mask.mkv"
    out.write_text("precious")
    arguments = ["segment", inputs["video"], "-m", inputs["mask"], "-o", tmp_path]
    done = livos(*arguments)
    assert done.returncode == 1
    assert "exists already — use -y" in done.stderr
    assert out.read_text() == "precious"
    assert livos(*arguments, "-y").returncode == 0
    assert len(decode(out)) == 40


def test_overwriting_keeps_the_old_result_until_the_new_one_is_whole(
    inputs: dict[str, Path], tmp_path: Path, livos: Any
) -> None:
    out = tmp_path / "cut.mask.mkv"
    out.write_text("precious")
    done = livos("segment", inputs["cut"], "-m", inputs["mask"], "-o", tmp_path, "-y")
    assert done.returncode == 1
    assert out.read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir()] == ["cut.mask.mkv"]


def test_the_input_is_never_overwritten(inputs: dict[str, Path], livos: Any) -> None:
    before = inputs["video"].read_bytes()
    done = livos(
        "segment", inputs["video"], "-m", inputs["mask"], "--save", "overlay", "-y", "-o",
        inputs["video"],
    )  # fmt: skip
    assert done.returncode == 2
    assert "the input itself" in done.stderr
    assert inputs["video"].read_bytes() == before


@pytest.mark.parametrize("name", ["cut", "cut mkv"])
def test_what_decodes_of_a_cut_file_is_kept_on_request(
    name: str, inputs: dict[str, Path], tmp_path: Path, livos: Any
) -> None:
    arguments = ["segment", inputs[name], "-m", inputs["mask"], "-o", tmp_path]
    done = livos(*arguments, "--allow-truncated")
    assert done.returncode == 0, done.stderr
    assert "warning:" in done.stderr
    assert 3 < len(decode(tmp_path / f"{inputs[name].stem}.mask.mkv")) < 40


def test_a_folder_that_may_not_be_written(inputs: dict[str, Path], livos: Any) -> None:
    # /proc refuses even root, whom permissions do not stop.
    done = livos("segment", inputs["video"], "-m", inputs["mask"], "-o", "/proc/livos")
    assert done.returncode == 1
    assert "cannot write /proc/livos" in done.stderr
    assert "Traceback" not in done.stderr


def test_result_paths_on_stdout_the_rest_on_stderr(
    inputs: dict[str, Path], tmp_path: Path, livos: Any
) -> None:
    out = tmp_path / "result.mkv"
    done = livos("segment", inputs["video"], "-m", inputs["mask"], "-o", out)
    assert done.stdout == f"{out}\n"
    assert "objects: 1" in done.stderr
    assert "40 frames" in done.stderr
    assert "\x1b[" not in done.stderr  # no colours, no bar, where there is no terminal


@pytest.mark.slow
def test_quiet_and_json(inputs: dict[str, Path], tmp_path: Path, livos: Any) -> None:
    done = livos("segment", inputs["video"], "-m", inputs["mask"], "-o", tmp_path, "-q", "--json")
    # Warnings are printed all the same, doubts among them.
    assert all(line.startswith("warning: ") for line in done.stderr.splitlines()), done.stderr
    (line,) = done.stdout.splitlines()
    report = json.loads(line)
    assert report["frames"] == 40
    assert report["objects"] == [1]
    assert report["size"] == [96, 64]
    assert Path(report["outputs"]["mask"]).is_file()
    again = livos("segment", inputs["video"], "-m", inputs["mask"], "-o", tmp_path, "-q", "-y")
    assert again.stdout == ""
    assert again.stderr == done.stderr


def stopped_midway(out: Path, with_signal: int) -> subprocess.CompletedProcess[str]:
    """The command on the example, sent a signal once its first frames are written."""
    process = subprocess.Popen(
        [sys.executable, "-m", "livos_cli", "segment", str(EXAMPLES / "clip.mp4"), "-m",
         str(EXAMPLES / "first.png"), "-o", str(out), "--save", "mask", "--save", "png",
         "--checkpoint", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(out.glob(".livos-*.partial/*.png")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(with_signal)
    _, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, "", errors)


@pytest.mark.slow
def test_interrupted_leaves_nothing(tmp_path: Path) -> None:
    process = stopped_midway(tmp_path, signal.SIGINT)
    assert process.returncode == 130
    assert "interrupted" in process.stderr
    assert "Traceback" not in process.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_terminated_leaves_nothing(tmp_path: Path) -> None:
    process = stopped_midway(tmp_path, signal.SIGTERM)
    assert process.returncode == 143
    assert "Traceback" not in process.stderr
    assert not list(tmp_path.iterdir())


def test_version_help_and_no_arguments(livos: Any) -> None:
    assert livos("--version").stdout.strip() == f"livos {livos_cli.__version__}"
    assert "segment" in livos("--help").stdout
    assert livos("segment").returncode == 2
    assert livos("dance").returncode == 2


def test_help_is_quick() -> None:
    def seconds(*command: str) -> float:
        best = 1e9
        for _ in range(3):
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            best = min(best, time.perf_counter() - start)
        return best

    extra = seconds("-m", "livos_cli", "--help") - seconds("-c", "import typer")
    assert extra < 0.3


def test_info_says_what_a_bug_report_needs(livos: Any) -> None:
    facts = json.loads(livos("info", "--json").stdout)
    assert facts["livos"] == livos_cli.__version__
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["encoders"] == {"ffv1": True, "libx264": True, "png": True}
    assert facts["weights"]["lite"] == "built in"
    plain = livos("info")
    assert plain.returncode == 0
    assert max(map(len, plain.stdout.splitlines())) <= 100


def test_python_api_streams(tiny: Any, inputs: dict[str, Path]) -> None:
    from livos_cli import segment

    results = segment(inputs["video"], inputs["mask"], model=tiny)
    first = next(iter(results))
    assert first.index == 0
    assert first.mask.dtype == np.uint8
    assert first.mask.shape == (64, 96)
    rest = list(results)
    assert len(rest) == 39
    got = [result.pts * result.time_base for result in [first, *rest]]
    assert got == times(inputs["video"])


def test_key_masks_in_a_folder(inputs: dict[str, Path], tmp_path: Path, livos: Any) -> None:
    clip = scene(64, 96, 40, seed=5)
    keys = tmp_path / "keys"
    write_png(keys / "5.png", clip[5][1] * 4, "gray")
    write_png(keys / "20.png", np.where(clip[20][1] > 0, 4, 0).astype(np.uint8), "gray")
    write_png(keys / "99.png", clip[5][1] * 4, "gray")
    done = livos("segment", inputs["video"], "-m", keys, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "frames 99" in done.stderr  # never read, and said so
    assert "background until the mask of frame 5" in done.stderr
    ids = decode(tmp_path / "out" / "video.mask.mkv")
    assert all(not frame.any() for frame in ids[:5])
    assert np.array_equal(ids[5] > 0, clip[5][1] > 0)
    assert np.array_equal(ids[20] > 0, clip[20][1] > 0)


@pytest.mark.slow
def test_a_folder_that_is_no_result_is_never_replaced(
    inputs: dict[str, Path], tmp_path: Path, livos: Any
) -> None:
    folder = tmp_path / "video"
    arguments = ["segment", inputs["video"], "-m", inputs["mask"], "-o", tmp_path, "-y"]
    arguments += ["--save", "png", "--max-size", "64"]
    assert livos(*arguments).returncode == 0
    assert livos(*arguments).returncode == 0  # an earlier result is replaced
    assert len(list(folder.iterdir())) == 40
    picture = write_png(folder / "photo.png", np.zeros((8, 8, 3), np.uint8), "rgb24")
    done = livos(*arguments)
    assert done.returncode == 1
    assert "holds more than an earlier result (photo.png)" in done.stderr
    assert picture.is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["video"]


def test_the_masks_are_never_overwritten(
    inputs: dict[str, Path], tmp_path: Path, livos: Any
) -> None:
    keys = tmp_path / "video"
    keys.mkdir()
    (keys / "0.png").write_bytes(inputs["mask"].read_bytes())
    done = livos("segment", inputs["video"], "-m", keys, "-o", tmp_path, "-y", "--save", "png")
    assert done.returncode == 2
    assert [p.name for p in keys.iterdir()] == ["0.png"]


def test_a_name_taken_meanwhile_is_left_alone(
    tiny: Any, inputs: dict[str, Path], tmp_path: Path
) -> None:
    from livos_cli.errors import OutputError
    from livos_cli.options import RunOptions, SegmentOptions
    from livos_cli.pipeline.report import Observer
    from livos_cli.pipeline.run import run

    out = tmp_path / "video.mask.mkv"

    def someone_else(progress: Any) -> None:
        if progress.done == 20:
            out.write_text("theirs")

    with pytest.raises(OutputError, match="while this ran"):
        run(
            inputs["video"], inputs["mask"], tiny, SegmentOptions(), RunOptions(output=tmp_path),
            observer=Observer(frame=someone_else),
        )  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ["video.mask.mkv"]
    assert out.read_text() == "theirs"


@pytest.mark.slow
def test_interrupted_while_stdin_stays_open(inputs: dict[str, Path], tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "livos_cli", "segment", "-", "-m", str(inputs["mask"]), "-o",
         str(tmp_path)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(inputs["cut mkv"].read_bytes())
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(2)  # by now it waits for more
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130
    assert not list(tmp_path.iterdir())
