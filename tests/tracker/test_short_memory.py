"""Too little memory, for real: the process may have so much address space and no more.

Wherever it runs out, in torch, NumPy, OpenCV, FFmpeg or Python, it is one line that says memory,
and nothing is left under a result's name. What the limit leaves is counted from what the imported
libraries hold, so that it is the work that does not fit.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from media import write_png, write_video

from livos_cli.errors import InputError, LivosError, ShortMemoryError
from livos_cli.memory import out_of_memory, too_little_memory
from livos_cli.outputs.sink import cannot_write

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")

RUNNER = """
import resource, sys
import av, cv2, torch, pycocotools.mask, rich.progress, rich.table
import livos_cli.batch.work, livos_cli.cli.batch, livos_cli.pipeline.run, livos_cli.weights.load
from livos_cli.cli import main
torch.set_num_threads(1)
cv2.setNumThreads(1)
held = next(int(line.split()[1]) for line in open("/proc/self/status") if "VmSize" in line) << 10
resource.setrlimit(resource.RLIMIT_AS, (held + int(sys.argv.pop(1)) * 2**20,) * 2)
main()
"""


def limited(mebibytes: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUNNER, str(mebibytes), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        # glibc would take 64 MiB of address space for each thread.
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},
        check=False,
    )


def test_what_libraries_raise() -> None:
    """Real exceptions, from asking for what no machine has."""
    raised: list[BaseException] = []
    for ask in (
        lambda: torch.empty(1 << 60, dtype=torch.uint8),
        lambda: np.empty(1 << 60, np.uint8),
        lambda: bytearray(1 << 60),
        lambda: cv2.copyMakeBorder(
            np.zeros((2, 2), np.uint8), 0, (1 << 31) - 9, 0, (1 << 30), cv2.BORDER_CONSTANT
        ),
    ):
        with pytest.raises((RuntimeError, MemoryError, cv2.error)) as caught:
            ask()
        raised.append(caught.value)
    raised += [
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        av.error.FFmpegError(errno.ENOMEM, "Cannot allocate memory"),
        av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory"),
        MemoryError("std::bad_alloc"),
        ImportError("x.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
        av.error.BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
        SystemError("error return without exception set"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        too_little_memory(),
    ]
    for error in raised:
        assert out_of_memory(error), repr(error)
        told = cannot_write(Path("a.mkv"), error)
        assert isinstance(told, ShortMemoryError)
        assert "free some space" not in str(told)
    told = cannot_write(Path("a.mp4"), av.error.ExternalError(-542398533, "Generic error"))
    assert "too little memory" in told.hint
    assert "free some space" not in told.hint
    for other in (
        RuntimeError("shape mismatch"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        BlockingIOError(errno.EAGAIN, "a pipe that would have to wait"),
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        ValueError("memory of an elephant"),
        ImportError("x.so: failed to map segment from shared object: Operation not permitted"),
        InputError("insufficient memory is what this file is called", ""),
    ):
        assert not out_of_memory(other), repr(other)
    assert not isinstance(too_little_memory(), InputError)  # or checkpoints would go


def assert_said(done: subprocess.CompletedProcess[str], folder: Path) -> bool:
    """Whether it ran out of memory; if so, said in one line and without a trace."""
    if done.returncode == 0:
        return False
    assert done.returncode == 1, (done.returncode, done.stderr[-2000:])
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    last = [line for line in done.stderr.splitlines() if line.strip()][-1]
    assert last.startswith("livos: "), done.stderr
    assert "memory" in last, done.stderr
    assert "damaged" not in last
    assert "report this" not in last
    results = [p for p in folder.rglob("*") if p.is_file() and ".livos" not in p.parts]
    assert not results, results
    return True


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    height, width = 720, 1280
    y, x = np.mgrid[:height, :width]
    frames = [
        np.stack([x + 9 * i, y + 5 * i, x // 8 + y // 8], axis=2).astype(np.uint8) for i in range(2)
    ]
    mask = np.zeros((height, width), np.uint8)
    mask[200:500, 400:800] = 255
    made = {
        "video": write_video(folder / "clip.mp4", frames, options={"preset": "ultrafast"}),
        "mask": write_png(folder / "first.png", mask, "gray"),
        "large": write_png(folder / "large.png", np.kron(mask, np.ones((3, 3), np.uint8)), "gray"),
        "images": folder / "images",
    }
    for index, frame in enumerate(frames):
        write_png(made["images"] / f"{index:05d}.png", frame, "rgb24")
    return made


CASES = {
    "a video": ["segment", "@video", "-m", "@mask"],
    "images": ["segment", "@images", "-m", "@mask", "--save", "png", "--save", "overlay"],
    "a large mask": ["segment", "@video", "-m", "@large"],
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_wherever_it_runs_out(case: str, inputs: dict[str, Path], tmp_path: Path) -> None:
    """From far too little to enough, in steps."""
    short = []
    for mebibytes in (2, 128, 256, 400, 8000):
        out = tmp_path / f"{mebibytes}"
        arguments = [inputs[a[1:]] if a.startswith("@") else a for a in CASES[case]]
        done = limited(mebibytes, *arguments, "-o", out, "--device", "cpu")
        if assert_said(done, out):
            short.append(mebibytes)
    print(f"{case}: too little {short}")
    assert 2 in short
    assert 8000 not in short


@pytest.mark.slow
def test_many_videos_of_which_one_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for name, size in (("small", (96, 128)), ("large", (4096, 4096))):
        ids = np.zeros(size, np.uint8)
        ids[20:60, 20:60] = 255
        write_png(tmp_path / "masks" / f"{name}.png", ids, "gray")
        frames = [np.repeat(ids[..., None], 3, 2)] * 3
        write_video(tmp_path / "videos" / f"{name}.mp4", frames, options={"preset": "ultrafast"})
    done = limited(
        850, "segment", tmp_path / "videos", "-m", tmp_path / "masks", "-o", tmp_path / "out",
        "--device", "cpu", "--max-size", -1, "--json",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    records = {Path(r["video"]).stem: r for r in map(json.loads, done.stdout.splitlines())}
    assert records["small"]["status"] == "done", (records["small"]["error"], records["large"])
    assert records["large"]["status"] == "failed"
    assert "memory" in records["large"]["error"]
    assert "traceback" not in records["large"]


def test_a_checkpoint_outlives_too_little_memory(tmp_path: Path) -> None:
    """Whoever has more memory, or has mended the input, resumes."""
    from livos_cli.outputs.formats import FrameResult
    from livos_cli.pipeline.checkpoint import Checkpoint
    from livos_cli.pipeline.resume import closing_checkpoint
    from livos_cli.video.source import Frame

    folder = tmp_path / ".livos" / "x.unfinished"
    errors: list[LivosError | None] = [too_little_memory("at frame 2"), InputError("bad", ""), None]
    for error in errors:
        checkpoint = Checkpoint(folder, "print", 0.0, [tmp_path / "x.mkv"])
        with contextlib.suppress(LivosError), ExitStack() as stack:
            stack.push(closing_checkpoint(checkpoint))
            frame = Frame(0, 0, 0.0, np.zeros((4, 4, 3), np.uint8))
            checkpoint.see(frame, FrameResult(np.zeros((4, 4), np.uint8)))
            checkpoint.save({"a": torch.zeros(1)}, [])
            if error is not None:
                raise error
        assert folder.exists() == (error is not None)  # no error takes it away, the end does
