"""Segment a video in a few lines, and count each object's pixels.

python examples/segment_video.py [VIDEO MASK]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import livos_cli

HERE = Path(__file__).parent


def main(video: Path, mask: Path) -> None:
    """Print a line a frame: number, time in seconds, pixels of every object."""
    for result in livos_cli.segment(video, mask):
        ids, counts = np.unique(result.mask[result.mask > 0], return_counts=True)
        areas = ", ".join(f"{i}: {n}" for i, n in zip(ids, counts, strict=True))
        print(f"{result.index:5d} {float(result.pts * result.time_base):8.3f} s  {areas}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        main(HERE / "clip.mp4", HERE / "first.png")
