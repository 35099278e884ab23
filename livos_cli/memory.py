"""How much memory there is, and what libraries raise when there is too little. Without torch."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from livos_cli.errors import LivosError, ShortMemoryError

__all__ = ["HINT", "free_memory", "out_of_memory", "too_little_memory"]

HINT = (
    "close other programs; a smaller --max-size or --memory-budget, or --chunk-objects 1, needs "
    "less"
)
# Of libraries that have no type for it: PyTorch and oneDNN on a CPU, cuDNN and cuBLAS, OpenCV,
# safetensors, threads.
_TEXTS = (
    "can't allocate memory",
    "cannot allocate memory",
    "unable to allocate",
    "failed to allocate",
    "bad_alloc",
    "bad allocation",
    "insufficient memory",
    "out of memory",
    "could not create a memory",
    "could not create a primitive",
    "cudnn_status_alloc_failed",
    "cublas_status_alloc_failed",
    "can't start new thread",
    "int_max elements",  # of PyTorch's enlargement on a GPU: more than it can count
)


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory could not be had, whoever raised it."""
    if isinstance(error, LivosError):
        return isinstance(error, ShortMemoryError)
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    if type(error).__name__ == "OutOfMemoryError":  # torch's, for GPUs
        return True
    if type(error).__module__ == "av.error" and isinstance(error, BlockingIOError):
        return True  # FFmpeg could not start its threads, and says that it would have to wait
    if isinstance(error, SystemError):  # a library that forgot to say what failed
        return "without exception set" in str(error) or "without setting an" in str(error)
    text = str(error).lower()
    if isinstance(error, ImportError):  # a library; but from a disk that forbids it, not permitted
        return "failed to map segment" in text and "not permitted" not in text
    return any(said in text for said in _TEXTS)


def too_little_memory(what: str = "", hint: str = HINT) -> ShortMemoryError:
    """The error in place of theirs.

    Args:
        what: that it was too little for, like `at frame 3`.
        hint: what to do about it.
    """
    return ShortMemoryError(f"there is too little memory {what}".rstrip(), hint)


def free_memory() -> int:
    """Bytes that can be had now: of the machine, or of the container, whichever is less."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(x.split()[1]) * 1024 for x in lines if x.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # not Linux
        sysconf = getattr(os, "sysconf", None)
        free = sysconf("SC_PHYS_PAGES") * sysconf("SC_PAGE_SIZE") // 2 if sysconf else 4 << 30
    try:  # a container's limit
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        free = min(free, limit - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return free
