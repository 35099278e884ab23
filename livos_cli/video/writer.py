"""Results out: one sink a kind. A result is complete under its name, or absent.

Each sink writes under a temporary name beside the final one, and renames only after it has read
back how many frames there are. Timestamps are the source's: exact where the container can hold
them (MP4), to the millisecond in Matroska, whose clock FFmpeg fixes at 1 ms.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
from av.video.reformatter import ColorRange

from livos_cli.errors import OutputError
from livos_cli.video.overlay import draw_overlay
from livos_cli.video.palette import encode_index_png
from livos_cli.video.source import Frame, SourceInfo

__all__ = ["KINDS", "Kind", "Sink"]

# What the MP4 container takes as it is; anything else would need transcoding.
MP4_AUDIO = frozenset({"aac", "mp3", "mp2", "ac3", "eac3", "alac", "opus", "flac", "vorbis"})


class Sink(Protocol):
    """Receives frames with their masks, in order."""

    path: Path  # final
    warnings: list[str]

    def write(self, frame: Frame, ids: np.ndarray) -> None:
        """One frame, and its ids (H, W) uint8."""

    def finish(self, trailing_audio: Iterable[Any] = ()) -> None:
        """Flush, and check by reading back that no frame is missing."""

    def publish(self, overwrite: bool) -> None:
        """Give the finished result its name; without `overwrite`, only if that is still free."""

    def abort(self) -> None:
        """Leave nothing behind."""


@dataclass(frozen=True)
class Kind:
    """A row of the table of outputs."""

    suffix: str  # of the file's name; of a folder, "/"
    needs_audio: bool
    summary: str
    open: Callable[[Path, SourceInfo, bool], Sink]  # path, source, single object


class _Partial:
    """A temporary neighbour of the final path."""

    def __init__(self, path: Path, *, folder: bool) -> None:
        self.path = path
        self.warnings: list[str] = []
        self.frames = 0
        # Folders that are made here go again if there is no result to put into them.
        self._made = [p for p in path.parents if not p.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.temporary = path.with_name(f".{path.name}.partial-{os.getpid()}")
            self.remove()
            if folder:
                self.temporary.mkdir()
            else:
                self.temporary.touch()
        except OSError as error:
            raise _cannot_write(path, error) from None

    def remove(self) -> None:
        if self.temporary.is_dir():
            shutil.rmtree(self.temporary, ignore_errors=True)
        else:
            self.temporary.unlink(missing_ok=True)

    def abandon(self) -> None:
        """Leave nothing behind."""
        self.remove()
        for folder in self._made:
            with contextlib.suppress(OSError):  # not empty: somebody else uses it
                folder.rmdir()

    def check(self, written: int) -> None:
        """Raises OutputError unless `written`, as counted by reading back, is what went in."""
        if written != self.frames:
            raise OutputError(
                f"{self.path}: {self.frames} frames went in, {written} came out; nothing was kept",
                "please report this, with the output of `livos info`",
            )

    def publish(self, overwrite: bool) -> None:
        """Rename. Another run may have taken the name since this one began."""
        path = self.path
        try:
            if not overwrite:
                _rename_to_free(self.temporary, path)
            elif path.is_dir() and self.temporary.is_dir():
                # Folders cannot be replaced in one step: set the old one aside first.
                old = path.with_name(f".{path.name}.old-{os.getpid()}")
                os.replace(path, old)
                os.replace(self.temporary, path)
                old.unlink() if old.is_symlink() else shutil.rmtree(old)
            else:
                os.replace(self.temporary, path)
        except FileExistsError:
            raise OutputError(
                f"{path} was made by someone else while this ran", "use -y to overwrite it"
            ) from None
        except OSError as error:
            raise _cannot_write(path, error) from None


def _rename_to_free(temporary: Path, path: Path) -> None:
    """Rename, or raise FileExistsError: in one step where the file system has hard links."""
    if temporary.is_dir():
        if os.path.lexists(path):
            raise FileExistsError(path)
        temporary.rename(path)  # of itself refuses a folder that is not empty
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        temporary.rename(path)
    else:
        temporary.unlink()


def _cannot_write(path: Path, error: BaseException) -> OutputError:
    reason = getattr(error, "strerror", None) or str(error)
    return OutputError(
        f"cannot write {path} ({reason})", "choose another place with -o, or free some space"
    )


class _VideoSink:
    """Encodes one video stream, and copies sound if the source has it and it is wanted."""

    def __init__(
        self,
        path: Path,
        info: SourceInfo,
        *,
        container: str,
        codec: str,
        pix_fmt: str,
        options: dict[str, str],
        audio: bool,
    ) -> None:
        self._partial = _Partial(path, folder=False)
        self.path, self.warnings = path, self._partial.warnings
        self._info = info
        self._container: Any = None
        try:
            # Absolute, or FFmpeg takes what precedes a colon for a protocol.
            name = str(self._partial.temporary.absolute())
            self._container = av.open(name, "w", format=container)
            rate = info.rate.limit_denominator(1 << 16)
            stream: Any = self._container.add_stream(codec, rate=rate, options=options)
            stream.width, stream.height, stream.pix_fmt = info.width, info.height, pix_fmt
            stream.time_base = stream.codec_context.time_base = info.time_base
            if info.sample_aspect_ratio:
                stream.codec_context.sample_aspect_ratio = info.sample_aspect_ratio
            self._stream = stream
            self._sound = self._add_audio() if audio else {}
        except (av.error.FFmpegError, OSError, ValueError) as error:
            self.abort()
            raise _cannot_write(path, error) from None

    def _add_audio(self) -> dict[int, Any]:
        streams = {}
        for template in self._info.audio:
            name = template.codec_context.codec.canonical_name
            if name not in MP4_AUDIO:
                self.warnings.append(
                    f"the sound ({name}) cannot be copied into {self.path.name}; it is left out"
                )
                continue
            streams[template.index] = self._container.add_stream_from_template(template)
        return streams

    def _copy(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            if (stream := self._sound.get(packet.stream_index)) is not None:
                # A packet belongs to its reader: copy it, so that several sinks may.
                copied = av.Packet(bytes(packet))
                copied.pts, copied.dts = packet.pts, packet.dts
                copied.duration, copied.time_base = packet.duration, packet.time_base
                copied.is_keyframe = packet.is_keyframe
                copied.stream = stream
                self._container.mux(copied)

    def picture(self, frame: Frame, ids: np.ndarray) -> Any:
        """The av.VideoFrame to encode."""
        raise NotImplementedError

    def write(self, frame: Frame, ids: np.ndarray) -> None:
        try:
            self._copy(frame.audio)
            picture = self.picture(frame, ids)
            picture.pts, picture.time_base = frame.pts, self._info.time_base
            if frame.duration:
                picture.duration = frame.duration
            self._container.mux(self._stream.encode(picture))
        except (av.error.FFmpegError, OSError) as error:
            raise _cannot_write(self.path, error) from None
        self._partial.frames += 1

    def finish(self, trailing_audio: Iterable[Any] = ()) -> None:
        try:
            self._copy(trailing_audio)
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._container = None
            written = _count_frames(self._partial.temporary)
        except (av.error.FFmpegError, OSError) as error:
            raise _cannot_write(self.path, error) from None
        self._partial.check(written)

    def publish(self, overwrite: bool) -> None:
        self._partial.publish(overwrite)

    def abort(self) -> None:
        container, self._container = self._container, None
        try:
            if container is not None:
                container.close()
        except (av.error.FFmpegError, OSError, ValueError):
            pass  # what is being thrown away need not be complete
        finally:
            self._partial.abandon()


def _count_frames(path: Path) -> int:
    with av.open(str(path.absolute())) as container:
        packets = container.demux(video=0)
        return sum(1 for packet in packets if packet.size and not packet.is_discard)


class MaskVideo(_VideoSink):
    """FFV1, grey, lossless: object ids, or 0/255 if there is but one object."""

    def __init__(self, path: Path, info: SourceInfo, single: bool) -> None:
        self._single = single
        super().__init__(
            path,
            info,
            container="matroska",
            codec="ffv1",
            pix_fmt="gray",
            options={"level": "3", "slicecrc": "1", "slices": "4"},
            audio=False,
        )
        if info.sample_aspect_ratio not in (None, 1):
            self.warnings.append(
                f"{path.name}: pixels of the video are {info.sample_aspect_ratio} as wide as high; "
                "the mask has the same pixels, but its file does not say that"
            )

    def picture(self, frame: Frame, ids: np.ndarray) -> Any:
        values = np.where(ids != 0, 255, 0).astype(np.uint8) if self._single else ids
        picture: Any = av.VideoFrame.from_ndarray(np.ascontiguousarray(values), format="gray")
        picture.color_range = ColorRange.JPEG
        return picture


class OverlayVideo(_VideoSink):
    """H.264: the objects tinted and outlined over the video, with its sound."""

    def __init__(self, path: Path, info: SourceInfo, single: bool) -> None:
        # 4:2:0 needs even sides; the size is the source's, so an odd one takes 4:4:4.
        even = info.width % 2 == 0 and info.height % 2 == 0
        self._format = "yuv420p" if even else "yuv444p"
        super().__init__(
            path,
            info,
            container="mp4",
            codec="libx264",
            pix_fmt=self._format,
            options={"crf": "18", "preset": "veryfast"},
            audio=True,
        )
        context = self._stream.codec_context
        context.colorspace = info.colorspace
        context.color_range = ColorRange.MPEG
        context.color_primaries = info.color_primaries
        context.color_trc = info.color_trc
        if not even:
            self.warnings.append(
                f"{path.name}: {info.width}x{info.height} is odd, so the colour is 4:4:4; "
                "some players and editors do not open that"
            )

    def picture(self, frame: Frame, ids: np.ndarray) -> Any:
        drawn = draw_overlay(frame.rgb, ids)
        rgb: Any = av.VideoFrame.from_ndarray(drawn, format="rgb24")
        picture = rgb.reformat(
            format=self._format, dst_colorspace=self._info.matrix, dst_color_range=ColorRange.MPEG
        )
        picture.colorspace = self._info.colorspace
        return picture


class PngFolder:
    """One index PNG a frame in the DAVIS palette, named by the frame's number or image name."""

    def __init__(self, path: Path, info: SourceInfo, single: bool) -> None:
        self._partial = _Partial(path, folder=True)
        self.path, self.warnings = path, self._partial.warnings

    def write(self, frame: Frame, ids: np.ndarray) -> None:
        name = frame.name if frame.name is not None else f"{frame.index:05d}"
        try:
            (self._partial.temporary / f"{name}.png").write_bytes(encode_index_png(ids))
        except OSError as error:
            raise _cannot_write(self.path, error) from None
        self._partial.frames += 1

    def finish(self, trailing_audio: Iterable[Any] = ()) -> None:
        self._partial.check(sum(1 for _ in self._partial.temporary.glob("*.png")))

    def publish(self, overwrite: bool) -> None:
        self._partial.publish(overwrite)

    def abort(self) -> None:
        self._partial.abandon()


KINDS: dict[str, Kind] = {
    "mask": Kind(".mask.mkv", False, "object ids, lossless (FFV1)", MaskVideo),
    "overlay": Kind(".overlay.mp4", True, "colours over the video, with sound", OverlayVideo),
    "png": Kind("/", False, "an index PNG a frame", PngFolder),
}
