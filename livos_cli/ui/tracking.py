"""Tracking for the page: only what is out of date, from the nearest state, stopped at will."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from livos_cli.masks.reference_masks import ReferenceMasks
from livos_cli.network.livos import LiVOS
from livos_cli.options import Drop, SegmentOptions
from livos_cli.outputs.formats import FrameResult
from livos_cli.pipeline.propagate import Guide, make_tracker
from livos_cli.ui.chain import Chain
from livos_cli.ui.tracked import Row, Tracked
from livos_cli.video.random_access import RandomAccess

__all__ = ["Pass", "Tracking", "plan"]

LEAST = 5  # frames between two states, where the second is the last before a key mask
STATE_EVERY = 25  # frames: a correction computes half as many, on average, to get to its place
ALIKE, AGREE = 0.995, 8  # frames in a row with that IoU of every object: the old masks hold on


@dataclass(frozen=True)
class Pass:
    """Frames that are tracked one after the other: forward, or backward if `last` is before."""

    first: int
    last: int
    alike_from: int | None = None  # from this frame on, stop where masks are what they were before


def plan(chain: Chain, tracked: Tracked, what: str, frame: int) -> list[Pass]:
    """What is to be computed.

    Args:
        chain: of the project as it is.
        tracked: what is there already.
        what: forward (to the end; what is missing before a frame is needed for those after it),
            backward (to the beginning), all, or update (from a frame's key mask to the next one, or
            until the masks agree with what they were).
        frame: where the user is.
    """
    passes = []
    if what in ("all", "backward") and chain.first < chain.origin:
        missing = [n for n in range(chain.first, chain.origin) if not tracked.row(chain.back, n)]
        if missing:
            passes.append(Pass(max(missing), min(missing)))
    if what == "backward":
        return passes
    here = max(chain.origin, min(frame, chain.end - 1))
    end = chain.until(here) if what == "update" else chain.end
    missing = [n for n in range(chain.origin, end) if not tracked.row(chain.at(n), n)]
    if missing:
        passes.append(Pass(missing[0], missing[-1], here if what == "update" else None))
    return passes


@dataclass
class Tracking:
    """Computes passes.

    Args:
        model: the network.
        options: sizes.
        masks: the folder of key masks.
        keys: frames of those in the range.
        drops: where objects end.
        chain: of these masks and drops.
        tracked: where results go.
        on_frame: told of every frame that has a result now.
        on_picture: shown every picture that is decoded.
        stopped: asked after every frame whether to stop.
    """

    model: LiVOS
    options: SegmentOptions
    masks: Path
    keys: tuple[int, ...]
    drops: tuple[Drop, ...]
    chain: Chain
    tracked: Tracked
    on_frame: Callable[[int, Row], None]
    on_picture: Callable[[int, np.ndarray], None]
    stopped: Callable[[], bool]

    def run(self, video: RandomAccess, one: Pass) -> int | None:
        """Compute a pass; where the masks agreed again, that frame's number.

        Raises:
            LivosError: the video or a mask cannot be read, or a result not be written.
        """
        keys = _Keys(ReferenceMasks(self.masks, video.info.image_names), self.keys)
        if one.last < self.chain.origin:
            self._backward(video, keys, one)
            return None
        return self._forward(video, keys, one)

    def _backward(self, video: RandomAccess, keys: _Keys, one: Pass) -> None:
        """From the origin to the beginning; there is no state on this way but at the origin."""
        chain = self.chain
        drops = [drop for drop in self.drops if drop.frame < chain.origin]
        tracker = make_tracker(self.model, self.options)
        guide = Guide(keys, tracker, video.info, drops, -1, [])
        with closing(video.backward(chain.origin)) as pictures:
            for number, rgb in pictures:
                if number < one.last:
                    return
                self.on_picture(number, rgb)
                decided = guide.step(number, rgb, matte=False)
                if number < chain.origin:
                    self._keep(number, decided)
                if self.stopped():
                    return

    def _forward(self, video: RandomAccess, keys: _Keys, one: Pass) -> int | None:
        chain = self.chain
        begun, state = self.tracked.state_before(chain, one.first) or (chain.origin - 1, None)
        tracker = make_tracker(self.model, self.options)
        if state is not None:
            tracker.load_state_dict(state)
        begins = max(begun + 1, chain.origin)
        drops = [drop for drop in self.drops if begins <= drop.frame < chain.end]
        guide = Guide(keys, tracker, video.info, drops, 1, [], resumed=state is not None)
        kept = begun
        alike: deque[bool] = deque(maxlen=AGREE)
        with closing(video.frames(begun + 1)) as pictures:
            for number, rgb in pictures:
                if number > one.last:
                    break
                self.on_picture(number, rgb)
                looks = one.alike_from is not None and number >= one.alike_from
                before = self._before(number) if looks else None
                decided = guide.step(number, rgb, matte=False)
                if number - kept >= (LEAST if chain.until(number) == number + 1 else STATE_EVERY):
                    self.tracked.save_state(chain.at(number), number, tracker.state_dict())
                    kept = number
                self._keep(number, decided)
                if self.stopped():
                    break
                alike.append(before is not None and _alike(before, decided))
                if len(alike) == AGREE and all(alike):
                    return number
        return None

    def _before(self, number: int) -> FrameResult | None:
        """What a frame's result was under an earlier chain."""
        link = self.tracked.newest(number, None)
        return (
            None if link in (None, self.chain.at(number)) else self.tracked.read(str(link), number)
        )

    def _keep(self, number: int, decided: FrameResult) -> None:
        """Keep a result, unless it is there."""
        link = self.chain.at(number)
        if self.tracked.row(link, number) is None:
            self.on_frame(number, self.tracked.write(link, number, decided))


class _Keys:
    """The key masks that were there when tracking was planned."""

    def __init__(self, masks: ReferenceMasks, frames: Iterable[int]) -> None:
        self._masks, self.frames = masks, list(frames)

    def at(self, frame: int, *, first: bool, width: int, height: int) -> np.ndarray | None:
        """The mask of a frame."""
        if frame not in self.frames:
            return None
        return self._masks.at(frame, first=first, width=width, height=height)

    def ends(self, frame: int, ids: Iterable[int]) -> frozenset[int]:
        """Which objects the mask of a frame ends."""
        return self._masks.ends(frame, ids) if frame in self.frames else frozenset()


def _alike(one: FrameResult, other: FrameResult) -> bool:
    """Whether two results agree on every object but for a few pixels."""
    both = one.ids == other.ids
    for object_id in np.flatnonzero(one.areas[1:] + other.areas[1:]) + 1:
        shared = int((both & (one.ids == object_id)).sum())
        union = int(one.areas[object_id] + other.areas[object_id]) - shared
        if shared < ALIKE * union:
            return False
    return True
