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
    left, top, width, height = cv2.boundingRect(ids)
    if not width:
        return rgb
    scale = 257 if rgb.dtype == np.uint16 else 1
    palette = palette_of(look.palette).astype(rgb.dtype) * rgb.dtype.type(scale)
    box = slice(top, top + height), slice(left, left + width)
    own = np.ascontiguousarray(ids[box])
    inside = _on(own)
    out = rgb.copy()
    drawn = np.ascontiguousarray(out[box])
    tinted = cv2.addWeighted(drawn, 1 - look.opacity, _of(palette, own), look.opacity, 0)
    cv2.copyTo(tinted, inside, drawn)
    thickness = max(1, round(min(ids.shape) / 360)) if look.outline is None else look.outline
    if thickness:
        kernel = np.ones((2 * thickness + 1, 2 * thickness + 1), np.uint8)
        # An outline lies inside its object, so neighbours keep their own. What lies around the
        # box tells where the object ends; beyond the frame it goes on.
        padded = np.pad(ids, thickness, mode="edge")[
            top : top + height + 2 * thickness, left : left + width + 2 * thickness
        ]
        gradient = cv2.morphologyEx(padded, cv2.MORPH_GRADIENT, kernel)
        ends = np.ascontiguousarray(gradient[thickness:-thickness, thickness:-thickness])
        edge = cv2.bitwise_and(_on(ends), inside)
        light = np.minimum(palette.astype(np.uint32) + 96 * scale, 255 * scale)
        cv2.copyTo(_of(light.astype(rgb.dtype), own), edge, drawn)
    out[box] = drawn
    if look.labels and scale == 1:
        _label(out, ids, palette, names or {})
    elif look.labels:  # OpenCV writes on 8 bits only
        plain = (out >> 8).astype(np.uint8)
        written = plain.copy()
        _label(written, ids, palette_of(look.palette), names or {})
        np.copyto(out, written.astype(np.uint16) * scale, where=written != plain)
    return out


def _on(values: np.ndarray) -> np.ndarray:
    """255 where an 8-bit value is not 0."""
    return cv2.threshold(values, 0, 255, cv2.THRESH_BINARY)[1]


def _of(palette: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The colour of every pixel, (H, W, 3)."""
    if palette.dtype != np.uint8:
        return palette[ids]
    return cv2.LUT(cv2.merge([ids, ids, ids]), palette[:, None])


def _label(
    image: np.ndarray, ids: np.ndarray, palette: np.ndarray, names: Mapping[int, str]
) -> None:
    """Write each object's name or id at the top of it, inside the picture, of 8 bits."""
    height, width = ids.shape
    size = max(0.4, min(height, width) / 900)
    stroke = max(1, round(size * 1.5))
    font = cv2.FONT_HERSHEY_SIMPLEX
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
        ink = (0, 0, 0) if sum(colour) > 1.2 * 255 else (255, 255, 255)
        cv2.putText(image, text, (x + 2, y - 1), font, size, ink, stroke, cv2.LINE_8)
