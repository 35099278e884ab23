"""Kinds that annotation tools read: COCO run lengths and tracks, YOLO polygons, outlines."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any

import numpy as np
from pycocotools import mask as coco_mask

from livos_cli.files.atomic import open_own
from livos_cli.masks.palette import palette_of
from livos_cli.masks.polygons import MOST_CORNERS, Part, keyhole, parts_of, within
from livos_cli.outputs.mask_video import FileAFrame, frame_name
from livos_cli.outputs.sink import FrameResult, Job, Named, Partial, Stdout, cannot_write
from livos_cli.video.source import Frame

__all__ = ["CocoFile", "ContourLines", "ContourSvgs", "RleLines", "YoloFolder"]


def _objects(decided: FrameResult) -> Iterator[tuple[int, np.ndarray]]:
    """Each object that is seen, by id, and where it is: (H, W) bool."""
    for object_id in np.flatnonzero(decided.areas):
        if object_id:
            yield int(object_id), decided.ids == object_id


class _Outlines:
    """The outlines of each object; tells in its sink's warnings where some had to be left out."""

    def __init__(self, warnings: list[str]) -> None:
        self._warnings = warnings
        self._first = ""
        self._count = 0

    def of(self, frame: Frame, decided: FrameResult) -> Iterator[tuple[int, list[Part]]]:
        """Each object that is seen, by id, and its parts."""
        for object_id, on in _objects(decided):
            parts, lost = within(parts_of(on))
            if lost:
                self._tell(f"object {object_id} in frame {frame.index}")
            yield object_id, parts

    def _tell(self, which: str) -> None:
        if self._count:
            self._warnings.pop()  # what was told so far: nobody else tells while frames come
        self._first = self._first or which
        self._count += 1
        self._warnings.append(
            f"outlines of more than {MOST_CORNERS:,} corners are not written whole: their smallest "
            f"holes and parts are left out ({self._count} times, first of {self._first}); masks of "
            "--save png have every pixel"
        )


def _segmentation(on: np.ndarray) -> dict[str, Any]:
    """COCO's fields of one mask: compressed run lengths, area, box."""
    rle: Any = coco_mask.encode(np.asfortranarray(on.view(np.uint8)))
    return {
        "segmentation": {"size": list(on.shape), "counts": rle["counts"].decode()},
        "area": int(coco_mask.area(rle)),
        "bbox": [int(n) for n in coco_mask.toBbox(rle)],  # x, y, width, height
    }


class JsonLines(Named):
    """One JSON object a frame and line, to a file or stdout."""

    def __init__(self, path: Path | Stdout, job: Job) -> None:
        self._partial = Partial(path)
        self.warnings = self._partial.warnings
        self._job = job
        target = self._partial.target
        with self._partial.opening():
            self._file: IO[bytes] | Stdout = (
                target if isinstance(target, Stdout) else open_own(target, "r+")
            )

    def objects(self, frame: Frame, decided: FrameResult) -> list[dict[str, Any]]:
        """What a line says of each object."""
        raise NotImplementedError

    def write(self, frame: Frame, decided: FrameResult) -> None:
        line: dict[str, Any] = {
            "frame": frame.index,
            "time": round(float(frame.pts * self._job.info.time_base), 6),
            "size": list(decided.ids.shape),
            "objects": self.objects(frame, decided),
        }
        if frame.name is not None:
            line["name"] = frame.name
        try:
            self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        except OSError as error:
            raise cannot_write(self._partial.path, error) from None
        self._partial.frames += 1

    def finish(self, trailing_audio: Iterable[Any] = ()) -> None:
        target = self._partial.target
        if isinstance(self._file, Stdout) or isinstance(target, Stdout):
            return
        try:
            self._file.close()
            with target.open("rb") as lines:
                self._partial.check(sum(1 for _ in lines))
        except OSError as error:
            raise cannot_write(self._partial.path, error) from None

    def publish(self, overwrite: bool) -> None:
        self._partial.publish(overwrite)

    def abort(self) -> None:
        if not isinstance(self._file, Stdout):
            with contextlib.suppress(OSError):  # a full disk
                self._file.close()
        self._partial.abandon()


class RleLines(JsonLines):
    """COCO run lengths: `{"frame", "time", "size", "objects": [{"id", "segmentation", …}]}`.

    An object has its "certainty" where there is one.
    """

    def objects(self, frame: Frame, decided: FrameResult) -> list[dict[str, Any]]:
        known = {i: {"certainty": round(value, 3)} for i, value in decided.certainty.items()}
        return [{"id": i, **_segmentation(on), **known.get(i, {})} for i, on in _objects(decided)]


class ContourLines(JsonLines):
    """Polygons: `"polygons": [{"outline": [[x, y], …], "holes": [[[x, y], …], …]}, …]`."""

    def __init__(self, path: Path | Stdout, job: Job) -> None:
        super().__init__(path, job)
        self._outlines = _Outlines(self.warnings)

    def objects(self, frame: Frame, decided: FrameResult) -> list[dict[str, Any]]:
        return [
            {
                "id": object_id,
                "polygons": [
                    {"outline": outline.tolist(), "holes": [hole.tolist() for hole in holes]}
                    for outline, holes in parts
                ],
            }
            for object_id, parts in self._outlines.of(frame, decided)
        ]


