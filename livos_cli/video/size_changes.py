"""Whether pictures change their size somewhere in a file: looked for before any work is done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from livos_cli.errors import InputError
from livos_cli.video.container import open_container

__all__ = ["other_size"]

# Of these a stream may change its size with a key frame, and most frames are none.
CODECS = frozenset(
    {"av1", "flv1", "h263", "h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v3"}
    | {"theora", "vp8", "vp9", "vvc"}
)
SMALL = 32 << 20  # bytes of a file in which every key frame is looked at
PLACES = 12  # of a larger one, evenly spaced


def other_size(path: Path, index: int) -> tuple[int, int, float] | None:
    """The first size found that is not that of the first key frame.

    Every key frame of a small file is decoded, of a large one a few: what is not found here shows
    when its frame comes.

    Args:
        path: a regular file.
        index: of the stream.

    Returns:
        Width, height, and seconds from the first key frame; None if there is none.
    """
    try:
        with open_container(str(path.absolute()), str(path), None, live=False) as container:
            stream = container.streams[index]
            context = stream.codec_context
            if context is None or context.name not in CODECS:
                return None
            context.skip_frame = "NONKEY"
            small = path.stat().st_size <= SMALL
            return _differing(_all(stream) if small else _some(stream))
    except (av.error.FFmpegError, InputError, OSError):
        return None  # damage shows, and is judged, when all is decoded


def _differing(pictures: Iterator[Any]) -> tuple[int, int, float] | None:
    first: Any = None
    for picture in pictures:
        if first is None:
            first = picture
        elif (picture.width, picture.height) != (first.width, first.height):
            time = 0.0 if None in (picture.time, first.time) else picture.time - first.time
            return picture.width, picture.height, time
    return None


def _all(stream: Any) -> Iterator[Any]:
    for packet in stream.container.demux(stream):
        if packet.is_keyframe or not packet.size:
            yield from _decode(stream, packet)


def _some(stream: Any) -> Iterator[Any]:
    """One key frame from each of a few places."""
    container = stream.container
    start, length = container.start_time or 0, container.duration or 0
    for place in range(PLACES):
        container.seek(start + length * place // PLACES)
        for packet in container.demux(stream):
            if packet.is_keyframe or not packet.size:
                pictures = [*_decode(stream, packet), *_decode(stream, None)]
                stream.codec_context.flush_buffers()
                if pictures:
                    yield pictures[0]
                    break


def _decode(stream: Any, packet: Any) -> list[Any]:
    try:
        return list(stream.codec_context.decode(packet))
    except av.error.FFmpegError:
        return []
