"""Which pixels of a painted mask are soft edges, and to which side of the edge they go.

What is told apart, by neighbourhood and never by size alone:

- *firm* pixels lie in a square of 2 by 2 of one value, or hang on such a square in that value;
- *soft* ones do not. Where they lie in lines of several values, each between the values around it,
  they are antialiasing. Where they do not, they are small objects, thin lines, specks: kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import cv2
import numpy as np

__all__ = [
    "SAME",
    "Settled",
    "distinct_of",
    "firm_squares",
    "merge_noise",
    "noise_share",
    "noisy_levels",
    "scattered",
    "settle",
    "specks_of",
]

RAMP = 3  # so many values along edges are antialiasing
OVERSHOOT = 0.12  # how far past both ends sharp resizing takes an edge, of its step
BETWEEN = 0.6  # share of a line's pixels that must lie between their neighbours
FAINT = 0.25  # a dot less than so far on the way to another value is a value of its own
REACH = (2, 4, 8)  # pixels within which the two sides of an edge are looked for
AT_ONCE = 1 << 16  # pixels whose neighbours are looked at together, to bound memory
NEAR = 24.0  # RGB distance of what JPEG noise makes of one colour
SAME = 48.0  # RGB distance within which noise of JPEG leaves a colour
OTHER = 80.0  # RGB distance from which a part of an area is none of its noise
DEEP = 6.0  # pixels from the nearest flat area where nothing is told any more


@dataclass(frozen=True)
class Settled:
    """Values with the soft edges decided."""

    values: np.ndarray  # (H, W) int64
    softened: int  # pixels that were edges
    levels: int  # distinct values that they had


def firm_squares(values: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels in a 2 by 2 square of one value."""
    same = (
        (values[1:, 1:] == values[:-1, 1:])
        & (values[1:, 1:] == values[1:, :-1])
        & (values[1:, 1:] == values[:-1, :-1])
    )
    firm = np.zeros(values.shape, bool)
    for y in (slice(None, -1), slice(1, None)):
        for x in (slice(None, -1), slice(1, None)):
            firm[y, x] |= same
    return firm


def settle(values: np.ndarray, *, colour: bool, tolerance: float) -> Settled:
    """Give every pixel of a soft edge the value of one side.

    Args:
        values: (H, W) int64; of colours 0xRRGGBB.
        colour: whether they are colours.
        tolerance: how far from the line between two values one still lies between them.
    """
    firm = firm_squares(values)
    _grow(values, firm)
    where = np.argwhere(~firm)
    if not len(where):
        return Settled(values, 0, 0)
    edges = _Edges(values, firm, where, colour=colour, tolerance=tolerance)
    soft = edges.find()
    levels = len(np.unique(values[tuple(where[soft].T)]))
    if levels < RAMP:
        return Settled(values, 0, levels)
    return Settled(edges.decide(soft), int(soft.sum()), levels)


def distinct_of(values: np.ndarray) -> np.ndarray:
    """Like numpy.unique of values from 0 on, in a tenth of the time for colours."""
    if values.size < 1 << 16 or not 0 <= values.min() <= values.max() < 1 << 24:
        return np.unique(values)
    seen = np.zeros(1 << 24, bool)
    seen[values] = True
    return np.flatnonzero(seen)


def specks_of(values: np.ndarray) -> np.ndarray:
    """(H, W) bool: single pixels and thin lines, whose value no 2 by 2 square near them has."""
    firm = firm_squares(values)
    _grow(values, firm)
    return ~firm


def _grow(values: np.ndarray, firm: np.ndarray) -> None:
    """Make pixels firm that hang on firm ones of their value, in place."""
    where = np.argwhere(~firm)
    padded, known = np.pad(values, 1, constant_values=-1), np.pad(firm, 1)
    while len(where):
        y, x = where.T + 1
        hangs = np.zeros(len(where), bool)
        for dy, dx in _around(1):
            hangs |= known[y + dy, x + dx] & (padded[y + dy, x + dx] == padded[y, x])
        if not hangs.any():
            break
        known[y[hangs], x[hangs]] = True
        where = where[~hangs]
    firm[:] = known[1:-1, 1:-1]


def _around(reach: int) -> list[tuple[int, int]]:
    """Offsets of the neighbours within a square, the nearest first."""
    steps = range(-reach, reach + 1)
    return sorted(
        ((y, x) for y in steps for x in steps if y or x), key=lambda o: o[0] ** 2 + o[1] ** 2
    )


def _vectors(values: np.ndarray, *, colour: bool) -> np.ndarray:
    """(..., C) float32 of codes (...): one number, or red, green, blue."""
    if not colour:
        return np.asarray(values[..., None], np.float32)
    return np.stack([values >> 16 & 255, values >> 8 & 255, values & 255], -1).astype(np.float32)


