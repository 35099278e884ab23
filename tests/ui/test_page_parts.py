"""Parts of the page's server by themselves: links, run lengths, pictures, news, marks."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from media import scene, write_video

from livos_cli.errors import UsageError
from livos_cli.options import Drop
from livos_cli.outputs.sink import FrameResult
from livos_cli.ui import events as events_module
from livos_cli.ui import pictures as pictures_module
from livos_cli.ui.chain import Chain
from livos_cli.ui.events import Events
from livos_cli.ui.marks import Marks, Stroke, read_marks, write_marks
from livos_cli.ui.pictures import Pictures, shrink
from livos_cli.ui.runs import run_lengths
from livos_cli.ui.server import _Json
from livos_cli.ui.tracked import Tracked
from livos_cli.video.random_access import open_random_access

KEYS = {10: "a", 30: "b", 60: "c"}


def test_results_that_were_removed_do_not_come_back(tmp_path: Path) -> None:
    """After opening again each frame has the newest result, and none that is gone."""
    tracked = Tracked(tmp_path / "tracked")
    for number, link in enumerate("abcdef"):
        for frame in range(2 if number else 4):
            ids = np.full((4, 6), number + 1, np.uint8)
            tracked.write(link, frame, FrameResult(ids))
    tracked.forget({"a"})
    again = Tracked(tmp_path / "tracked")
    for frame in range(4):
        assert again.newest(frame, None) == tracked.newest(frame, None)
        for link in "abcdef":
            there = again.row(link, frame)
            assert there == tracked.row(link, frame)
            assert (there is None) == (again.read(link, frame) is None)
    assert again.told(None, 4) == tracked.told(None, 4)


def test_json_of_names_that_are_no_text() -> None:
    assert b"\\udcff" in _Json({"name": "a\udcff.mp4"}).body


def links(
    keys: dict[int, str] | None = None,
    drops: tuple[Drop, ...] = (),
    limits: tuple[int, int] = (0, 80),
    inputs: str = "x",
) -> list[str]:
    chain = Chain.of(inputs, KEYS if keys is None else keys, drops, limits)
    return [chain.at(n) for n in range(80)]


def differ(one: list[str], other: list[str]) -> list[int]:
    return [n for n, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]


def test_a_frame_depends_on_the_masks_up_to_it() -> None:
    plain = links()
    assert differ(plain, links({**KEYS, 30: "other"})) == list(range(30, 80))
    assert differ(plain, links({**KEYS, 45: "new"})) == list(range(45, 80))
    assert differ(plain, links({10: "a", 30: "b"})) == list(range(60, 80))
    assert differ(plain, links({**KEYS, 10: "other"})) == list(range(80))
    assert differ(plain, links(inputs="y")) == list(range(80))
    assert len(set(plain[:10])) == 1
    assert plain[9] != plain[10]


def test_ends_and_ranges_change_what_they_concern() -> None:
    plain = links()
    assert differ(plain, links(drops=(Drop(1, 40),))) == list(range(40, 80))
    assert differ(plain, links(drops=(Drop(1, 5),))) == list(range(10))
    assert differ(plain, links(limits=(0, 50))) == list(range(60, 80))  # that mask is beyond
    assert differ(plain, links(limits=(5, 80))) == []
    assert differ(plain, links(limits=(20, 80))) == list(range(80))  # begins at another mask
    chain = Chain.of("x", KEYS, (), (0, 80))
    assert [chain.until(n) for n in (0, 10, 29, 30, 70)] == [10, 30, 30, 60, 80]
    with pytest.raises(UsageError, match="no mask to track"):
        Chain.of("x", KEYS, (), (61, 80))


def expand(data: bytes) -> np.ndarray:
    words = np.frombuffer(data, "<u4")
    flat = np.repeat((words[2:] & 255).astype(np.uint8), words[2:] >> 8)
    return flat.reshape(words[1], words[0])


def test_run_lengths_come_back() -> None:
    rng = np.random.default_rng(0)
    for ids in (
        rng.integers(0, 4, (17, 23)).astype(np.uint8),
        np.zeros((5, 7), np.uint8),
        np.full((4200, 4100), 255, np.uint8),  # longer than 24 bits
        np.array([[7]], np.uint8),
    ):
        assert np.array_equal(expand(run_lengths(ids)), ids)


def test_a_map_of_ids_gets_no_new_ids_when_it_shrinks() -> None:
    ids = np.zeros((90, 160), np.uint8)
    ids[20:50, 30:70] = 40
    small = shrink(ids, 61, exact=True)
    assert small.shape == (34, 61)
    assert set(np.unique(small)) == {0, 40}


def test_small_pictures_are_made_ahead_and_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", [rgb for rgb, _ in scene(64, 96, 60)])
    video = open_random_access(path)
    told: list[int] = []
    pictures = Pictures(video, tmp_path / "small", told.append)
    assert pictures.small(20) is None
    end = time.monotonic() + 30
    while len(list((tmp_path / "small").glob("*.jpg"))) < 59:
        assert time.monotonic() < end
        time.sleep(0.01)
    data = pictures.small(20)
    assert data is not None
    small = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(small.astype(int) - pictures.exact(20)).mean() < 8
    assert pictures.thumb(33) is None
    while pictures.thumb(33) is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert told == [33]
    pictures.close()
    size = sum(p.stat().st_size for p in (tmp_path / "small").glob("*.jpg"))
    monkeypatch.setattr(pictures_module, "ROOM", size // 2)
    pictures = Pictures(video, tmp_path / "small", told.append)
    pictures.small(59)
    (tmp_path / "small" / "00000.jpg").unlink()
    pictures._small.pop(0)
    pictures.take(0, video.frame(0))
    left = {int(p.stem) for p in (tmp_path / "small").glob("*.jpg")}
    assert 59 in left
    assert len(left) < 59
    pictures.close()
    video.close()


def test_a_page_that_is_far_behind_is_told_to_load_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "WAITING", 5)

    async def hear() -> list[str]:
        events = Events()
        heard = events.listen()
        first = await anext(heard)
        for n in range(12):
            events.tell("frame", frame=n)
        got = [first]
        while "11" not in got[-1]:
            got.append(await asyncio.wait_for(anext(heard), 10))
        events.close()
        assert [text async for text in heard] == []
        return got

    first, *rest = asyncio.run(hear())
    assert first.startswith(":")
    kinds = [json.loads(text.removeprefix("data: "))["kind"] for text in rest]
    assert "reload" in kinds
    assert len(kinds) <= 7


def test_marks_come_back(tmp_path: Path) -> None:
    marks = {
        1: Marks(((1.5, 2.0, True), (3.0, 4.0, False)), (1.0, 2.0, 3.0, 4.0)),
        7: Marks(strokes=(Stroke(False, 2.5, ((1.0, 1.0), (2.0, 2.0))),)),
    }
    path = tmp_path / "marks.json"
    data = write_marks({**marks, 9: Marks()})
    assert data is not None
    path.write_bytes(data)
    assert read_marks(path) == marks
    path.write_bytes(data[:-5])
    assert read_marks(path) == {}
    assert write_marks({1: Marks()}) is None
