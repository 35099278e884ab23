"""What the page can do to a project: mark, undo, lock, end, load."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from livos_cli.errors import InputError, UsageError
from livos_cli.interactive.clicks import doubt_found
from livos_cli.masks.hints import Hints
from livos_cli.options import Drop
from livos_cli.ui.marks import Marks, Stroke, paint, painted, read_marks, write_marks
from livos_cli.ui.open_project import OpenProject, members
from livos_cli.ui.project import Object, ids_of

__all__ = ["Session"]

KeyMasks = list[tuple[int, np.ndarray | None]]  # of frames, (H, W) uint8; None: there is none


class Session(OpenProject):
    """An open project that is worked on. Every change is one step of its history."""

    def click(self, frame: int, object_id: int, x: float, y: float, on: bool) -> str | None:
        """A point on an object, or not on it; what is to be said of it."""
        with self.editing():
            self._check_open(frame, object_id)
            shown, marks = self.ids(frame), self.marks(frame)
            if on:
                self._check_free(shown, x, y)
            own = marks.get(object_id, Marks()).with_point(x, y, on)
            mask = self._find(frame, object_id, own, marks, shown)
            label = f"{'click' if on else 'not here'} on {self._called(object_id)}"
            return self._put(label, frame, object_id, mask, marks | {object_id: own}, shown)

    def box(
        self, frame: int, object_id: int, corners: tuple[float, float, float, float]
    ) -> str | None:
        """A box around an object; what was marked before on it is forgotten."""
        with self.editing():
            self._check_open(frame, object_id)
            shown, own, marks = self.ids(frame), Marks(box=corners), self.marks(frame)
            mask = self._find(frame, object_id, own, marks, shown)
            doubt = (
                doubt_found(self._predictor(frame), mask, Hints(corners)) if mask.any() else None
            )
            label = f"box of {self._called(object_id)}"
            said = self._put(label, frame, object_id, mask, marks | {object_id: own}, shown)
            return said or doubt

    def stroke(self, frame: int, object_id: int, stroke: Stroke) -> str | None:
        """Brush or eraser."""
        with self.editing():
            self._check_open(frame, object_id)
            size = self.info.height, self.info.width
            marks = self.marks(frame)
            own = marks.get(object_id, Marks()).with_stroke(stroke, size)
            if stroke.on:  # a brush takes what is under it, points on others too
                marks = {i: its.without_points(stroke, size) for i, its in marks.items()}
            shown = self.ids(frame)
            mask = shown == object_id
            paint(mask, [stroke], self._points(object_id, own, marks))
            word = "brush" if stroke.on else "eraser"
            label = f"{word} on {self._called(object_id)}"
            return self._put(label, frame, object_id, mask, marks | {object_id: own}, shown)

    def _check_open(self, frame: int, object_id: int) -> None:
        """Raises UsageError where nothing may be changed."""
        self.check_frame(frame)
        self._check_objects([object_id])
        self._check_unlocked(frame)

    def _check_objects(self, ids: Iterable[int]) -> None:
        """Raises UsageError where one of these objects is locked, or is none."""
        for one in map(self.project.settings.object, ids):
            if one.locked:
                raise UsageError(f"{one.name} is locked", "unlock it in the list")

    def _check_unlocked(self, frame: int) -> None:
        """Raises UsageError for a locked frame."""
        if frame in self.project.settings.locked:
            raise UsageError(f"frame {frame} is locked", "press L to unlock it")

    def _locked(self) -> dict[int, str]:
        """Names of the locked objects, by id."""
        return {one.id: one.name for one in self.project.settings.objects if one.locked}

    def _check_free(self, shown: np.ndarray, x: float, y: float) -> None:
        """Raises UsageError where a point would have to take what is locked."""
        row, column = min(int(y), self.info.height - 1), min(int(x), self.info.width - 1)
        there = int(shown[row, column]) if row >= 0 and column >= 0 else 0
        if (name := self._locked().get(there)) is not None:
            raise UsageError(f"that is {name}, which is locked", "unlock it first")

    def _called(self, object_id: int) -> str:
        return self.project.settings.object(object_id).name

    def _find(
        self, frame: int, object_id: int, own: Marks, marks: dict[int, Marks], shown: np.ndarray
    ) -> np.ndarray:
        """The object that was marked in a frame that shows this, (H, W) bool."""
        predictor = self._predictor(frame)
        before = shown == object_id
        points = self._points(object_id, own, marks)
        first = own.box is not None and not own.points
        previous = before if before.any() and not first else None
        places, labels = [(x, y) for x, y, _ in points], [on for *_, on in points]
        mask = predictor.mask(places, labels, own.box, previous)
        paint(mask, own.strokes)
        mask &= ~painted(shown, marks, but=object_id)
        paint(mask, (), points)
        return mask

    @staticmethod
    def _points(
        object_id: int, own: Marks, marks: dict[int, Marks]
    ) -> list[tuple[float, float, bool]]:
        """An object's own points, and those on others, which are not on it."""
        taken = {(int(x), int(y)) for x, y, _ in own.points}
        others = [
            (x, y, False)
            for other, its in marks.items()
            if other != object_id
            for x, y, on in its.points
            if on and (int(x), int(y)) not in taken
        ]
        return [*own.points, *others]

    def _put(
        self,
        label: str,
        frame: int,
        object_id: int,
        mask: np.ndarray,
        marks: dict[int, Marks],
        shown: np.ndarray,
    ) -> str | None:
        """Make a mask that of an object in a frame; what is to be said of it."""
        settings = self.project.settings
        mask = mask & ~members(shown, self._locked())
        if not mask.any() and self._is_tracked(frame, object_id):
            raise UsageError(
                f"nothing of {settings.object(object_id).name} would be left in this frame",
                "press G to say that it is gone from here on",
            )
        key = self.project.key(frame)
        key = np.zeros_like(shown) if key is None else key.copy()
        key[key == object_id] = 0
        key[mask] = object_id
        name = self._marks_name(frame)
        drops = tuple(d for d in settings.drops if d != Drop(object_id, frame))
        self.changed(
            label,
            frame=frame,
            masks=[(frame, key)],
            settings=replace(settings, drops=drops),
            others={name: write_marks(marks)},
        )
        return None if mask.any() else f"{settings.object(object_id).name} has no mask here"

    def _is_tracked(self, frame: int, object_id: int) -> bool:
        """Whether an object comes back in a frame where its key mask goes."""
        newest = self.tracked.newest(frame, None)
        row = None if newest is None else self.tracked.row(newest, frame)
        return row is not None and object_id in dict(row.areas)

    def undo(self, *, again: bool = False) -> int | None:
        """Undo, or do again; the frame that it concerns."""
        with self.changing:
            history = self.project.history
            if (history.redoable if again else history.undoable) is None:
                raise UsageError(f"there is nothing to {'redo' if again else 'undo'}", "")
            self.before_change()
            step = self.project.redo() if again else self.project.undo()
            assert step is not None
            self.tell_change(step.frame)
            return step.frame

    def add_object(self, name: str = "") -> Object:
        """One object more."""
        with self.editing():
            settings, new = self.project.with_object(name, self.tracked.objects())
            self.changed(f"add {new.name}", settings=settings)
            return new

    def edit_object(self, object_id: int, **fields: Any) -> None:
        """Change name, colour, visible or locked."""
        with self.editing():
            settings = self.project.settings
            old = settings.object(object_id)
            if not re.fullmatch(r"#[0-9a-f]{6}", fields.get("colour", "#000000")):
                raise UsageError("that is not a colour", "give one like #00ff00")
            new = replace(old, **fields)
            objects = tuple(new if one.id == object_id else one for one in settings.objects)
            (what,) = fields
            self.changed(f"{what} of {old.name}", settings=replace(settings, objects=objects))

    def remove_object(self, object_id: int) -> None:
        """Take an object out of all key masks."""
        with self.editing():
            settings = self.project.settings
            old = settings.object(object_id)
            self._check_objects([object_id])
            project = self.project
            frames = [n for n in project.keys if object_id in project.objects_of(n)]
            if touched := sorted(set(frames) & set(settings.locked)):
                raise UsageError(f"{old.name} is in the locked frame {touched[0]}", "unlock it")
            marks = {}
            for path in (self.project.own / "marks").glob("*.json"):
                known = read_marks(path)
                if known.pop(object_id, None) is not None:
                    marks[self._marks_name(int(path.stem))] = write_marks(known)
            new = replace(
                settings,
                objects=tuple(one for one in settings.objects if one.id != object_id),
                drops=tuple(drop for drop in settings.drops if drop.object_id != object_id),
            )
            masks = ((n, self._key_without(n, object_id)) for n in frames)
            self.changed(f"remove {old.name}", masks=masks, settings=new, others=marks)

    def _key_without(self, frame: int, object_id: int) -> np.ndarray | None:
        """A key mask without an object."""
        key = self.project.key(frame)
        return None if key is None else np.where(key == object_id, 0, key).astype(np.uint8)

    def drop(self, frame: int, object_id: int) -> str:
        """Say that an object is gone from a frame on, or take that back."""
        with self.editing():
            self._check_open(frame, object_id)
            settings, this = self.project.settings, Drop(object_id, frame)
            name = self._called(object_id)
            if this in settings.drops:
                drops = tuple(drop for drop in settings.drops if drop != this)
                self.changed(f"{name} stays", frame=frame, settings=replace(settings, drops=drops))
                return f"{name} is followed again from frame {frame} on"
            keys = self.project.keys
            if not any(object_id in self.project.objects_of(n) for n in keys):
                raise UsageError(f"{name} has no mask yet", "mark it first")
            masks = [(frame, self._key_without(frame, object_id))] if frame in keys else []
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
            chain = self.chain()
            if chain is not None and frame < chain.origin:  # which is tracked backward
                return f"{name} is not followed in frame {frame} and before it"
            return f"{name} is not followed from frame {frame} on"

    def lock(self, frame: int) -> str:
        """Lock a frame: its masks are key masks then, and nothing changes them; or unlock it."""
        with self.editing():
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
            self.changed(f"lock frame {frame}", frame=frame, masks=[(frame, ids)], settings=new)
            return f"frame {frame} is locked"

    def remove_key(self, frame: int) -> None:
        """Remove a key mask and what was marked there."""
        with self.editing():
            if self.project.key(frame) is None:
                raise UsageError(f"frame {frame} has no key mask", "diamonds mark frames with one")
            self._check_unlocked(frame)
            self._check_objects(self.project.objects_of(frame))
            self.changed(
                f"remove key mask {frame}",
                frame=frame,
                masks=[(frame, None)],
                others={self._marks_name(frame): None},
            )

    def set_range(self, limits: tuple[int, int]) -> str | None:
        """Track and export this range only; what is to be said of it.

        What is followed where it begins goes on there: its masks are made a key mask.
        """
        with self.editing():
            first, end = limits
            if not 0 <= first < end <= self.count:
                raise UsageError("the range is empty", "set In before Out")
            whole = limits == (0, self.count)
            settings = replace(self.project.settings, range=None if whole else limits)
            what: dict[str, Any] = {"settings": settings}
            keys, moved = self.project.keys, first != self.limits[0]
            if moved and first not in keys and self._up_to_date(first):
                what["masks"] = [(first, self.ids(first))]
            self.changed("range", frame=None, **what)
            inner = [n for n in self.project.keys if first <= n < end]
            there = {i for n in inner for i in self.project.objects_of(n)}
            lost = [
                one.name
                for one in settings.objects
                if one.id not in there and any(one.id in self.project.objects_of(n) for n in keys)
            ]
            if not lost:
                return None
            return f"no mask in this range: {', '.join(lost)}; track to where it begins first"

    def _up_to_date(self, frame: int) -> bool:
        """Whether a frame has a result of the masks as they are."""
        chain = self.chain()
        inside = chain is not None and chain.first <= frame < chain.end
        return inside and chain is not None and self.tracked.row(chain.at(frame), frame) is not None

    def load_mask(self, frame: int, name: str, data: bytes) -> list[str]:
        """A mask of another tool for a frame, in any form that `-m` takes; what is to be said."""
        with self.editing():
            self.check_frame(frame)
            self._check_unlocked(frame)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"mask{Path(name).suffix.lower()[:6]}"
                path.write_bytes(data)
                try:
                    masks, said = self._read_masks(path, None, (frame,))
                    read: KeyMasks = list(masks)
                except InputError as error:
                    plain = error.message.replace(str(path), name)
                    raise InputError(plain, error.hint) from None
            read, stay = self._without_locked(frame, read)
            self.changed(f"mask {Path(name).name[:80]}", frame=frame, masks=read)
            return [*(text.replace(str(path), name) for text in said), *stay]

    def _without_locked(self, frame: int, read: KeyMasks) -> tuple[KeyMasks, list[str]]:
        """Masks for a frame, with its locked objects as they are; what is to be said of those."""
        locked, shown = self._locked(), self.ids(frame)
        held = members(shown, locked)
        there = set(ids_of(np.where(held, shown, 0)))
        made: KeyMasks = []
        for number, mask in read:
            given = np.zeros_like(shown) if mask is None else mask
            there |= locked.keys() & ids_of(given)
            free = np.where(members(given, locked), 0, given)
            made.append((number, np.where(held, shown, free)))
        return made, [f"{locked[i]} is locked and stays as it is" for i in sorted(there)]
