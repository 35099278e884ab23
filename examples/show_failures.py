"""Where the built-in network fails, as pictures: livos_cli/weights/tiny-failures.jpg.

    python examples/show_failures.py livos_cli/weights/tiny-failures.jpg

Each row is a generated scene that is hard in one way: six frames, what was found tinted and what
is true outlined in white, with J of the frame.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import cv2
import numpy as np

import livos_cli
from livos_cli.evaluation.score import jaccard
from livos_cli.outputs.overlay import draw_overlay
from livos_cli.training.procedural import render

HEIGHT, WIDTH, FRAMES, SHOWN = 240, 320, 60, 6
Scene = Iterator[tuple[np.ndarray, np.ndarray]]


def cut() -> Scene:
    """After half the frames another scene, without the object."""
    yield from render(np.random.default_rng(3), HEIGHT, WIDTH, FRAMES // 2, 1)
    for rgb, _ in render(np.random.default_rng(8), HEIGHT, WIDTH, FRAMES // 2, 2):
        yield rgb, np.zeros((HEIGHT, WIDTH), np.uint8)


def twin() -> Scene:
    """A mirror image of the object moves in the scene too, and is not the object."""
    for rgb, ids in render(np.random.default_rng(5), HEIGHT, WIDTH, FRAMES, 1, speed=2):
        other = (ids[:, ::-1] == 1) & (ids == 0)
        rgb[other] = rgb[:, ::-1][other]
        yield rgb, ids


def absence() -> Scene:
    """The camera turns away from the object for a third of the time, and back."""
    wide = render(np.random.default_rng(12), HEIGHT, 2 * WIDTH, FRAMES, 1, speed=0.5)
    middle = None
    for index, (rgb, ids) in enumerate(wide):
        if middle is None:
            middle = int(np.argwhere(ids)[:, 1].mean())
        away = np.clip(1.5 - abs(index / FRAMES - 0.5) * 6, 0, 1)
        side = 1 if middle < WIDTH else -1
        left = int(np.clip(middle - WIDTH // 2 + side * away * 1.1 * WIDTH, 0, WIDTH))
        yield rgb[:, left : left + WIDTH], ids[:, left : left + WIDTH]


def blur() -> Scene:
    """Fast motion: the object's shutter stays open, and it jumps by its own width."""
    fine = render(
        np.random.default_rng(36), HEIGHT, WIDTH, 4 * FRAMES, 1, speed=3, radius=(0.1, 0.1)
    )
    group = []
    for index, (rgb, ids) in enumerate(fine):
        group.append((rgb.astype(np.float32), ids))
        if index % 4 == 3:
            yield np.mean([g[0] for g in group], axis=0).astype(np.uint8), group[1][1]
            group = []


def row(scene: Scene) -> np.ndarray:
    """Follow the first frame's object; -> a strip of frames."""
    tracker = livos_cli.Tracker(livos_cli.load_model("tiny", device="cpu"))
    shown = set(np.linspace(1, FRAMES - 1, SHOWN).astype(int).tolist())
    strip = []
    for index, (rgb, ids) in enumerate(scene):
        found = tracker.step_ids(rgb, ids if index == 0 else None)
        if index not in shown:
            continue
        picture = np.ascontiguousarray(draw_overlay(rgb, found))
        outlines = cv2.findContours(ids, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
        cv2.drawContours(picture, outlines, -1, (255, 255, 255), 1, cv2.LINE_AA)
        label = f"{index}: J {jaccard(found == 1, ids == 1):.2f}"
        for colour, width in (((0, 0, 0), 5), ((255, 255, 255), 2)):
            cv2.putText(picture, label, (6, HEIGHT - 8), 0, 0.8, colour, width, cv2.LINE_AA)
        strip.append(picture)
    return np.concatenate(strip, axis=1)


def main() -> None:
    """Draw all rows into the file named."""
    sheet = np.concatenate([row(scene()) for scene in (cut, twin, absence, blur)])
    sheet = cv2.resize(sheet, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    cv2.imwrite(sys.argv[1], sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main()
