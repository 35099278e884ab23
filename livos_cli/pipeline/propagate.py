"""From frames and given masks to what is in every frame: forward, backward, or both ways."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from livos_cli.errors import InputError, UsageError
from livos_cli.network.livos import LiVOS
from livos_cli.options import Drop, Position, SegmentOptions
from livos_cli.outputs.formats import FrameResult
from livos_cli.pipeline.refine import Soft, SoftSpool, blend
from livos_cli.pipeline.spool import Spool
from livos_cli.tracker.cuda_prefetch import upload_ahead
from livos_cli.tracker.resize import decide_ids, matte_of
from livos_cli.tracker.tracker import Tracker
from livos_cli.video.address import Address
from livos_cli.video.backward import read_backward
from livos_cli.video.source import Frame, FrameSource, SourceInfo

__all__ = ["Guide", "Masks", "Propagation", "make_tracker", "track"]


class Masks(Protocol):
    """Masks of a video by frame; `ReferenceMasks` are those that a user names."""

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
    if not model.bounded and (options.memory_budget or options.chunk_objects):
        raise UsageError(
            "--memory-budget and --chunk-objects bound what PyTorch takes, not other runtimes",
            "leave them out, or use --backend torch",
        )
    try:
        return Tracker(
            model,
            max_size=options.max_size,
            chunk_objects=options.chunk_objects,
            memory_budget=options.memory_budget,
            graphs=None if options.cuda_graphs else False,
        )
    except ValueError as error:
        raise UsageError(str(error), "see `livos segment --help`") from None


@dataclass
class Propagation:
    """A video, its masks and a tracker: from them, what is in every frame.

    Args:
        video: what the source was opened from; it is read once more to go backward.
        source: open, with the range of `SegmentOptions.range`.
        masks: those that are given.
        tracker: fresh; the way back has one of its own.
        options: direction, origin, drops.
        matte: compute probabilities too.
    """

    video: str | Path
    source: FrameSource
    masks: Masks
    tracker: Tracker
    options: SegmentOptions
    matte: bool = False
    warnings: list[str] = field(default_factory=list)  # what was noticed on the way

    def frames(
        self,
        past: Iterable[FrameResult] = (),
        on_back: Callable[[int], None] = lambda _: None,
    ) -> Generator[tuple[Frame, FrameResult]]:
        """Each frame of the source, in order, with what is in it, whichever way tracking goes.

        On the way back results wait on disk; then all frames are read in order.

        Args:
            past: results of the first frames, if they are known, forward; the tracker is then as
                it was after them.
            on_back: told how many frames the way back has done.

        Raises:
            InputError: no mask belongs to a frame that is read, or the video cannot be read
                backward.
        """
        if self.options.refine and len(_key_frames(self.masks, self.options)) > 1:
            return self._refined(on_back)
        if self.options.refine:
            self.warnings.append("fewer than two masks in this range: --refine has nothing to do")
        if self.options.direction == "forward":
            return self._forward(past)
        return self._both(on_back)

    def _guide(self, way: int, origin: int | None = None) -> Guide:
        tracker = self.tracker if way > 0 else self.tracker.twin()
        # What lies on the other side of the origin is the other way's.
        drops = [
            d
            for d in self.options.drop
            if origin is None or (d.frame < origin if way < 0 else d.frame >= origin)
        ]
        return Guide(self.masks, tracker, self.source.info, drops, way, self.warnings)

    def _uploaded(self) -> Generator[tuple[Frame, np.ndarray | Tensor]]:
        ahead = Address.of(self.video).repeatable
        return upload_ahead(self.source, self.tracker.model.device, ahead=ahead)

    def _check_used(self, used: set[int], *, any_object: bool) -> None:
        self.warnings += _unused(self.masks, used, any_object=any_object)

    def _forward(self, past: Iterable[FrameResult]) -> Generator[tuple[Frame, FrameResult]]:
        """From the first mask on."""
        guide = self._guide(1)
        known = iter(past)
        with closing(self._uploaded()) as frames:
            for frame, picture in frames:
                if (decided := next(known, None)) is not None:
                    guide.skip(frame.index, decided)
                else:
                    decided = guide.step(frame.index, picture, matte=self.matte)
                yield frame, decided
        self._check_used(guide.used, any_object=guide.any_object)

    def _both(self, on_back: Callable[[int], None]) -> Generator[tuple[Frame, FrameResult]]:
        """From the origin back to the start, and, unless that is all, on to the end."""
        origin, whole = self.options.origin, self.options.direction == "backward"
        assert origin is not None
        with Spool() as spool:
            back = self._guide(-1, origin)
            self._go_back(back, origin, spool, on_back)
            known = back.any_object
            if whole:
                self._check_used(back.used, any_object=known)
            before: frozenset[int] = frozenset()
            forth = self._guide(1, origin)
            with closing(self._uploaded()) as frames:
                for frame, picture in frames:
                    if spool:
                        decided = spool.pop()
                        # What the way back was given in a frame shows as a change to the next one.
                        yield frame, replace(decided, given=decided.given | before)
                        before = decided.given
                    else:
                        yield frame, forth.step(frame.index, picture, matte=self.matte)
            if not whole and not forth.begun:
                raise InputError(f"--from {origin}f is not before --end", "widen the range")
        if not whole:
            self._check_used(back.used | forth.used, any_object=forth.any_object or known)

    def _pictures_back(
        self, last: int, start: Position | None, *, or_end: bool = False
    ) -> Generator[tuple[int, np.ndarray]]:
        return read_backward(
            self.video,
            last,
            start=start,
            allow_truncated=self.options.allow_truncated,
            raw=self.options.raw,
            or_end=or_end,
        )

    def _go_back(
        self, back: Guide, origin: int, spool: Spool, on_back: Callable[[int], None]
    ) -> None:
        """What is in the frames from the origin back to the start, onto the spool."""
        with closing(self._pictures_back(origin, self.options.start)) as pictures:
            for index, rgb in pictures:
                decided = back.step(index, rgb, matte=self.matte)
                if index != origin or self.options.direction == "backward":
                    spool.push(decided)
                on_back(len(spool))
        if not back.begun:  # a --start in seconds: only now it shows
            raise InputError(f"--from {origin}f is before --start", "widen the range")

    def _refined(self, on_back: Callable[[int], None]) -> Generator[tuple[Frame, FrameResult]]:
        """Frames between two masks are tracked from both.

        First from the last mask back to the first, which waits on disk; then forward.
        """
        masks = _key_frames(self.masks, self.options)
        # An object that is dropped at a frame was followed until the one before.
        drops = [replace(drop, frame=drop.frame - 1) for drop in self.options.drop]
        info = self.source.info
        back = Guide(self.masks, self.tracker.twin(), info, drops, -1, [])
        with SoftSpool() as spool:
            last = self._refine_back(back, masks, spool, on_back)
            forth = self._guide(1)
            with closing(self._uploaded()) as frames:
                for frame, picture in frames:
                    if spool and frame.index == last - len(spool):
                        yield frame, self._blended(forth, frame, picture, spool.pop())
                    else:
                        yield frame, forth.step(frame.index, picture, matte=self.matte)
        self._check_used(back.used | forth.used, any_object=forth.any_object)

    def _refine_back(
        self, back: Guide, masks: list[int], spool: SoftSpool, on_back: Callable[[int], None]
    ) -> int:
        """What the way back from the last mask finds, onto the spool; that mask's frame."""
        first, last = masks[0], masks[-1]
        start = self.options.range()[0]
        with closing(self._pictures_back(last, start, or_end=True)) as pictures:
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
        return last

    def _blended(
        self, forth: Guide, frame: Frame, picture: np.ndarray | Tensor, found: Soft
    ) -> FrameResult:
        soft, mask, given = forth.step_soft(frame.index, picture)
        prob = blend(soft, found, frame.index)
        size = self.source.info.height, self.source.info.width
        shape = (list(soft.since), size, mask)
        return FrameResult(
            decide_ids(prob, *shape),
            matte_of(prob, *shape) if self.matte else None,
            given,
            self.tracker.certainty,  # of the way forth alone, so rather too low
        )


