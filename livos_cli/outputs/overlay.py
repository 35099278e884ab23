"""Objects drawn over their frame: tint, outline, label."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from livos_cli.masks.palette import palette_of
from livos_cli.options import Look

__all__ = ["draw_overlay"]

DEFAULT_LOOK = Look()


def draw_overlay(
    rgb: np.ndarray,
    ids: np.ndarray,
    look: Look = DEFAULT_LOOK,
    names: Mapping[int, str] | None = None,
) -> np.ndarray:
    """Tint, outline and label each object.

    Args:
        rgb: (H, W, 3) uint8 or uint16; not changed.
        ids: (H, W) uint8, 0 for background.
        look: colours, opacity, outline, labels.
        names: what labels say in place of an id.

    Returns:
        Like `rgb`.
    """
    on = ids > 0
    if not on.any():
        return rgb
    scale = 257 if rgb.dtype == np.uint16 else 1
    palette = palette_of(look.palette).astype(rgb.dtype) * rgb.dtype.type(scale)
    rows, columns = np.flatnonzero(on.any(axis=1)), np.flatnonzero(on.any(axis=0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    part, own, inside = rgb[box], ids[box], on[box]
    colours = palette[own]
    drawn = cv2.addWeighted(part, 1 - look.opacity, colours, look.opacity, 0)
    drawn = np.where(inside[..., None], drawn, part)
    thickness = max(1, round(min(ids.shape) / 360)) if look.outline is None else look.outline
    if thickness:
        kernel = np.ones((2 * thickness + 1, 2 * thickness + 1), np.uint8)
        # An outline lies inside its object, so neighbours keep their own. What lies around the
        # box tells where the object ends; beyond the frame it goes on.
        padded = np.pad(ids, thickness, mode="edge")[
            box[0].start : box[0].stop + 2 * thickness, box[1].start : box[1].stop + 2 * thickness
        ]
        gradient = cv2.morphologyEx(padded, cv2.MORPH_GRADIENT, kernel)
        edge = (gradient[thickness:-thickness, thickness:-thickness] > 0) & inside
        light = np.minimum(colours.astype(np.uint32) + 96 * scale, 255 * scale).astype(rgb.dtype)
        drawn = np.where(edge[..., None], light, drawn)
    out = rgb.copy()
    out[box] = drawn
    if look.labels:
        _label(out, ids, palette, names or {})
    return out


def _label(
    image: np.ndarray, ids: np.ndarray, palette: np.ndarray, names: Mapping[int, str]
) -> None:
    """Write each object's name or id at the top of it, dark on its colour, inside the picture."""
    height, width = ids.shape
    size = max(0.4, min(height, width) / 900)
    stroke = max(1, round(size * 1.5))
    font = cv2.FONT_HERSHEY_SIMPLEX
    top = np.iinfo(image.dtype).max
    for object_id in np.flatnonzero(np.bincount(ids.ravel(), minlength=256)):
        if object_id == 0:
            continue
        left, upper, wide, _ = cv2.boundingRect((ids == object_id).view(np.uint8))
        text = names.get(int(object_id), str(object_id))
        (w, h), below = cv2.getTextSize(text, font, size, stroke)
        x = int(np.clip(left + (wide - w) // 2, 0, max(0, width - w - 4)))
        y = int(np.clip(upper - below - 2, h + 4, height - below - 2))
        colour = tuple(int(c) for c in palette[object_id])
        cv2.rectangle(image, (x, y - h - 4), (x + w + 4, y + below), colour, cv2.FILLED)
        bright = sum(colour) > 1.2 * top
        ink = (0, 0, 0) if bright else (int(top),) * 3
        cv2.putText(image, text, (x + 2, y - 1), font, size, ink, stroke, cv2.LINE_8)
