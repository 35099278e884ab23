"""One type of position everywhere: times and frame numbers mean the same in every option."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media import decode, scene, write_png, write_video

from livos_cli.errors import LivosError, UsageError
from livos_cli.masks.palette import decode_index_png
from livos_cli.options import Drop, Position, SegmentOptions, Times, parse_drops
from livos_cli.pipeline.positions import frame_at, resolve_positions

FRAMES, RATE = 12, 10
# Frame 6 comes late: times are the container's, not a count by the rate.
PTS = [0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 14]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("positions")
    made = scene(96, 128, FRAMES, objects=2, seed=5)
    images = [rgb for rgb, _ in made]
    video = write_video(
        folder / "clip.mp4", images, pts=PTS, time_base=Fraction(1, RATE), rate=Fraction(RATE)
    )
    first = write_png(folder / "first.png", made[0][1], "gray")
    sixth = write_png(folder / "sixth.png", made[6][1], "gray")
    return {"video": video, "first": first, "sixth": sixth}


@pytest.mark.parametrize("was_frame", [False, True])
@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("12.5", Position(seconds=12.5)),
        ("1:02", Position(seconds=62.0)),
        ("1:02:03.5", Position(seconds=3723.5)),
        ("200f", Position(frame=200)),
        ("20s", Position(seconds=20.0)),
    ],
)
def test_one_type_of_position(text: str, was_frame: bool, position: Position) -> None:
    assert Position.parse(text, "--x", was_frame=was_frame) == position
    assert Position.parse(str(position), "--x", was_frame=was_frame) == position


def test_a_number_alone_is_seconds_and_refused_where_it_was_a_frame() -> None:
    assert Position.parse("20", "--start") == Position(seconds=20.0)
    with pytest.raises(UsageError, match="now means seconds — type 20f for the frame, or 20s"):
        Position.parse("20", "--from", was_frame=True)


@pytest.mark.parametrize("text", ["", "soon", "-1", "1:2:3:4", "f", "2.5f", "1:02s", "١٢", "1e3"])
@pytest.mark.parametrize("was_frame", [False, True])
def test_no_position(text: str, was_frame: bool) -> None:
    with pytest.raises(UsageError, match="is not a position"):
        Position.parse(text, "--from", was_frame=was_frame)


def test_drops_take_positions() -> None:
    assert parse_drops(["1@19f", "2@20f", "3@0:05", "4@1.5"]) == (
        (Drop(1, 19), Drop(2, 20)),
        ((3, 5.0), (4, 1.5)),
    )
    for wrong in ("1", "1@", "@5", "one@5", "1@soon"):
        with pytest.raises(UsageError):
            parse_drops([wrong])


def test_times_become_the_frames_that_are_shown_then(clip: dict[str, Path]) -> None:
    options = SegmentOptions(direction="both", times=Times(0.6, ((1, 0.9), (2, 0.25))))
    settled, warnings = resolve_positions(options, clip["sixth"], clip["video"])
    # 0.6 s is shown until the late frame comes: the first frame at or after it is number 6.
    assert settled.origin == 6
    assert settled.drop == (Drop(1, 6), Drop(2, 3))
    assert settled.times == Times()
    assert not warnings
    assert resolve_positions(settled, clip["sixth"], clip["video"]) == (settled, [])
    assert frame_at(clip["video"], Position(seconds=1.1), "--frame") == 8
    with pytest.raises(LivosError, match="past the end"):
        frame_at(clip["video"], Position(seconds=99.0), "--frame")


def test_a_stream_takes_a_time_to_begin_at(clip: dict[str, Path]) -> None:
    options, _ = resolve_positions(SegmentOptions(times=Times(0.9)), clip["first"], "-")
    assert options.range() == (Position(seconds=0.9), None)
    with pytest.raises(UsageError, match="frame number"):
        resolve_positions(SegmentOptions(times=Times(drop=((1, 0.9),))), clip["first"], "-")


@pytest.mark.slow
def test_from_by_time_and_by_number_are_the_same(
    clip: dict[str, Path], tmp_path: Path, livos: Any
) -> None:
    results = []
    for n, place in enumerate(("6f", "0.9", "0.9s", "0:00.9")):
        out = tmp_path / f"{n}.mkv"
        done = livos(
            "segment", clip["video"], "-m", clip["sixth"], "--from", place, "--direction", "both",
            "--drop", "1@10f", "--drop", "2@1.2", "-o", out, "--device", "cpu", "--max-size", 64,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        # Whatever was typed, what it means is said.
        assert "from frame 6 (about 0:00" in done.stderr
        results.append(decode(out))
    assert len(results[0]) == FRAMES
    for other in results[1:]:
        assert np.array_equal(np.array(results[0]), np.array(other))
    ids = [set(np.unique(frame)) - {0} for frame in results[0]]
    assert 1 in ids[9]
    assert 1 not in ids[10]
    assert 2 not in ids[9]  # 1.2 s is frame 9


@pytest.mark.slow
def test_mask_takes_a_time(clip: dict[str, Path], tmp_path: Path, livos: Any) -> None:
    found = []
    for place in ("6f", "0.9", "0:00.9"):
        folder = tmp_path / str(len(found))
        arguments = ["--frame", place, "--box", "10%,10%,90%,90%", "-o", folder]
        done = livos("mask", clip["video"], *arguments)
        assert done.returncode == 0, done.stderr
        found.append(decode_index_png(folder / "00006.png"))
    assert all(np.array_equal(found[0], other) for other in found)


def test_start_of_a_whole_number_stays_seconds(
    clip: dict[str, Path], tmp_path: Path, livos: Any
) -> None:
    out = tmp_path / "out.mkv"
    done = livos("segment", clip["video"], "-m", clip["first"], "--start", "1", "-o", out, "-q")
    assert done.returncode == 0, done.stderr
    assert len(decode(out)) == FRAMES - 7  # 1 s is frame 7, not frame 1


def test_from_and_start_contradict_by_time_too() -> None:
    with pytest.raises(UsageError, match="both say where to begin"):
        SegmentOptions(start=Position(seconds=1.0), times=Times(2.0))
