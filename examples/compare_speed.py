"""Time and memory of sets of weights, frame by frame in turn, on this machine's CPU.

    python examples/compare_speed.py lite lite-open lite:bf16 lite:int8 lite:fp32:openvino

Frames of 854x480 are generated, the network runs in float32 and with PyTorch, or as is said after
colons, at a shorter side of 384 and of 480, with one and three objects. In one process a frame goes
through all trackers, the first of them changing from frame to frame, so that other loads meet all
alike. Printed are medians of a frame's milliseconds, by the clock and of the processor (all threads
added up: what other loads touch least), and by how much the peak of resident memory grows from a
loaded network on, each in a process of its own, on Linux.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from pathlib import Path
from statistics import median
from typing import Protocol

import numpy as np
import torch

from livos_cli import Tracker, load_model
from livos_cli.bench.frames import Scene
from livos_cli.device import device_name, forget_peak_memory

SIZES, OBJECTS, THREADS = (384, 480), (1, 3), (1, 2)
HEIGHT, WIDTH = 480, 854
WARM_UP, COUNTED, SETTLED = 3, 14, 4  # frames
CPU = torch.device("cpu")


class Stepping(Protocol):
    """What is timed: a tracker, or somebody else's."""

    def step_ids(self, frame: np.ndarray, mask: np.ndarray | None = None, /) -> np.ndarray:
        """Ids (H, W) of a frame (H, W, 3) uint8 RGB; a mask (H, W) of ids comes with the first."""


def tracker_of(weights: str, size: int) -> Tracker:
    """A tracker that has seen nothing."""
    name, precision, backend = [*weights.split(":"), "", ""][:3]
    how = {"precision": precision or "fp32", "backend": backend or "auto"}
    return Tracker(load_model(name, device="cpu", **how), max_size=size)


def times(
    trackers: Mapping[str, Stepping],
    objects: int,
    warm_up: int = WARM_UP,
    counted: int = COUNTED,
    middle: Callable[[Iterable[float]], float] = median,
) -> dict[str, tuple[float, float]]:
    """Milliseconds of a frame, by the clock and of the processor, for each name."""
    scene = Scene(HEIGHT, WIDTH, objects)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in trackers}
    for index in range(warm_up + counted):
        for name in trackers if index % 2 else reversed(list(trackers)):
            clock, processor = time.perf_counter(), time.process_time()
            trackers[name].step_ids(scene.frame(index), scene.mask if index == 0 else None)
            took = (time.perf_counter() - clock, time.process_time() - processor)
            if index >= warm_up:
                taken[name].append(took)
    return {
        name: (1e3 * middle(one for one, _ in pairs), 1e3 * middle(two for _, two in pairs))
        for name, pairs in taken.items()
    }


def status(field: str) -> int:
    """Bytes, from the system's own account of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def growth(setting: tuple[str, int, int]) -> int:
    """Bytes by which the peak grows over the frames; to be run in a fresh process."""
    name, size, objects = setting
    scene = Scene(HEIGHT, WIDTH, objects)
    tracker = tracker_of(name, size)
    forget_peak_memory(CPU)
    before = status("VmRSS")
    for index in range(WARM_UP + SETTLED):
        tracker.step_ids(scene.frame(index), scene.mask if index == 0 else None)
    return status("VmHWM") - before


def main() -> None:
    """A line for each setting and name."""
    names = sys.argv[1:]
    print("threads side objects weights: ms by the clock, ms of the processor")
    for threads in THREADS:
        torch.set_num_threads(threads)
        print(device_name(CPU))
        for size, objects in product(SIZES, OBJECTS):
            trackers = {name: tracker_of(name, size) for name in names}
            for name, (clock, processor) in times(trackers, objects).items():
                print(f"{threads} {size} {objects} {name}: {clock:.0f} {processor:.0f}", flush=True)
    print("side objects weights: MB by which the peak grows, with PyTorch's choice of threads")
    settings = list(product(names, SIZES, OBJECTS))
    fresh = multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1)
    with fresh as pool:
        for (name, size, objects), grown in zip(settings, pool.imap(growth, settings), strict=True):
            print(f"{size} {objects} {name}: {grown / 1e6:.0f}", flush=True)


if __name__ == "__main__":
    main()
