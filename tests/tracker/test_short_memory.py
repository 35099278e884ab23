"""Too little memory, for real: the process may have so much address space and no more.

Wherever it runs out, in torch, NumPy, OpenCV, FFmpeg or Python, it is one line that says memory,
and nothing is left under a result's name. What the limit leaves is counted from what the imported
libraries hold, so that it is the work that does not fit.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from contextlib import ExitStack
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from livos_cli.errors import InputError, LivosError, ShortMemoryError
from livos_cli.memory import out_of_memory, too_little_memory
from livos_cli.outputs.sink import cannot_write

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")


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
        RuntimeError(
            "upsample_bilinear2d_nhwc only supports output tensors with less than INT_MAX elements"
        ),
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
