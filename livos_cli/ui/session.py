"""What the page can do to a project: mark, undo, lock, end, load."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from livos_cli.errors import InputError, UsageError
from livos_cli.interactive.clicks import doubt_found
from livos_cli.masks.hints import Hints
from livos_cli.options import Drop
from livos_cli.ui.marks import Marks, Stroke, paint, write_marks
from livos_cli.ui.open_project import OpenProject, members
from livos_cli.ui.project import Object

__all__ = ["Session"]


class Session(OpenProject):
    """An open project that is worked on. Every change is one step of its history."""

    def click(self, frame: int, object_id: int, x: float, y: float, on: bool) -> str | None:
        """A point on an object, or not on it; what is to be said of it."""
        with self.changing:
            self._check_open(frame, object_id)
            marks = self.marks(frame)
            own = marks.get(object_id, Marks()).with_point(x, y, on)
            mask = self._find(frame, object_id, own, marks)
            word = "click" if on else "not here"
            return self._put(f"{word} on {self._called(object_id)}", frame, object_id, mask, own)

    def box(
        self, frame: int, object_id: int, corners: tuple[float, float, float, float]
    ) -> str | None:
        """A box around an object; what was marked before on it is forgotten."""
        with self.changing:
            self._check_open(frame, object_id)
            own = Marks(box=corners)
            mask = self._find(frame, object_id, own, self.marks(frame))
            doubt = (
                doubt_found(self._predictor(frame), mask, Hints(corners)) if mask.any() else None
            )
            said = self._put(f"box of {self._called(object_id)}", frame, object_id, mask, own)
            return said or doubt

    def stroke(self, frame: int, object_id: int, stroke: Stroke) -> str | None:
        """Brush or eraser."""
        with self.changing:
            self._check_open(frame, object_id)
            size = self.info.height, self.info.width
            own = self.marks(frame).get(object_id, Marks()).with_stroke(stroke, size)
            mask = self.ids(frame) == object_id
            paint(mask, [stroke])
            word = "brush" if stroke.on else "eraser"
            return self._put(f"{word} on {self._called(object_id)}", frame, object_id, mask, own)

    def _check_open(self, frame: int, object_id: int) -> None:
        """Raises UsageError where nothing may be changed."""
        self.check_frame(frame)
        if self.project.settings.object(object_id).locked:
            raise UsageError(f"{self._called(object_id)} is locked", "unlock it in the list")
        if frame in self.project.settings.locked:
            raise UsageError(f"frame {frame} is locked", "press L to unlock it")

    def _called(self, object_id: int) -> str:
        return self.project.settings.object(object_id).name

    def _find(self, frame: int, object_id: int, own: Marks, marks: dict[int, Marks]) -> np.ndarray:
        """The object that was marked, (H, W) bool."""
        predictor = self._predictor(frame)
        before = self.ids(frame) == object_id
        others = [
            (x, y)
            for other, its in marks.items()
            if other != object_id
            for x, y, on in its.points
            if on and (int(x), int(y)) not in {(int(u), int(v)) for u, v, _ in own.points}
        ]
        points = [(x, y) for x, y, _ in own.points] + others
        labels = [on for *_, on in own.points] + [False] * len(others)
        first = own.box is not None and not own.points
        previous = before if before.any() and not first else None
        mask = predictor.mask(points, labels, own.box, previous)
        paint(mask, own.strokes, own.points)
        return mask

    def _put(
        self, label: str, frame: int, object_id: int, mask: np.ndarray, own: Marks
    ) -> str | None:
        """Make a mask that of an object in a frame; what is to be said of it."""
        shown, settings = self.ids(frame), self.project.settings
        protected = [one.id for one in settings.objects if one.locked]
        mask = mask & ~members(shown, protected)
        key = self.project.key(frame)
        key = np.zeros_like(shown) if key is None else key.copy()
        key[key == object_id] = 0
        key[mask] = object_id
        marks = self.marks(frame) | {object_id: own}
        name = self._marks_name(frame)
        drops = tuple(d for d in settings.drops if d != Drop(object_id, frame))
        self.changed(
            label,
            frame=frame,
            masks={frame: key},
            settings=replace(settings, drops=drops),
            others={name: write_marks(marks)},
        )
        if not mask.any():
            return f"nothing of {settings.object(object_id).name} is left here; G says it has gone"
        return None

    def undo(self, *, again: bool = False) -> int | None:
        """Undo, or do again; the frame that it concerns."""
        with self.changing:
            self.before_change()
            step = self.project.redo() if again else self.project.undo()
            if step is None:
                raise UsageError(f"there is nothing to {'redo' if again else 'undo'}", "")
            self.tell_change(step.frame)
            return step.frame

    def add_object(self, name: str = "") -> Object:
        """One object more."""
        with self.changing:
            settings, new = self.project.with_object(name)
            self.changed(f"add {new.name}", settings=settings)
            return new

    def edit_object(self, object_id: int, **fields: Any) -> None:
        """Change name, colour, visible or locked."""
        with self.changing:
            settings = self.project.settings
            old = settings.object(object_id)
            if not re.fullmatch(r"#[0-9a-f]{6}", fields.get("colour", "#000000")):
                raise UsageError("that is no colour", "give one like #00ff00")
            new = replace(old, **fields)
            objects = tuple(new if one.id == object_id else one for one in settings.objects)
            (what,) = fields
            self.changed(f"{what} of {old.name}", settings=replace(settings, objects=objects))

    def remove_object(self, object_id: int) -> None:
        """Take an object out of all key masks."""
        with self.changing:
            settings = self.project.settings
            old = settings.object(object_id)
            masks = {}
            for frame in self.project.keys:
                key = self.project.key(frame)
                assert key is not None
                if (key == object_id).any():
                    masks[frame] = np.where(key == object_id, 0, key).astype(np.uint8)
            if touched := sorted(set(masks) & set(settings.locked)):
                raise UsageError(f"{old.name} is in the locked frame {touched[0]}", "unlock it")
            new = replace(
                settings,
                objects=tuple(one for one in settings.objects if one.id != object_id),
                drops=tuple(drop for drop in settings.drops if drop.object_id != object_id),
            )
            self.changed(f"remove {old.name}", masks=masks, settings=new)

    def drop(self, frame: int, object_id: int) -> str:
        """Say that an object is gone from a frame on, or take that back."""
        with self.changing:
            self._check_open(frame, object_id)
            settings, this = self.project.settings, Drop(object_id, frame)
            name = self._called(object_id)
            if this in settings.drops:
                drops = tuple(drop for drop in settings.drops if drop != this)
                self.changed(f"{name} stays", frame=frame, settings=replace(settings, drops=drops))
                return f"{name} is followed again from frame {frame} on"
            key = self.project.key(frame)
            masks = (
                {} if key is None else {frame: np.where(key == object_id, 0, key).astype(np.uint8)}
            )
            marks = {i: own for i, own in self.marks(frame).items() if i != object_id}
            self.changed(
                f"{name} gone",
                frame=frame,
                masks=masks,
                settings=replace(settings, drops=tuple(sorted(
                    (*settings.drops, this), key=lambda drop: (drop.frame, drop.object_id)
                ))),
                others={self._marks_name(frame): write_marks(marks)},
            )  # fmt: skip
            return f"{name} is not followed from frame {frame} on"

    def lock(self, frame: int) -> str:
        """Lock a frame: its masks are key masks then, and nothing changes them; or unlock it."""
        with self.changing:
            self.check_frame(frame)
            settings = self.project.settings
            if frame in settings.locked:
                frames = tuple(other for other in settings.locked if other != frame)
                self.changed(
                    f"unlock frame {frame}", frame=frame, settings=replace(settings, locked=frames)
                )
                return f"frame {frame} is not locked any more; its masks stay key masks"
            ids = self.ids(frame)
            if not ids.any():
                raise UsageError(
                    f"frame {frame} has no mask to lock", "track it, or mark an object"
                )
            frames = tuple(sorted((*settings.locked, frame)))
            new = replace(settings, locked=frames)
            self.changed(f"lock frame {frame}", frame=frame, masks={frame: ids}, settings=new)
            return f"frame {frame} is locked"

    def remove_key(self, frame: int) -> None:
        """Remove a key mask and what was marked there."""
        with self.changing:
            if self.project.key(frame) is None:
                raise UsageError(f"frame {frame} has no key mask", "diamonds mark frames with one")
            if frame in self.project.settings.locked:
                raise UsageError(f"frame {frame} is locked", "press L to unlock it")
            self.changed(
                f"remove key mask {frame}",
                frame=frame,
                masks={frame: None},
                others={self._marks_name(frame): None},
            )

    def set_range(self, limits: tuple[int, int] | None) -> None:
        """Track and export this range only; None: the whole video."""
        with self.changing:
            if limits is not None and not 0 <= limits[0] < limits[1] <= self.count:
                raise UsageError("the range is empty", "set In before Out")
            whole = limits is None or limits == (0, self.count)
            settings = replace(self.project.settings, range=None if whole else limits)
            self.changed("range", settings=settings)

    def load_mask(self, frame: int, name: str, data: bytes) -> list[str]:
        """A mask of another tool for a frame, in any form that `-m` takes; what is to be said."""
        with self.changing:
            self.check_frame(frame)
            if frame in self.project.settings.locked:
                raise UsageError(f"frame {frame} is locked", "press L to unlock it")
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"mask{Path(name).suffix.lower()[:6]}"
                path.write_bytes(data)
                try:
                    ids, said = self._read_masks(path, None, (frame,))
                except InputError as error:
                    plain = error.message.replace(str(path), name)
                    raise InputError(plain, error.hint) from None
            self.changed(f"mask {Path(name).name[:80]}", frame=frame, masks=ids)
            return [text.replace(str(path), name) for text in said]
