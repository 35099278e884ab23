"""Sequences laid out as the benchmarks of the field have theirs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

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


def vos_benchmark(truth: Path, predicted: Path) -> tuple[float, dict[str, Any]]:
    """J&F of all, and (J, F) of every object, from the package's own entry; 0 to 100."""
    code = (
        "import json, sys; from vos_benchmark.benchmark import benchmark;"
        "jf, j, f, each = benchmark([sys.argv[1]], [sys.argv[2]], False, 1, verbose=False);"
        "print(json.dumps([jf[0], each[0]], default=float))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, truth, predicted], capture_output=True, text=True, check=True
    )
    jf, each = json.loads(done.stdout)
    (predicted / "results.csv").unlink()
    return jf, each


def assert_equal_to_vos_benchmark(results: dict[str, Any], truth: Path, predicted: Path) -> None:
    jf, each = vos_benchmark(truth, predicted)
    assert results["overall"]["J&F"] == pytest.approx(jf / 100, abs=1e-6)
    assert set(results["sequences"]) == set(each)
    for name, (j, f) in each.items():
        objects = results["sequences"][name]["objects"]
        assert set(objects) == set(j)
        for number, score in objects.items():
            assert score["J"] == pytest.approx(j[number] / 100, abs=1e-6)
            assert score["F"] == pytest.approx(f[number] / 100, abs=1e-6)
