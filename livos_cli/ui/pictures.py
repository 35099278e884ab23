"""Frames as the page shows them: exact ones, and small ones that are made ahead for scrubbing."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from livos_cli.errors import InputError, LivosError
from livos_cli.files.atomic import make_own_folder, put
from livos_cli.video.random_access import RandomAccess

__all__ = ["Pictures", "encode", "shrink"]

QUALITY, SMALL_QUALITY = 92, 80  # of JPEG
SMALL = 720  # rows of a small picture, at most
ROOM = 512 << 20  # bytes of small pictures on disk
AHEAD, BEHIND = 240, 40  # frames around the playhead of which small pictures are made
THUMB, THUMBS = 90, 1000  # rows of a thumbnail; how many can be waited for
KEPT = 6  # exact frames in memory
KEPT_BYTES = 200 << 20


def shrink(image: np.ndarray, width: int | None, *, exact: bool = False) -> np.ndarray:
    """A picture, or, with `exact`, a map of ids, no wider than this."""
    rows, columns = image.shape[:2]
    if width is None or width >= columns:
        return image
    size = (max(1, width), max(1, round(rows * width / columns)))
    way = cv2.INTER_NEAREST_EXACT if exact else cv2.INTER_AREA
    return np.asarray(cv2.resize(image, size, interpolation=way))


def encode(rgb: np.ndarray, quality: int = QUALITY) -> bytes:
    """JPEG of (H, W, 3) uint8."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


