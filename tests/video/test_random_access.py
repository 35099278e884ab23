"""Frames by number, in any order: the same bits as in order, or a word why not."""

from __future__ import annotations

import random
from pathlib import Path

import cv2
import numpy as np
import pytest
import video_zoo
from media import scene, write_video

from livos_cli.errors import InputError, UsageError
from livos_cli.video.frame_table import ANEW, FrameTable
from livos_cli.video.random_access import RandomAccess, open_random_access
from livos_cli.video.reader import VideoSource, open_source

FRAMES = 40
OPTIONS = {
    "one key frame": ("a.mp4", {"g": "250"}),
    "B-frames": ("a.mp4", {"bf": "3", "b_strategy": "0", "g": "10"}),
    "open groups": (
        "a.mkv",
        {"x264-params": "keyint=12:min-keyint=12:open-gop=1:bframes=3:scenecut=0"},
    ),
    "all key frames": ("a.mov", {"g": "1"}),
    "transport stream": ("a.ts", {"g": "8"}),
}


def pictures(path: Path) -> list[np.ndarray]:
    with open_source(path) as source:
        return [frame.rgb for frame in source]


def make(case: str, folder: Path) -> Path:
    name, options = OPTIONS[case]
    rgb = [frame for frame, _ in scene(96, 128, FRAMES)]
    return write_video(folder / name, rgb, options=options)


def check(video: RandomAccess, want: list[np.ndarray]) -> None:
    rng = random.Random(1)
    assert video.count == len(want)
    numbers = rng.sample(range(len(want)), min(8, len(want)))
    for number in [*numbers, len(want) - 1, 0, *range(min(4, len(want)))]:
        assert np.array_equal(video.frame(number), want[number]), number
    middle = len(want) // 2
    ahead = list(video.frames(middle))
    assert [number for number, _ in ahead] == list(range(middle, len(want)))
    assert all(np.array_equal(rgb, want[number]) for number, rgb in ahead)
    back = list(video.twin().backward(middle))
    assert [number for number, _ in back] == list(range(middle, -1, -1))
    assert all(np.array_equal(rgb, want[number]) for number, rgb in back)
    video.close()


@pytest.mark.parametrize("case", OPTIONS)
def test_the_same_bits_as_in_order(case: str, tmp_path: Path) -> None:
    path = make(case, tmp_path)
    video = open_random_access(path)
    with open_source(path) as source:
        times = [frame.time for frame in source]
    assert [video.seconds(n) for n in range(video.count)] == pytest.approx(times)
    check(video, pictures(path))


def test_two_readers_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = make("B-frames", tmp_path)
    want, video = pictures(path), open_random_access(path)
    other = video.twin()
    for number, rgb in video.frames(5):
        assert np.array_equal(rgb, want[number])
        assert np.array_equal(other.frame(FRAMES - 1 - number), want[FRAMES - 1 - number])
        if number == 20:
            break
    assert np.array_equal(video.frame(3), want[3])


def test_without_decoding_all_of_it(tmp_path: Path) -> None:
    with VideoSource(make("B-frames", tmp_path)) as source:
        table = FrameTable.by_packets(source)
        assert table is not None
        whole = FrameTable.by_decoding(source)
    assert (list(table.times), list(table.keys)) == (list(whole.times), list(whole.keys))


def test_a_folder_of_images(tmp_path: Path) -> None:
    for n, (rgb, _) in enumerate(scene(48, 64, 5)):
        cv2.imwrite(str(tmp_path / f"{n}.png"), rgb[..., ::-1])
    check(open_random_access(tmp_path), pictures(tmp_path))


def test_a_frame_that_is_not_there_is_said(tmp_path: Path) -> None:
    video = open_random_access(make("one key frame", tmp_path))
    with pytest.raises(InputError, match="has no frame 40"):
        video.frame(40)


def test_a_frame_that_does_not_come_again_is_said(tmp_path: Path) -> None:
    """A container that names a frame that its data does not hold."""
    path = make("all key frames", tmp_path)
    video = open_random_access(path)
    data = bytearray(path.read_bytes())
    begin = data.index(b"mdat") + 8
    length = data.index(b"moov", begin) - begin
    data[begin + length // 2 : begin + length // 2 + 4000] = bytes(4000)
    path.write_bytes(bytes(data))
    other = video.twin()
    with pytest.raises(InputError, match="does not decode the same twice near frame"):
        list(other.frames(0))


@pytest.mark.parametrize("name", ["a.avi", "a.asf"])
def test_times_of_storing_are_no_times_of_showing(name: str, tmp_path: Path) -> None:
    """AVI and ASF have no others, which B-frames need."""
    rgb = [frame for frame, _ in scene(96, 128, FRAMES)]
    options = {"bf": "3", "b_strategy": "0", "g": "10"}
    path = write_video(tmp_path / name, rgb, options=options)
    want = pictures(path)
    with pytest.raises(InputError, match="do not tell its frames apart") as refused:
        check(open_random_access(path), want)
    assert refused.value.hint == ANEW


def test_streams_are_refused() -> None:
    with pytest.raises(UsageError, match="cannot be read in any order"):
        open_random_access("-")


@pytest.mark.slow
@pytest.mark.skipif(video_zoo.FFMPEG is None, reason="needs ffmpeg")
def test_odd_files_are_read_alike_or_refused(tmp_path: Path) -> None:
    alike, refused = 0, list[str]()
    for number, recipe in enumerate(video_zoo.sample(30, seed=11)):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = video_zoo.make(recipe, folder)
        want = pictures(path)
        try:
            video = open_random_access(path)
            check(video, want)
            alike += 1
        except InputError as error:
            refused.append(error.hint)
    assert set(refused) <= {ANEW}
    assert alike > 20
