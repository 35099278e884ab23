"""Kinds that are masks: one video of ids, one video an object, one index PNG a frame."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange

from livos_cli.video.palette import encode_index_png
from livos_cli.video.sinks.base import Decided, Job, Partial, Stdout, cannot_write
from livos_cli.video.sinks.encode import Encoder, Encoding, VideoSink, count_frames
from livos_cli.video.source import Frame, SourceInfo

__all__ = ["FFV1_OPTIONS", "MaskVideo", "ObjectVideos", "PngFolder", "frame_name", "grey_picture"]

FFV1_OPTIONS = {"level": "3", "slicecrc": "1", "slices": "4"}
GREY = Encoding("matroska", "ffv1", "gray", FFV1_OPTIONS)


def grey_picture(values: np.ndarray) -> Any:
    """An av.VideoFrame of (H, W) uint8 or uint16 values, as they are."""
    deep = values.dtype == np.uint16
    picture: Any = av.VideoFrame.from_ndarray(
        np.ascontiguousarray(values), format="gray16le" if deep else "gray"
    )
    picture.color_range = ColorRange.JPEG
    return picture


def frame_name(frame: Frame) -> str:
    """What files of a frame are called: its image's name, or its number in the source."""
    return frame.name if frame.name is not None else f"{frame.index:05d}"


def aspect_warning(name: str, info: SourceInfo) -> list[str]:
    """What a mask's Matroska file does not say."""
    if info.sample_aspect_ratio in (None, 1):
        return []
    return [
        f"{name}: pixels of the video are {info.sample_aspect_ratio} as wide as high; "
        "the mask has the same pixels, but its file does not say that"
    ]


class MaskVideo(VideoSink):
    """FFV1, grey, lossless: object ids, or 0/255 if there is but one object."""

    def __init__(self, path: Path | Stdout, job: Job) -> None:
        self._single = job.single
        super().__init__(path, job.info, GREY)
        self.warnings += aspect_warning(path.name, job.info)

    def picture(self, frame: Frame, decided: Decided) -> Any:
        ids = decided.ids
        return grey_picture(np.where(ids != 0, 255, 0).astype(np.uint8) if self._single else ids)


class ObjectVideos:
    """A folder of FFV1 videos, 0/255, one an object, named by its id."""

    def __init__(self, path: Path | Stdout, job: Job) -> None:
        self._partial = Partial(path, folder=True)
        self.warnings = self._partial.warnings
        self._files: dict[int, Path] = {}
        self._encoders: dict[int, Encoder] = {}
        try:
            for object_id in job.ids:
                target = self._partial.temporary / f"{object_id}.mkv"
                self._files[object_id] = target
                self._encoders[object_id] = Encoder(target, target.name, job.info, GREY)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            self.abort()
            raise cannot_write(path, error) from None
        self.warnings += aspect_warning(path.name, job.info)

    def write(self, frame: Frame, decided: Decided) -> None:
        try:
            for object_id, encoder in self._encoders.items():
                on = (decided.ids == object_id).view(np.uint8) * np.uint8(255)
                encoder.encode(grey_picture(on), frame)
        except (av.error.FFmpegError, OSError) as error:
            raise cannot_write(self._partial.path, error) from None
        self._partial.frames += 1

    def finish(self, trailing_audio: Iterable[Any] = ()) -> None:
        try:
            for object_id, encoder in self._encoders.items():
                encoder.close()
                self._partial.check(count_frames(self._files[object_id]))
        except (av.error.FFmpegError, OSError) as error:
            raise cannot_write(self._partial.path, error) from None

    def publish(self, overwrite: bool) -> None:
        self._partial.publish(overwrite)

    def abort(self) -> None:
        try:
            for encoder in self._encoders.values():
                encoder.abort()
        finally:
            self._partial.abandon()


class FileAFrame:
    """A folder with one small file a frame; a kind says what is in it."""

    suffix = ".png"

    def __init__(self, path: Path | Stdout, job: Job) -> None:
        self._partial = Partial(path, folder=True)
        self.warnings = self._partial.warnings
        self._job = job

    def content(self, frame: Frame, decided: Decided) -> bytes:
        """What is in the file of a frame."""
        raise NotImplementedError

    def write(self, frame: Frame, decided: Decided) -> None:
        target = self._partial.temporary / f"{frame_name(frame)}{self.suffix}"
        try:
            target.write_bytes(self.content(frame, decided))
        except OSError as error:
            raise cannot_write(self._partial.path, error) from None
        self._partial.frames += 1

    def finish(self, trailing_audio: Iterable[Any] = ()) -> None:
        self._partial.check(sum(1 for _ in self._partial.temporary.glob(f"*{self.suffix}")))

    def publish(self, overwrite: bool) -> None:
        self._partial.publish(overwrite)

    def abort(self) -> None:
        self._partial.abandon()


class PngFolder(FileAFrame):
    """One index PNG a frame in the DAVIS palette, named by the frame's number or image name."""

    def content(self, frame: Frame, decided: Decided) -> bytes:
        return encode_index_png(decided.ids)
