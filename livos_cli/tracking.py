"""From frames and given masks to what is in every frame: forward, backward, or both ways."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from livos_cli.errors import InputError, UsageError
from livos_cli.network.model import LiVOS
from livos_cli.options import Drop, SegmentOptions
from livos_cli.spool import Spool
from livos_cli.tracker import Tracker
from livos_cli.upload import upload_ahead
from livos_cli.video.backward import read_backward
from livos_cli.video.sinks import Decided
from livos_cli.video.source import Frame, FrameSource

__all__ = ["Masks", "find", "make_tracker", "track"]


class Masks(Protocol):
    """The masks that are given for a video, by frame; `KeyMasks` are those that a user names."""

    @property
    def frames(self) -> list[int] | None:
        """Frame numbers that have a mask; None if one mask is for the frame tracking begins at."""

    def at(self, frame: int, *, first: bool, width: int, height: int) -> np.ndarray | None:
        """The mask of a frame, (H, W) integers at the video's size, or None."""


def make_tracker(model: LiVOS, options: SegmentOptions) -> Tracker:
    """A fresh tracker with the options' sizes.

    Raises:
        UsageError: sizes that make no sense.
    """
    try:
        return Tracker(
            model,
            max_size=options.max_size,
            chunk_objects=options.chunk_objects,
            memory_budget=options.memory_budget,
            graphs=options.cuda_graphs,
        )
    except ValueError as error:
        raise UsageError(str(error), "see `livos segment --help`") from None


def find(
    video: str | Path,
    source: FrameSource,
    keys: Masks,
    tracker: Tracker,
    options: SegmentOptions,
    *,
    matte: bool = False,
    past: Iterable[Decided] = (),
    on_back: Callable[[int], None] = lambda _: None,
) -> Generator[tuple[Frame, Decided]]:
    """Each frame of the source, in order, with what is in it, whichever way tracking goes.

    On the way back results wait on disk; then all frames are read in order.

    Args:
        video: what the source was opened from; it is read once more to go backward.
        source: open, with the range of `SegmentOptions.range`.
        keys: the masks.
        tracker: fresh; the way back has one of its own.
        options: direction, origin, drops.
        matte: compute probabilities too.
        past: results of the first frames, if they are known, forward; the tracker is then as it
            was after them.
        on_back: told how many frames the way back has done.

    Raises:
        InputError: no mask belongs to a frame that is read, or the video cannot be read backward.
    """
    if options.direction == "forward":
        yield from track(source, keys, tracker, drop=options.drop, matte=matte, past=past)
        return
    origin = options.origin
    assert origin is not None
    with Spool() as spool:
        back = _Guide(keys, tracker.twin(), source, options.drop, origin=origin, way=-1)
        whole = options.direction == "backward"
        pictures = read_backward(
            video,
            origin,
            start=options.start,
            allow_truncated=options.allow_truncated,
            raw=options.raw,
        )
        with closing(pictures):
            for index, rgb in pictures:
                decided = back.step(index, rgb, matte=matte)
                if whole or index != origin:
                    spool.push(decided)
                on_back(len(spool))
        if not back.begun:  # a --start in seconds: only now it shows
            raise InputError(f"--from {origin} is before --start", "widen the range")
        known = back.any_object
        if whole:
            _check_used(keys, back.used, source, any_object=known)
        before: frozenset[int] = frozenset()
        if not whole:
            forth = _Guide(keys, tracker, source, options.drop, origin=origin, way=1)
        with closing(upload_ahead(source, tracker.model.device)) as frames:
            for frame, picture in frames:
                if spool:
                    decided = spool.pop()
                    # What the way back was given in a frame shows as a change to the next one.
                    yield frame, replace(decided, given=decided.given | before)
                    before = decided.given
                else:
                    yield frame, forth.step(frame.index, picture, matte=matte)
        if not whole and not forth.begun:
            raise InputError(f"--from {origin} is not before --end", "widen the range")
    if not whole:
        _check_used(keys, back.used | forth.used, source, any_object=forth.any_object or known)


