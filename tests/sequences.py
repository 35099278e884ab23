"""Sequences laid out as the benchmarks of the field have theirs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from livos_cli.masks.palette import encode_index_png
from livos_cli.training.procedural import render

IDS = np.array([0, 3, 17, 200], np.uint8)  # not contiguous
LATE = 4  # the frame at which the last object is first annotated
FRAMES = 9


def scene(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Frames and ids of three objects, one of which enters late."""
    drawn = []
    for index, (rgb, ids) in enumerate(render(np.random.default_rng(seed), 64, 96, FRAMES, 3)):
        drawn.append((rgb, IDS[np.where((ids == 3) & (index < LATE), 0, ids)]))
    return drawn


def write_sequence(
    images: Path,
    annotations: Path,
    name: str,
    seed: int,
    *,
    binary: bool = False,
    only: tuple[int, ...] | None = None,
    first_number: int = 0,
) -> None:
    """A sequence in the field's form: JPEGs, and index PNGs (0/255 grey if binary)."""
    for folder in (images / name, annotations / name):
        folder.mkdir(parents=True)
    for index, (rgb, ids) in enumerate(scene(seed)):
        stem = f"{index + first_number:05d}"
        cv2.imwrite(str(images / name / f"{stem}.jpg"), rgb[..., ::-1])
        if only is not None and index not in only:
            continue
        target = annotations / name / f"{stem}.png"
        if binary:
            cv2.imwrite(str(target), np.where(ids != 0, 255, 0).astype(np.uint8))
        else:
            target.write_bytes(encode_index_png(ids))
