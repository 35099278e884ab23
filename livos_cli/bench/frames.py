"""Frames made up on the spot, in the memory of one."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from livos_cli.video.to_and_fro import to_and_fro

__all__ = ["Scene", "write_clip"]

TRAVEL = 48  # pixels that the picture moves to and fro


class Scene:
    """A textured picture with discs on it, that moves sideways.

    Args:
        height: of a frame.
        width: of a frame.
        objects: discs.
    """

    def __init__(self, height: int, width: int, objects: int) -> None:
        rng = np.random.default_rng(0)
        self._width = width
        coarse = rng.integers(0, 256, (height // 16 + 1, (width + TRAVEL) // 16 + 1, 3))
        picture = coarse.astype(np.uint8).repeat(16, axis=0).repeat(16, axis=1)
        self._picture = picture[:height, : width + TRAVEL].copy()
        self._ids = np.zeros((height, width + TRAVEL), np.uint8)
        radius = min(height, width / objects) / 3
        rows = np.arange(height)[:, None] - height / 2
        for index in range(objects):
            columns = np.arange(width + TRAVEL)[None] - (index + 0.5) * width / objects
            disc = rows**2 + columns**2 < radius**2
            self._ids[disc] = index + 1
            self._picture[disc] = rng.integers(0, 256, 3)

    def frame(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8; a view."""
        shift = to_and_fro(index, TRAVEL + 1)
        return self._picture[:, shift : shift + self._width]

    @property
    def mask(self) -> np.ndarray:
        """Ids of frame 0, (H, W) uint8."""
        return self._ids[:, : self._width]


def write_clip(scene: Scene, frames: int, video: Path, mask: Path) -> None:
    """The scene as an H.264 file of 25 frames a second, and its first mask."""
    import av

    height, width = scene.mask.shape
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"preset": "ultrafast"})
        # 4:2:0 needs even sides: a column or row is left out.
        stream.width, stream.height = width - width % 2, height - height % 2
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            picture = scene.frame(index)[: stream.height, : stream.width]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(mask), "w", format="image2") as container:
        stream = container.add_stream("png", rate=25)
        ids = scene.mask[: height - height % 2, : width - width % 2]
        stream.height, stream.width = ids.shape
        stream.pix_fmt = "gray"
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(ids), format="gray")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
