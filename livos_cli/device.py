"""Which device and precision a run gets, and what it used of memory."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from livos_cli.bfloat16 import GAIN, gain
from livos_cli.errors import UsageError
from livos_cli.memory import free_memory, out_of_memory, too_little_memory
from livos_cli.options import PRECISIONS

__all__ = [
    "device_name",
    "fast_bfloat16",
    "bfloat16_gain",
    "forget_peak_memory",
    "give_back_memory",
    "held_memory",
    "memory_errors",
    "memory_to_use",
    "peak_memory",
    "resolve_device",
    "resolve_precision",
]

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def resolve_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda`, `cuda:1` or `mps` -> a device that is there.

    Raises:
        UsageError: unknown, or not on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available()
        and (device.index is None or device.index < torch.cuda.device_count()),
        "mps": torch.backends.mps.is_available(),
    }
    if device.type not in there:
        raise UsageError(f"unknown device '{name}'", "use auto, cpu, cuda, cuda:1 or mps")
    if not there[device.type]:
        raise UsageError(
            f"device '{name}' is not available here",
            "use --device auto; `livos info` shows what this machine has",
        )
    return device


def bfloat16_gain() -> float:
    """How many times as fast as float32 this CPU computes the network in bfloat16, as measured."""
    return gain(_processor())


def fast_bfloat16() -> bool:
    """Whether that is enough to compute in it where nothing was said."""
    return bfloat16_gain() >= GAIN


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """`auto`, `fp32`, `fp16` or `bf16` -> the network's dtype.

    auto: fp16 on CUDA; bf16 on a CPU that is faster with it; else fp32.

    Raises:
        UsageError: unknown, or of no use on the device.
    """
    if name not in PRECISIONS:
        raise UsageError(f"unknown precision '{name}'", f"use {', '.join(PRECISIONS)}")
    if name == "auto":
        if device.type == "cuda":
            return torch.float16
        return torch.bfloat16 if device.type == "cpu" and fast_bfloat16() else torch.float32
    if name == "fp16" and device.type == "cpu":
        raise UsageError("fp16 is for GPUs; CPUs compute it slowly", "use --precision bf16 or fp32")
    if name == "int8":
        raise UsageError(
            "PyTorch does not compute in int8 here",
            "`livos segment` and `livos eval` take --backend onnxruntime",
        )
    return _DTYPES[name]


def memory_to_use(device: torch.device) -> int:
    """Bytes that the network may take where nothing was said: a share of what is free now."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int((free + held) * 0.8)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() // 2
    return free_memory() // 2


def give_back_memory(device: torch.device) -> None:
    """Return to the system what the C library keeps of freed memory (Linux; else nothing).

    On a GPU nothing needs doing: PyTorch's cache is used again.
    """
    if device.type == "cpu" and sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not in every C library
        if trim is not None:
            trim(0)


@contextmanager
def memory_errors(device: torch.device, hint: str) -> Iterator[None]:
    """Turn an out-of-memory error into one that says what to do.

    Raises:
        ShortMemoryError: in its place.
    """
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise too_little_memory(f"on {device}", hint) from None


def device_name(device: torch.device) -> str:
    """What the device calls itself, like `NVIDIA H200` or `AMD EPYC, 2 threads`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(x.split(":", 1)[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):  # not Linux, or not x86
        pass
    return name


def held_memory(device: torch.device) -> int:
    """Bytes held now: allocated on a CUDA device, else resident (0 where that is unknown)."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_memory(device: torch.device) -> int | None:
    """Most bytes held so far: allocated on a CUDA device, else resident; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak_memory(device: torch.device) -> None:
    """Let `peak_memory` count from here, where the system can do that (CUDA, Linux)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
