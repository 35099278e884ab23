"""A frame with a grid of its coordinates, to read boxes and points off it."""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["draw_grid"]

LEAST_SIDE = 720  # pixels of the picture's shorter side: smaller frames are enlarged
LINES = 8  # about so many across the shorter side
FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_grid(rgb: np.ndarray) -> np.ndarray:
    """Lines with the numbers of their pixels, x along the top and y down the left side.

    Args:
        rgb: (H, W, 3) uint8; not changed.

    Returns:
        The same, or enlarged by a whole number where it is small; numbers are the frame's own.
    """
    height, width = rgb.shape[:2]
    factor = max(1, -(-LEAST_SIDE // min(height, width)))
    size = width * factor, height * factor
    drawn = cv2.resize(rgb, size, interpolation=cv2.INTER_CUBIC) if factor > 1 else rgb.copy()
    step = _round_step(min(height, width) / LINES)
    scale = max(0.45, min(size) / 1600)
    stroke = max(1, round(scale * 1.6))
    for line in range(step, max(width, height), step):
        at = line * factor
        if line < width:
            _line(drawn, (at, 0), (at, size[1] - 1), stroke)
        if line < height:
            _line(drawn, (0, at), (size[0] - 1, at), stroke)
    for line in range(0, max(width, height), step):
        if line < width:
            _number(drawn, str(line), (line * factor, 0), scale, stroke)
        if 0 < line < height:
            _number(drawn, str(line), (0, line * factor), scale, stroke)
    return drawn


def _round_step(wanted: float) -> int:
    """The nearest of 1, 2, 5, 10, 20, 50, …"""
    steps = [base * 10**power for power in range(5) for base in (1, 2, 5)]
    return min(steps, key=lambda step: abs(step - wanted))


def _line(image: np.ndarray, one: tuple[int, int], other: tuple[int, int], stroke: int) -> None:
    """Light beside dark, so that it shows on any ground."""
    cv2.line(image, one, other, (0, 0, 0), stroke + 1, cv2.LINE_4)
    cv2.line(image, one, other, (255, 255, 255), stroke, cv2.LINE_4)


def _number(image: np.ndarray, text: str, at: tuple[int, int], scale: float, stroke: int) -> None:
    """Black on white, right of and below a place."""
    (wide, tall), below = cv2.getTextSize(text, FONT, scale, stroke)
    x = min(at[0] + 3, image.shape[1] - wide - 4)
    y = min(at[1] + 3, image.shape[0] - tall - below - 4)
    corner = x + wide + 3, y + tall + below + 2
    cv2.rectangle(image, (x, y), corner, (255, 255, 255), cv2.FILLED)
    cv2.putText(image, text, (x + 1, y + tall + 2), FONT, scale, (0, 0, 0), stroke, cv2.LINE_AA)
