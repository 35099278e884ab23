"""Signs of trouble: warnings from areas, and the contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from media import scene, write_png, write_video

from livos_cli.network import LiVOS
from livos_cli.options import RunOptions, SegmentOptions
from livos_cli.outputs.formats import Decided, Job
from livos_cli.outputs.preview import Preview
from livos_cli.pipeline.doubts import AreaWatch
from livos_cli.pipeline.run import run
from livos_cli.video.source import Frame


def watch(areas: list[int], given: tuple[int, ...] = ()) -> list[str]:
    """Warnings of one object, id 4, in a picture of 10,000 pixels."""
    seen = AreaWatch()
    for frame, area in enumerate(areas):
        counts = np.zeros(256, np.int64)
        counts[0], counts[4] = 10_000 - area, area
        seen.see(frame, counts, (4,) if frame in given else ())
    return seen.warnings()


def test_what_changes_slowly_is_no_news() -> None:
    assert watch([1000] * 30) == []
    assert watch([int(200 * 1.1**n) for n in range(30)]) == []
    assert watch([0, 0, 0, 500, 500]) == []  # enters later


def test_an_object_that_vanishes_is_named_with_its_frame() -> None:
    assert watch([900] * 12 + [0] * 5) == ["object 4 vanishes at frame 12"]
    assert watch([900, 0] * 8) == ["object 4 vanishes at frame 1, 3, 5, 7, 9 and 3 times more"]


def test_a_jump_is_told_once() -> None:
    assert watch([500] * 10 + [2000] * 10) == ["object 4: its area jumps at frame 10 (to 4 times)"]
    assert watch([2000] * 10 + [500] * 10) == [
        "object 4: its area jumps at frame 10 (to 0.25 times)"
    ]
    assert watch([3] * 10 + [9] * 10) == []  # a few pixels


def test_a_given_mask_may_change_the_area() -> None:
    assert watch([500] * 10 + [2000] * 10, given=(10,)) == []


def test_a_run_says_where_its_object_went(tmp_path: Path, tiny: LiVOS) -> None:
    """The object is painted over from frame 5 on."""
    made = scene(96, 128, 10, seed=5)
    empty = np.full((96, 128, 3), 128, np.uint8)
    rgb = [image if n < 5 else empty for n, (image, _) in enumerate(made)]
    video = write_video(tmp_path / "a.mp4", rgb, options={"crf": "10"})
    mask = write_png(tmp_path / "m.png", made[0][1], "gray")
    report = run(video, mask, tiny, SegmentOptions(), RunOptions(output=tmp_path / "out.mkv"))
    assert any(w.startswith("object 1") and "frame 5" in w for w in report.warnings), (
        report.warnings
    )


def sheet_of(frames: int, tmp_path: Path, info: Any, ids: tuple[int, ...]) -> np.ndarray:
    path = tmp_path / "sheet.png"
    sink = Preview(path, Job(info, ids))
    picture = np.full((info.height, info.width, 3), 90, np.uint8)
    for index in range(frames):
        mask = np.zeros((info.height, info.width), np.uint8)
        if not 400 <= index < 500:
            mask[: 10 + index % 20, :20] = 1
        sink.write(Frame(index, index, index / 25, picture), Decided(mask))
        # Small and few, however long the video.
        assert len(sink._thumbs) < 24
        assert len(sink._areas) < 2048
    sink.finish()
    sink.publish(overwrite=True)
    image = cv2.imread(str(path))
    assert image is not None
    return image


@pytest.mark.parametrize("frames", [1, 5, 12, 500, 5000])
def test_a_sheet_of_any_length(frames: int, tmp_path: Path) -> None:
    from fractions import Fraction

    from livos_cli.video.source import SourceInfo

    info = SourceInfo("x", None, 96, 64, Fraction(1, 25), Fraction(25), frames, None, 1, 1, 1, 1)
    sheet = sheet_of(frames, tmp_path, info, (1, 2))
    assert sheet.shape[1] == 1600
    rows = -(-min(frames, 12) // 4)
    assert sheet.shape[0] > rows * 200
    red = (sheet == [40, 40, 220]).all(axis=2)  # where an object is missing, BGR
    columns = np.flatnonzero(red[-2 * 90 - 30 : -90 - 30].any(axis=0))
    if frames == 5000:  # frames 400 to 499 of 5,000 are missing: a fiftieth of the strip
        assert 20 <= len(columns) <= 45
    elif frames == 500:
        assert columns[-1] > 1500
    else:
        assert not len(columns)


def test_tall_pictures_and_many_objects_fit(tmp_path: Path) -> None:
    from fractions import Fraction

    from livos_cli.video.source import SourceInfo

    info = SourceInfo("x", None, 72, 128, Fraction(1, 25), Fraction(25), 9, None, 1, 1, 1, 1)
    sheet = sheet_of(9, tmp_path, info, tuple(range(1, 101)))
    assert sheet.shape[0] < 4500
