"""Draw clips as `livos train` sees them: to look at, or to calibrate certainty with.

    python examples/draw_clips.py OUT --data images:STILLS@0.7 --data procedural@0.3

OUT gets NNN.mp4 and NNN.masks.mkv, frame for frame. Clip N depends on the sources, the seed and N
alone. `livos train` draws its own from other numbers, so none is one that it has seen.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import av
import numpy as np

from livos_cli.training.clips import Clip, ClipSource
from livos_cli.training.sources import SourceSpec

RATE = 25
SEED = 1 << 31  # beyond those of `livos train`


def write(clip: Clip, stem: Path) -> None:
    """Both videos of a clip."""
    size = clip.frames.shape[1]
    with (
        av.open(f"{stem}.mp4", "w") as video,
        av.open(f"{stem}.masks.mkv", "w") as masks,
    ):
        pictures: Any = video.add_stream("libx264", rate=RATE, options={"crf": "16"})
        ids: Any = masks.add_stream("ffv1", rate=RATE)
        for stream, pixels in ((pictures, "yuv420p"), (ids, "gray")):
            stream.width = stream.height = size
            stream.pix_fmt = pixels
        for rgb, mask in zip(clip.frames, clip.ids, strict=True):
            video.mux(pictures.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
            masks.mux(ids.encode(av.VideoFrame.from_ndarray(mask, format="gray")))
        video.mux(pictures.encode(None))
        masks.mux(ids.encode(None))


def main() -> None:
    """Read the options, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the folder to fill")
    parser.add_argument(
        "--data", action="append", required=True, metavar="KIND[:PATH][@SHARE]",
        help="as for livos train",
    )  # fmt: skip
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--length", type=int, default=60, help="frames of each")
    parser.add_argument("--size", type=int, default=384, help="side of the square frames; even")
    arguments = parser.parse_args()
    specs = [SourceSpec.parse(text) for text in arguments.data]
    source = ClipSource(specs, height=432, memory=2 << 30)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for number in range(arguments.clips):
        rng = np.random.default_rng((SEED, number))
        objects = 1 + number % 2
        clip = source.draw(rng, objects, arguments.length, arguments.size, max_skip=2)
        write(clip, arguments.out / f"{number:03d}")
        print(f"{number:03d}  {objects} objects", flush=True)


if __name__ == "__main__":
    main()
