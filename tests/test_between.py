"""What one part makes and another takes: names, printed commands, reasons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import Livos
from media import scene, write_png, write_video

from livos_cli.discover import discover
from livos_cli.errors import InputError
from livos_cli.options import RunOptions
from livos_cli.video.masks import KeyMasks

IDS = scene(64, 96, 1)[0][1]


# Names that `livos mask` gives, in folders.


@pytest.mark.parametrize(
    ("name", "frame"),
    [("clip.first", 0), ("clip7.first", 0), ("clip7.00012", 12), ("00012", 12)],
)
def test_a_mask_keeps_its_frame_in_a_folder(name: str, frame: int, tmp_path: Path) -> None:
    """`clip7.first.png` was taken for frame 7."""
    write_png(tmp_path / f"{name}.png", IDS, "gray")
    assert KeyMasks(tmp_path).frames == [frame]


def test_masks_of_image_folders_keep_their_frames_in_a_folder(tmp_path: Path) -> None:
    images = ("a_0005", "a_0006", "a.b", "b")
    for name in ("shot.first", "shot.a_0006", "shot.a.b"):
        write_png(tmp_path / f"{name}.png", IDS, "gray")
    assert KeyMasks(tmp_path, images).frames == [0, 1, 2]
    write_png(tmp_path / "shot.a_0007.png", IDS, "gray")
    with pytest.raises(InputError, match="is not one of the images"):
        KeyMasks(tmp_path, images)


def test_masks_of_many_videos_as_livos_mask_names_them(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.mp4").touch()
        write_png(tmp_path / f"{name}.first.png", IDS, "gray")
    own = write_png(tmp_path / "b.png", IDS, "gray")  # a name of its own goes first
    items = discover([str(tmp_path)], str(tmp_path), RunOptions())
    assert [item.mask for item in items] == [
        str(tmp_path / "a.first.png"), str(own), str(tmp_path / "c.first.png"),
    ]  # fmt: skip


def test_two_masks_of_livos_mask_in_a_folder(livos: Livos, tmp_path: Path) -> None:
    made = scene(96, 128, 8, seed=1)
    write_video(tmp_path / "clip7.mp4", [rgb for rgb, _ in made])
    (tmp_path / "keys").mkdir()
    for number, name in ((0, "clip7.first.png"), (5, "clip7.00005.png")):
        y, x = np.nonzero(made[number][1] == 1)
        box = f"{x.min()},{y.min()},{x.max() + 1},{y.max() + 1}"
        done = livos("mask", "clip7.mp4", "--frame", number, "--box", box, "-q", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        (tmp_path / name).rename(tmp_path / "keys" / name)
    done = livos("segment", "clip7.mp4", "-m", "keys", "--save", "png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no mask" not in done.stderr
    assert "no frame" not in done.stderr
