"""Objects drawn over their frame: a tint in the DAVIS palette and an outline."""

from __future__ import annotations

import cv2
import numpy as np

from livos_cli.video.palette import DAVIS_PALETTE

__all__ = ["draw_overlay"]


def draw_overlay(rgb: np.ndarray, ids: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """Tint and outline each object.

    Args:
        rgb: (H, W, 3) uint8; not changed.
        ids: (H, W) uint8, 0 for background.
        opacity: of the tint, 0 to 1.

    Returns:
        (H, W, 3) uint8.
    """
    on = ids > 0
    if not on.any():
        return rgb
    rows, columns = np.flatnonzero(on.any(axis=1)), np.flatnonzero(on.any(axis=0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    part, own, inside = rgb[box], ids[box], on[box]
    colours = DAVIS_PALETTE[own]
    blended = cv2.addWeighted(part, 1 - opacity, colours, opacity, 0)
    thickness = max(1, round(min(ids.shape) / 360))
    kernel = np.ones((2 * thickness + 1, 2 * thickness + 1), np.uint8)
    # An outline lies inside its object, so neighbours keep their own.
    padded = np.pad(own, thickness, mode="edge")
    gradient = cv2.morphologyEx(padded, cv2.MORPH_GRADIENT, kernel)
    edge = (gradient[thickness:-thickness, thickness:-thickness] > 0) & inside
    light = np.minimum(colours.astype(np.uint16) + 96, 255).astype(np.uint8)
    out = rgb.copy()
    drawn = np.where(inside[..., None], blended, part)
    out[box] = np.where(edge[..., None], light, drawn)
    return out
