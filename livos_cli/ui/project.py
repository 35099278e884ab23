"""A project of `livos ui`: a folder that the command line understands.

PROJECT/masks/00012.png   key masks, as `livos segment -m PROJECT/masks` takes them
PROJECT/project.json      objects, where they end, locked frames, the range
PROJECT/.livos/page/      our own: what was marked, undo, what was tracked, small pictures
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from livos_cli.errors import InputError, OutputError, UsageError
from livos_cli.files.atomic import make_own_folder, put
from livos_cli.files.livos_folder import livos_folder
from livos_cli.files.trust import PROJECT, UntrustedError, read
from livos_cli.masks.palette import decode_index_png, encode_index_png, palette_of
from livos_cli.options import Drop
from livos_cli.ui.history import Content, History, Step
from livos_cli.video.images import list_images
from livos_cli.video.source import SourceInfo

__all__ = ["MASKS", "PROJECT_FILE", "Object", "Project", "Settings", "ids_of", "video_of"]

MASKS, PROJECT_FILE = "masks", "project.json"
PIXELS = 64 << 20  # bytes of key masks that are held


@dataclass(frozen=True)
class Object:
    """One that is followed."""

    id: int
    name: str
    colour: str  # "#rrggbb", in the page and in overlays
    visible: bool = True
    locked: bool = False  # no click changes it


@dataclass(frozen=True)
class Settings:
    """What a project says beside its masks; lists are in order."""

    video: str  # its path, whole
    objects: tuple[Object, ...] = ()
    drops: tuple[Drop, ...] = ()
    locked: tuple[int, ...] = ()  # frames
    range: tuple[int, int] | None = None  # first frame, and the one after the last

    def to_json(self) -> bytes:
        told = {
            "format": 1,
            "video": self.video,
            "objects": [asdict(one) for one in self.objects],
            "drops": [[drop.object_id, drop.frame] for drop in self.drops],
            "locked": list(self.locked),
            "range": None if self.range is None else list(self.range),
        }
        return json.dumps(told, indent=1).encode()

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Settings:
        names = ("id", "name", "colour", "visible", "locked")
        objects = (Object(**{name: one[name] for name in names}) for one in told["objects"])
        limits = told.get("range")
        return cls(
            told["video"],
            tuple(sorted(objects, key=lambda one: one.id)),
            tuple(Drop(object_id, frame) for object_id, frame in told["drops"]),
            tuple(sorted(told["locked"])),
            None if limits is None else (limits[0], limits[1]),
        )

    def object(self, object_id: int) -> Object:
        """Raises UsageError if there is none of this id."""
        for one in self.objects:
            if one.id == object_id:
                return one
        raise UsageError(f"there is no object {object_id}", "add it first")


@dataclass(frozen=True)
class _Key:
    """What is known of a key mask; its pixels are read when they are wanted."""

    digest: str
    objects: tuple[int, ...]  # ids in it


class Project:
    """The folder, and every change to it; what it shows is on disk.

    Args:
        folder: of the project; made if it is not there.
        video: as it was given.
        info: of the video.

    Raises:
        InputError: the folder holds masks that the page cannot write beside, or a damaged file.
    """

    def __init__(self, folder: Path, video: str, info: SourceInfo) -> None:
        self.folder, self._info = folder, info
        self.warnings: list[str] = []
        self.masks = folder / MASKS
        self.own = livos_folder(folder) / "page"
        try:  # no links: what is written stays in the project
            for path in (self.masks, self.own.parent, self.own, self.own / "marks"):
                make_own_folder(path)
            self.history = History(folder, self.own)
            self.settings = self._read_settings(video)
            if not (folder / PROJECT_FILE).exists():  # it is a project from now on
                put(folder / PROJECT_FILE, self.settings.to_json())
        except OSError as error:
            raise OutputError(
                f"cannot use {error.filename} ({error.strerror})", "give another place with -o"
            ) from None
        self._names = {name: n for n, name in enumerate(info.image_names or ())}
        self._known: dict[int, _Key] = {}
        self._pixels: OrderedDict[str, np.ndarray] = OrderedDict()  # by digest, the last few
        if folders := [path for path in self.masks.iterdir() if path.is_dir()]:
            raise _unfit(folders[0], self.masks)
        self._seen: dict[str, tuple[int, int]] = {}  # time of change and size, by name
        self.refresh()

    def _read_settings(self, video: str) -> Settings:
        path, whole = self.folder / PROJECT_FILE, str(Path(video).resolve())
        if not path.exists():
            return Settings(whole)
        settings = _read(path)
        if settings.video != whole:
            self.warnings.append(f"this project was of {settings.video}; now it is of {whole}")
        return replace(settings, video=whole)

    def _read_key(self, path: Path) -> None:
        """Take note of a key mask, or that it has gone; pixels that were just written are known."""
        number = self._number(path)
        if not path.exists():
            self._known.pop(number, None)
            return
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        known = self._known.get(number)
        if known is None or known.digest != digest:
            self._known[number] = _Key(digest, ids_of(self._decode(path, data, digest)))

    def _number(self, path: Path) -> int:
        """The frame of a key mask, by its name, which must be the one that the page writes."""
        number = self._names.get(path.stem, -1) if self._names else -1
        if not self._names and re.fullmatch(r"\d{1,12}", path.stem):
            number = int(path.stem)
        if number < 0 or path.name != self.name_of(number).rpartition("/")[2]:
            raise _unfit(path, self.masks)
        return number

    def _decode(self, path: Path, data: bytes, digest: str) -> np.ndarray:
        if (known := self._pixels.get(digest)) is not None:
            return known
        try:
            ids = decode_index_png(data, str(path))
        except InputError:
            raise _unfit(path, self.masks) from None
        if ids.shape != (self._info.height, self._info.width):
            raise InputError(
                f"{path} is {ids.shape[1]}x{ids.shape[0]}, the video "
                f"{self._info.width}x{self._info.height}",
                "open it with -m and another -o: it is resized then",
            )
        self._remember(digest, ids)
        return ids

    def _remember(self, digest: str, ids: np.ndarray) -> None:
        self._pixels[digest] = ids
        while len(self._pixels) > max(2, PIXELS // ids.nbytes):
            self._pixels.popitem(last=False)

    def _add_unknown(self) -> None:
        """Objects that key masks have and the settings have not."""
        known = {one.id for one in self.settings.objects}
        there = {i for key in self._known.values() for i in key.objects}
        new = tuple(_object(i) for i in sorted(there - known))
        objects = tuple(sorted((*self.settings.objects, *new), key=lambda one: one.id))
        self.settings = replace(self.settings, objects=objects)

    def name_of(self, frame: int) -> str:
        """A key mask's file, relative to the project."""
        stem = self._info.image_names[frame] if self._info.image_names else f"{frame:05d}"
        return f"{MASKS}/{stem}.png"

    @property
    def keys(self) -> dict[int, str]:
        """Digests of the key masks, by frame, in order; of all, in the range or not."""
        return {frame: self._known[frame].digest for frame in sorted(self._known)}

    def key(self, frame: int) -> np.ndarray | None:
        """A key mask, (H, W) uint8; not to be changed.

        Raises:
            InputError: another program has damaged or removed it.
        """
        if (known := self._known.get(frame)) is None:
            return None
        if (ids := self._pixels.get(known.digest)) is not None:
            return ids
        path = self.folder / self.name_of(frame)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror})", "open the project again"
            ) from None
        return self._decode(path, data, hashlib.sha256(data).hexdigest())

    def objects_of(self, frame: int) -> tuple[int, ...]:
        """Ids that a frame's key mask has; none where there is none."""
        known = self._known.get(frame)
        return () if known is None else known.objects

    def change(
        self,
        label: str,
        *,
        frame: int | None = None,
        masks: Iterable[tuple[int, np.ndarray | None]] = (),
        settings: Settings | None = None,
        others: Mapping[str, bytes | None] | None = None,
    ) -> None:
        """One step that can be undone.

        Args:
            label: what is done.
            frame: where to look.
            masks: frame and key mask, (H, W) uint8; without an object, or None, there is none.
            settings: the new ones.
            others: more files, by name.
        """
        files: dict[str, Content] = dict(others or {})
        for number, ids in masks:
            data = None
            if ids is not None and ids_of(ids):
                data = self.history.keep(encode_index_png(ids))
                self._remember(data, ids)
            files[self.name_of(number)] = data
        new = settings or self.settings
        files[PROJECT_FILE] = new.to_json()
        try:
            self.history.change(label, frame, files)
            self.settings = new
        finally:
            self.reload(files)

    def undo(self) -> Step | None:
        """The step that was undone; None if there is none."""
        return self._moved(self.history.undoable, self.history.undo)

    def redo(self) -> Step | None:
        """The step that was done again; None if there is none."""
        return self._moved(self.history.redoable, self.history.redo)

    def _moved(self, step: Step | None, move: Callable[[], Step | None]) -> Step | None:
        if step is None:
            return None
        try:
            return move()
        finally:
            self.settings = self._read_settings(self.settings.video)
            self.reload(step.files)

    def refresh(self) -> None:
        """Take note of key masks that another program has written, changed or removed."""
        seen: dict[str, tuple[int, int]] = {}
        numbers = set()
        for path in list_images(self.masks):
            try:
                found = path.stat()
                seen[path.name] = found.st_mtime_ns, found.st_size
                numbers.add(number := self._number(path))
                if number not in self._known or self._seen.get(path.name) != seen[path.name]:
                    self._read_key(path)
            except OSError as error:
                raise InputError(
                    f"{path} cannot be read ({error.strerror})", "is it a broken link?"
                ) from None
        for frame in [frame for frame in self._known if frame not in numbers]:
            self._known.pop(frame)
        self._seen = seen
        self._add_unknown()

    def reload(self, files: Mapping[str, object]) -> None:
        """Read again what these files hold."""
        for name in files:
            if name.startswith(f"{MASKS}/"):
                self._read_key(self.folder / name)
        self._add_unknown()

    def with_object(self, name: str = "", used: Iterable[int] = ()) -> tuple[Settings, Object]:
        """Settings with one object more, of the next id that is free, and none that was used."""
        taken = {one.id for one in self.settings.objects}
        new = max([0, *taken, *used]) + 1  # old results may still have what was removed
        free = [new] if new < 256 else [i for i in range(1, 256) if i not in taken]
        if not free:
            raise UsageError("there are 255 objects already", "remove one first")
        added = _object(free[0], name)
        objects = tuple(sorted((*self.settings.objects, added), key=lambda one: one.id))
        return replace(self.settings, objects=objects), added


