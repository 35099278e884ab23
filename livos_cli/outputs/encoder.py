"""One video file as it is written: a stream of pictures, and the audio of the source beside it.

Timestamps are the source's: exact where the container can hold them (MP4, QuickTime), to the
millisecond in Matroska and WebM, whose clock FFmpeg fixes at 1 ms.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
from av.video.reformatter import ColorRange

from livos_cli.errors import KindError
from livos_cli.outputs.sink import HOLDS, FrameResult, Named, Partial, Stdout, cannot_write
from livos_cli.video.source import Frame, SourceInfo

__all__ = ["Encoder", "Encoding", "VideoSink", "count_frames"]

# What each container takes as it is; anything else would need transcoding.
MP4_SOUND = frozenset({"aac", "mp3", "mp2", "ac3", "eac3", "alac", "opus", "flac", "vorbis"})
PCM = frozenset({"pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_f32le"})
SOUND = {
    "mp4": MP4_SOUND,
    "mov": (MP4_SOUND | PCM) - {"opus", "flac", "vorbis"},
    "webm": frozenset({"opus", "vorbis"}),
}
# Matroska hands frames on in clusters, of a second by default: whoever waits at the other end of
# a pipe gets each frame when the next one comes.
LIVE = {"cluster_time_limit": "1", "flush_packets": "1"}
# The same bytes every run: no random identifier of the file. The + leaves other flags as they are.
EXACT = {"fflags": "+bitexact"}


@dataclass(frozen=True)
class Encoding:
    """How pictures become a file."""

    container: str
    codec: str
    pix_fmt: str
    options: dict[str, str] = field(default_factory=dict)
    audio: bool = False  # copy it
    colour: bool = False  # pictures are the source's, so tag their colours as it does


class Encoder:
    """Writes one file, or stdout."""

    def __init__(self, target: Path | Stdout, name: str, info: SourceInfo, how: Encoding) -> None:
        self.warnings: list[str] = []
        self._info, self._how, self._name = info, how, name
        # Absolute, or FFmpeg takes what precedes a colon for a protocol.
        streamed = isinstance(target, Stdout)
        place: Any = str(target.absolute()) if isinstance(target, Path) else target
        self._container: Any = av.open(
            place, "w", format=how.container, container_options=EXACT | (LIVE if streamed else {})
        )
        rate = info.rate.limit_denominator(1 << 16)
        stream: Any = self._container.add_stream(how.codec, rate=rate, options=how.options)
        stream.width, stream.height, stream.pix_fmt = info.width, info.height, how.pix_fmt
        stream.time_base = stream.codec_context.time_base = info.time_base
        if info.sample_aspect_ratio:
            stream.codec_context.sample_aspect_ratio = info.sample_aspect_ratio
        if how.colour:
            context = stream.codec_context
            context.colorspace, context.color_range = info.colorspace, ColorRange.MPEG
            context.color_primaries, context.color_trc = info.color_primaries, info.color_trc
        self._stream = stream
        self._audio = self._add_audio() if how.audio else {}
        self._last: dict[int, int] = {}  # timestamp of each audio's last packet
        self.left_out = 0  # packets of audio
        self._before: int | None = None  # timestamp of the frame before
        self._longest = _longest_frame(info) if how.container in ("mp4", "mov") else None

    def _add_audio(self) -> dict[int, Any]:
        streams = {}
        for template in self._info.audio:
            context = template.codec_context
            name = "of an unknown codec" if context is None else context.codec.canonical_name
            if name not in SOUND[self._how.container]:
                self.warnings.append(
                    f"the audio ({name}) cannot be copied into {self._name}; it is left out"
                )
                continue
            streams[template.index] = self._container.add_stream_from_template(template)
        return streams

    def copy(self, packets: Iterable[Any]) -> None:
        """Sound, packet by packet."""
        for packet in packets:
            index = packet.stream_index
            if (stream := self._audio.get(index)) is not None:
                if packet.dts is not None:
                    if packet.dts <= self._last.get(index, packet.dts - 1):
                        self.left_out += 1  # no container takes time that runs back
                        continue
                    self._last[index] = packet.dts
                # A packet belongs to its reader: copy it, so that several sinks may.
                copied = av.Packet(bytes(packet))
                copied.pts, copied.dts = packet.pts, packet.dts
                copied.duration, copied.time_base = packet.duration, packet.time_base
                copied.is_keyframe = packet.is_keyframe
                copied.stream = stream
                self._container.mux(copied)

    def encode(self, picture: Any, frame: Frame) -> None:
        """A picture, an av.VideoFrame, at the time of its frame; and the audio up to there."""
        self.copy(frame.audio)
        self._check_step(frame)
        picture.pts, picture.time_base = frame.pts, self._info.time_base
        if frame.duration:
            picture.duration = frame.duration
        if self._how.colour:
            info = self._info
            picture.colorspace, picture.color_range = info.colorspace, ColorRange.MPEG
            picture.color_primaries, picture.color_trc = info.color_primaries, info.color_trc
        self._container.mux(self._stream.encode(picture))

    def _check_step(self, frame: Frame) -> None:
        """Raises KindError where a frame is later than the file can say: FFmpeg may not notice."""
        before, self._before = self._before, frame.pts
        if self._longest is None or before is None or frame.pts - before <= self._longest:
            return
        hours = float((frame.pts - before) * self._info.time_base / 3600)
        raise KindError(
            f"cannot write {self._name}: frame {frame.index} is {hours:.0f} hours later than the "
            "one before it, longer than a frame may last there",
            HOLDS,
        )

    def close(self) -> None:
        """Flush, and complete the file."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        self._container = None

    def abort(self) -> None:
        """Let go of it, however incomplete."""
        container, self._container = self._container, None
        try:
            if container is not None:
                container.close()
        except (av.error.FFmpegError, OSError, ValueError):
            pass  # what is being thrown away need not be complete


