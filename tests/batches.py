"""Folders of videos and masks, for the tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from media import scene, write_png, write_video


def put(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    return target


def lay_out(root: Path, one: dict[str, Path], *names: str, masks: bool = True) -> None:
    """videos/NAME and masks/STEM.png for each name."""
    for name in names:
        put(one["video"], root / "videos" / name)
        if masks:
            put(one["mask"], (root / "masks" / name).with_suffix(".png"))


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def one_video(folder: Path) -> dict[str, Path]:
    """A small video, its mask, and the frames of another."""
    made = scene(48, 64, 6, seed=4)
    for index, (rgb, _) in enumerate(made):
        write_png(folder / "frames" / f"{index:05d}.png", rgb, "rgb24")
    return {
        "video": write_video(folder / "one.mp4", [rgb for rgb, _ in made]),
        "mask": write_png(folder / "one.png", made[0][1], "gray"),
        "frames": folder / "frames",
    }
