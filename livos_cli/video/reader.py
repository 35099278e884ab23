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
from livos_cli.video.address import Address
from livos_cli.video.audio import AudioPackets
from livos_cli.video.colour import depth_of, matrix_of, orientation_of, to_rgb
from livos_cli.video.container import (
    PATIENCE,
    Stdin,
    check_content,
    check_exists,
    interruptible,
    open_container,
    reason_of,
    stem_of,
)
from livos_cli.video.images import IMAGE_RATE, ImageFolderSource
from livos_cli.video.size_changes import other_size
from livos_cli.video.source import BaseSource, Frame, FrameSource, SourceInfo
from livos_cli.video.streams import pick_stream
from livos_cli.video.timeline import TS_DISCONT, Clock, Timeline
from livos_cli.video.truncation import declared_size, is_whole

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
    latency_first: bool = False,
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
        latency_first: of a live source, give the newest frame there is, not those before.

    Raises:
        InputError: it does not exist or holds no video.
        UsageError: `latency_first` of a file.
    """
    check_exists(source)
    address = Address.of(source)
    if latency_first and not address.live:
        raise UsageError(
            f"{source} is a file: none of its frames comes late", "remove --latency-first"
        )
    if raw is None and address.kind == "folder":
        return ImageFolderSource(Path(source), start, end)
    return VideoSource(
        source,
        start,
        end,
        keep_audio=keep_audio,
        keep_picture=keep_picture,
        allow_truncated=allow_truncated,
        raw=raw,
        latency_first=latency_first,
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
        latency_first: bool = False,
    ) -> None:
        super().__init__(start, end, latency_first=latency_first)
        address = Address.of(source)
        live, path, stdin = address.live, address.path, address.kind == "stdin"
        self._from_file, self._from_network = path is not None, address.kind == "url"
        self.label = "stdin" if stdin else redact(address.text)
        self._allow_truncated = allow_truncated
        self._keep_audio, self._keep_picture = keep_audio, keep_picture
        self._pixel_bytes = 9 if keep_picture else 3
        self._stdin = Stdin() if stdin else None
        # Absolute, or FFmpeg takes what precedes a colon for a protocol.
        place: Any = self._stdin or (str(path.absolute()) if path else address.text)
        self._patience = 2.0 if self._from_network else None
        if path is not None:
            check_content(path)

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
            self._formats = set(self.container.format.name.split(","))
            live = self._from_network
            self.stream, packets, said = pick_stream(self.container, self.label, live=live)
            self.warnings += said
            self.stream.thread_type = "AUTO"
            # The first frame tells the colours and the rotation; it is yielded first later on.
            if path is not None and path.is_file():
                self._check_size(path)
                self._check_sizes(path)
            # As in ffmpeg: of a live source a leap is a pause.
            jumps = bool(self.container.format.flags & TS_DISCONT) and not live
            rate = self.stream.average_rate or self.stream.guessed_rate or IMAGE_RATE
            self._timeline = Timeline(1 / Fraction(rate), jumps=jumps)
            self._packets = self._demux(packets)
            self._first = self._decode_first()
            self.info = self._describe(path)
            self._say_interlaced()
        except BaseException:
            self.container.close()
            raise

    def _demux(self, packets: Iterator[Any]) -> Iterator[Any]:
        """Packets of the video; keeps those of the audio, remembers how far all streams reach."""
        self._audio = AudioPackets()
        self._reach = 0.0
        for packet in packets:
            if packet.stream.index == self.stream.index or packet.stream.type == "audio":
                self._timeline.place(packet)
            if packet.size and packet.pts is not None and packet.time_base:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                self._reach = max(self._reach, end)
            # `packet.stream_index` of the packets that flush is 0, whatever their stream.
            if packet.stream.index == self.stream.index:
                yield packet
            elif self._keep_audio and packet.stream.type == "audio" and packet.size:
                self._audio.put(packet)

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

    def _check_size(self, path: Path) -> None:
        """Many files say how large they are: a cut is known before any work is done."""
        size, wanted = path.stat().st_size, declared_size(path, self._formats, self.stream)
        if wanted is not None and wanted > size:
            there = f"{size} of {wanted} bytes are there"
            self._damaged(f"its last frames lie beyond its end ({there})")

    def _check_sizes(self, path: Path) -> None:
        """Say before the work that the size changes, unless it may be beyond what is wanted."""
        if self._allow_truncated or self._end is not None:
            return
        if (found := other_size(path, self.stream.index)) is not None:
            width, height, time = found
            raise self._changes_size(f"to {width}x{height} at about {time:.1f} s")

    def _changes_size(self, how: str) -> InputError:
        return InputError(
            f"{self.label} changes size: {how}",
            "ffmpeg -i IN OUT.mp4 scales all to the first size; --allow-truncated keeps the frames "
            "before",
        )

    def _check_length(self) -> None:
        """Compare what came with what the container declares: a cut file just ends early."""
        declared = (self.container.duration or 0) / av.time_base
        start = (self.container.start_time or 0) / av.time_base
        # Matroska's duration counts from zero, others' from the start: take the shorter.
        missing = declared + min(start, 0.0) - self._reach
        rate = self.stream.average_rate or IMAGE_RATE
        # Only containers that state a duration, rather than guess one from the file's size.
        stated = {"mov", "matroska", "avi", "flv", "asf"} & self._formats
        if not stated or missing <= max(0.5, 2 / float(rate)):
            return
        path = Path(self.label)
        if self._from_file and path.is_file() and is_whole(path, self._formats, self.stream):
            self.warnings.append(
                f"{self.label}: its header claims {declared:.1f} s, {missing:.1f} s more than "
                "there are; nothing is missing at its end, and all its frames were read"
            )
        else:
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
        # Unset is None or, from PyAV 19 on, zero; Fraction is what all else here computes with.
        aspect = Fraction(stream.sample_aspect_ratio or 0) or None
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
        clock = Clock(info, by_dts=bool({"avi", "asf"} & self._formats))
        self._shift = 0
        self._until: float | None = None  # seconds; audio from here on is not wanted
        index = 0
        picture, self._first = self._first, None
        while picture is not None:
            moved = clock.moved
            pts = clock(picture)
            self._shift = clock.shift
            shown = (pts - clock.shift) * info.time_base  # as the container says it
            time = float(shown - clock.origin * info.time_base)
            wanted = self._wanted(index, time)
            other = (picture.width, picture.height) != self._coded_size(info)
            if other and wanted is not None:
                clock.moved = moved
                self._end_at_size(index, picture)
            if other or wanted is None:
                self._until = float(shown)
                break
            if wanted:
                yield index, pts, time, picture
            else:
                self._take_audio(float(shown + 1 / info.rate))
            index += 1
            picture = next(self._frames, None)
        self._tell(clock)

    @property
    def first_pts(self) -> int | None:
        """The container's timestamp of the first frame, before anything is read."""
        return None if self._first is None else self._first.pts

    @property
    def starts_again(self) -> bool:
        """Whether timestamps did, so far: those given out are not those of the file then."""
        return bool(self._timeline.joints)

    def _end_at_size(self, index: int, picture: Any) -> None:
        """Raises InputError, unless what is before a change of size is enough."""
        how = f"to {picture.width}x{picture.height} at frame {index}"
        if not self._allow_truncated:
            raise self._changes_size(how)
        self.warnings.append(f"{self.label} changes size: {how}; the frames before it are kept")

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
        return self._audio.take(until, self._shift * self.info.time_base)

    def _say_interlaced(self) -> None:
        if self._first.interlaced_frame:
            self.warnings.append(
                f"{self.label} is interlaced: each frame shows two moments, line by line, and is "
                "taken as it is; what is written is not marked as interlaced "
                "(ffmpeg -i IN -vf bwdif OUT makes it progressive)"
            )

    def _tell(self, clock: Clock) -> None:
        if said := self._timeline.said(clock.origin * self.info.time_base):
            self.warnings.append(f"{self.label}: {said}")
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
