"""A few frames played forward and backward, as long as is wanted."""

from __future__ import annotations

__all__ = ["to_and_fro"]


def to_and_fro(position: int, frames: int) -> int:
    """Which frame comes at a position: 0, 1, ..., frames - 1, frames - 2, ..., 0, 1, ...

    Args:
        position: from 0.
        frames: that there are, at least 1.

    Returns:
        0 to frames - 1.
    """
    period = max(1, 2 * (frames - 1))
    step = position % period
    return min(step, period - step)
