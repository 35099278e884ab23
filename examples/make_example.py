"""Draw the example: clip.mp4 (with sound), first.png and truth.mkv, from nothing but a seed.

    python examples/make_example.py [FOLDER]

Three textured, deforming objects under a moving camera; two pass behind a pillar.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from livos_cli.masks.palette import encode_index_png
from livos_cli.training.procedural import render

SEED = 44
WIDTH, HEIGHT, RATE, FRAMES, OBJECTS = 640, 360, 25, 150, 3
SOUND_RATE = 48000


def scene(seed: int = SEED) -> Any:
    """(frame, ids) for every frame of the example."""
    rng = np.random.default_rng(seed)
    return render(rng, HEIGHT, WIDTH, FRAMES, OBJECTS, speed=0.8, radius=(0.13, 0.2))


def main(folder: Path) -> None:
    """Write the three files."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        # "bitexact" leaves out random identifiers: the same files every time.
        av.open(str(folder / "clip.mp4"), "w", options={"fflags": "+bitexact"}) as clip,
        av.open(str(folder / "truth.mkv"), "w", options={"fflags": "+bitexact"}) as truth,
    ):
        options = {"crf": "24", "preset": "slow", "threads": "1"}
        picture: Any = clip.add_stream("libx264", rate=RATE, options=options)
        picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        picture.codec_context.colorspace = 1  # BT.709, as tagged frames are expected today
        picture.codec_context.color_range = 1
        sound: Any = clip.add_stream("aac", rate=SOUND_RATE)
        sound.layout = "mono"
        masks: Any = truth.add_stream("ffv1", rate=RATE, options={"level": "3", "slicecrc": "1"})
        masks.width, masks.height, masks.pix_fmt = WIDTH, HEIGHT, "gray"
        for index, (rgb, ids) in enumerate(scene()):
            frame: Any = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=1, dst_color_range=1)
            frame.colorspace, frame.pts, frame.time_base = 1, index, Fraction(1, RATE)
            clip.mux(picture.encode(frame))
            mask: Any = av.VideoFrame.from_ndarray(ids, format="gray")
            mask.pts, mask.time_base = index, Fraction(1, RATE)
            truth.mux(masks.encode(mask))
            clip.mux(sound.encode(_tone(index)))
            if index == 0:
                (folder / "first.png").write_bytes(encode_index_png(ids))
        clip.mux(picture.encode(None))
        clip.mux(sound.encode(None))
        truth.mux(masks.encode(None))


def _tone(index: int) -> Any:
    """A frame's worth of a soft rising tone, so that copied sound can be heard and checked."""
    count = SOUND_RATE // RATE
    time = (np.arange(count) + index * count) / SOUND_RATE
    wave = 0.1 * np.sin(2 * np.pi * (220 + 20 * time) * time)
    samples: Any = av.AudioFrame.from_ndarray(
        wave.astype(np.float32)[None], format="fltp", layout="mono"
    )
    samples.sample_rate, samples.pts = SOUND_RATE, index * count
    samples.time_base = Fraction(1, SOUND_RATE)
    return samples


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
