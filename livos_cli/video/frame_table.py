"""Which frames a video file has, and at which of them decoding can begin."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterator
from typing import Any

import av

from livos_cli.errors import InputError
from livos_cli.video.container import open_container
from livos_cli.video.reader import VideoSource
from livos_cli.video.timeline import TS_DISCONT

__all__ = ["FrameTable", "pictures_from", "pictures_in"]

ANEW = "write it anew: ffmpeg -i IN -c:v libx264 -crf 12 OUT.mp4"


class FrameTable:
    """Timestamps of a video's frames, in order, and which are key frames; 8 bytes a frame.

    Args:
        times: of frames from number `first` on, in the stream's time base.
        keys: places in `times` at which a key frame is; the first place counts as one.
        first: number of the first frame.
    """

    def __init__(self, times: array[int], keys: array[int], first: int = 0) -> None:
        self.times, self.keys, self.first = times, keys, first

    @classmethod
    def by_decoding(cls, video: VideoSource) -> FrameTable:
        """One pass over the whole video, which judges it as reading it in order does.

        Raises:
            InputError: it is damaged, or its timestamps do not tell frames apart.
        """
        times, keys, first = array("q"), array("q"), 0
        for index, _, _, picture in video.walk():
            if not times:
                first = index
            if picture.pts is None or (times and picture.pts <= times[-1]):
                raise InputError(
                    f"{video.label} has timestamps that do not tell its frames apart, so they "
                    "cannot be read in another order",
                    ANEW,
                )
            if picture.key_frame or not times:
                keys.append(len(times))
            times.append(picture.pts)
        if video.starts_again:
            raise InputError(
                f"{video.label} has timestamps that start again, so its frames cannot be read in "
                "another order",
                ANEW,
            )
        return cls(times, keys, first)

    @classmethod
    def by_packets(cls, video: VideoSource) -> FrameTable | None:
        """By what the container says, without decoding; None where that leaves a doubt.

        Whoever reads by it is told where a frame does not come: `pictures_from`.
        """
        if video.container.format.flags & TS_DISCONT:
            return None
        reorders = bool(video.stream.codec_context.has_b_frames)
        with open_container(str(video.info.path), video.label, None, live=False) as container:
            stream = container.streams[video.stream.index]
            seen = []
            for packet in container.demux(stream):
                if not packet.size or packet.is_discard:
                    continue
                if packet.pts is None or packet.is_corrupt:
                    return None
                seen.append((packet.pts, bool(packet.is_keyframe)))
        # AVI and ASF know when a frame is stored, not when it is shown: frames that the codec
        # puts in another order look as if they were in order. Then decoding has to tell.
        ordered = sorted(seen)
        if reorders and seen == ordered:
            return None
        times = array("q", (pts for pts, _ in ordered))
        if len(set(times)) != len(times) or not times or times[0] != video.first_pts:
            return None
        keys = array("q", (place for place, (_, key) in enumerate(ordered) if key or not place))
        return cls(times, keys)

    @property
    def end(self) -> int | None:
        """Number after the last frame's; None if there is no frame."""
        return self.first + len(self.times) if self.times else None


def pictures_in(
    video: VideoSource, table: FrameTable, begin: int | None
) -> Generator[tuple[int, Any]]:
    """Place and picture of frames from a key frame on, as they come; damage is passed over.

    Args:
        video: open; nobody else reads from it meanwhile.
        table: of this video.
        begin: place of the key frame; None for the start of the file.
    """
    times = table.times
    for picture in _decoded(video, None if begin is None else times[begin]):
        if picture.pts is None:
            continue
        place = bisect_left(times, picture.pts)
        if place < len(times) and times[place] == picture.pts:
            yield place, picture


def _decoded(video: VideoSource, begin: int | None) -> Iterator[Any]:
    container, stream = video.container, video.stream
    if begin is None:
        container.seek(0)
    else:
        container.seek(begin, stream=stream, backward=True)
    for packet in container.demux(stream):
        try:
            yield from stream.decode(packet)
        except av.error.FFmpegError:
            # Frames that are missing here, but are in the table, are found by the caller.
            continue


def pictures_from(
    video: VideoSource, table: FrameTable, first: int
) -> Generator[tuple[int, Any], None, None]:
    """Number and picture of every frame from a number on, in order, the same bits as in order.

    Raises:
        InputError: a frame of the table does not come.
    """
    place = first - table.first
    key = bisect_right(table.keys, place) - 1
    # Some containers' indices lead past the frame asked for: then from further back.
    for begin in [*reversed(table.keys[max(0, key - 2) : key + 1]), None]:
        wanted = place
        for found, picture in pictures_in(video, table, begin):
            if found < wanted:
                continue
            if found > wanted:
                break
            yield table.first + found, picture
            wanted += 1
        if wanted == len(table.times):
            return
        if wanted > place:
            raise differs(video, table.first + wanted)
    raise differs(video, first)


def differs(video: VideoSource, number: int) -> InputError:
    """What to raise where a frame does not come a second time."""
    return InputError(f"{video.label} does not decode the same twice near frame {number}", ANEW)