def video_of(folder: Path) -> str:
    """Which video a project is of.

    Raises:
        InputError: its file cannot be read, or the video is not there any more.
    """
    video = _read(folder / PROJECT_FILE).video
    if not Path(video).exists():
        raise InputError(
            f"{video}, the video of {folder}, is not there", f"livos ui VIDEO -o {folder}"
        )
    return video


def _read(path: Path) -> Settings:
    try:
        return Settings.from_json(read(path, PROJECT))
    except (OSError, UntrustedError) as error:
        raise InputError(
            f"{path} cannot be read ({error})",
            "mend it, or remove it: the masks stay, names and locks are lost",
        ) from None


def ids_of(mask: np.ndarray) -> tuple[int, ...]:
    """Ids in (H, W) uint8, but for 0."""
    counts = cv2.calcHist([mask], [0], None, [256], [0, 256]).ravel()
    return tuple(int(i) for i in np.flatnonzero(counts) if i)


def _object(object_id: int, name: str = "") -> Object:
    red, green, blue = (int(c) for c in palette_of("bright")[object_id])
    return Object(object_id, name or f"object {object_id}", f"#{red:02x}{green:02x}{blue:02x}")


def _unfit(path: Path, masks: Path) -> InputError:
    return InputError(
        f"{path} is not a key mask as the page writes them (index PNG, 00012.png)",
        f"bring these masks into a new project: livos ui VIDEO -m {masks} -o NEW",
    )