def _longest_frame(info: SourceInfo) -> int:
    """Ticks of the source that an MP4's frame may last: 31 bits of a clock of 10 kHz or more."""
    clock = info.time_base.denominator
    while clock < 10_000:  # as FFmpeg does
        clock *= 2
    return int((2**31 - 1) / (clock * info.time_base))


class VideoSink(Named):
    """One picture a frame into one video; a kind says how it encodes and what it draws."""

    def __init__(self, path: Path | Stdout, info: SourceInfo, how: Encoding) -> None:
        self._partial = Partial(path)
        self.warnings = self._partial.warnings
        self._info = info
        self._encoder: Encoder | None = None
        with self._partial.opening():
            self._encoder = Encoder(self._partial.target, path.name, info, how)
        self.warnings += self._encoder.warnings

    def picture(self, frame: Frame, decided: FrameResult) -> Any:
        """The av.VideoFrame to encode."""
        raise NotImplementedError

    def write(self, frame: Frame, decided: FrameResult) -> None:
        assert self._encoder is not None
        try:
            self._encoder.encode(self.picture(frame, decided), frame)
        except (av.error.FFmpegError, OSError) as error:
            raise cannot_write(self._partial.path, error) from None
        self._partial.frames += 1

    def finish(self, trailing_audio: Iterable[Any] = ()) -> None:
        assert self._encoder is not None
        target = self._partial.target
        try:
            self._encoder.copy(trailing_audio)
            self._encoder.close()
            if count := self._encoder.left_out:
                self.warnings.append(
                    f"{self._partial.path.name}: {count} packets of audio are not later than the "
                    "ones before them, and are left out"
                )
            if not isinstance(target, Stdout):
                self._partial.check(count_frames(target))
        except (av.error.FFmpegError, OSError) as error:
            raise cannot_write(self._partial.path, error) from None

    def publish(self, overwrite: bool) -> None:
        self._partial.publish(overwrite)

    def abort(self) -> None:
        try:
            if self._encoder is not None:
                self._encoder.abort()
        finally:
            self._partial.abandon()


def count_frames(path: Path) -> int:
    """How many frames a video file holds, by its packets."""
    with av.open(str(path.absolute())) as container:
        packets = container.demux(video=0)
        return sum(1 for packet in packets if packet.size and not packet.is_discard)