def track(
    source: FrameSource,
    keys: Masks,
    tracker: Tracker,
    *,
    drop: tuple[Drop, ...] = (),
    matte: bool = False,
    past: Iterable[Decided] = (),
) -> Generator[tuple[Frame, Decided]]:
    """Each frame with what is in it; key masks enter when their frame comes.

    Args:
        source: the frames.
        keys: the masks.
        tracker: fresh, or as it was after the frames whose results are known.
        drop: objects to stop following.
        matte: compute probabilities too.
        past: results of the first frames, if they are known.

    Raises:
        InputError: none of the masks belonged to a frame.
    """
    guide = _Guide(keys, tracker, source, drop)
    known = iter(past)
    with closing(upload_ahead(source, tracker.model.device)) as frames:
        for frame, picture in frames:
            if (decided := next(known, None)) is not None:
                guide.skip(frame.index, decided)
            else:
                decided = guide.step(frame.index, picture, matte=matte)
            yield frame, decided
    _check_used(keys, guide.used, source, any_object=guide.any_object)


class _Guide:
    """Hands a tracker its frames one way, with the masks and drops that belong to them."""

    def __init__(
        self,
        keys: Masks,
        tracker: Tracker,
        source: FrameSource,
        drop: tuple[Drop, ...],
        *,
        origin: int | None = None,
        way: int = 1,
    ) -> None:
        self._keys, self._tracker, self._source = keys, tracker, source
        self._way, self.begun = way, False
        # Away from the origin: what lies on its other side is the other way's.
        self._drops = [
            d
            for d in drop
            if origin is None or (d.frame < origin if way < 0 else d.frame >= origin)
        ]
        self._with_mask = frozenset(keys.frames or ())
        self.used: set[int] = set()
        self.any_object = False

    def skip(self, index: int, decided: Decided) -> None:
        """Pass a frame whose result is known, and which the tracker has behind it."""
        self._drops = [d for d in self._drops if (index - d.frame) * self._way < 0]
        self.begun = True
        if index in self._with_mask:
            self.used.add(index)
        self.any_object = self.any_object or bool(decided.given) or bool(decided.areas[1:].any())

    def step(self, index: int, picture: np.ndarray | Tensor, *, matte: bool) -> Decided:
        info, tracker = self._source.info, self._tracker
        given: frozenset[int] = frozenset()
        for drop in [d for d in self._drops if (index - d.frame) * self._way >= 0]:
            self._drops.remove(drop)
            if drop.object_id in tracker.object_ids:
                tracker.drop([drop.object_id])
                given |= {drop.object_id}
            else:
                self._source.warnings.append(
                    f"object {drop.object_id} is not followed at frame {index}: nothing to drop"
                )
        first, self.begun = not self.begun, True
        mask = self._keys.at(index, first=first, width=info.width, height=info.height)
        if mask is not None:
            self.used.add(index)
            given |= frozenset(int(i) for i in np.unique(mask) if i)
        elif first:
            self._say_no_mask(index)
        if matte:
            ids, soft = tracker.step_matte(picture, mask)
        else:
            ids, soft = tracker.step_ids(picture, mask), None
        decided = Decided(ids, soft, given, tracker.certainty)
        self.any_object = self.any_object or bool(tracker.object_ids)
        return decided

    def _say_no_mask(self, index: int) -> None:
        frames = self._keys.frames or []
        later = [n for n in frames if (n - index) * self._way > 0][:: self._way]
        self._source.warnings.append(
            f"frame {index}, the first one read, has no mask: all is background "
            f"until the mask of frame {later[0] if later else '?'}"
        )


def _check_used(keys: Masks, used: set[int], source: FrameSource, *, any_object: bool) -> None:
    unused = set(keys.frames or ()) - used
    if not any_object and not used:
        raise InputError(
            f"no mask belongs to a frame that was read: masks are for frames {_some(unused)}",
            "names of key masks are frame numbers from 0; check --start and --end",
        )
    if unused:
        source.warnings.append(f"no frame was read for the masks of frames {_some(unused)}")


def _some(numbers: Iterable[int]) -> str:
    ordered = sorted(numbers)
    return ", ".join(map(str, ordered[:5])) + (" …" if len(ordered) > 5 else "")
