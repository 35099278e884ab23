"""Run lengths of a map of ids: how masks go to the page."""

from __future__ import annotations

import numpy as np

__all__ = ["run_lengths"]


def run_lengths(ids: np.ndarray) -> bytes:
    """(H, W) uint8 as little-endian uint32: width, height, then `length << 8 | id` of each run.

    Row by row; runs do not end at the end of a row, and are shorter than 2^24 pixels.
    """
    flat = np.ascontiguousarray(ids).ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
    lengths, values = np.diff(starts), flat[starts[:-1]]
    if lengths.max() >= 1 << 24:  # a picture of 16 million pixels of one kind
        parts = -(-lengths // ((1 << 24) - 1))
        values = np.repeat(values, parts)
        lengths = np.concatenate([
            np.diff(np.linspace(0, length, count + 1).astype(np.int64))
            for length, count in zip(lengths, parts, strict=True)
        ])  # fmt: skip
    head = np.array([ids.shape[1], ids.shape[0]], "<u4")
    return head.tobytes() + (lengths.astype("<u4") << 8 | values).astype("<u4").tobytes()
