"""Which of a container's video streams is the moving picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import av

from livos_cli.errors import InputError

__all__ = ["pick_stream"]

AHEAD, AHEAD_LIVE = 600, 50  # packets looked at to tell several streams apart, at most
AHEAD_BYTES = 64 << 20
FEW = 0.25  # of the most frames: a stream with fewer is a still or thumbnails
ALIKE = 0.75  # of the most frames: as many as makes no difference


def pick_stream(container: Any, label: str, *, live: bool) -> tuple[Any, Iterator[Any], list[str]]:
    """The stream to read.

    Pictures that move go before stills and thumbnails; of those, the one meant by default; then
    the one with most frames, then the largest.

    Returns:
        The stream, all packets of the container, and a line that says which of several it is.

    Raises:
        InputError: there is none, or none whose codec is known.
    """
    attached = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & attached]
    if not streams:
        raise InputError(f"{label} has no video stream", "it holds only audio or other data")
    known = [s for s in streams if s.codec_context is not None]
    if not known:
        raise InputError(
            f"{label} has a codec that is not known here",
            "convert it first, to H.264 say; `livos info` shows the FFmpeg version",
        )
    packets = container.demux()
    if len(known) == 1:
        return known[0], packets, _others(label, known[0], streams, {})
    counts = {s.index: s.frames for s in known}
    if not all(counts.values()):
        counts, packets = _count(known, packets, live=live)
    best = max(known, key=lambda s: _rank(s, known, counts))
    return best, packets, _others(label, best, streams, counts)


def _rank(stream: Any, streams: list[Any], counts: dict[int, int]) -> tuple[Any, ...]:
    default = av.stream.Disposition.default
    count = counts[stream.index]
    rivals = [
        counts[s.index]
        for s in streams
        if bool(s.disposition & default) == bool(stream.disposition & default)
    ]
    return (
        count > 1 and count >= FEW * max(counts.values()),
        bool(stream.disposition & default),
        count >= ALIKE * max(rivals),
        stream.codec_context.width * stream.codec_context.height,
        -stream.index,
    )


def _count(
    streams: list[Any], packets: Iterator[Any], *, live: bool
) -> tuple[dict[int, int], Iterator[Any]]:
    """How many packets of each stream come first, and all packets again."""
    counts = Counter({stream.index: 0 for stream in streams})
    seen: list[Any] = []
    size = 0
    while True:
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, OSError) as error:
            return dict(counts), _again(seen, packets, error)
        if packet is None:
            return dict(counts), _again(seen, iter(()))
        seen.append(packet)
        size += packet.size
        if packet.size and packet.stream.index in counts:
            counts[packet.stream.index] += 1
        enough = live and all(count > 1 for count in counts.values())
        if enough or size > AHEAD_BYTES or counts.total() >= (AHEAD_LIVE if live else AHEAD):
            break
    return dict(counts), _again(seen, packets)


def _again(
    seen: list[Any], rest: Iterator[Any], error: BaseException | None = None
) -> Iterator[Any]:
    """What was looked at, and how it went on."""
    yield from seen
    seen.clear()
    if error is not None:
        raise error
    yield from rest


def _others(label: str, best: Any, streams: list[Any], counts: dict[int, int]) -> list[str]:
    if len(streams) == 1:
        return []
    rest = ", ".join(_name(s, counts) for s in streams if s is not best)
    return [f"{label} has {len(streams)} video streams: {_name(best, {})} is read, not {rest}"]


def _name(stream: Any, counts: dict[int, int]) -> str:
    context = stream.codec_context
    if context is None:
        return f"number {stream.index} (of an unknown codec)"
    still = ", a still" if counts.get(stream.index) == 1 else ""
    name = context.codec.canonical_name
    return f"number {stream.index} ({name}, {context.width}x{context.height}{still})"