class _Edges:
    """The pixels of one mask that are not firm."""

    def __init__(
        self,
        values: np.ndarray,
        firm: np.ndarray,
        where: np.ndarray,
        *,
        colour: bool,
        tolerance: float,
    ) -> None:
        self._values, self._firm, self._where = values, firm, where
        self._colour, self._tolerance = colour, tolerance
        self._between = np.concatenate([self._between_neighbours(part) for part in self._parts()])

    def _parts(self) -> Iterator[np.ndarray]:
        for begin in range(0, len(self._where), AT_ONCE):
            yield self._where[begin : begin + AT_ONCE]

    def _code(self, values: np.ndarray) -> np.ndarray:
        return _vectors(values, colour=self._colour)

    def _between_neighbours(self, where: np.ndarray) -> np.ndarray:
        """Whether each pixel lies on the line between two of its eight neighbours."""
        height, width = self._values.shape
        own = self._code(self._values[tuple(where.T)])
        sides = []
        for dy, dx in _around(1):
            y = np.clip(where[:, 0] + dy, 0, height - 1)
            x = np.clip(where[:, 1] + dx, 0, width - 1)
            sides.append(self._code(self._values[y, x]))
        found = np.zeros(len(where), bool)
        for one, other in combinations(sides, 2):
            share, off = _along(own, one, other)
            near = (share > -OVERSHOOT) & (share < 1 + OVERSHOOT)
            found |= near & (share != 0) & (share != 1) & (off <= self._tolerance)
        return found

    @cached_property
    def _firm_values(self) -> np.ndarray:
        return distinct_of(self._values[self._firm])

    def find(self) -> np.ndarray:
        """(N,) bool: which are antialiasing."""
        mask = np.zeros(self._values.shape, np.uint8)
        mask[tuple(self._where.T)] = 1
        count, labels = cv2.connectedComponents(mask, connectivity=8)
        label = labels[tuple(self._where.T)]
        size = np.bincount(label, minlength=count)
        between = np.bincount(label, self._between, minlength=count)
        own = self._values[tuple(self._where.T)]
        pairs = np.unique(np.stack([label.astype(np.int64), own], 1), axis=0)
        levels = np.bincount(pairs[:, 0], minlength=count)
        lines = (levels > 1) & (between >= BETWEEN * size)
        ramp = lines[label]
        # Ids that are areas elsewhere are no proof: ragged areas lie between others by chance.
        levels_only = np.setdiff1d(own[ramp & self._between], self._firm_values)
        if len(levels_only) < RAMP:
            return np.zeros(len(own), bool)
        # Where there is antialiasing, short pieces of it have one value; what does not lie
        # between its neighbours is looked at one by one.
        return ramp | (between == size)[label]

    def decide(self, soft: np.ndarray) -> np.ndarray:
        """All values, with the soft ones on one side."""
        values, known = self._values.copy(), self._firm.copy()
        known[tuple(self._where[~soft].T)] = True
        tips = soft & ~self._between
        for y, x in self._where[tips]:
            values[y, x] = self._tip(int(y), int(x))
            known[y, x] = True
        left = self._where[soft & self._between]
        for reach in REACH:
            if not len(left):
                break
            done = []
            for begin in range(0, len(left), AT_ONCE):
                part = left[begin : begin + AT_ONCE]
                side, sure = self._sides(values, known, part, reach)
                values[tuple(part[sure].T)] = side[sure]
                done.append(sure)
            left = left[~np.concatenate(done)]
        known[tuple(self._where[soft].T)] = True
        known[tuple(left.T)] = False
        return _nearest(values, known) if len(left) else values

    def _tip(self, y: int, x: int) -> int:
        """What a pixel is that ends a ramp: where more than two areas meet, or a dot's middle."""
        own = self._code(self._values[y, x])
        top, left = max(0, y - 2), max(0, x - 2)
        near = self._values[top : y + 3, left : x + 3]
        firm = np.unique(near[self._firm[top : y + 3, left : x + 3]])
        if not len(firm):
            return int(self._values[y, x])
        sides = self._code(firm)
        inside = (own >= sides.min(0) - 8).all() and (own <= sides.max(0) + 8).all()
        nearest = int(np.argmin(((sides - own) ** 2).sum(1)))
        if len(firm) > 1 and inside:
            return int(firm[nearest])
        # A dot of a colour that is elsewhere in pure form, but too small to show it so.
        others = self._firm_values
        share, off = _along(own[None], sides[nearest][None], self._code(others))
        able = (share >= FAINT) & (share < 1) & (off <= 2 * self._tolerance)
        if able.any():
            return int(others[able][np.argmax(share[able])])
        return int(self._values[y, x])

    def _sides(
        self, values: np.ndarray, known: np.ndarray, where: np.ndarray, reach: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The side that each pixel belongs to, and whether both sides were found."""
        height, width = values.shape
        own = self._code(self._values[tuple(where.T)])
        first = np.full(len(where), -1, np.int64)
        side, sure = first.copy(), np.zeros(len(where), bool)
        for dy, dx in _around(reach):
            y, x = where[:, 0] + dy, where[:, 1] + dx
            there = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
            there &= known[y, x]
            value = values[y, x]
            new = there & (first < 0)
            first[new] = value[new]
            test = there & ~sure & (value != first)
            share, off = _along(own, self._code(first), self._code(value))
            fits = test & (share >= 0) & (share <= 1) & (off <= 2 * self._tolerance + 1)
            side[fits] = np.where(share > 0.5, value, first)[fits]
            sure |= fits
        return side, sure


def _along(own: np.ndarray, one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far on the way from one value to another each lies, and how far off that line.

    All (N, C); of ends that are equal the share is -1.
    """
    way, rest = other - one, own - one
    square = (way * way).sum(-1)
    share = (way * rest).sum(-1) / np.maximum(square, 1e-9)
    off = np.sqrt(((rest - share[:, None] * way) ** 2).sum(-1))
    return np.where(square > 0, share, -1.0), off


def _nearest(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Give every pixel that is not known the value of the nearest one that is."""
    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    value_of = np.zeros(labels.max() + 1, np.int64)
    value_of[labels[known]] = values[known]
    return value_of[labels]


def noise_share(packed: np.ndarray) -> float:
    """Of neighbours that differ in colour, the share that differs little: much of it is noise."""
    code = _vectors(packed, colour=True)
    differ = near = 0
    for one, other in ((code[1:], code[:-1]), (code[:, 1:], code[:, :-1])):
        distance = np.sqrt(((one - other) ** 2).sum(-1))
        differ += int((distance > 0).sum())
        near += int(((distance > 0) & (distance <= NEAR)).sum())
    return near / max(differ, 1)


def noisy_levels(values: np.ndarray) -> int:
    """How many greys are rare, in pieces, and close to one that is not: what JPEG scatters."""
    distinct, counts = np.unique(values, return_counts=True)
    main = distinct[counts >= 0.02 * values.size]
    rare = distinct[counts < 0.005 * values.size]
    if len(rare) < 8 or not len(main):
        return 0
    rare = rare[np.abs(rare[:, None] - main).min(1) <= 12]
    return len(scattered(values, rare.tolist(), 3))


def scattered(values: np.ndarray, wanted: list[int], pieces: int) -> list[int]:
    """Those of the values wanted that are in so many pieces."""
    found = []
    for value in wanted:
        y, x = np.nonzero(values == value)
        if len(y) < pieces:
            continue
        box = values[y.min() : y.max() + 1, x.min() : x.max() + 1] == value
        if cv2.connectedComponents(box.astype(np.uint8), connectivity=8)[0] > pieces:
            found.append(value)
    return found


def merge_noise(packed: np.ndarray, most: int, same: float = SAME) -> np.ndarray | None:
    """Take colours that are nearly one for one, as JPEG and dithering scatter them.

    Args:
        packed: (H, W) int64 0xRRGGBB.
        most: colours that may be left.
        same: RGB distance within which colours are taken for one.

    Returns:
        The same with few flat colours; None if they cannot be told, or something would be lost.
    """
    distinct = distinct_of(packed)
    inverse = np.searchsorted(distinct, packed)
    counts = np.bincount(inverse.ravel(), minlength=len(distinct))
    code = _vectors(distinct, colour=True)
    centre = np.full(len(distinct), -1)
    for i in np.argsort(-counts, kind="stable"):
        if centre[i] >= 0:
            continue
        close = np.sqrt(((code - code[i]) ** 2).sum(1)) <= same
        centre[close & (centre < 0)] = i
    merged = centre[inverse]
    if len(np.unique(centre)) > 4 * most:
        return None
    # Bands along the borders, which the smearing of colour makes, are thin; areas are not.
    square = np.ones((3, 3), np.uint8)
    thick = np.zeros(packed.shape, bool)
    for i in np.unique(centre):
        area = (merged == i).astype(np.uint8)
        thick |= (cv2.dilate(cv2.erode(area, square, borderValue=1), square) & area) > 0
    if not thick.any():
        return None
    depth = cv2.distanceTransform((~thick).astype(np.uint8), cv2.DIST_L2, 5)
    flat = _nearest(distinct[merged], thick)
    if depth.max() > DEEP or len(distinct_of(flat)) > most:
        return None
    away = np.sqrt(((code[inverse] - _vectors(flat, colour=True)) ** 2).sum(-1)) > OTHER
    return None if (away & ~_near_borders(flat, 3)).any() else flat


def _near_borders(values: np.ndarray, reach: int) -> np.ndarray:
    """(H, W) bool: pixels with another value within reach."""
    code = values.astype(np.float64)
    square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    return np.asarray(cv2.dilate(code, square) != cv2.erode(code, square))
