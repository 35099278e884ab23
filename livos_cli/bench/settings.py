"""What is measured, and what comes of it: plain data, for tables, JSON and other processes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from livos_cli.errors import UsageError

__all__ = ["BACKENDS", "MARKS", "MODES", "STAGES", "Measured", "Setting", "parse_size"]

BACKENDS = ("onnxruntime", "openvino")  # modes in which another program computes
MODES = ("livos", "reference", "softmax", *BACKENDS)
STAGES = (
    "decode",
    "encode image",
    "match",
    "transform",
    "decode mask",
    "encode mask",
    "write",
)
MARKS = (10, 100, 1_000, 10_000)  # frames at which memory is noted


@dataclass(frozen=True)
class Setting:
    """One run."""

    network: str  # a key of livos_cli.network.PRESETS; weights are random
    height: int  # pixels
    width: int
    objects: int
    frames: int  # counted ones, after the first
    precision: str  # auto, fp32, fp16, bf16
    device: str  # auto, cpu, cuda, cuda:N, mps
    mode: str = "livos"  # see MODES
    budget: int | None = None  # bytes for the network; None: auto
    every: int = 5  # softmax: every how many frames one is remembered
    files: bool = True  # also from a video file to a mask file
    graphs: bool = True  # CUDA graphs, on CUDA
    threads: int = 0  # CPU threads, 0 for PyTorch's choice


@dataclass
class Measured:
    """What one run gave. Times are of counted frames; memory is in bytes."""

    setting: Setting
    problem: str = ""  # why there is no result
    dtype: str = ""
    device: str = ""  # its name
    rows: int = 0  # height of strips, in pixels; 0: whole frames
    estimate: int = 0  # of memory, made before the run
    first_frames: float = 0.0  # seconds of the first two, at which a GPU's kernels are compiled
    model_fps: float = 0.0  # the tracker alone: frames a second, by the median
    end_to_end_fps: float | None = None  # from an H.264 file to an FFV1 file
    stages: dict[str, float] = field(default_factory=dict)  # milliseconds a frame, by the median
    peak: int = 0  # most memory held: allocated on CUDA, resident on a CPU
    reserved: int | None = None  # most memory reserved, on CUDA
    before: int = 0  # held before the first frame, weights counted
    at: dict[int, int] = field(default_factory=dict)  # frame -> held after it
    samples: list[tuple[int, float, int]] = field(default_factory=list)  # frame, s, bytes held


def parse_size(text: str) -> tuple[int, int]:
    """`480` (rows of a 16:9 frame) or `854x480` -> height, width.

    Raises:
        UsageError: neither.
    """
    if match := re.fullmatch(r"(\d+)x(\d+)", text.lower()):
        width, height = int(match[1]), int(match[2])
    elif text.isdecimal():
        height = int(text)
        width = -(-height * 16 // 9)
        width += width % 2
    else:
        raise UsageError(f"'{text}' is not a size", "give rows (480) or WIDTHxHEIGHT (854x480)")
    if min(height, width) < 16:
        raise UsageError(f"frames of {width}x{height} are too small", "give at least 16 rows")
    return height, width
