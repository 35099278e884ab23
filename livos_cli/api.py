"""The public function for whole videos."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from livos_cli.network.model import LiVOS
from livos_cli.options import SegmentOptions
from livos_cli.pipeline import Result, make_tracker, open_video, track
from livos_cli.video.masks import KeyMasks
from livos_cli.weights import load_model

__all__ = ["segment"]


def segment(
    video: str | Path,
    mask: str | Path,
    *,
    weights: str | Path = "tiny",
    device: str = "auto",
    precision: str = "auto",
    model: LiVOS | None = None,
    options: SegmentOptions | None = None,
) -> Iterator[Result]:
    """Segment a video, one result a frame, as they are computed.

    Args:
        video: a video file, a folder of images, or `-` for stdin.
        mask: an image for the first frame, or a folder of key masks.
        weights: as for `load_model`; not used if `model` is given.
        device: as for `load_model`.
        precision: as for `load_model`.
        model: a loaded network, to use it for several videos.
        options: size, range, chunks.

    Yields:
        `Result` for every frame, in order. Holds a bounded number of frames.

    Raises:
        LivosError: an input that cannot be used.
    """
    options = options or SegmentOptions()
    model = model or load_model(weights, device=device, precision=precision)
    with open_video(video, options, keep_audio=False) as source:
        keys = KeyMasks(Path(mask), source.info.image_names)
        keys.scan(source.info.width, source.info.height)
        with closing(track(source, keys, make_tracker(model, options))) as results:
            for frame, ids in results:
                yield Result(frame.index, frame.pts, source.info.time_base, ids)
