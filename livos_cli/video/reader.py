"""Frames in: video files and streams through PyAV, decoded ahead.

Timestamps are the container's own (as in PyAV's generate_video_with_pts example, kept through).
Rotation and mirroring of the display matrix are applied, so frames are as a player shows them.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Colorspace

from livos_cli.errors import InputError
from livos_cli.options import Position
from livos_cli.video.images import IMAGE_RATE, ImageFolderSource
from livos_cli.video.source import BaseSource, Frame, FrameSource, SourceInfo

__all__ = ["VideoSource", "check_exists", "open_source"]


def open_source(
    source: str | Path,
    *,
    start: Position | None = None,
    end: Position | None = None,
    keep_audio: bool = False,
    allow_truncated: bool = False,
) -> FrameSource:
    """Open a video file, a folder of images, or stdin (`-`).

    Args:
        source: path, or `-`.
        start: first frame wanted; None for the first there is.
        end: first frame not wanted; None to read to the end.
        keep_audio: attach the audio packets to the frames, for copying.
        allow_truncated: take a damaged or cut file as far as it decodes.

    Raises:
        InputError: it does not exist or holds no video.
    """
    check_exists(source)
    if str(source) == "-":
        return VideoSource(None, start, end, keep_audio, allow_truncated)
    path = Path(source)
    if path.is_dir():
        return ImageFolderSource(path, start, end)
    return VideoSource(path, start, end, keep_audio, allow_truncated)


def check_exists(source: str | Path) -> None:
    """Raises InputError if there is nothing to open at all."""
    path = Path(source)
    if str(source) == "-":
        return
    if not path.exists():
        raise InputError(f"{path} does not exist", "check the path of the video")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes)", "was it copied or downloaded completely?")


class VideoSource(BaseSource):
    """A video file, or any streamable container on stdin, through PyAV."""

    def __init__(
        self,
        path: Path | None,
        start: Position | None,
        end: Position | None,
        keep_audio: bool,
        allow_truncated: bool,
    ) -> None:
        super().__init__(start, end)
        self._label = "stdin" if path is None else str(path)
        self._allow_truncated = allow_truncated
        try:
            # Absolute, or FFmpeg takes what precedes a colon for a protocol.
            self._stdin = _Stdin() if path is None else None
            self._container: Any = av.open(self._stdin or str(path and path.absolute()))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            if isinstance(error, PermissionError):
                raise InputError(
                    f"{self._label} may not be read", "check its permissions"
                ) from None
            hint = (
                "pipe a streamable container (Matroska, MPEG-TS, fragmented MP4)"
                if path is None
                else "is it a video file, and complete? `ffprobe` shows what it is"
            )
            raise InputError(
                f"{self._label} cannot be read as a video ({_reason(error)})", hint
            ) from None
        try:
            self._stream = self._pick_stream()
            self._stream.thread_type = "AUTO"
            self._keep_audio = keep_audio
            # The first frame tells the colours and the rotation; it is yielded first later on.
            if path is not None:
                self._check_index(path)
            self._packets = self._demux()
            self._first = self._decode_first()
            self.info = self._describe(path)
        except BaseException:
            self._container.close()
            raise

    def _pick_stream(self) -> Any:
        for stream in self._container.streams.video:
            attached = av.stream.Disposition.attached_pic
            if stream.disposition & attached:
                continue
            if stream.codec_context is None:
                raise InputError(
                    f"{self._label} has a codec that is not known here",
                    "convert it first, to H.264 say; `livos info` shows the FFmpeg version",
                )
            return stream
        raise InputError(f"{self._label} has no video stream", "it holds only sound or other data")

    def _demux(self) -> Iterator[Any]:
        """Packets of the video; keeps those of the sound, remembers how far all streams reach."""
        self._audio: list[Any] = []
        self._reach = 0.0
        for packet in self._container.demux():
            if packet.size and packet.pts is not None and packet.time_base:
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                self._reach = max(self._reach, end)
            if packet.stream_index == self._stream.index:
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
                frames = packet.decode()
            except (av.error.FFmpegError, OSError) as error:
                # With --allow-truncated a bad packet costs its own frames only.
                self._damaged(f"damaged data ({_reason(error)})")
                bad += 1
                continue
            yield from frames
        if bad:
            self.warnings.append(f"{self._label}: {bad} damaged packets; their frames are missing")
        self._check_length()

    def _check_index(self, path: Path) -> None:
        """An MP4's index says where every frame lies: a cut is known before any work is done."""
        if "mov" not in self._container.format.name.split(","):
            return
        entries = self._stream.index_entries
        ends = (entries[i].pos + entries[i].size for i in range(len(entries)))
        if (end := max(ends, default=0)) > (size := path.stat().st_size):
            self._damaged(f"its last frames lie beyond its end ({size} of {end} bytes are there)")

    def _check_length(self) -> None:
        """Compare what came with what the container declares: a cut file just ends early."""
        declared = (self._container.duration or 0) / av.time_base
        start = (self._container.start_time or 0) / av.time_base
        # Matroska's duration counts from zero, others' from the start: take the shorter.
        missing = declared + min(start, 0.0) - self._reach
        rate = self._stream.average_rate or IMAGE_RATE
        # Only containers that state a duration, rather than guess one from the file's size.
        stated = {"mov", "matroska", "avi", "flv", "asf"} & set(
            self._container.format.name.split(",")
        )
        if stated and missing > max(0.5, 2 / float(rate)):
            self._damaged(f"it ends {missing:.1f} s early")

    def _damaged(self, what: str) -> None:
        if any("kept what could be decoded" in warning for warning in self.warnings):
            return  # said once
        if not self._allow_truncated:
            raise InputError(
                f"{self._label} is cut or damaged: {what}",
                "use --allow-truncated to keep what can be decoded",
            )
        self.warnings.append(f"{self._label}: {what}; kept what could be decoded")

    def _decode_first(self) -> Any:
        self._frames = self._decoded()
        first = next(self._frames, None)
        if first is None:
            raise InputError(f"{self._label} holds no frame that decodes", "is it damaged?")
        return first

    def _describe(self, path: Path | None) -> SourceInfo:
        stream, first = self._stream, self._first
        self._orient = _orientation(first)
        width, height = first.width, first.height
        aspect = stream.sample_aspect_ratio or None
        if self._orient[0] % 2:
            width, height = height, width
            aspect = 1 / aspect if aspect else None
        rate = stream.average_rate or stream.guessed_rate or IMAGE_RATE
        time_base = stream.time_base or 1 / Fraction(rate)
        count = stream.frames or None
        if count is None and stream.duration:
            count = round(float(stream.duration * time_base) * float(rate))
        elif count is None and self._container.duration and path is not None:
            count = round(self._container.duration / av.time_base * float(rate))
        return SourceInfo(
            name="stdin" if path is None else path.stem,
            path=path,
            width=width,
            height=height,
            time_base=Fraction(time_base),
            rate=Fraction(rate),
            frames=count,
            sample_aspect_ratio=aspect,
            colorspace=_matrix(first),
            color_range=int(first.color_range),
            color_primaries=int(first.color_primaries),
            color_trc=int(first.color_trc),
            audio=tuple(self._container.streams.audio) if self._keep_audio else (),
        )

    def _read(self) -> Iterator[Frame]:
        info = self.info
        formats = self._container.format.name.split(",")
        clock = _Clock(info, by_dts=bool({"avi", "asf"} & set(formats)))
        index = corrupt = 0
        until: float | None = None  # seconds; sound from here on is not wanted
        frame, self._first = self._first, None
        while frame is not None:
            if (frame.width, frame.height) != self._coded_size(info):
                raise InputError(
                    f"{self._label} changes size at frame {index}: from "
                    f"{info.width}x{info.height} to {frame.width}x{frame.height}",
                    "split it there, or scale it to one size with ffmpeg",
                )
            pts = clock(frame)
            shown = (pts - clock.shift) * info.time_base  # as the container says it
            wanted = self._wanted(index, float(shown - clock.origin * info.time_base))
            if wanted is None:
                until = float(shown)
                break
            if wanted:
                corrupt += bool(frame.is_corrupt)
                # Demuxing is ahead of decoding: what sounds later goes with a later frame.
                sound = self._take_audio(float(shown + 1 / info.rate), clock.shift)
                yield Frame(
                    index,
                    pts,
                    float(shown - clock.origin * info.time_base),
                    _to_rgb(frame, info, self._orient),
                    frame.duration or 0,
                    audio=sound,
                )
            else:
                self._take_audio(float(shown + 1 / info.rate), clock.shift)
            index += 1
            frame = next(self._frames, None)
        self.trailing_audio = self._take_audio(until, clock.shift)
        self._tell(corrupt, clock)

    def _take_audio(self, until: float | None, shift: int) -> tuple[Any, ...]:
        """Remove and return the packets that begin before a time in seconds; None for all."""
        taken: list[Any] = []
        kept: list[Any] = []
        for packet in self._audio:
            begins = None if packet.pts is None else float(packet.pts * packet.time_base)
            late = until is not None and begins is not None and begins >= until
            (kept if late else taken).append(packet)
        self._audio = kept
        for packet in taken if shift else ():
            ticks = round(shift * self.info.time_base / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        return tuple(taken)

    def _tell(self, corrupt: int, clock: _Clock) -> None:
        if corrupt:
            self.warnings.append(
                f"{self._label}: {corrupt} frames are damaged; others may be missing near them"
            )
        if clock.moved:
            self.warnings.append(
                f"{self._label}: {clock.moved} frames are not later than the ones before them; "
                "each was moved on by one tick"
            )
        if clock.shift:
            seconds = float(clock.shift * self.info.time_base)
            self.warnings.append(
                f"{self._label} begins {seconds:.3f} s before zero, which players cut off; "
                "everything written is later by as much"
            )

    def _coded_size(self, info: SourceInfo) -> tuple[int, int]:
        turned = self._orient[0] % 2
        return (info.height, info.width) if turned else (info.width, info.height)

    def _interrupt(self) -> None:
        if self._stdin is not None:
            self._stdin.stop.set()

    def _close(self) -> None:
        self._container.close()


class _Stdin:
    """Standard input as a file object whose reading can be stopped from another thread."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._fd = sys.stdin.fileno()

    def read(self, size: int) -> bytes:
        # Windows cannot wait for pipes; there a closed run waits for the other end.
        while os.name != "nt" and not select.select([self._fd], [], [], 0.2)[0]:
            if self.stop.is_set():
                return b""
        return os.read(self._fd, size)


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


def _matrix(frame: Any) -> int:
    """The frame's YCbCr matrix; where untagged, what players assume from its size."""
    tagged = int(frame.colorspace)
    if tagged in (1, 4, 5, 6, 7, 9, 10):
        return tagged
    high_definition = frame.width >= 1280 or frame.height > 576
    return int(Colorspace.ITU709 if high_definition else Colorspace.ITU601)


def _to_rgb(frame: Any, info: SourceInfo, orient: tuple[int, bool]) -> np.ndarray:
    """(H, W, 3) uint8 RGB by the stream's own matrix and range, oriented as shown."""
    if frame.format.is_rgb or frame.format.name.startswith(("gray", "mono")):
        rgb = frame.to_ndarray(format="rgb24")
    else:
        rgb = frame.to_ndarray(
            format="rgb24", src_colorspace=info.matrix, dst_colorspace=info.matrix
        )
    turns, mirrored = orient
    if mirrored:
        rgb = rgb[:, ::-1]
    return np.ascontiguousarray(np.rot90(rgb, turns) if turns else rgb)


def _orientation(frame: Any) -> tuple[int, bool]:
    """Quarter turns counter-clockwise, after a left-right flip if True, from the display matrix."""
    for data in frame.side_data:
        if "DISPLAYMATRIX" in str(data.type):
            a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).tolist()
            mirrored = a * d - b * c < 0
            if mirrored:
                a, c = -a, -c
            turns = {(1, 0): 0, (0, -1): 1, (-1, 0): 2, (0, 1): 3}
            key = (int(np.sign(round(a / 65536))), int(np.sign(round(b / 65536))))
            if key not in turns:
                raise InputError(
                    "the video is tagged with a rotation that is not a quarter turn",
                    "apply it first: ffmpeg -i IN OUT",
                )
            return turns[key], mirrored
    return 0, False


def _reason(error: BaseException) -> str:
    """A library's error in few words, without paths and numbers of its own."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0][:120]
