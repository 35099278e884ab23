"""Frames in: video files and streams through PyAV, decoded ahead.

Timestamps are the container's own (as in PyAV's generate_video_with_pts example, kept through).
Rotation and mirroring of the display matrix are applied, so frames are as a player shows them.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from livos_cli.errors import InputError, UsageError
from livos_cli.memory import out_of_memory, too_little_memory
from livos_cli.options import Position, RawVideo
from livos_cli.redact import redact
from livos_cli.video.colour import depth_of, matrix_of, orientation_of, to_rgb
from livos_cli.video.container import (
    PATIENCE,
    Stdin,
    check_exists,
    interruptible,
    is_url,
    open_container,
    reason_of,
    stem_of,
)
from livos_cli.video.images import IMAGE_RATE, ImageFolderSource
from livos_cli.video.source import BaseSource, Frame, FrameSource, SourceInfo

__all__ = ["VideoSource", "open_source"]


def open_source(
    source: str | Path,
    *,
    start: Position | None = None,
    end: Position | None = None,
    keep_audio: bool = False,
    keep_picture: bool = False,
    allow_truncated: bool = False,
    raw: RawVideo | None = None,
    latest: bool = False,
) -> FrameSource:
    """Open a video file, a folder of images, stdin (`-`), or a URL that FFmpeg reads.

    Args:
        source: path, `-`, or like rtsp://camera/stream.
        start: first frame wanted; None for the first there is.
        end: first frame not wanted; None to read to the end.
        keep_audio: attach the audio packets to the frames, for copying.
        keep_picture: attach the decoded picture to the frames, in its own format and depth.
        allow_truncated: take a damaged or cut file as far as it decodes.
        raw: what to take bare pictures for.
        latest: of a live source, give the newest frame there is and leave out those before it.

    Raises:
        InputError: it does not exist or holds no video.
        UsageError: `latest` of a file.
    """
    check_exists(source)
    if latest and not (str(source) == "-" or is_url(source)):
        raise UsageError(
            f"{source} is a file: none of its frames comes late", "leave --latency-first"
        )
    if raw is None and not is_url(source) and Path(source).is_dir():
        return ImageFolderSource(Path(source), start, end)
    return VideoSource(
        source,
        start,
        end,
        keep_audio=keep_audio,
        keep_picture=keep_picture,
        allow_truncated=allow_truncated,
        raw=raw,
        latest=latest,
    )


class VideoSource(BaseSource):
    """A video file, any streamable container on stdin, or a URL, through PyAV."""

    def __init__(
        self,
        source: str | Path,
        start: Position | None = None,
        end: Position | None = None,
        *,
        keep_audio: bool = False,
        keep_picture: bool = False,
        allow_truncated: bool = False,
        raw: RawVideo | None = None,
        latest: bool = False,
    ) -> None:
        super().__init__(start, end, latest=latest)
        live = str(source) == "-" or is_url(source)
        path = None if live else Path(source)
        self.label = "stdin" if str(source) == "-" else redact(str(source))
        self._allow_truncated = allow_truncated
        self._keep_audio, self._keep_picture = keep_audio, keep_picture
        self._pixel_bytes = 9 if keep_picture else 3
        self._stdin = Stdin() if str(source) == "-" else None
        # Absolute, or FFmpeg takes what precedes a colon for a protocol.
        place: Any = self._stdin or (str(path.absolute()) if path else str(source))
        self._patience = 2.0 if is_url(source) else None

        def begin() -> None:
            self.container = open_container(place, self.label, raw, live=live)
            self._begin(path)

        if live:
            interruptible(begin, self._interrupt)
        else:
            begin()

    def _begin(self, path: Path | None) -> None:
        """Find the stream and decode its first frame."""
        try:
            self.stream = self._pick_stream()
            self.stream.thread_type = "AUTO"
            # The first frame tells the colours and the rotation; it is yielded first later on.
            if path is not None:
                self._check_index(path)
            self._packets = self._demux()
            self._first = self._decode_first()
            self.info = self._describe(path)
        except BaseException:
            self.container.close()
            raise

    def _pick_stream(self) -> Any:
        for stream in self.container.streams.video:
            attached = av.stream.Disposition.attached_pic
            if stream.disposition & attached:
                continue
            if stream.codec_context is None:
                raise InputError(
                    f"{self.label} has a codec that is not known here",
                    "convert it first, to H.264 say; `livos info` shows the FFmpeg version",
                )
            return stream
        raise InputError(f"{self.label} has no video stream", "it holds only sound or other data")

    def _demux(self) -> Iterator[Any]:
        """Packets of the video; keeps those of the sound, remembers how far all streams reach."""
        self._audio: list[Any] = []
        self._reach = 0.0
        for packet in self.container.demux():
            if packet.size and packet.pts is not None and packet.time_base:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                self._reach = max(self._reach, end)
            # `packet.stream_index` of the packets that flush is 0, whatever their stream.
            if packet.stream.index == self.stream.index:
                yield packet
            elif self._keep_audio and packet.stream.type == "audio" and packet.size:
                self._audio.append(packet)

    def _decoded(self) -> Iterator[Any]:
        """Frames in the order they are shown; raises InputError where the file is damaged."""
        bad = 0
        while True:
            try:
                packet = next(self._packets, None)
                if packet is None:
                    break
                # Not the packet's own stream: a damaged transport stream makes it of no kind.
                frames = self.stream.decode(packet)
            except (av.error.FFmpegError, OSError) as error:
                if isinstance(error, av.error.ExitError):
                    self._damaged(f"nothing came for {PATIENCE} s")
                    break
                if out_of_memory(error):
                    raise too_little_memory(f"to decode {self.label}") from None
                # With --allow-truncated a bad packet costs its own frames only.
                self._damaged(f"damaged data ({reason_of(error)})")
                bad += 1
                continue
            yield from frames
        if bad:
            self.warnings.append(f"{self.label}: {bad} damaged packets; their frames are missing")
        self._check_length()

    def _check_index(self, path: Path) -> None:
        """An MP4's index says where every frame lies: a cut is known before any work is done."""
        if "mov" not in self.container.format.name.split(","):
            return
        entries = self.stream.index_entries
        ends = (entries[i].pos + entries[i].size for i in range(len(entries)))
        if (end := max(ends, default=0)) > (size := path.stat().st_size):
            self._damaged(f"its last frames lie beyond its end ({size} of {end} bytes are there)")

    def _check_length(self) -> None:
        """Compare what came with what the container declares: a cut file just ends early."""
        declared = (self.container.duration or 0) / av.time_base
        start = (self.container.start_time or 0) / av.time_base
        # Matroska's duration counts from zero, others' from the start: take the shorter.
        missing = declared + min(start, 0.0) - self._reach
        rate = self.stream.average_rate or IMAGE_RATE
        # Only containers that state a duration, rather than guess one from the file's size.
        stated = {"mov", "matroska", "avi", "flv", "asf"} & set(
            self.container.format.name.split(",")
        )
        if stated and missing > max(0.5, 2 / float(rate)):
            self._damaged(f"it ends {missing:.1f} s early")

    def _damaged(self, what: str) -> None:
        if any("kept what could be decoded" in warning for warning in self.warnings):
            return  # said once
        if not self._allow_truncated:
            raise InputError(
                f"{self.label} is cut or damaged: {what}",
                "use --allow-truncated to keep what can be decoded",
            )
        self.warnings.append(f"{self.label}: {what}; kept what could be decoded")

    def _decode_first(self) -> Any:
        self._frames = self._decoded()
        first = next(self._frames, None)
        if first is None:
            raise InputError(f"{self.label} holds no frame that decodes", "is it damaged?")
        return first

    def _describe(self, path: Path | None) -> SourceInfo:
        stream, first = self.stream, self._first
        orientation = orientation_of(first)
        width, height = first.width, first.height
        aspect = stream.sample_aspect_ratio or None
        if orientation[0] % 2:
            width, height = height, width
            aspect = 1 / aspect if aspect else None
        rate = stream.average_rate or stream.guessed_rate or IMAGE_RATE
        time_base = stream.time_base or 1 / Fraction(rate)
        count = stream.frames or None
        if count is None and stream.duration:
            count = round(float(stream.duration * time_base) * float(rate))
        elif count is None and self.container.duration and path is not None:
            count = round(self.container.duration / av.time_base * float(rate))
        return SourceInfo(
            name=self._name(path),
            path=path,
            width=width,
            height=height,
            time_base=Fraction(time_base),
            rate=Fraction(rate),
            frames=count,
            sample_aspect_ratio=aspect,
            colorspace=matrix_of(first),
            color_range=int(first.color_range),
            color_primaries=int(first.color_primaries),
            color_trc=int(first.color_trc),
            audio=tuple(self.container.streams.audio) if self._keep_audio else (),
            depth=depth_of(first),
            orientation=orientation,
        )

    def _name(self, path: Path | None) -> str:
        return path.stem if path is not None else stem_of(self.label)

    def walk(self) -> Iterator[tuple[int, int, float, Any]]:
        """Decoded pictures that are wanted: number, timestamp, seconds from the first, picture.

        Raises:
            InputError: the size changes, or data is damaged.
        """
        info = self.info
        formats = self.container.format.name.split(",")
        clock = _Clock(info, by_dts=bool({"avi", "asf"} & set(formats)))
        self._shift = 0
        self._until: float | None = None  # seconds; sound from here on is not wanted
        index = 0
        picture, self._first = self._first, None
        while picture is not None:
            if (picture.width, picture.height) != self._coded_size(info):
                raise InputError(
                    f"{self.label} changes size at frame {index}: from "
                    f"{info.width}x{info.height} to {picture.width}x{picture.height}",
                    "split it there, or scale it to one size with ffmpeg",
                )
            pts = clock(picture)
            self._shift = clock.shift
            shown = (pts - clock.shift) * info.time_base  # as the container says it
            time = float(shown - clock.origin * info.time_base)
            wanted = self._wanted(index, time)
            if wanted is None:
                self._until = float(shown)
                break
            if wanted:
                yield index, pts, time, picture
            else:
                self._take_audio(float(shown + 1 / info.rate))
            index += 1
            picture = next(self._frames, None)
        self._tell(clock)

    def _read(self) -> Iterator[Frame]:
        info = self.info
        corrupt = 0
        for index, pts, time, picture in self.walk():
            corrupt += bool(picture.is_corrupt)
            # Demuxing is ahead of decoding: what sounds later goes with a later frame.
            shown = (pts - self._shift) * info.time_base
            yield Frame(
                index,
                pts,
                time,
                to_rgb(picture, info),
                picture.duration or 0,
                audio=self._take_audio(float(shown + 1 / info.rate)),
                picture=picture if self._keep_picture else None,
            )
        self.trailing_audio = self._take_audio(self._until)
        if corrupt:
            self.warnings.append(
                f"{self.label}: {corrupt} frames are damaged; others may be missing near them"
            )

    def _take_audio(self, until: float | None) -> tuple[Any, ...]:
        """Remove and return the packets that begin before a time in seconds; None for all."""
        taken: list[Any] = []
        kept: list[Any] = []
        for packet in self._audio:
            begins = None if packet.pts is None else float(packet.pts * packet.time_base)
            late = until is not None and begins is not None and begins >= until
            (kept if late else taken).append(packet)
        self._audio = kept
        for packet in taken if self._shift else ():
            ticks = round(self._shift * self.info.time_base / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        return tuple(taken)

    def _tell(self, clock: _Clock) -> None:
        if clock.moved:
            self.warnings.append(
                f"{self.label}: {clock.moved} frames are not later than the ones before them; "
                "each was moved on by one tick"
            )
        if clock.shift:
            seconds = float(clock.shift * self.info.time_base)
            self.warnings.append(
                f"{self.label} begins {seconds:.3f} s before zero, which players cut off; "
                "everything written is later by as much"
            )

    def _coded_size(self, info: SourceInfo) -> tuple[int, int]:
        turned = info.orientation[0] % 2
        return (info.height, info.width) if turned else (info.width, info.height)

    def _interrupt(self) -> None:
        if self._stdin is not None:
            self._stdin.stop.set()

    def _close(self) -> None:
        self.container.close()


class _Clock:
    """A timestamp for every frame: strictly increasing, never negative."""

    def __init__(self, info: SourceInfo, *, by_dts: bool) -> None:
        self._step = max(1, round(1 / (info.rate * info.time_base)))
        self._by_dts = by_dts
        self._last: int | None = None
        self.origin = 0  # first timestamp as given
        self.shift = 0  # added to all, so that none is negative
        self.moved = 0  # frames that were not later than the one before

    def __call__(self, frame: Any) -> int:
        """The frame's timestamp, in the source's time base."""
        # AVI and ASF store no presentation times: FFmpeg's guesses jump where there are B-frames,
        # while the times of decoding, in the order frames come out, are even.
        pts = frame.dts if self._by_dts and frame.dts is not None else frame.pts
        if self._last is None:
            pts = 0 if pts is None else pts
            self.origin, self.shift = pts, max(0, -pts)
        elif pts is None or (self._by_dts and pts <= self._last):
            # Raw streams carry no timestamps, nor do the last frames out of an AVI's decoder:
            # count at the nominal rate.
            pts = self._last + self._step
        elif pts <= self._last:
            self.moved += 1
            pts = self._last + 1
        self._last = pts
        return int(pts) + self.shift
