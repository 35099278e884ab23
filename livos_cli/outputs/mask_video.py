"""Kinds that are masks: one video of ids, one video an object, one index PNG a frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange

from livos_cli.masks.palette import encode_index_png
from livos_cli.outputs.encoder import Encoder, Encoding, VideoSink, count_frames
from livos_cli.outputs.sink import FrameResult, Job, Named, Partial, Stdout, cannot_write
from livos_cli.video.source import Frame, SourceInfo

__all__ = ["FFV1_OPTIONS", "MaskVideo", "ObjectVideos", "PngFolder", "frame_name", "grey_picture"]

FFV1_OPTIONS = {"level": "3", "slicecrc": "1", "slices": "4"}
AT_ONCE = 8  # encoders of single objects
EMPTY = np.zeros((1, 1, 3), np.uint8)  # the picture of a frame whose mask alone matters
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

    def picture(self, frame: Frame, decided: FrameResult) -> Any:
        ids = decided.ids
        if self._single:
            ids = cv2.threshold(ids, 0, 255, cv2.THRESH_BINARY)[1]
        return grey_picture(ids)


class ObjectVideos(Named):
    """A folder of FFV1 videos, 0/255, one an object, named by its id.

    An encoder takes some 50 MB at 1080p, so no more than `AT_ONCE` are open: with more objects
    all ids wait in one video, from which the others are made in the end.
    """

    def __init__(self, path: Path | Stdout, job: Job) -> None:
        self._partial = Partial(path, folder=True)
        self.warnings = self._partial.warnings
        self._info = job.info
        self._all = self._partial.temporary / ".ids.mkv"
        self._later = job.ids[AT_ONCE:]
        self._encoders: dict[int, Encoder] = {}
        self._whole: Encoder | None = None
        with self._partial.opening(self.abort):
            self._open(job.ids[:AT_ONCE], job.info)
            if self._later:
                self._whole = Encoder(self._all, self._all.name, job.info, GREY)
        self.warnings += aspect_warning(path.name, job.info)

    def _file(self, object_id: int) -> Path:
        return self._partial.temporary / f"{object_id}.mkv"

    def _open(self, ids: Sequence[int], info: SourceInfo) -> None:
        for object_id in ids:
            target = self._file(object_id)
            self._encoders[object_id] = Encoder(target, target.name, info, GREY)

    def _encode(self, frame: Frame, ids: np.ndarray) -> None:
        for object_id, encoder in self._encoders.items():
            encoder.encode(grey_picture((ids == object_id).view(np.uint8) * np.uint8(255)), frame)

    def _close(self) -> None:
        for object_id, encoder in self._encoders.items():
            encoder.close()
            self._partial.check(count_frames(self._file(object_id)))
        self._encoders.clear()

    def write(self, frame: Frame, decided: FrameResult) -> None:
        try:
            self._encode(frame, decided.ids)
            if self._whole is not None:
                self._whole.encode(grey_picture(decided.ids), frame)
        except (av.error.FFmpegError, OSError) as error:
            raise cannot_write(self._partial.path, error) from None
        self._partial.frames += 1

    def finish(self, trailing_audio: Iterable[Any] = ()) -> None:
        try:
            self._close()
            if self._whole is not None:
                self._whole.close()
                self._whole = None
                for start in range(0, len(self._later), AT_ONCE):
                    self._split(self._later[start : start + AT_ONCE])
                self._all.unlink()
        except (av.error.FFmpegError, OSError) as error:
            raise cannot_write(self._partial.path, error) from None

    def _split(self, ids: Sequence[int]) -> None:
        """Some objects' videos from that of all ids."""
        with av.open(str(self._all.absolute())) as container:
            stream: Any = container.streams.video[0]
            self._open(ids, replace(self._info, time_base=stream.time_base))
            for index, picture in enumerate(container.decode(video=0)):
                pts = picture.pts or 0
                frame = Frame(index, pts, 0.0, EMPTY, picture.duration or 0)
                self._encode(frame, picture.to_ndarray(format="gray"))
        self._close()

    def publish(self, overwrite: bool) -> None:
        self._partial.publish(overwrite)

    def abort(self) -> None:
        try:
            for encoder in (*self._encoders.values(), self._whole):
                if encoder is not None:
                    encoder.abort()
        finally:
            self._partial.abandon()


class FileAFrame(Named):
    """A folder with one small file a frame; a kind says what is in it."""

    suffix = ".png"

    def __init__(self, path: Path | Stdout, job: Job) -> None:
        self._partial = Partial(path, folder=True)
        self.warnings = self._partial.warnings
        self._job = job

    def content(self, frame: Frame, decided: FrameResult) -> bytes:
        """What is in the file of a frame."""
        raise NotImplementedError

    def write(self, frame: Frame, decided: FrameResult) -> None:
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

    def content(self, frame: Frame, decided: FrameResult) -> bytes:
        return encode_index_png(decided.ids)
