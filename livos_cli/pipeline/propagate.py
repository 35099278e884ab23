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
from livos_cli.network.livos import LiVOS
from livos_cli.options import Drop, SegmentOptions
from livos_cli.outputs.formats import Decided
from livos_cli.pipeline.refine import Soft, SoftSpool, blend
from livos_cli.pipeline.spool import Spool
from livos_cli.tracker.cuda_prefetch import upload_ahead
from livos_cli.tracker.resize import decide_ids, matte_of
from livos_cli.tracker.tracker import Tracker
from livos_cli.video.backward import read_backward
from livos_cli.video.source import Frame, FrameSource

__all__ = ["Masks", "find", "make_tracker", "track"]


class Masks(Protocol):
    """The masks that are given for a video, by frame; `KeyMasks` are those that a user names."""

    @property
    def frames(self) -> list[int] | None:
        """Frame numbers that have a mask; None if one mask is for the frame tracking begins at."""

    def at(self, frame: int, *, first: bool, width: int, height: int) -> np.ndarray | None:
        """The mask of a frame, (H, W) integers at the video's size, or None."""

    def ends(self, frame: int, ids: Iterable[int]) -> frozenset[int]:
        """Which of the objects followed the mask that `at` gave ends."""


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
    if options.refine and len(_key_frames(keys, options)) > 1:
        yield from _find_refined(
            video, source, keys, tracker, options, matte=matte, on_back=on_back
        )
        return
    if options.refine:
        source.warnings.append("fewer than two masks in this range: --refine has nothing to do")
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


def _key_frames(keys: Masks, options: SegmentOptions) -> list[int]:
    """Frames with a mask in the range of the options, as far as frame numbers say that."""
    start, end = options.range()
    return [
        frame
        for frame in keys.frames or ()
        if (start is None or start.frame is None or frame >= start.frame)
        and (end is None or end.frame is None or frame < end.frame)
    ]


def _find_refined(
    video: str | Path,
    source: FrameSource,
    keys: Masks,
    tracker: Tracker,
    options: SegmentOptions,
    *,
    matte: bool,
    on_back: Callable[[int], None],
) -> Generator[tuple[Frame, Decided]]:
    """As `find`; frames between two masks are tracked from both.

    First from the last mask back to the first, which waits on disk; then forward.
    """
    masks = _key_frames(keys, options)
    first, last = masks[0], masks[-1]
    # An object that is dropped at a frame was followed until the one before.
    drops = tuple(replace(drop, frame=drop.frame - 1) for drop in options.drop)
    back = _Guide(keys, tracker.twin(), source, drops, way=-1, warnings=[])
    size = source.info.height, source.info.width
    with SoftSpool() as spool:
        pictures = read_backward(
            video,
            last,
            start=options.range()[0],
            allow_truncated=options.allow_truncated,
            raw=options.raw,
            or_end=True,
        )
        with closing(pictures):
            for index, rgb in pictures:
                if not back.begun:  # the first one: masks after it are for no frame
                    last = max(frame for frame in masks if frame <= max(index, first))
                if index > last:
                    continue
                if index <= first:
                    break
                soft, _, _ = back.step_soft(index, rgb)
                if index != last:
                    spool.push(soft)
                on_back(len(spool))
        forth = _Guide(keys, tracker, source, options.drop)
        with closing(upload_ahead(source, tracker.model.device)) as frames:
            for frame, picture in frames:
                if not spool or frame.index != last - len(spool):
                    yield frame, forth.step(frame.index, picture, matte=matte)
                    continue
                soft, mask, given = forth.step_soft(frame.index, picture)
                prob = blend(soft, spool.pop(), frame.index)
                shape = (list(soft.since), size, mask)
                yield (
                    frame,
                    Decided(
                        decide_ids(prob, *shape),
                        matte_of(prob, *shape) if matte else None,
                        given,
                        tracker.certainty,  # of the way forth alone, so rather too low
                    ),
                )
    _check_used(keys, back.used | forth.used, source, any_object=forth.any_object)


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
        warnings: list[str] | None = None,
    ) -> None:
        self._keys, self._tracker, self._info = keys, tracker, source.info
        self._warnings = source.warnings if warnings is None else warnings
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
        self._since: dict[int, int] = {}  # object -> frame of its last mask

    def skip(self, index: int, decided: Decided) -> None:
        """Pass a frame whose result is known, and which the tracker has behind it."""
        self._drops = [d for d in self._drops if (index - d.frame) * self._way < 0]
        self.begun = True
        if index in self._with_mask:
            self.used.add(index)
        self.any_object = self.any_object or bool(decided.given) or bool(decided.areas[1:].any())

    def step(self, index: int, picture: np.ndarray | Tensor, *, matte: bool) -> Decided:
        """What is in the next frame."""
        mask, given = self._prepare(index)
        if matte:
            ids, soft = self._tracker.step_matte(picture, mask)
        else:
            ids, soft = self._tracker.step_ids(picture, mask), None
        decided = Decided(ids, soft, given, self._tracker.certainty)
        self.any_object = self.any_object or bool(self._tracker.object_ids)
        return decided

    def step_soft(
        self, index: int, picture: np.ndarray | Tensor
    ) -> tuple[Soft, Tensor | None, frozenset[int]]:
        """What is in the next frame, undecided; the mask, and the ids of `Decided.given`."""
        mask, given = self._prepare(index)
        prob, at_full_size = self._tracker.step_soft(picture, mask)
        followed = self._tracker.object_ids
        self.any_object = self.any_object or bool(followed)
        return Soft(prob, {i: self._since[i] for i in followed}), at_full_size, given

    def _prepare(self, index: int) -> tuple[np.ndarray | None, frozenset[int]]:
        """End what ends at a frame; its mask, and the ids that may change there at will."""
        info, tracker = self._info, self._tracker
        given: frozenset[int] = frozenset()
        for drop in [d for d in self._drops if (index - d.frame) * self._way >= 0]:
            self._drops.remove(drop)
            if drop.object_id in tracker.object_ids:
                tracker.drop([drop.object_id])
                given |= {drop.object_id}
            else:
                self._warnings.append(
                    f"object {drop.object_id} is not followed at frame {index}: nothing to drop"
                )
        first, self.begun = not self.begun, True
        mask = self._keys.at(index, first=first, width=info.width, height=info.height)
        if mask is not None:
            self.used.add(index)
            seen = frozenset(int(i) for i in np.unique(mask) if i)
            self._since.update(dict.fromkeys(seen, index))
            given |= seen | self._end(index)
        elif first:
            self._say_no_mask(index)
        return mask, given

    def _end(self, index: int) -> frozenset[int]:
        """End the objects that a frame's mask ends."""
        gone = self._keys.ends(index, self._tracker.object_ids)
        if gone:
            self._tracker.drop(gone)
            names = ", ".join(map(str, sorted(gone)))
            self._warnings.append(
                f"the mask of frame {index} is black for object{'s' * (len(gone) > 1)} {names}: "
                "not followed from there on"
            )
        return gone

    def _say_no_mask(self, index: int) -> None:
        frames = self._keys.frames or []
        later = [n for n in frames if (n - index) * self._way > 0][:: self._way]
        self._warnings.append(
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
