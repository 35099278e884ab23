"""What is particular to masks in grey: numbers that are no ids yet, mattes, borders of 255."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from livos_cli.errors import InputError
from livos_cli.masks.picture_tests import is_photograph
from livos_cli.masks.soft_edges import scattered, specks_of

__all__ = ["as_integers", "has_void_borders", "inside_matte", "tell_specks"]

FAINT_AREAS = 8  # so many dark areas in a soft matte are objects
VOID = 255
VOID_WIDTH = 4  # pixels to each side of the middle of a border that is void


def as_integers(values: np.ndarray, path: Path) -> np.ndarray:
    """(H, W) int64. A matte of 0 to 1 becomes one of 0 to 255.

    Raises:
        InputError: values that no mask has.
    """
    if values.dtype.kind in "ui":
        values = values.astype(np.int64)
    elif not np.isfinite(values).all():
        raise InputError(f"the mask {path} holds values that are no numbers", "set them to 0")
    elif (values == np.round(values)).all() and np.abs(values).max(initial=0) < 1 << 31:
        values = values.astype(np.int64)
    elif values.min() >= 0 and values.max() <= 1:
        return np.round(values * 255).astype(np.int64)
    else:
        raise InputError(
            f"the mask {path} holds fractions up to {values.max():g}: neither ids nor a matte of "
            "0 to 1",
            "save the ids as whole numbers",
        )
    if (lowest := int(values.min(initial=0))) < 0:
        raise InputError(f"the mask {path} holds the value {lowest}", "object ids are 1 to 255")
    return values


def inside_matte(
    values: np.ndarray, top: int, path: Path, note: Callable[[str], None]
) -> np.ndarray:
    """What is more than half there, (H, W) bool.

    Raises:
        InputError: it is grey all over; or there are many areas that never come near to
            half: other objects, no edges.
    """
    if is_photograph(values, top):
        raise InputError(
            f"the mask {path} has grey levels all over: it looks like a picture, not a mask",
            "paint the object white on black, or each object in a value of its own",
        )
    inside = values * 2 > top
    count, labels = cv2.connectedComponents((values > 0.1 * top).astype(np.uint8))
    sizes = np.bincount(labels.ravel(), minlength=count)
    sizes[labels[inside]] = 0
    faint = np.flatnonzero(sizes[1:] >= 4)
    if len(faint) >= FAINT_AREAS:
        raise InputError(
            f"the mask {path} has soft greys, and {len(faint)} areas that are darker than "
            "the rest: neither ids nor a soft matte of one object",
            "paint each object in one flat value, and save it as PNG, never as JPEG on the way",
        )
    if len(faint):
        note(
            f"the mask {path}: {len(faint)} areas that are less than half as bright as "
            "the brightest are taken for background"
        )
    return np.asarray(inside)


def tell_specks(values: np.ndarray, path: Path, note: Callable[[str], None]) -> None:
    """Say which values are but lines between two others, or specks: edges made soft, noise."""
    specks = specks_of(values)
    thin = [int(v) for v in np.setdiff1d(values[specks], values[~specks]) if v]
    if many := scattered(values, thin, 3):
        shown = ", ".join(map(str, many[:5])) + (", …" if len(many) > 5 else "")
        which = f"value {shown} is" if len(many) == 1 else f"values {shown} are"
        note(f"the mask {path}: {which} specks in many places; is it noise?")
    for value in sorted(set(thin) - set(many)):
        area = (values == value).astype(np.uint8)
        around = np.unique(values[cv2.dilate(area, np.ones((3, 3), np.uint8)) > 0])
        if area.sum() > 4 and around[0] < value < around[-1]:
            note(
                f"the mask {path}: value {value} is a line of one pixel between "
                f"{around[0]} and {around[-1]}; it is taken for object {value}"
            )


def has_void_borders(ids: np.ndarray) -> bool:
    """Whether 255 is but thin borders around other objects, as Pascal VOC and labelme draw them."""
    void = ids == VOID
    others = (ids > 0) & ~void
    if not void.any() or not others.any():
        return False
    depth = cv2.distanceTransform(np.pad(void, 1).astype(np.uint8), cv2.DIST_L2, 5)
    size = 2 * VOID_WIDTH + 1
    beside = cv2.dilate(others.astype(np.uint8), np.ones((size, size), np.uint8)) > 0
    thin, among_objects = depth.max() <= VOID_WIDTH, (beside & void).sum() >= 0.9 * void.sum()
    return bool(thin and among_objects)
