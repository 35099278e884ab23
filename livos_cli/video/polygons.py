"""Outlines of masks as polygons, in pixel coordinates."""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["Part", "keyhole", "parts_of"]

Part = tuple[np.ndarray, list[np.ndarray]]  # outline and holes, each (K, 2) int32 x, y


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


def keyhole(part: Part) -> np.ndarray:
    """One closed line for a part with holes: each hole is entered and left by the same bridge.

    Formats that know outlines only, such as YOLO's, can then carry holes: the bridge lies on the
    object, from each hole to the nearest vertex outside of it, and filling with the even-odd
    rule leaves the holes open.

    Returns:
        (K, 2) int32 x, y.
    """
    outline, holes = part
    line = outline
    waiting = list(holes)
    while waiting:
        # The hole nearest to the line so far, so that no bridge crosses another hole.
        best = min(
            ((*_nearest(line, hole), number) for number, hole in enumerate(waiting)),
            key=lambda found: found[0],
        )
        _, at, start, number = best
        hole = waiting.pop(number)
        loop = np.roll(hole, -start, axis=0)
        line = np.concatenate([line[: at + 1], loop, loop[:1], line[at:]])
    return line


def _nearest(line: np.ndarray, hole: np.ndarray) -> tuple[int, int, int]:
    """Squared distance and indices of the two vertices that are nearest to each other."""
    best = (1 << 62, 0, 0)
    for start in range(0, len(line), 1024):  # bounded, however long the outlines
        some = line[start : start + 1024].astype(np.int64)
        square = ((some[:, None] - hole[None].astype(np.int64)) ** 2).sum(axis=2)
        at, other = np.unravel_index(int(square.argmin()), square.shape)
        best = min(best, (int(square[at, other]), start + int(at), int(other)))
    return best
