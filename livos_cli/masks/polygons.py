"""Outlines of masks as polygons, in pixel coordinates."""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["MOST_CORNERS", "Part", "keyhole", "parts_of", "within"]

Part = tuple[np.ndarray, list[np.ndarray]]  # outline and holes, each (K, 2) int32 x, y
# Of one object in one frame; real masks have some hundreds. Noise has hundreds of thousands, which
# no tool takes, and which would take hours: the time of `keyhole` goes with their square.
MOST_CORNERS = 10_000


def parts_of(mask: np.ndarray) -> list[Part]:
    """The connected parts of a mask and the holes in each.

    Vertices are centres of pixels of the object, as OpenCV gives them: filling a part with its
    border (cv2.fillPoly) gives its pixels again.

    Args:
        mask: (H, W) bool or uint8.

    Returns:
        Largest first.
    """
    found, tree = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not found:
        return []
    parts: dict[int, Part] = {}
    for index, (contour, (_, _, _, parent)) in enumerate(zip(found, tree[0], strict=True)):
        if parent < 0:
            parts[index] = (contour[:, 0], [])
    for contour, (_, _, _, parent) in zip(found, tree[0], strict=True):
        if parent >= 0:
            parts[parent][1].append(contour[:, 0])
    return sorted(parts.values(), key=lambda part: -cv2.contourArea(part[0]))


def within(parts: list[Part], most: int = MOST_CORNERS) -> tuple[list[Part], int]:
    """As much of an object's outlines as may be written.

    Args:
        parts: as `parts_of` gives them, largest first.
        most: corners of all of them, at most.

    Returns:
        Parts with their largest holes, and how many outlines and holes had to be left out or be
        drawn with fewer corners.
    """
    loops = [
        (cv2.contourArea(loop), part, loop)
        for part, (outline, holes) in enumerate(parts)
        for loop in (outline, *holes)
    ]
    if sum(len(loop) for *_, loop in loops) <= most:
        return parts, 0
    kept: dict[int, Part] = {}
    left, lost = most, 0
    # Largest first, which of a part is its outline.
    for _, part, loop in sorted(loops, key=lambda one: -one[0]):
        is_outline = loop is parts[part][0]
        if is_outline and not kept and len(loop) > left:
            loop, lost = _simplified(loop, left), lost + 1
        if len(loop) > left or not (is_outline or part in kept):
            lost += 1
            continue
        left -= len(loop)
        if is_outline:
            kept[part] = (loop, [])
        else:
            kept[part][1].append(loop)
    return list(kept.values()), lost


def _simplified(outline: np.ndarray, most: int) -> np.ndarray:
    """An outline with no more corners than that, as near to it as that allows."""
    reach = 1.0
    while len(fewer := cv2.approxPolyDP(outline, reach, True)[:, 0]) > most:
        reach *= 1.5
    return fewer


def keyhole(part: Part) -> np.ndarray:
    """One closed line for a part with holes: each hole is entered and left by the same bridge.

    Formats that know outlines only, such as YOLO's, can then carry holes: the bridge lies on the
    object, from each hole to the nearest vertex that is joined already, and filling with the
    even-odd rule leaves the holes open. The holes join nearest first (Prim's algorithm), so that
    no bridge crosses another hole; the time goes with the square of the number of vertices.

    Returns:
        (K, 2) int32 x, y.
    """
    loops = [part[0], *part[1]]
    order, joins = _bridges(loops)
    # From the last that joined to the first: what joins a loop is whole before the loop is.
    branches: dict[int, dict[int, list[np.ndarray]]] = {n: {} for n in order}
    for chosen in reversed(order):
        parent, at, start = joins[chosen]
        loop, joined = loops[chosen], branches.pop(chosen)
        pieces = []
        for vertex in np.roll(np.arange(len(loop)), -start).tolist():
            here = loop[vertex : vertex + 1]
            pieces.append(here)
            for branch in joined.get(vertex, ()):
                pieces += [branch, here]
        if chosen == 0:
            return np.concatenate(pieces)
        pieces.append(loop[start : start + 1])
        branches[parent].setdefault(at, []).append(np.concatenate(pieces))
    raise AssertionError("the outline is the first of all loops")


def _bridges(loops: list[np.ndarray]) -> tuple[list[int], dict[int, tuple[int, int, int]]]:
    """In which order loops join the first; where: loop and vertex joined, and own vertex."""
    # Of each vertex of the holes: its place, its loop, and the nearest vertex joined so far.
    points = np.concatenate(loops).astype(np.float32)
    sizes = np.array([len(loop) for loop in loops])
    owner = np.repeat(np.arange(len(loops)), sizes)
    number = np.arange(len(points)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    square = np.full(len(points), np.inf, np.float32)
    nearest = np.zeros((len(points), 2), np.int64)
    order, joins = [0], {0: (0, 0, 0)}
    outside = np.ones(len(loops), bool)
    while True:
        square[owner == order[-1]] = np.inf
        outside[order[-1]] = False
        waiting = np.flatnonzero(outside[owner])
        if not len(waiting):
            return order, joins
        joined = loops[order[-1]].astype(np.float32)
        for first in range(0, len(joined), 256):  # bounded, however long the outlines
            some = joined[first : first + 256]
            distance = (some[:, None, 0] - points[waiting, 0]) ** 2
            distance += (some[:, None, 1] - points[waiting, 1]) ** 2
            at = distance.argmin(axis=0)
            least = distance[at, np.arange(len(waiting))]
            better = least < square[waiting]
            square[waiting[better]] = least[better]
            nearest[waiting[better], 0] = order[-1]
            nearest[waiting[better], 1] = first + at[better]
        chosen = waiting[square[waiting].argmin()]
        order.append(int(owner[chosen]))
        parent, vertex = nearest[chosen].tolist()
        joins[order[-1]] = (parent, vertex, int(number[chosen]))
