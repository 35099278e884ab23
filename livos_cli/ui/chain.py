"""What each frame's result depends on, so that it is known which results are out of date.

Tracking goes forward from the first key mask, and from there back to the beginning, as
`livos segment --direction both` does. A frame's result depends on all key masks and ends of objects
up to it; the digest of those is the frame's link. Results are kept by link: a changed mask gives
all later frames another one, and undoing the change gives the old one back, with its results.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from livos_cli.errors import UsageError
from livos_cli.options import Drop

__all__ = ["Chain"]


@dataclass(frozen=True)
class Chain:
    """The links of all frames of a range.

    Attributes:
        origin: frame of the first key mask in the range.
        back: link of the frames before it.
        begins: frames at which a new link begins, in order; the first is the origin.
        links: of those.
        first: first frame of the range.
        end: the one after its last.
    """

    origin: int
    back: str
    begins: tuple[int, ...]
    links: tuple[str, ...]
    first: int
    end: int

    @classmethod
    def of(
        cls, inputs: str, keys: Mapping[int, str], drops: Sequence[Drop], limits: tuple[int, int]
    ) -> Chain:
        """Make one.

        Args:
            inputs: digest of video, weights and settings.
            keys: digest of each key mask, by frame.
            drops: where objects end.
            limits: first frame, and the one after the last.

        Raises:
            UsageError: no key mask is in the range.
        """
        first, end = limits
        inner = {frame: digest for frame, digest in keys.items() if first <= frame < end}
        if not inner:
            raise UsageError("there is no mask to track yet", "click an object first")
        origin = min(inner)
        before = sorted((d.frame, d.object_id) for d in drops if d.frame < origin)
        back = _digest([inputs, "back", origin, inner[origin], before])
        link, begins, links = inputs, [], []
        ends = {d.frame for d in drops if origin <= d.frame < end}
        for frame in sorted({*inner, *ends}):
            here = sorted(d.object_id for d in drops if d.frame == frame)
            link = _digest([link, frame, inner.get(frame), here])
            begins.append(frame)
            links.append(link)
        return cls(origin, back, tuple(begins), tuple(links), first, end)

    def at(self, frame: int) -> str:
        """The link of a frame."""
        place = bisect_right(self.begins, frame) - 1
        return self.back if place < 0 else self.links[place]

    def until(self, frame: int) -> int:
        """Where the next link after a frame's begins; the end, if there is none."""
        place = bisect_right(self.begins, frame)
        return self.begins[place] if place < len(self.begins) else self.end


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:20]
