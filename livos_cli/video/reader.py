"""Frames in: video files, streams and image folders, decoded ahead through a bounded queue.

Timestamps are the container's own (as in PyAV's generate_video_with_pts example, kept through).
Rotation and mirroring of the display matrix are applied, so frames are as a player shows them.
"""

from __future__ import annotations

import queue
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import cv2
import numpy as np
from av.video.reformatter import Colorspace

from livos_cli.errors import InputError
from livos_cli.options import Position

__all__ = [
    "IMAGE_SUFFIXES",
    "Frame",
    "FrameSource",
    "SourceInfo",
    "check_exists",
    "natural_key",
    "open_source",
]

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
QUEUE_BYTES = 64 << 20  # decoded frames waiting, at most (but never fewer than two frames)
IMAGE_RATE = Fraction(25)  # frames a second of an image folder, ffmpeg's own default


@dataclass(frozen=True)
class SourceInfo:
    """What is known of a source before it is decoded."""

    name: str  # stem for output names
    path: Path | None  # None for stdin
    width: int  # as shown, after rotation
    height: int
    time_base: Fraction  # of all timestamps, seconds
    rate: Fraction  # average frames a second
    frames: int | None  # how many the container declares or its duration implies; may be off
    sample_aspect_ratio: Fraction | None  # as shown, after rotation
    colorspace: int  # AVColorSpace, never unspecified
    color_range: int  # AVColorRange
    color_primaries: int
    color_trc: int
    audio: tuple[Any, ...] = ()  # av.AudioStream templates, valid while the source is open
    image_names: tuple[str, ...] | None = None  # of an image folder, in order


@dataclass(frozen=True)
class Frame:
    """One decoded frame."""

    index: int  # in the source, from 0, whatever the first one asked for
    pts: int  # in the source's time base
    time: float  # seconds from the source's first frame
    rgb: np.ndarray  # (H, W, 3) uint8
    duration: int = 0  # in the time base, 0 if unknown
    name: str | None = None  # stem, in an image folder
    audio: tuple[Any, ...] = field(default=())  # av.Packet read since the frame before


class FrameSource(Protocol):
    """Something that yields frames, once, in order."""

    info: SourceInfo
    warnings: list[str]  # what was odd but bearable, filled while reading
    trailing_audio: tuple[Any, ...]  # packets after the last frame, known at the end

    def __iter__(self) -> Iterator[Frame]: ...

    def __enter__(self) -> FrameSource: ...

    def __exit__(self, *exc: object) -> None: ...


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which frame2 comes before frame10."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", text)
        if part
    ]


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


class _Ahead:
    """Runs a generator of frames in a thread; hands frames, the end, or its exception over."""

    def __init__(self, frames: Iterator[Frame], frame_bytes: int) -> None:
        depth = max(2, min(16, QUEUE_BYTES // max(1, frame_bytes)))
        self._queue: queue.Queue[Frame | BaseException | None] = queue.Queue(maxsize=depth)
        self._stop = threading.Event()
        self._frames = frames
        self._thread = threading.Thread(target=self._work, name="livos-decode", daemon=True)
        self._thread.start()

    def _put(self, item: Frame | BaseException | None) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def _work(self) -> None:
        try:
            for frame in self._frames:
                if not self._put(frame):
                    return
            self._put(None)
        except BaseException as error:  # raised again by the consumer
            self._put(error)

    def __iter__(self) -> Iterator[Frame]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


class _Base:
    """What both kinds of source share: reading ahead, and being closed."""

    info: SourceInfo

    def __init__(self, start: Position | None, end: Position | None) -> None:
        self.warnings: list[str] = []
        self.trailing_audio: tuple[Any, ...] = ()
        self._start, self._end = start, end
        self._ahead: _Ahead | None = None

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._ahead is not None:
            self._ahead.close()
        self._close()

    def _close(self) -> None: ...

    def _read(self) -> Iterator[Frame]:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Frame]:
        self._ahead = _Ahead(self._read(), self.info.width * self.info.height * 3)
        last = None
        for last in self._ahead:
            yield last
        if last is None and self._start is not None:
            raise InputError(
                f"--start is past the end of {self.info.name}: no frame is left",
                f"the video has about {self.info.frames or 'an unknown number of'} frames",
            )
        if last is None:
            raise InputError(f"{self.info.name} holds no frame that decodes", "is it damaged?")

    def _wanted(self, index: int, time: float) -> bool | None:
        """True to yield, False to skip, None to stop."""
        if self._end is not None and self._end.reached(index, time):
            return None
        return self._start is None or self._start.reached(index, time)


class VideoSource(_Base):
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


class ImageFolderSource(_Base):
    """A folder of images of one size, in natural order of their names."""

    def __init__(self, folder: Path, start: Position | None, end: Position | None) -> None:
        super().__init__(start, end)
        self._paths = sorted(
            (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()),
            key=lambda p: natural_key(p.name),
        )
        if not self._paths:
            raise InputError(
                f"{folder} holds no images",
                f"an image folder holds {', '.join(sorted(IMAGE_SUFFIXES))} files",
            )
        stems = [p.stem for p in self._paths]
        if len(set(stems)) != len(stems):
            twice = next(s for s in stems if stems.count(s) > 1)
            raise InputError(
                f"{folder} holds several images named {twice}", "keep one image a frame"
            )
        height, width = _read_image(self._paths[0]).shape[:2]
        self.info = SourceInfo(
            name=folder.resolve().name,
            path=folder,
            width=width,
            height=height,
            time_base=1 / IMAGE_RATE,
            rate=IMAGE_RATE,
            frames=len(self._paths),
            sample_aspect_ratio=None,
            colorspace=int(Colorspace.ITU709),
            color_range=1,
            color_primaries=1,
            color_trc=1,
            image_names=tuple(stems),
        )

    def _read(self) -> Iterator[Frame]:
        for index, path in enumerate(self._paths):
            time = float(index / IMAGE_RATE)
            wanted = self._wanted(index, time)
            if wanted is None:
                return
            if not wanted:
                continue
            rgb = _read_image(path)
            if rgb.shape[:2] != (self.info.height, self.info.width):
                raise InputError(
                    f"{path} is {rgb.shape[1]}x{rgb.shape[0]}, the images before it "
                    f"{self.info.width}x{self.info.height}",
                    "all images of a folder must have one size",
                )
            yield Frame(index, index, time, rgb, 1, name=path.stem)


def _read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB, with EXIF orientation applied."""
    data = np.fromfile(path, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise InputError(f"{path} is not an image that can be read", "is the file complete?")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


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
