"""Signs that a run goes wrong: from the objects' areas, and from how certain the network is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from livos_cli.options import clock
from livos_cli.outputs.sink import DOUBTFUL

__all__ = ["AreaWatch", "Doubt", "DoubtWatch", "Watch"]

RECENT = 8  # frames whose median area is the usual one
JUMP = 2.5  # times the usual area, either way
LEAST = 1e-3  # of the picture: smaller areas jump for no reason
TOLD = 5  # frames that a warning names
KEPT = 100  # of each object and sign; of more, their number
BEGIN, END = 3, 5  # doubtful frames with which a doubt begins; sure ones in a row that end it


@dataclass(frozen=True)
class Doubt:
    """Frames in which an object's mask is probably wrong."""

    object: int  # its id
    frame: int  # where to look: where tracking came to the doubt
    seconds: float  # its time in the video
    until: int  # the last one, in the direction of tracking
    open: bool  # until all frames were done
    certainty: float  # the least in them


class Watch:
    """Both signs together: what a doubt tells of a frame, the areas do not tell again.

    Args:
        origin: frame where tracking begins; frames before it are tracked backward.
    """

    def __init__(self, origin: int = 0) -> None:
        self._areas, self._doubts = AreaWatch(), DoubtWatch(origin)

    def see(
        self,
        frame: int,
        seconds: float,
        areas: np.ndarray,
        certainty: Mapping[int, float],
        given: Collection[int] = (),
    ) -> None:
        """Take a frame; arguments as of `AreaWatch.see` and `DoubtWatch.see`."""
        self._areas.see(frame, areas, given)
        self._doubts.see(frame, seconds, certainty, given)

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """What is doubtful, by object and frame."""
        return self._doubts.doubts

    def warnings(self) -> list[str]:
        """What was seen, a line an object and sign."""
        spans = [(d.object, *sorted((d.frame, d.until))) for d in self.doubts]

        def told(object_id: int, frame: int) -> bool:
            # The first frame after a doubt is compared with the areas in it.
            return any(object_id == i and a <= frame <= b + 1 for i, a, b in spans)

        return [*self._doubts.warnings(), *self._areas.warnings(told)]


@dataclass
class _Row:
    """Doubtful frames of an object; a doubt once there are enough."""

    first: tuple[int, float]  # number and seconds
    last: tuple[int, float]
    least: float  # certainty
    low: int = 1  # frames
    sure: int = 0  # frames since the last of them


class DoubtWatch:
    """Notes where an object's certainty stays low.

    Args:
        origin: frame where tracking begins; frames before it are tracked backward.
    """

    def __init__(self, origin: int = 0) -> None:
        self._origin = origin
        self._rows: dict[int, _Row] = {}
        self._told: dict[int, list[Doubt]] = {}
        self._more: dict[int, int] = {}
        self._ends: tuple[int, int] | None = None  # first and last frame seen

    def see(
        self,
        frame: int,
        seconds: float,
        certainty: Mapping[int, float],
        given: Collection[int] = (),
    ) -> None:
        """Take a frame.

        Args:
            frame: its number.
            seconds: its time.
            certainty: of each object of which something can be said.
            given: ids whose mask was given in this frame, or which were dropped.
        """
        self._ends = (frame if self._ends is None else self._ends[0], frame)
        for object_id in given:
            if certainty.get(object_id, 1.0) >= DOUBTFUL:
                self._close(object_id)
        for object_id, value in certainty.items():
            row = self._rows.get(object_id)
            if value < DOUBTFUL and row is None:
                self._rows[object_id] = _Row((frame, seconds), (frame, seconds), value)
            elif value < DOUBTFUL and row is not None:
                row.last, row.least = (frame, seconds), min(row.least, value)
                row.low, row.sure = row.low + 1, 0
            elif row is not None:
                row.sure += 1
                if row.low < BEGIN or row.sure >= END:
                    self._close(object_id)

    def _close(self, object_id: int) -> None:
        row = self._rows.pop(object_id, None)
        if row is None or row.low < BEGIN:
            return
        told = self._told.setdefault(object_id, [])
        if len(told) < KEPT:
            told.append(self._doubt(object_id, row))
        else:
            self._more[object_id] = self._more.get(object_id, 0) + 1

    def _doubt(self, object_id: int, row: _Row) -> Doubt:
        assert self._ends is not None
        (first, began), (last, ended) = row.first, row.last
        least = round(row.least, 3)
        if last < self._origin:
            return Doubt(object_id, last, round(ended, 3), first, first == self._ends[0], least)
        return Doubt(object_id, first, round(began, 3), last, last == self._ends[1], least)

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """All so far, by object and frame."""
        found = [doubt for told in self._told.values() for doubt in told]
        found += [self._doubt(i, row) for i, row in self._rows.items() if row.low >= BEGIN]
        return tuple(sorted(found, key=lambda doubt: (doubt.object, doubt.frame)))

    def warnings(self) -> list[str]:
        """A line an object."""
        doubts, lines = self.doubts, []
        for object_id in sorted({doubt.object for doubt in doubts}):
            own = [doubt for doubt in doubts if doubt.object == object_id]
            text = ", ".join(self._told_of(doubt) for doubt in own[:TOLD])
            more = len(own) - TOLD + self._more.get(object_id, 0)
            text += f" and {more} times more" if more > 0 else ""
            lines.append(f"object {object_id}: doubtful {text}; look there")
        return lines

    @staticmethod
    def _told_of(doubt: Doubt) -> str:
        back = doubt.until < doubt.frame
        text = f"from frame {doubt.frame} ({clock(doubt.seconds)})"
        if doubt.open:
            return f"{text} {'backward' if back else 'on'}"
        return f"{text} {'back ' if back else ''}to {doubt.until}"