def track(
    source: FrameSource,
    masks: Masks,
    tracker: Tracker,
    drop: tuple[Drop, ...] = (),
    *,
    matte: bool = False,
) -> Generator[tuple[Frame, FrameResult]]:
    """Each frame with what is in it, forward; masks enter when their frame comes.

    Raises:
        InputError: none of the masks belonged to a frame.
    """
    # What is said of masks that belong to no frame is for those who run a whole video.
    return Propagation("", source, masks, tracker, SegmentOptions(drop=drop), matte).frames()


def _key_frames(masks: Masks, options: SegmentOptions) -> list[int]:
    """Frames with a mask in the range of the options, as far as frame numbers say that."""
    start, end = options.range()
    return [
        frame
        for frame in masks.frames or ()
        if (start is None or start.frame is None or frame >= start.frame)
        and (end is None or end.frame is None or frame < end.frame)
    ]


class Guide:
    """Hands a tracker its frames one way, with the masks and drops that belong to them.

    Args:
        masks: those that are given.
        tracker: fresh; or, with `resumed`, as it was after an earlier frame.
        info: of the video.
        drops: objects to end, and from which frame on.
        way: 1 forward, -1 backward.
        warnings: what is noticed is added here.
        resumed: frames were tracked before.
    """

    def __init__(
        self,
        masks: Masks,
        tracker: Tracker,
        info: SourceInfo,
        drops: list[Drop],
        way: int,
        warnings: list[str],
        *,
        resumed: bool = False,
    ) -> None:
        self._masks, self._tracker, self._info = masks, tracker, info
        self._warnings = warnings
        self._way, self.begun = way, resumed
        self._drops = drops
        self._with_mask = frozenset(masks.frames or ())
        self.used: set[int] = set()
        self.any_object = False
        self._since: dict[int, int] = {}  # object -> frame of its last mask

    def skip(self, index: int, decided: FrameResult) -> None:
        """Pass a frame whose result is known, and which the tracker has behind it."""
        self._drops = [d for d in self._drops if (index - d.frame) * self._way < 0]
        self.begun = True
        if index in self._with_mask:
            self.used.add(index)
        self.any_object = self.any_object or bool(decided.given) or bool(decided.areas[1:].any())

    def step(self, index: int, picture: np.ndarray | Tensor, *, matte: bool) -> FrameResult:
        """What is in the next frame."""
        mask, given = self._prepare(index)
        if matte:
            ids, soft = self._tracker.step_alpha(picture, mask)
        else:
            ids, soft = self._tracker.step_ids(picture, mask), None
        decided = FrameResult(ids, soft, given, self._tracker.certainty)
        self.any_object = self.any_object or bool(self._tracker.object_ids)
        return decided

    def step_soft(
        self, index: int, picture: np.ndarray | Tensor
    ) -> tuple[Soft, Tensor | None, frozenset[int]]:
        """What is in the next frame, undecided; the mask, and the ids of `FrameResult.given`."""
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
        mask = self._masks.at(index, first=first, width=info.width, height=info.height)
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
        gone = self._masks.ends(index, self._tracker.object_ids)
        if gone:
            self._tracker.drop(gone)
            names = ", ".join(map(str, sorted(gone)))
            self._warnings.append(
                f"the mask of frame {index} is black for object{'s' * (len(gone) > 1)} {names}: "
                "not followed from there on"
            )
        return gone

    def _say_no_mask(self, index: int) -> None:
        frames = self._masks.frames or []
        later = [n for n in frames if (n - index) * self._way > 0][:: self._way]
        self._warnings.append(
            f"frame {index}, the first one read, has no mask: all is background "
            f"until the mask of frame {later[0] if later else '?'}"
        )


def _unused(masks: Masks, used: set[int], *, any_object: bool) -> list[str]:
    """What is to be said of masks that no frame had. Raises InputError if that is all of them."""
    unused = set(masks.frames or ()) - used
    if not any_object and not used:
        raise InputError(
            f"no mask belongs to a frame that was read: masks are for frames {_some(unused)}",
            "names of key masks are frame numbers from 0; check --start and --end",
        )
    return [f"no frame was read for the masks of frames {_some(unused)}"] if unused else []


def _some(numbers: Iterable[int]) -> str:
    ordered = sorted(numbers)
    return ", ".join(map(str, ordered[:5])) + (" …" if len(ordered) > 5 else "")
