"""Masks that are probably a mistake: said before tracking starts."""

from __future__ import annotations

import numpy as np

from livos_cli.errors import InputError

__all__ = ["check_meant"]

MOST = 0.95  # of the picture: an object that covers more leaves nothing to tell it from
COLOURS = 30  # objects, one a colour: more are a photograph's or a gradient's
RIM = 0.98  # of the picture's border: an object that covers it is a background


def check_meant(ids: np.ndarray, label: str, *, coloured: bool, first: bool) -> list[str]:
    """Look whether a mask shows objects.

    Args:
        ids: (H, W) integers, 0 for background.
        label: what messages call the mask.
        coloured: whether its ids come from colours.
        first: whether tracking begins with it; of a later one it is only a warning, for an object
            may come close to the camera.

    Returns:
        Warnings.

    Raises:
        InputError: a first mask that cannot be meant.
    """
    found = _doubt(ids, coloured=coloured)
    if found is None:
        return _crowded(ids, label)
    what, hint = found
    if first:
        raise InputError(f"{label} {what}", f"{hint}; if it is meant, add --trust-mask")
    return [f"{label} {what}"]


def _doubt(ids: np.ndarray, *, coloured: bool) -> tuple[str, str] | None:
    """What is wrong, and what to do."""
    present = [int(i) for i in np.unique(ids) if i]
    if coloured and len(present) > COLOURS:
        return (
            f"has {len(present)} objects, one a colour: it looks like a picture, not a mask",
            "paint each object in one flat colour on black",
        )
    if len(present) != 1:
        return None
    on = ids != 0
    share = float(on.mean())
    if share > MOST:
        return (
            f"covers {100 * share:.3g} % of the picture with one object",
            "paint the object alone, and leave the rest black",
        )
    border = np.concatenate([on[0], on[-1], on[:, 0], on[:, -1]])
    if border.mean() > RIM:
        return (
            "has its object all along the border and its background inside: it looks inverted",
            "swap black and white in it",
        )
    return None


def _crowded(ids: np.ndarray, label: str) -> list[str]:
    share = float((ids != 0).mean())
    if share <= MOST:
        return []
    return [
        f"{label}: its objects cover {100 * share:.3g} % of the picture; "
        "if one of them is the background, give it the value 0"
    ]
