"""Frames a second of the networks alone: python -m livos_cli.bench

    python -m livos_cli.bench [--size 480] [--frames 12] [--threads N] [--networks tiny base]

`base` runs with untrained weights: the arithmetic, and so the time, is that of the published ones.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from livos_cli.device import resolve_device, resolve_precision
from livos_cli.network import PRESETS, LiVOS
from livos_cli.tracker import Tracker
from livos_cli.training.procedural import render
from livos_cli.weights import to_device

WARMUP = 2  # frames not counted


def frames_per_second(
    network: str, dtype: torch.dtype, size: int, frames: int, device: torch.device
) -> float:
    """One object, frames of 854x480's shape with `size` rows; drawing them is not counted."""
    torch.manual_seed(0)
    tracker = Tracker(to_device(LiVOS(PRESETS[network]), device, dtype), max_size=-1)
    scene = render(
        np.random.default_rng(0), size, round(size * 854 / 480), frames + WARMUP, objects=1
    )
    spent = 0.0
    for index, (rgb, ids) in enumerate(scene):
        before = time.perf_counter()
        tracker.step(rgb, ids if index == 0 else None)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if index >= WARMUP:
            spent += time.perf_counter() - before
    return frames / spent


def main() -> None:
    """Print a line a network and precision."""
    parser = argparse.ArgumentParser(prog="python -m livos_cli.bench")
    parser.add_argument("--size", type=int, default=480, help="rows of a frame")
    parser.add_argument("--frames", type=int, default=12, help="frames counted")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0 for torch's choice")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--networks", nargs="+", default=["tiny", "base"], choices=PRESETS)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = resolve_device(options.device)
    precisions = list(dict.fromkeys([torch.float32, resolve_precision("auto", device)]))
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, one object")
    for network in options.networks:
        for dtype in precisions:
            rate = frames_per_second(network, dtype, options.size, options.frames, device)
            name = str(dtype).split(".")[1]
            print(f"{network:6} {name:9} {options.size}p {rate:8.2f} frames/s")


if __name__ == "__main__":
    main()
