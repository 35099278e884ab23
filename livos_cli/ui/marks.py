"""What was marked on a frame, kept with it, and the masks that come of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from livos_cli.errors import UsageError
from livos_cli.files.trust import MARKS, UntrustedError, read
from livos_cli.interactive.clicks import hold_points

__all__ = [
    "Marks",
    "Stroke",
    "drawn",
    "marks_file",
    "paint",
    "painted",
    "read_marks",
    "write_marks",
]

Path2 = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Stroke:
    """A brush's way over the frame."""

    on: bool  # brush, or eraser
    radius: float  # pixels of the frame
    path: Path2


@dataclass(frozen=True)
class Marks:
    """All that was marked for one object on one frame, in the frame's pixels."""

    points: tuple[tuple[float, float, bool], ...] = ()
    box: tuple[float, float, float, float] | None = None
    strokes: tuple[Stroke, ...] = ()

    def with_point(self, x: float, y: float, on: bool) -> Marks:
        """One point more; one of the other kind on the same pixel goes."""
        kept = tuple(p for p in self.points if (int(p[0]), int(p[1])) != (int(x), int(y)))
        return replace(self, points=(*kept, (x, y, on)))

    def with_stroke(self, stroke: Stroke, size: tuple[int, int]) -> Marks:
        """One stroke more; points of the other kind under it go."""
        kept = tuple(
            point
            for point, under in zip(self.points, self._under(stroke, size), strict=True)
            if point[2] == stroke.on or not under
        )
        return replace(self, points=kept, strokes=(*self.strokes, stroke))

    def without_points(self, stroke: Stroke, size: tuple[int, int]) -> Marks:
        """Without the points on the object that another one's stroke takes."""
        kept = tuple(
            point
            for point, under in zip(self.points, self._under(stroke, size), strict=True)
            if not (point[2] and under)
        )
        return replace(self, points=kept)

    def _under(self, stroke: Stroke, size: tuple[int, int]) -> list[bool]:
        """Which points lie under a stroke."""
        (rows, columns), part = drawn(stroke, size)
        touched = np.zeros(size, bool)
        touched[rows, columns] = part
        last = size[0] - 1, size[1] - 1
        return [
            bool(touched[min(int(y), last[0]), min(int(x), last[1])]) for x, y, _ in self.points
        ]

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Marks:
        box = told.get("box")
        return cls(
            tuple((x, y, bool(on)) for x, y, on in told["points"]),
            None if box is None else (box[0], box[1], box[2], box[3]),
            tuple(
                Stroke(one["on"], one["radius"], tuple((x, y) for x, y in one["path"]))
                for one in told["strokes"]
            ),
        )


def marks_file(own: Path, root: Path, frame: int) -> str:
    """Where a frame's marks are, relative to the project."""
    return (own / "marks" / f"{frame:05d}.json").relative_to(root).as_posix()


def read_marks(path: Path) -> dict[int, Marks]:
    """A frame's marks by object; what cannot be read is none: the masks are there all the same."""
    try:
        told = read(path, MARKS)
    except (OSError, UntrustedError):
        return {}
    return {int(object_id): Marks.from_json(one) for object_id, one in told.items()}


def write_marks(marks: Mapping[int, Marks]) -> bytes | None:
    """As `read_marks` reads it; None if there is nothing."""
    told = {str(object_id): asdict(one) for object_id, one in marks.items() if one != Marks()}
    for one in told.values():
        one["points"] = [[x, y, int(on)] for x, y, on in one["points"]]
    return json.dumps(told).encode() if told else None


def paint(mask: np.ndarray, strokes: Sequence[Stroke], points: Sequence[Any] = ()) -> None:
    """What was painted stays painted, and points hold; in place, (H, W) bool."""
    for stroke in strokes:
        (rows, columns), touched = drawn(stroke, mask.shape)
        mask[rows, columns][touched] = stroke.on
    hold_points(mask, [(x, y) for x, y, _ in points], [on for *_, on in points])


def painted(shown: np.ndarray, marks: Mapping[int, Marks], *, but: int) -> np.ndarray:
    """What brushes gave to objects and is still theirs, but for one object's: (H, W) bool."""
    found = np.zeros(shown.shape, bool)
    for object_id, own in marks.items():
        if object_id != but and any(stroke.on for stroke in own.strokes):
            its = np.zeros_like(found)
            paint(its, own.strokes)
            found |= its & (shown == object_id)
    return found


def drawn(stroke: Stroke, size: Sequence[int]) -> tuple[tuple[slice, slice], np.ndarray]:
    """Which pixels of a frame of this size (H, W) a stroke touches: a part of it, and bool there.

    Raises:
        UsageError: a brush of no sensible size.
    """
    if not 0.5 <= stroke.radius <= max(size):
        raise UsageError(f"a brush of {stroke.radius:g} pixels", "choose another size")
    corners = np.floor(np.array(stroke.path)).astype(np.int32)
    around = int(np.ceil(stroke.radius)) + 1
    low = np.clip(corners.min(0) - around, 0, (size[1], size[0]))
    high = np.clip(corners.max(0) + around + 1, 0, (size[1], size[0]))
    image = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    if image.size:
        corners = corners - low
        if len(corners) > 1:
            cv2.polylines(image, [corners], False, 1, max(1, round(2 * stroke.radius)))
        for x, y in corners[[0, -1]]:  # round ends
            cv2.circle(image, (int(x), int(y)), int(stroke.radius), 1, -1)
    return (slice(low[1], high[1]), slice(low[0], high[0])), image > 0
