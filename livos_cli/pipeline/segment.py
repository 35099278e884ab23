"""The public function for whole videos."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from livos_cli.masks.reference_masks import ReferenceMasks
from livos_cli.network.livos import LiVOS
from livos_cli.options import SegmentOptions
from livos_cli.pipeline.positions import resolve_positions
from livos_cli.pipeline.propagate import Propagation, make_tracker
from livos_cli.pipeline.report import Result
from livos_cli.pipeline.run import open_video
from livos_cli.weights.load import load_model
from livos_cli.weights.registry import DEFAULT

__all__ = ["segment"]


def segment(
    video: str | Path,
    mask: str | Path,
    *,
    weights: str | Path = DEFAULT,
    device: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
    model: LiVOS | None = None,
    options: SegmentOptions | None = None,
) -> Iterator[Result]:
    """Segment a video, one result a frame, as they are computed.

    Args:
        video: a video file, a folder of images, a URL that FFmpeg reads, or `-` for stdin.
        mask: an image for the first frame, or a folder of key masks.
        weights: as for `load_model`; not used if `model` is given.
        device: as for `load_model`.
        precision: as for `load_model`.
        backend: as for `load_model`.
        model: a loaded network, to use it for several videos.
        options: size, range, direction, chunks.

    Yields:
        `Result` for every frame, in order. Holds a bounded number of frames.

    Raises:
        LivosError: an input that cannot be used.

    Examples:
        >>> from livos_cli import SegmentOptions, segment
        >>> from livos_cli.options import Position
        >>> first = SegmentOptions(max_size=48, end=Position(frame=2))
        >>> for result in segment("examples/clip.mp4", "examples/first.png", options=first):
        ...     print(result.index, result.mask.shape, result.mask.dtype)
        0 (360, 640) uint8
        1 (360, 640) uint8
    """
    options = options or SegmentOptions()
    model = model or load_model(weights, device=device, precision=precision, backend=backend)
    options, _ = resolve_positions(options, Path(mask), video)
    with open_video(video, options) as source:
        keys = ReferenceMasks(Path(mask), source.info.image_names)
        keys.scan(source.info.width, source.info.height, trust=options.trust_mask)
        tracker = make_tracker(model, options)
        found = Propagation(video, source, keys, tracker, options)
        with closing(found.frames()) as results:
            for frame, decided in results:
                yield Result(
                    frame.index, frame.pts, source.info.time_base, decided.ids, decided.certainty
                )