class AreaWatch:
    """Notes where an object vanishes, or where its area jumps from one frame to the next."""

    def __init__(self) -> None:
        self._recent: dict[int, deque[int]] = {}
        self._gone: dict[int, list[int]] = {}
        self._jumps: dict[int, list[tuple[int, float]]] = {}
        self._counts: dict[tuple[str, int], int] = {}

    def see(self, frame: int, areas: np.ndarray, given: Collection[int] = ()) -> None:
        """Take a frame.

        Args:
            frame: its number.
            areas: (256,) pixels of each id, 0 for background.
            given: ids whose mask was given in this frame, which may change at will.
        """
        least = LEAST * float(areas.sum())
        for object_id in {*np.flatnonzero(areas).tolist(), *self._recent} - {0}:
            area = int(areas[object_id])
            recent = self._recent.setdefault(object_id, deque(maxlen=RECENT))
            if object_id in given:
                recent.clear()
            usual = float(np.median(recent)) if recent else 0.0
            if area == 0:
                if recent:
                    self._note("gone", object_id)
                    self._first(self._gone.setdefault(object_id, []), frame)
                recent.clear()
                continue
            if usual and max(area, usual) >= least and not 1 / JUMP < area / usual < JUMP:
                self._note("jump", object_id)
                self._first(self._jumps.setdefault(object_id, []), (frame, area / usual))
                recent.clear()  # the new area is the usual one: one jump is told once
            recent.append(area)

    def _note(self, what: str, object_id: int) -> None:
        self._counts[what, object_id] = self._counts.get((what, object_id), 0) + 1

    @staticmethod
    def _first(kept: list, item: object) -> None:
        if len(kept) < KEPT:
            kept.append(item)

    def warnings(self, told: Callable[[int, int], bool] = lambda *_: False) -> list[str]:
        """What was seen, a line an object and sign.

        Args:
            told: whether an object's jump at a frame has been told otherwise.
        """
        lines = []
        for object_id, frames in sorted(self._gone.items()):
            where = ", ".join(map(str, frames[:TOLD]))
            more = self._more("gone", object_id, len(frames), len(frames))
            lines.append(f"object {object_id} vanishes at frame {where}{more}")
        for object_id, jumps in sorted(self._jumps.items()):
            left = [(frame, ratio) for frame, ratio in jumps if not told(object_id, frame)]
            if not left:
                continue
            where = ", ".join(f"{frame} (to {ratio:.2g} times)" for frame, ratio in left[:TOLD])
            more = self._more("jump", object_id, len(jumps), len(left))
            lines.append(f"object {object_id}: its area jumps at frame {where}{more}")
        return lines

    def _more(self, what: str, object_id: int, kept: int, left: int) -> str:
        more = self._counts[what, object_id] - kept + left - TOLD
        return f" and {more} times more" if more > 0 else ""
