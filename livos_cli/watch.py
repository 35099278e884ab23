"""Signs that a run goes wrong, from the objects' areas alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

import numpy as np

__all__ = ["AreaWatch"]

RECENT = 8  # frames whose median area is the usual one
JUMP = 2.5  # times the usual area, either way
LEAST = 1e-3  # of the picture: smaller areas jump for no reason
TOLD = 5  # frames that a warning names


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
    def _first(told: list, item: object) -> None:
        if len(told) < TOLD:
            told.append(item)

    def warnings(self) -> list[str]:
        """What was seen, a line an object and sign."""
        lines = []
        for object_id, frames in sorted(self._gone.items()):
            where = ", ".join(map(str, frames))
            lines.append(
                f"object {object_id} vanishes at frame {where}{self._more('gone', object_id)}"
            )
        for object_id, jumps in sorted(self._jumps.items()):
            where = ", ".join(f"{frame} (to {ratio:.2g} times)" for frame, ratio in jumps)
            lines.append(
                f"object {object_id}: its area jumps at frame {where}"
                f"{self._more('jump', object_id)}"
            )
        return lines

    def _more(self, what: str, object_id: int) -> str:
        more = self._counts[what, object_id] - TOLD
        return f" and {more} times more" if more > 0 else ""