class Pictures:
    """Pictures of one video.

    Args:
        video: read by whoever asks for an exact frame; small ones have a reader of their own.
        folder: of our own, for small pictures.
        on_thumb: told that a frame's thumbnail is there.
    """

    def __init__(self, video: RandomAccess, folder: Path, on_thumb: Callable[[int], None]) -> None:
        self._video, self._folder, self._on_thumb = video, folder, on_thumb
        self._exact: OrderedDict[int, np.ndarray] = OrderedDict()
        self._reading = threading.Lock()
        make_own_folder(folder.parent)
        make_own_folder(folder)
        for other in folder.parent.iterdir():  # of another video, or of an earlier state of it
            if other != folder and other.is_dir() and not other.is_symlink():
                shutil.rmtree(other, ignore_errors=True)
        self._small = {int(p.stem): p.stat().st_size for p in folder.glob("[0-9]*.jpg")}
        self._bytes = sum(self._small.values())
        self._changed = threading.Condition()  # of what follows
        self._playhead, self._paused, self._closed = -1, False, False
        self._thumbs: deque[int] = deque(maxlen=THUMBS)  # that are wanted
        self._thumb: int | None = None  # that is being made
        self._damaged: set[int] = set()  # of which there is no small picture to be had
        self._thread = threading.Thread(target=self._work, name="livos-small", daemon=True)
        self._thread.start()

    def exact(self, number: int) -> np.ndarray:
        """A frame, (H, W, 3) uint8; not to be changed."""
        with self._reading:
            if self._closed:
                raise InputError("the project is closed", "open it again")
            rgb = self._exact.pop(number, None)
            if rgb is None:
                rgb = self._video.frame(number)
            self._exact[number] = rgb
            while len(self._exact) > max(1, min(KEPT, KEPT_BYTES // rgb.nbytes)):
                self._exact.popitem(last=False)
            return rgb

    def small(self, number: int) -> bytes | None:
        """A small picture, if it is there; those around it will be made."""
        with self._changed:
            if number != self._playhead:
                self._playhead = number
                self._changed.notify()
        return self._read(number)

    def _read(self, number: int) -> bytes | None:
        try:
            return self._path(number).read_bytes() if number in self._small else None
        except OSError:
            return None

    def take(self, number: int, rgb: np.ndarray) -> None:
        """Make a small picture of a frame that somebody has decoded."""
        if number in self._small or number in self._damaged or self._closed:
            return
        rows = rgb.shape[0]
        width = None if rows <= SMALL else round(rgb.shape[1] * SMALL / rows)
        data = encode(shrink(rgb, width), SMALL_QUALITY)
        try:
            put(self._path(number), data)
        except OSError:  # a full disk: the page shows exact frames alone
            self._damaged.add(number)
            return
        with self._changed:
            self._small[number] = len(data)
            self._bytes += len(data)
            self._make_room()

    def thumb(self, number: int) -> bytes | None:
        """A thumbnail, if it is there; else it will be made, and that is told."""
        with contextlib.suppress(OSError):
            return self._thumb_path(number).read_bytes()
        with self._changed:
            known = number in self._thumbs or number == self._thumb or number in self._damaged
            if not known and not self._thumb_path(number).exists():  # made since it was looked for
                self._thumbs.append(number)
                self._changed.notify()
        return None

    def _thumb_path(self, number: int) -> Path:
        return self._folder / f"{number:05d}.thumb"

    def _make_thumb(self, video: RandomAccess, number: int) -> None:
        if (small := self._read(number)) is not None:
            bgr = cv2.imdecode(np.frombuffer(small, np.uint8), cv2.IMREAD_COLOR)
            rgb = np.asarray(bgr)[..., ::-1]
        else:
            rgb = video.frame(number)
        width = max(1, round(rgb.shape[1] * THUMB / rgb.shape[0]))
        try:
            small_rgb = shrink(np.ascontiguousarray(rgb), width)
            put(self._thumb_path(number), encode(small_rgb, SMALL_QUALITY))
        except OSError:
            self._damaged.add(number)
            return
        self._on_thumb(number)

    def _make_room(self) -> None:
        """Remove the pictures furthest from the playhead."""
        if self._bytes <= ROOM:
            return
        near = sorted(self._small, key=lambda n: abs(n - self._playhead))
        while self._bytes > 0.9 * ROOM:  # not every time
            number = near.pop()
            self._path(number).unlink(missing_ok=True)
            self._bytes -= self._small.pop(number)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:05d}.jpg"

    def pause(self, paused: bool) -> None:
        """Make none while tracking wants the processor, which hands in its own."""
        with self._changed:
            self._paused = paused
            self._changed.notify()

    def _wanted(self) -> int | None:
        """The first frame near the playhead that has no small picture."""
        if self._playhead < 0 or self._paused:
            return None
        at, end = self._playhead, self._video.count
        near = [*range(at, min(end, at + AHEAD)), *range(max(0, at - BEHIND), at)]
        return next((n for n in near if n not in self._small and n not in self._damaged), None)

    def _work(self) -> None:
        try:
            video = self._video.twin()
        except LivosError:
            return  # it has gone; whoever asks for a frame is told
        with closing(video):
            while (what := self._next()) is not None:
                number, thumb = what
                try:
                    if thumb:
                        self._make_thumb(video, number)
                    else:
                        self._make(video, number)
                except LivosError:
                    self._damaged.add(number)  # who asks for it is told

    def _next(self) -> tuple[int, bool] | None:
        """What to make next, and whether it is a thumbnail; None to end."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._thumbs or self._wanted() is not None
            )
            if self._closed:
                return None
            self._thumb = self._thumbs.popleft() if self._thumbs else None
            if self._thumb is not None:
                return self._thumb, True
            number = self._wanted()
        assert number is not None
        return number, False

    def _make(self, video: RandomAccess, first: int) -> None:
        """From a frame on, until others are wanted."""
        with closing(video.frames(first)) as frames:
            for number, rgb in frames:
                self.take(number, rgb)
                with self._changed:
                    wanted = self._wanted()
                    busy = self._closed or self._thumbs or wanted is None
                    if busy or not number < (wanted or 0) <= number + 50:
                        return

    def close(self) -> None:
        """Stop making pictures."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        with self._reading:  # whoever reads has finished
            self._exact.clear()
