"""Frames in: video files and streams through PyAV, decoded ahead.

Timestamps are the container's own (as in PyAV's generate_video_with_pts example, kept through).
Rotation and mirroring of the display matrix are applied, so frames are as a player shows them.
"""

from __future__ import annotations

import sys
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
            self._container: Any = av.open(sys.stdin.buffer if path is None else str(path))
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
            self._pending: list[Any] = []
            self._ended = False
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
            if not stream.disposition & attached:
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
        try:
            for packet in self._packets:
                yield from packet.decode()
        except (av.error.InvalidDataError, av.error.EOFError, OSError) as error:
            self._damaged(f"damaged data ({_reason(error)})")
            return
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
        step = max(1, round(1 / (info.rate * info.time_base)))
        index, origin, last, corrupt, moved = 0, None, None, 0, 0
        frame, self._first = self._first, None
        while frame is not None:
            if (frame.width, frame.height) != self._coded_size(info):
                raise InputError(
                    f"{self._label} changes size at frame {index}: from "
                    f"{info.width}x{info.height} to {frame.width}x{frame.height}",
                    "split it there, or scale it to one size with ffmpeg",
                )
            pts = frame.pts
            if pts is None:  # raw streams carry no timestamps: count at the nominal rate
                pts = 0 if last is None else last + step
            elif last is not None and pts <= last:
                moved += 1
                pts = last + 1
            last = pts
            origin = pts if origin is None else origin
            time = float((pts - origin) * info.time_base)
            wanted = self._wanted(index, time)
            if wanted is None:
                self._audio = []  # the rest belongs to frames that are not wanted
                break
            audio, self._audio = tuple(self._audio), []
            if wanted:
                corrupt += bool(frame.is_corrupt)
                rgb = _to_rgb(frame, info, self._orient)
                duration = frame.duration or 0
                yield Frame(index, pts, time, rgb, duration, audio=audio)
            index += 1
            frame = next(self._frames, None)
        if corrupt:
            self.warnings.append(f"{self._label}: {corrupt} frames are damaged")
        if moved:
            self.warnings.append(
                f"{self._label}: {moved} frames are not later than the ones before them; "
                "each was moved on by one tick"
            )
        self.trailing_audio = tuple(self._audio)

    def _coded_size(self, info: SourceInfo) -> tuple[int, int]:
        turned = self._orient[0] % 2
        return (info.height, info.width) if turned else (info.width, info.height)

    def _close(self) -> None:
        self._container.close()


def _matrix(frame: Any) -> int:
    """The frame's YCbCr matrix; where untagged, what players assume from its size."""
    tagged = int(frame.colorspace)
    if tagged in (1, 4, 5, 6, 7, 9, 10):
        return tagged
    high_definition = frame.width >= 1280 or frame.height > 576
    return int(Colorspace.ITU709 if high_definition else Colorspace.ITU601)


def _to_rgb(frame: Any, info: SourceInfo, orient: tuple[int, bool]) -> np.ndarray:
    """(H, W, 3) uint8 RGB by the stream's own matrix and range, oriented as shown."""
    matrix = {6: 5, 10: 9}.get(info.colorspace, info.colorspace)  # same coefficients
    if frame.format.is_rgb or frame.format.name.startswith(("gray", "mono")):
        rgb = frame.to_ndarray(format="rgb24")
    else:
        rgb = frame.to_ndarray(format="rgb24", src_colorspace=matrix, dst_colorspace=matrix)
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
