"""The cases about masks and names in the shared material, each run as its user would."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from conftest import Livos

from livos_cli.masks.palette import decode_index_png


@dataclass(frozen=True)
class Run:
    """One command, and what is right."""

    case: str
    video: str
    mask: str
    ids: tuple[int, ...] = ()  # in the first frame; none: an error is right
    says: str = ""  # in what it says
    rename: str = ""  # what the video is called for this run
    listed: bool = False


LONG = chr(233) * 120
RUNS = [
    Run("over-64-ids-grey", "s.mp4", "cells150.png", tuple(range(151))),
    Run("tiny-objects-lost", "s.mp4", "tiny2.png", (0, 1, 2, 3)),
    Run("tiny-objects-lost", "s.mp4", "tiny3.png", (0, 1, 2, 3, 4)),
    Run("palette-antialiased", "s.mp4", "aap.png", (0, 1, 2), "its colours tell the objects"),
    Run("palette-reordered", "s.mp4", "quant.png", (0, 1, 2), "black is index 2"),
    Run("jpeg-noise-in-colour-png", "s.mp4", "fromjpgc.png", (0, 1, 2), "has 580 colours"),
    Run("webp-lossless", "s.mp4", "ids.webp", (0, 1, 2)),
    Run("said-to-be-empty", "s.mp4", "a127.png", (0, 1)),
    Run("said-to-be-empty", "s.mp4", "ids.jpg", says="compressed with loss"),
    Run("tiff-int32-float", "s.mp4", "i32.tif", (0, 1, 2)),
    Run("exif-of-mask", "s.mp4", "exif180.jpg", (0, 1)),
    Run("no-ground-or-void", "s.mp4", "voc.png", (0, 1, 2), "value 255 is a thin border"),
    Run("no-ground-or-void", "s.mp4", "1_255.png", (1, 255), "has no background"),
    Run("ids-in-one-channel", "s.mp4", "r37.png", (0, 1, 2), "#030000 is 1, #070000 is 2"),
    Run("animated-webp", "a.webp", "m.png", says="animated WebP"),
    Run("appledouble", "ad", "m.png", (0, 1)),
    Run("appledouble", "s.mp4", "adm", (0, 1)),
    Run("cvat-frame-names", "s.mp4", "cvat", (0, 1)),
    Run("cvat-frame-names", "s.mp4", "cvx", (0, 1), "cvx/SegmentationObject"),
    Run("nfd-nfc", "nb", "nbm", (0, 1)),
    Run("long-name", "s.mp4", "m.png", (0, 1), rename=f"{LONG}.mp4"),
    Run("list-bom-utf16", "p/s.mp4", "lm", (0, 1), listed=True),
]


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS, ids=lambda r: f"{r.case}-{r.mask}-{r.video}"[:60])
def test_a_case_is_right(run: Run, shared: Path, livos: Livos, tmp_path: Path) -> None:
    case = shared / "cases" / run.case
    if not case.is_dir():
        pytest.skip(f"{case} is not there")
    folder = tmp_path / "case"
    shutil.copytree(case, folder)
    if run.listed:  # names a video that does not come with it
        (folder / run.video).parent.mkdir()
        (folder / "s.mp4").rename(folder / run.video)
        videos = ["--list", "lb.txt"]
    elif run.rename:
        (folder / run.video).rename(folder / run.rename)
        videos = [run.rename]
    else:
        videos = [run.video]
    done = livos("segment", *videos, "-m", run.mask, "-o", "out", "--save", "png", cwd=folder)
    said = done.stderr + done.stdout
    if not run.ids:
        assert done.returncode == 1, said
        assert run.says in said
        assert "Traceback" not in said
        return
    assert done.returncode == 0, said
    assert run.says in said
    frames = sorted((folder / "out").glob("*/*.png"))
    first = decode_index_png(frames[0])
    found = set(np.unique(first).tolist())
    if run.ids == (0, 1):  # one object, whose id the palette PNG may call otherwise
        assert len(found) == 2
    else:
        assert found == set(run.ids)


def test_the_turned_mask_is_the_right_way_up(shared: Path) -> None:
    """The mask of the EXIF case: the object that it shows upright, in a corner."""
    import cv2

    from livos_cli.masks.object_ids import read_mask

    path = shared / "cases" / "exif-of-mask" / "exif180.jpg"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    upright = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(read_mask(path) > 0, upright > 127)
