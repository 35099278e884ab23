"""Hints of where an object is, and masks of what differs from an even backdrop.

What hints mean is found in `livos_cli.interactive.clicks`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import cv2
import numpy as np

from livos_cli.errors import InputError, UsageError

__all__ = [
    "Hints",
    "check_hints",
    "in_pixels",
    "is_even_backdrop",
    "parse_box",
    "parse_point",
    "parse_polygon",
    "pick_backdrop",
]

LEAST_PART = 0.08  # of the largest part: smaller ones are dropped

# An even backdrop: so much of the frame's border is so near its colour (Lab). Of 24 real scenes
# the evenest had 0.78, a green screen whose light falls off by a third 0.85.
EVEN_SHARE, EVEN_DISTANCE = 0.8, 16.0

Point = tuple[float, float]


@dataclass(frozen=True)
class Hints:
    """Where one object is, in pixels of the frame, x to the right and y down."""

    box: tuple[float, float, float, float] | None = None  # x0, y0, x1, y1
    polygon: tuple[Point, ...] = ()  # roughly around it
    inside: tuple[Point, ...] = ()  # points on it
    outside: tuple[Point, ...] = ()  # points that are not


def in_pixels(text: str, width: int, height: int) -> str:
    """Coordinates with percentages of a frame's size, as pixels: `50%,20` -> `320,20`."""
    parts = text.replace(",", " ").split()
    return ",".join(
        f"{float(part[:-1]) / 100 * (height if place % 2 else width):g}"
        if re.fullmatch(r"\d+(\.\d*)?%", part, re.ASCII)
        else part
        for place, part in enumerate(parts)
    )


def parse_box(text: str) -> tuple[float, float, float, float]:
    """Read `x0,y0,x1,y1`.

    Raises:
        UsageError: it is none.
    """
    x0, y0, x1, y1 = _numbers(text, 4, "--box", "100,50,300,200: left, top, right, bottom")
    if not (x0 < x1 and y0 < y1):
        raise UsageError(f"--box {text} is empty", "give left, top, right, bottom")
    return x0, y0, x1, y1


def parse_point(text: str) -> tuple[Point, bool]:
    """Read `x,y`, `x,y,+` (on the object) or `x,y,-` (not on it).

    Raises:
        UsageError: it is none.
    """
    on = not text.endswith(",-")
    x, y = _numbers(text.removesuffix(",-").removesuffix(",+"), 2, "--point", "200,120 or 9,9,-")
    return (x, y), on


def parse_polygon(text: str) -> tuple[Point, ...]:
    """Read `x,y,x,y,x,y…`, three corners or more.

    Raises:
        UsageError: it is none.
    """
    count = text.replace(" ", ",").count(",") + 1
    example = "10,10,90,10,90,80: x and y of three corners or more"
    if count < 6 or count % 2:
        raise UsageError(f"--polygon {text} is not a polygon", f"give it like {example}")
    values = _numbers(text.replace(" ", ","), count, "--polygon", example)
    return tuple(zip(values[::2], values[1::2], strict=True))


def _numbers(text: str, count: int, option: str, example: str) -> list[float]:
    try:
        values = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        values = []
    if len(values) != count or not np.isfinite(values).all():
        raise UsageError(f"{option} {text} cannot be read", f"give it like {example}")
    return values


def check_hints(hints: Hints, height: int, width: int, *, started: bool = False) -> None:
    """Raises UsageError unless hints say where an object is, within a frame of this size.

    Args:
        hints: of one object.
        height: of the frame, pixels.
        width: likewise.
        started: something was found before, so that a point that is not on it is enough.
    """
    if not started and hints.box is None and not hints.polygon and not hints.inside:
        raise UsageError("nothing says where the object is", "give --box, --polygon or --point")
    corners: list[Point] = [*hints.polygon, *hints.inside, *hints.outside]
    if hints.box is not None:
        x0, y0, x1, y1 = hints.box
        if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
            raise UsageError(f"--box lies outside of the frame of {width}x{height}", "check it")
    for x, y in corners:
        if not (0 <= x <= width and 0 <= y <= height):
            raise UsageError(
                f"{x:g},{y:g} lies outside of the frame of {width}x{height}", "check the point"
            )


def _tidy(found: np.ndarray) -> np.ndarray:
    """Drop specks and fill pinholes, of (H, W) uint8."""
    found = cv2.morphologyEx(found, cv2.MORPH_OPEN, _disc(1))
    found = cv2.morphologyEx(found, cv2.MORPH_CLOSE, _disc(2))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(found, connectivity=8)
    if count < 2:
        return found
    areas = stats[1:, cv2.CC_STAT_AREA]
    keep = [n + 1 for n in range(count - 1) if areas[n] >= LEAST_PART * areas.max()]
    return np.isin(labels, keep).astype(np.uint8)


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def pick_backdrop(rgb: np.ndarray, limit: float | None = None) -> np.ndarray:
    """Whatever differs from an even backdrop, such as a green screen or a white table.

    Args:
        rgb: (H, W, 3) uint8.
        limit: distance in Lab (0 to some 100) from the backdrop's colour, the median of the
            frame's border; None: by Otsu's method.

    Returns:
        (H, W) bool.

    Raises:
        InputError: nothing differs so much, or, without a limit, there is no even backdrop.
    """
    distance, border = _from_backdrop(rgb)
    if limit is None and not is_even_backdrop(rgb):
        near = float((border < EVEN_DISTANCE).mean())
        raise InputError(
            f"there is no even backdrop: {100 * near:.0f} % of the frame's border has one colour",
            "give --box around the object instead, or a number like --threshold 20",
        )
    if limit is None:
        scaled = np.minimum(distance * 2, 255).astype(np.uint8)
        limit = cv2.threshold(scaled, 0, 255, cv2.THRESH_OTSU)[0] / 2
    found = _tidy((distance > limit).astype(np.uint8))
    if not found.any():
        raise InputError(
            f"nothing differs from the backdrop by more than {limit:.3g}", "use a lower --threshold"
        )
    return found > 0


def is_even_backdrop(rgb: np.ndarray) -> bool:
    """Whether the border of a frame, (H, W, 3) uint8, is nearly all of one colour."""
    return bool((_from_backdrop(rgb)[1] < EVEN_DISTANCE).mean() >= EVEN_SHARE)


def _from_backdrop(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance in Lab from the border's median colour: (H, W), and of the border's pixels."""
    lab = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    rim = max(1, min(rgb.shape[:2]) // 50)

    def border(image: np.ndarray) -> np.ndarray:
        sides = [image[:rim], image[-rim:], image[:, :rim], image[:, -rim:]]
        return np.concatenate([side.reshape(-1, *image.shape[2:]) for side in sides])

    distance = np.sqrt(((lab - np.median(border(lab), axis=0)) ** 2).sum(axis=2))
    return distance, border(distance)
