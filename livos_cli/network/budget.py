"""How much memory a frame takes, and the height of strips that keeps it within a budget.

Counted in values a pixel of the frame, stage by stage: what is kept through the frame, and the
most that each stage holds at once beside it. docs/notes/performance.md has it beside measurements.
"""

from __future__ import annotations

from livos_cli.network.config import LiVOSConfig
from livos_cli.network.strips import DECODER_HALO, encoder_halo, mask_encoder_halo

__all__ = ["FEWEST_ROWS", "rows_within", "working_memory"]

FEWEST_ROWS = 4  # of the 1/16 grid; below, a strip is all halo and saves nothing more
CELL = 256  # pixels of a cell of the 1/16 grid
FLOAT = 4  # bytes of float32
# Beside what is counted: the allocator's rounding and leftovers; compiled convolutions and their
# workspaces, whatever the size. tests/slow/test_memory.py holds both against a process's real peak.
OVERHEAD = 1.2
FIXED = 64 << 20


def working_memory(
    config: LiVOSConfig,
    height: int,
    width: int,
    objects: int,
    itemsize: int,
    *,
    rows: int = 0,
    chunk: int = 0,
) -> int:
    """Bytes that one frame needs at its peak, weights not counted; an estimate.

    Args:
        config: of the network.
        height: of the 1/16 grid.
        width: of the 1/16 grid.
        objects: N.
        itemsize: bytes of the network's precision.
        rows: of the 1/16 grid computed at a time, 0 for all.
        chunk: objects computed at a time, 0 for all; strips take one.
    """
    cells = height * width
    at_once = 1 if rows else min(chunk or objects, objects)
    width16, width8, width4 = config.decoder

    def strip(halo: int) -> int:
        """Cells of a strip with its halo."""
        return min(height, rows + 2 * halo) * width if rows else cells

    # Through the whole frame: it, as given and padded, and the memory of the frames before.
    memory = 2 * config.key * FLOAT + objects * itemsize * config.sensory
    always = cells * (2 * 3 * CELL + memory)
    features = cells * itemsize * (config.pixel + config.key)
    skips = cells * itemsize * (4 * width16 + 16 * width8)
    # Memory that replaces the old one when the frame is done.
    renewed = cells * memory
    soft = cells * CELL * (objects * itemsize + 1)  # soft masks, decided masks
    odds = cells * 16 * FLOAT * 6 * (objects + 1)

    encode = strip(encoder_halo(config)) * CELL * itemsize * _encoder_values(config, itemsize)
    # The transformer's maps of all objects at 1/16, several of them at once.
    transform = cells * objects * itemsize * (8 * config.embed + config.value + config.sensory)
    decoder_values = 2 * (width16 + width4) / 64 + (2 * width8 + 4 * width4) / 16
    decode = strip(DECODER_HALO) * at_once * CELL * itemsize * decoder_values
    decode += cells * itemsize * (objects * config.embed + at_once * config.sensory)
    renew = strip(1) * at_once * itemsize * 6 * config.sensory
    mask_values = 15 + config.stem / 4 + config.stem / 16
    encode_mask = strip(mask_encoder_halo(config)) * at_once * CELL * itemsize * mask_values
    values = cells * itemsize * (objects * config.value + at_once * 6 * config.embed)
    peak = max(
        encode + (features + skips if rows else 0),
        features + skips + renewed + max(transform, decode + odds, decode + renew),
        features + renewed + soft + max(odds, encode_mask + values, renew + values),
    )
    return int((always + peak) * OVERHEAD) + FIXED


def _encoder_values(config: LiVOSConfig, itemsize: int) -> float:
    """Most values a pixel that the image encoder holds at once."""
    stem, (one, two, three) = config.stem, config.stages
    f16, f8, f4 = config.feature_widths
    image = 3 * (itemsize + 2 * FLOAT) / itemsize
    first = image + stem / 4 + stem / 16
    second = 2 * f4 / 16 + 2 * one / 16 + stem / 16
    third = f4 / 16 + 2 * f8 / 64 + two / 16 + two / 64
    fourth = f4 / 16 + f8 / 64 + 2 * f16 / 256 + three / 64 + three / 256
    return max(first, second, third, fourth)


def rows_within(
    budget: int,
    config: LiVOSConfig,
    height: int,
    width: int,
    objects: int,
    itemsize: int,
    *,
    chunk: int = 0,
) -> int | None:
    """The fewest strips that keep a frame within a budget.

    Args:
        budget: bytes, weights not counted.
        config: of the network.
        height: of the 1/16 grid.
        width: of the 1/16 grid.
        objects: N.
        itemsize: bytes of the network's precision.
        chunk: objects computed at a time, 0 for all.

    Returns:
        Rows of the 1/16 grid at a time, 0 for all of them in one, None if no height is enough.
    """
    if working_memory(config, height, width, objects, itemsize, chunk=chunk) <= budget:
        return 0
    for count in range(1, height + 1):
        rows = -(-height // count)
        if rows < FEWEST_ROWS:
            break
        if working_memory(config, height, width, objects, itemsize, rows=rows) <= budget:
            return rows  # all rows: one object at a time, which is what does not fit in one
    return None
