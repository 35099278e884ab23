"""The DAVIS (Pascal VOC) palette: the field's colours for object ids."""

from __future__ import annotations

import numpy as np

__all__ = ["DAVIS_PALETTE"]


def _voc_colours() -> np.ndarray:
    """Bits 0, 1, 2 of an id, spread over red, green and blue from the highest bit down."""
    ids = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for level in range(8):
        for channel in range(3):
            bit = (ids >> (3 * level + channel)) & 1
            colours[:, channel] |= (bit << (7 - level)).astype(np.uint8)
    return colours


DAVIS_PALETTE = _voc_colours()  # (256, 3) uint8 RGB