class CocoFile(Named):
    """One file in COCO's layout for videos: images, annotations with track_id, categories.

    Annotations go to the file as they come; what is to be said of the images waits on disk.
    """

    def __init__(self, path: Path | Stdout, job: Job) -> None:
        self._partial = Partial(path)
        self.warnings = self._partial.warnings
        self._job = job
        self._annotations = 0
        target = self._partial.target
        assert isinstance(target, Path)
        self._target = target
        names = {i: job.names.get(i, f"object {i}") for i in job.ids}
        info = job.info
        head = {
            "info": {
                "description": info.name,
                "version": "1.0",
                "contributor": "livos",
            },
            "licenses": [],
            "videos": [{"id": 1, "name": info.name, "width": info.width, "height": info.height}],
            "categories": [{"id": i, "name": names[i], "supercategory": ""} for i in job.ids],
            "tracks": [
                {"id": i, "category_id": i, "video_id": 1, "name": names[i]} for i in job.ids
            ],
        }
        with self._partial.opening():
            self._file = TextIOWrapper(open_own(target, "r+"), encoding="utf-8")
            # Without a name: it goes with this process, whatever becomes of that.
            self._images = tempfile.TemporaryFile(  # noqa: SIM115
                "w+", encoding="utf-8", dir=target.parent
            )
            self._file.write(json.dumps(head)[:-1] + ', "annotations": [')

    def write(self, frame: Frame, decided: FrameResult) -> None:
        partial, info = self._partial, self._job.info
        number = partial.frames + 1
        image = {
            "id": number,
            # Of a video, the names that CVAT gives to its frames.
            "file_name": f"{frame.name}.png" if frame.name else f"frame_{frame.index:06d}.PNG",
            "width": info.width,
            "height": info.height,
            "video_id": 1,
            "frame_id": frame.index,
            "timestamp": round(float(frame.pts * info.time_base), 6),
        }
        try:
            self._images.write((",\n" if partial.frames else "\n") + json.dumps(image))
            for object_id, on in _objects(decided):
                annotation = {
                    "id": self._annotations + 1,
                    "image_id": number,
                    "video_id": 1,
                    "category_id": object_id,
                    "track_id": object_id,
                    "iscrowd": 0,
                    **_segmentation(on),
                }
                self._file.write((",\n" if self._annotations else "\n") + json.dumps(annotation))
                self._annotations += 1
        except OSError as error:
            raise cannot_write(partial.path, error) from None
        partial.frames += 1

    def finish(self, trailing_audio: Iterable[Any] = ()) -> None:
        try:
            self._file.write('\n], "images": [')
            self._images.seek(0)
            shutil.copyfileobj(self._images, self._file)
            self._file.write("\n]}\n")
            self._file.close()
        except OSError as error:
            raise cannot_write(self._partial.path, error) from None

    def publish(self, overwrite: bool) -> None:
        self._images.close()
        self._partial.publish(overwrite)

    def abort(self) -> None:
        for file in (self._file, self._images):
            with contextlib.suppress(OSError):  # a full disk
                file.close()
        self._partial.abandon()


class YoloFolder(FileAFrame):
    """Ultralytics' segmentation labels: a text a frame, `class x y x y …` a part, and data.yaml.

    Classes count the ids from 0. Coordinates are pixels over width and height, rounded up, so
    that they are the same pixels when they are multiplied and cut off again.
    """

    suffix = ".txt"

    def __init__(self, path: Path | Stdout, job: Job) -> None:
        super().__init__(path, job)
        self._outlines = _Outlines(self.warnings)

    def content(self, frame: Frame, decided: FrameResult) -> bytes:
        height, width = decided.ids.shape
        size = np.array([width, height])
        lines = []
        for object_id, parts in self._outlines.of(frame, decided):
            for part in parts:
                line = keyhole(part)
                if len(line) < 3:  # a line is a polygon from three points on
                    line = np.concatenate([line, np.repeat(line[-1:], 3 - len(line), axis=0)])
                share = np.ceil(line / size * 1e7) / 1e7
                numbers = " ".join(f"{value:.7f}" for value in share.ravel())
                lines.append(f"{self._job.ids.index(object_id)} {numbers}\n")
        return "".join(lines).encode()

    def finish(self, trailing_audio: Iterable[Any] = ()) -> None:
        super().finish(trailing_audio)
        names = [self._job.names.get(i, f"object {i}") for i in self._job.ids]
        listed = "".join(f"  {n}: {json.dumps(name)}\n" for n, name in enumerate(names))
        try:
            (self._partial.temporary / "data.yaml").write_text(f"names:\n{listed}")
        except OSError as error:
            raise cannot_write(self._partial.path, error) from None


class ContourSvgs(FileAFrame):
    """One SVG a frame: a path an object, to be placed over the picture.

    Paths run through centres of pixels; the line of width 1 along them covers the border's own.
    """

    suffix = ".svg"

    def __init__(self, path: Path | Stdout, job: Job) -> None:
        super().__init__(path, job)
        self._outlines = _Outlines(self.warnings)

    def content(self, frame: Frame, decided: FrameResult) -> bytes:
        height, width = decided.ids.shape
        palette = palette_of(self._job.look.palette)
        paths = []
        for object_id, parts in self._outlines.of(frame, decided):
            loops = [loop for outline, holes in parts for loop in (outline, *holes)]
            data = " ".join(
                "M" + " ".join(f"{x + 0.5:g},{y + 0.5:g}" for x, y in loop.tolist()) + "Z"
                for loop in loops
            )
            colour = "#" + bytes(palette[object_id].tolist()).hex()
            paths.append(
                f'<path id="object-{object_id}" fill="{colour}" stroke="{colour}" '
                f'fill-rule="evenodd" d="{data}"/>\n'
            )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" stroke-width="1" stroke-linejoin="round">\n'
            f"<title>{frame_name(frame)}</title>\n{''.join(paths)}</svg>\n"
        ).encode()
