"""What a mask's picture is: slopes or areas, a drawing or ids, a cut-out, the rest of a JPEG."""

from __future__ import annotations

import cv2
import numpy as np

from livos_cli.masks.soft_edges import distinct_of, firm_squares, scattered, settle, specks_of

__all__ = [
    "LEVELS_OFF",
    "dithered_colours",
    "has_more_than_white",
    "is_cut_out",
    "is_painted",
    "is_photograph",
    "is_smeared_black_and_white",
    "is_soft",
    "is_web_palette",
    "pack",
    "shown",
]

SPECKLED = 6  # so many specks of one colour are dithering
FAR = 16  # pixels, two blocks of JPEG, beyond which white leaves no traces in black
LEVELS_OFF = 16.0  # RGB distance by which a small palette misses the colours of soft edges


def is_soft(values: np.ndarray, top: int) -> bool:
    """Whether greys between black and the brightest are slopes, not areas of one value."""
    middle = (values > 0.1 * top) & (values < 0.9 * top)
    return bool(middle.any()) and float(firm_squares(values)[middle].mean()) < 0.5


def is_photograph(values: np.ndarray, top: int) -> bool:
    """More than soft edges of grey: no matte."""
    return bool(((values > 0.1 * top) & (values < 0.9 * top)).mean() > 0.5)


def is_smeared_black_and_white(values: np.ndarray, full: int) -> bool:
    """Whether it is black and white with the noise of JPEG, saved as something else since."""
    dark, light = values < full // 4, values > full - full // 4
    tails = (dark & (values > 0)) | (light & (values < full))
    if not light.any() or not tails.any() or (dark | light).mean() < 0.97:
        return False
    return bool(
        len(np.unique(values[light])) > 1
        and len(np.unique(values[dark])) > 1
        and float(firm_squares(values)[tails].mean()) < 0.8
        and not has_more_than_white(values)
    )


def has_more_than_white(values: np.ndarray) -> bool:
    """Whether there are dark pixels too far from any white for lossy compression to explain."""
    white = (values > 127).astype(np.uint8)
    far = cv2.distanceTransform(1 - white, cv2.DIST_L2, 5) > FAR
    return bool((values[far] > 0).sum() > 16)


def shown(alpha: np.ndarray) -> np.ndarray:
    """What is not transparent; of soft edges, what is more than half there.

    A brush of half the strength shows, and areas of any strength: edges are compared with what is
    the most nearby.
    """
    top = int(alpha.max(initial=0))
    if is_soft(alpha.astype(np.int64), top):
        return alpha * 2.0 >= max(top, 1)
    near = cv2.dilate(alpha, np.ones((5, 5), np.uint8))
    return (alpha > 0) & ((alpha * 2.0 >= near) | firm_squares(alpha))


def is_cut_out(packed: np.ndarray, shows: np.ndarray) -> bool:
    """A picture, or one colour, on nothing: what shows is the object."""
    firm = firm_squares(np.where(shows, packed, -1)) & shows
    return len(distinct_of(packed[firm])) <= 1 or float(firm[shows].mean()) < 0.5


def is_painted(rgb: np.ndarray, shows: np.ndarray) -> bool:
    """Whether the colours of a palette are a drawing's: with soft edges, or dithered."""
    packed = np.where(shows, pack(rgb), 0)
    settled = settle(packed, colour=True, tolerance=LEVELS_OFF)
    return settled.softened > 0 or len(dithered_colours(packed)) > 1


def is_web_palette(rgb: np.ndarray) -> bool:
    """Whether colours, (256, 3), are the web's 216 in the order that Pillow puts them."""
    steps = np.arange(216)
    cube = np.stack([steps % 6, steps // 6 % 6, steps // 36], 1) * 51
    return bool(np.array_equal(rgb[10:226], cube))


def dithered_colours(packed: np.ndarray) -> list[int]:
    """Colours that are specks only, and many."""
    specks = specks_of(packed)
    colours = np.setdiff1d(packed[specks], packed[~specks])
    return scattered(np.where(specks, packed, -1), colours.tolist(), SPECKLED)


def pack(rgb: np.ndarray) -> np.ndarray:
    """(H, W) int64 0xRRGGBB of (H, W, 3)."""
    wide = rgb.astype(np.int64)
    return np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2])
