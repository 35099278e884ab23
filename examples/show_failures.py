"""Where the built-in networks fail, as pictures: livos_cli/weights/*-failures.jpg.

    python examples/show_failures.py failures.jpg --weights lite
    python examples/show_failures.py lite-failures.jpg --scenes cut,absence,blur \
        --real DATA/davis-train/dance-jump.mp4 DATA/davis-train/horsejump-low.mp4

Each row has six frames, what was found tinted and what is true outlined in white, with J of the
frame. First come the videos of --real, in this order, each with its truth beside it
(NAME.masks.mkv, 0 and 255) and shown around the object; then generated scenes, each hard in one
way.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np

import livos_cli
from livos_cli.evaluation.score import jaccard
from livos_cli.network import LiVOS
from livos_cli.outputs.overlay import draw_overlay
from livos_cli.training.procedural import render
from livos_cli.weights.registry import DEFAULT

HEIGHT, WIDTH, FRAMES, SHOWN = 240, 320, 60, 6
AROUND = 1.6  # how much of a real frame is shown, in heights or widths of the object
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


SCENES = {"cut": cut, "twin": twin, "absence": absence, "blur": blur}


def real(video: Path) -> Scene:
    """A sequence's frames, as they are."""
    with av.open(str(video)) as frames, av.open(str(video.with_suffix(".masks.mkv"))) as masks:
        for rgb, ids in zip(frames.decode(video=0), masks.decode(video=0), strict=True):
            mask = ids.to_ndarray(format="gray") > 127
            yield rgb.to_ndarray(format="rgb24"), mask.astype(np.uint8)


def around(truth: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns in the sheet's shape: the object, and as much again beside it."""
    height, width = truth.shape
    x, y, w, h = cv2.boundingRect(truth)
    tall = min(height, int(width * HEIGHT / WIDTH), int(AROUND * max(h, w * HEIGHT / WIDTH)))
    wide = tall * WIDTH // HEIGHT
    top = int(np.clip(y + h // 2 - tall // 2, 0, height - tall))
    left = int(np.clip(x + w // 2 - wide // 2, 0, width - wide))
    return slice(top, top + tall), slice(left, left + wide)


def picture(rgb: np.ndarray, found: np.ndarray, truth: np.ndarray, index: int) -> np.ndarray:
    """A frame of the sheet; of larger ones what is around the object."""
    tinted = np.ascontiguousarray(draw_overlay(rgb, found))
    outlines = cv2.findContours(truth, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    line = 1 if truth.shape == (HEIGHT, WIDTH) else 2
    cv2.drawContours(tinted, outlines, -1, (255, 255, 255), line, cv2.LINE_AA)
    if truth.shape != (HEIGHT, WIDTH):
        tinted = cv2.resize(tinted[around(truth)], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    label = f"{index}: J {jaccard(found == 1, truth == 1):.2f}"
    for colour, width in (((0, 0, 0), 5), ((255, 255, 255), 2)):
        cv2.putText(tinted, label, (6, HEIGHT - 8), 0, 0.8, colour, width, cv2.LINE_AA)
    return tinted


def row(scene: Scene, count: int, model: LiVOS) -> np.ndarray:
    """Follow the first frame's object through `count` frames; -> a strip of frames."""
    tracker = livos_cli.Tracker(model)
    shown = set(np.linspace(1, count - 1, SHOWN).astype(int).tolist())
    strip = []
    for index, (rgb, ids) in enumerate(scene):
        found = tracker.step_ids(rgb, ids if index == 0 else None)
        if index in shown:
            strip.append(picture(rgb, found, ids, index))
    return np.concatenate(strip, axis=1)


def main() -> None:
    """Draw all rows into the file named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sheet", type=Path, help="the JPEG to write")
    parser.add_argument("--weights", default=DEFAULT)
    parser.add_argument("--scenes", default=",".join(SCENES), help="generated ones, by name")
    parser.add_argument("--real", type=Path, nargs="+", default=[], metavar="NAME.mp4")
    arguments = parser.parse_args()
    model = livos_cli.load_model(arguments.weights, device="cpu")
    scenes = [SCENES[name] for name in arguments.scenes.split(",")]
    rows = []
    for video in arguments.real:
        rows.append(row(real(video), sum(1 for _ in real(video)), model))
    rows += [row(scene(), FRAMES, model) for scene in scenes]
    sheet = np.concatenate(rows)
    sheet = cv2.resize(sheet, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(arguments.sheet), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main()
