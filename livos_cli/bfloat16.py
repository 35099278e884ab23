"""Whether this CPU computes the network faster in bfloat16: measured, not looked up in a list."""

from __future__ import annotations

import json
import platform
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F

from livos_cli.errors import OutputError
from livos_cli.files.atomic import read_own, write_whole
from livos_cli.files.cache import cache_folder

__all__ = ["GAIN", "gain"]

GAIN = 1.3  # times as fast as float32, from which on bfloat16 is taken
MOST = 50  # machines that are remembered
# A convolution as the network's are: 3x3, of the size that most of them have at 384 pixels.
CHANNELS, HEIGHT, WIDTH, TURNS = 128, 24, 43, 5


@cache
def gain(machine: str) -> float:
    """How many times as fast a convolution is in bfloat16 as in float32.

    Measured once, in about 50 ms, and remembered in the user's cache.

    Args:
        machine: what it depends on beside PyTorch's version: the processor's name.
    """
    # By the machine's name as well: processors of one name differ, and homes are shared.
    try:
        path = cache_folder() / "bf16.json"
    except RuntimeError:  # no home, as of a service: nothing is remembered
        return _measure()
    key = f"{platform.node()}, {machine}, PyTorch {torch.__version__}"
    known = _read(path)
    if key not in known:
        known = dict([*known.items()][1 - MOST :])
        known[key] = _measure()
        with suppress(OSError, OutputError):  # then it is measured each time
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(known, indent=1).encode())
    return known[key]


def _read(path: Path) -> dict[str, float]:
    try:
        found = json.loads(read_own(path, 1 << 20))
        return {str(key): float(value) for key, value in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


@torch.inference_mode()
def _measure() -> float:
    """By the quickest of some turns each, one after the other: what else runs disturbs both.

    On one thread, which waits for no other.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _quickest_ratio()
    finally:
        torch.set_num_threads(threads)


def _quickest_ratio() -> float:
    quickest = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    image = torch.ones(1, CHANNELS, HEIGHT, WIDTH)
    weight = torch.ones(CHANNELS, CHANNELS, 3, 3)
    for _ in range(TURNS + 1):
        for dtype in quickest:
            x, w = (
                tensor.to(dtype).contiguous(memory_format=torch.channels_last)
                for tensor in (image, weight)
            )
            began = time.perf_counter()
            F.conv2d(x, w, padding=1)
            quickest[dtype] = min(quickest[dtype], time.perf_counter() - began)
    return round(quickest[torch.float32] / quickest[torch.bfloat16], 2)
