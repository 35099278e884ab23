"""The page as a person uses it: Chromium, a real server, a real clip."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import EXAMPLES
from media import files, scene, write_video
from page_server import PageServer

from livos_cli.masks.palette import decode_index_png

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
PICTURES = os.environ.get("LIVOS_PAGE_PICTURES")  # a folder for screenshots, to look at
WIDTH, HEIGHT, FRAMES, CUT = 160, 96, 60, 40
SOON = 60_000  # ms

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    both = scene(HEIGHT, WIDTH, CUT, objects=2, seed=5)
    both += scene(HEIGHT, WIDTH, FRAMES - CUT, objects=2, seed=3)
    path = tmp_path_factory.mktemp("shot") / "shot.mp4"
    write_video(path, [rgb for rgb, _ in both], options={"g": "12"}, tone=True)
    return path, [ids for _, ids in both]


class Page:
    """What a person does, in the frame's pixels."""

    def __init__(
        self, chromium: Any, address: str, size: tuple[int, int] = (WIDTH, HEIGHT)
    ) -> None:
        self.page = chromium.new_page(viewport={"width": 1280, "height": 720})
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda m: self.faults.append(m.text) if m.type == "error" else None)
        self.page.set_default_timeout(SOON)
        self._size = size
        self.page.goto(address)
        self.shows(0)

    def shows(self, frame: int) -> None:
        """Wait until a frame is shown exactly, with its masks."""
        self.page.wait_for_selector(
            f'#view[data-frame="{frame}"][data-exact="true"][data-mask="{frame}"]'
        )

    def at(self, x: float, y: float) -> tuple[float, float]:
        box = self.page.locator("#view").bounding_box()
        scale = min(box["width"] / self._size[0], box["height"] / self._size[1])
        left = box["x"] + (box["width"] - self._size[0] * scale) / 2
        top = box["y"] + (box["height"] - self._size[1] * scale) / 2
        return left + x * scale, top + y * scale

    def click(self, x: float, y: float, **how: Any) -> None:
        self.page.mouse.click(*self.at(x, y), **how)

    def drag(self, *points: tuple[float, float]) -> None:
        mouse = self.page.mouse
        mouse.move(*self.at(*points[0]))
        mouse.down()
        for point in points[1:]:
            mouse.move(*self.at(*point), steps=4)
        mouse.up()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def go(self, frame: int) -> None:
        self.page.fill("#frame", str(frame))
        self.press("Enter")
        self.page.locator("#view").focus()
        self.shows(frame)

    def said(self, pattern: str) -> str:
        """Wait for a word of the status line."""
        where = self.page.locator("#said", has_text=re.compile(pattern))
        where.wait_for()
        return str(where.text_content())

    def idle(self) -> None:
        self.page.wait_for_selector("#stop:disabled")

    def text(self, where: str) -> str:
        return str(self.page.locator(where).text_content())

    def picture(self, name: str) -> None:
        if PICTURES:
            Path(PICTURES).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=str(Path(PICTURES) / f"{name}.png"))

    def close(self) -> None:
        self.page.close()
        aborted = [fault for fault in self.faults if "ERR_" not in fault and "409" not in fault]
        assert not aborted, aborted


def middle(mask: np.ndarray) -> tuple[float, float]:
    inner = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = divmod(int(inner.argmax()), mask.shape[1])
    return x + 0.5, y + 0.5


def key(project: Path, frame: int) -> np.ndarray:
    """A key mask, once it is there."""
    return decode_index_png(project / "masks" / f"{frame:05d}.png")


def until(true: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def test_a_shot_from_click_to_export(chromium: Any, shot: Any, tmp_path: Path, livos: Any) -> None:
    video, truth = shot
    project = tmp_path / "project"
    server = PageServer(video, "-o", project)
    page = Page(chromium, server.address)
    assert "Click the object" in page.text("#hint")
    page.picture("1-first")

    x, y = middle(truth[0] == 1)
    page.click(x, y)
    until(lambda: (project / "masks" / "00000.png").exists())
    assert key(project, 0)[int(y), int(x)] == 1
    page.click(3.5, 3.5, button="right")
    page.page.locator('#undo[title*="not here"]').wait_for()
    assert key(project, 0)[3, 3] == 0
    page.press("b")
    page.drag((5, 90), (30, 90))
    page.page.locator('#undo[title*="brush"]').wait_for()
    assert key(project, 0)[90, 20] == 1
    page.press("Control+z")
    page.page.locator('#redo[title*="brush"]').wait_for()
    assert key(project, 0)[90, 20] == 0
    page.press("Control+Shift+z")
    page.page.locator('#undo[title*="brush"]').wait_for()
    page.press("e")
    page.drag((5, 90), (30, 90))
    page.page.locator('#undo[title*="eraser"]').wait_for()
    assert key(project, 0)[90, 20] == 0

    page.press("v", "a")
    page.page.locator("#objects li.chosen[data-id='2']").wait_for()
    rows, columns = np.nonzero(truth[0] == 2)
    page.drag((columns.min() - 2, rows.min() - 2), (columns.max() + 2, rows.max() + 2))
    page.page.locator('#undo[title*="box"]').wait_for()
    got = key(project, 0)
    assert ((got == 2) & (truth[0] == 2)).sum() > 0.7 * ((got == 2) | (truth[0] == 2)).sum()
    page.picture("2-marked")

    page.press("t")
    page.page.wait_for_selector("#stop:enabled")
    page.picture("3-tracking")
    page.said(r"60 frames tracked")
    page.go(40)
    page.press("ArrowLeft")
    page.shows(39)
    assert "tracked" in page.text("#frame-facts")
    page.picture("4-tracked")

    # After the cut nothing is what it was: N goes there, a click corrects it.
    page.press("Home")
    page.shows(0)
    page.press("n")
    page.shows(CUT)
    page.page.wait_for_selector("#objects .sure.low")
    page.picture("5-doubt")
    x, y = middle(truth[CUT] == 1)
    page.press("1")
    page.click(x, y)
    until(lambda: (project / "masks" / f"{CUT:05d}.png").exists())
    assert key(project, CUT)[int(y), int(x)] == 1
    page.press("u")
    page.said(r"20 frames tracked")
    page.picture("6-corrected")
    page.go(39)
    page.press("l")
    page.said("frame 39 is locked")
    page.click(3, 3)
    page.said("frame 39 is locked — press L")
    page.go(50)
    page.press("2", "g")
    page.said("is not followed from frame 50 on")

    page.press("x")
    page.page.wait_for_selector("#export-dialog[open]")
    page.page.click("#export-go")
    page.page.locator("#export-said", has_text="written to").wait_for()
    page.picture("7-exported")
    command = page.text("#command")
    assert (project / "shot.overlay.mp4").exists()
    page.page.click("#export-go")
    page.page.locator("#export-said", has_text="exists already").wait_for()
    page.page.click("#export-replace")
    page.page.locator("#export-said", has_text="written to").wait_for()
    page.page.click("#export-close")
    page.press("?")
    page.page.wait_for_selector("#help-dialog[open]")
    page.picture("8-help")
    page.page.click("#help-close")

    page.page.reload()
    page.shows(0)
    assert page.page.locator("#objects li").count() == 2
    assert page.page.locator('#undo[title*="gone"]').count() == 1
    page.close()
    server.stop()

    words = shlex.split(command)[1:]
    words[words.index("-o") + 1] = str(tmp_path / "shell")
    done = livos(*words)
    assert done.returncode == 0, done.stderr
    shell = files(tmp_path / "shell")
    assert shell == {name: (project / name).read_bytes() for name in shell}


def test_a_killed_server_loses_nothing(chromium: Any, shot: Any, tmp_path: Path) -> None:
    video, truth = shot
    project = tmp_path / "project"
    server = PageServer(video, "-o", project, "--token", "a-token-of-some-length")
    page = Page(chromium, server.address)
    page.click(*middle(truth[0] == 1))
    until(lambda: (project / "masks" / "00000.png").exists())
    page.press("t")
    tracked = project / ".livos" / "page" / "tracked"
    until(lambda: len(list(tracked.glob("*/[0-9]*[0-9]"))) > 12)
    server.kill()
    page.said("the server does not answer")
    page.picture("9-lost")
    page.page.close()
    known = len(list(tracked.glob("*/[0-9]*[0-9]")))
    assert 12 < known < FRAMES
    server.start()
    page = Page(chromium, server.address)
    page.press("t")
    page.said(rf"{FRAMES - known} frames tracked|{FRAMES - known + 1} frames tracked")
    page.go(FRAMES - 1)
    assert "tracked" in page.text("#frame-facts")
    page.close()
    server.stop()


def test_keyboard_alone(chromium: Any, shot: Any, tmp_path: Path) -> None:
    video, truth = shot
    project = tmp_path / "project"
    server = PageServer(video, "-o", project)
    page = Page(chromium, server.address)
    page.press("Control+ArrowLeft")
    x, y = middle(truth[0] == 1)
    box = page.page.locator("#view").bounding_box()
    scale = min(box["width"] / WIDTH, box["height"] / HEIGHT)
    here = [WIDTH / 2 - 16 / scale, HEIGHT / 2]
    for want, place, keys in (
        (x, 0, ("ArrowLeft", "ArrowRight")),
        (y, 1, ("ArrowUp", "ArrowDown")),
    ):
        steps = round((want - here[place]) * scale / 16)
        for _ in range(abs(steps)):
            page.press(f"Control+{keys[steps > 0]}")
    page.press("Enter")
    until(lambda: (project / "masks" / "00000.png").exists())
    assert key(project, 0)[int(y), int(x)] == 1
    page.press("o")
    page.press("ArrowRight", "Shift+ArrowRight")
    page.shows(11)
    page.press("o")
    page.press("t")
    page.said("12 frames tracked")
    page.press("Home")
    page.shows(0)
    for _ in range(40):  # everything can be reached by Tab, and seen to have the focus
        page.press("Tab")
        if page.page.locator("#export:focus-visible").count():
            break
    page.press("Enter")
    page.page.wait_for_selector("#export-dialog[open]")
    page.press("Escape")
    page.close()
    server.stop()


def test_habits(chromium: Any, shot: Any, tmp_path: Path) -> None:
    """Space plays, a time that is typed leaves the field, a name is changed, a range is seen."""
    video, truth = shot
    project = tmp_path / "project"
    server = PageServer(video, "-o", project)
    page = Page(chromium, server.address)
    page.press(" ")
    until(lambda: int(page.page.input_value("#frame")) > 3)
    page.press(" ")
    stopped = int(page.page.input_value("#frame"))
    page.shows(stopped)
    page.page.fill("#time", "1,2")
    page.press("Enter")
    page.shows(30)
    page.click(*middle(truth[30] == 1))
    until(lambda: (project / "masks" / "00030.png").exists())
    page.press("l")  # not into the field
    page.said("frame 30 is locked")
    page.page.fill("#time", "9:00")
    page.press("Enter")
    page.said("the last frame is 59, at 0:02.36")
    page.page.fill("#frame", "x")
    page.press("Enter")
    page.said("a frame is a whole number")

    name = page.page.locator("#objects .name")
    name.dblclick()
    page.page.keyboard.type("ball")
    page.press("Enter")
    until(lambda: '"ball"' in (project / "project.json").read_text())
    page.press("h")  # a key of the page again, not a letter of the name
    until(lambda: '"visible": false' in (project / "project.json").read_text())

    page.go(10)
    page.press("i")
    page.go(39)
    page.press("o")
    page.page.locator("#range", has_text="0:00.40 to 0:01.56, 30 frames").wait_for()
    page.go(45)
    page.press("t")
    page.said("frame 45 is outside of the range, 10 to 39")
    page.press("i")
    page.said("that is after Out")
    page.page.click("#whole")
    page.page.wait_for_selector("#whole", state="hidden")
    page.close()
    server.stop()


def test_a_jump_while_it_plays_and_keys_in_fields(chromium: Any, shot: Any, tmp_path: Path) -> None:
    video, truth = shot
    project = tmp_path / "project"
    server = PageServer(video, "-o", project)
    page = Page(chromium, server.address)
    page.press("Enter")  # the cursor is shown; nothing was pointed at
    page.go(0)
    assert not list((project / "masks").iterdir())
    page.click(*middle(truth[0] == 1))
    until(lambda: (project / "masks" / "00000.png").exists())

    page.press("k")
    until(lambda: int(page.page.input_value("#frame")) > 20)
    page.press("Home")
    assert int(page.page.input_value("#frame")) < 15, "it plays on from where one jumps"
    page.press("k")

    page.go(0)
    page.page.locator("#objects .name").click()  # chosen, not to be typed in
    page.press("Backspace")
    assert (project / "masks" / "00000.png").exists()
    page.page.locator("#objects .name").dblclick()
    page.page.keyboard.type("cat")
    page.press("Enter")
    until(lambda: '"cat"' in (project / "project.json").read_text())
    page.page.locator("#objects .name").click()
    page.press("Control+z")
    until(lambda: page.page.locator("#objects .name").input_value() == "object 1")
    page.page.locator("#objects input[type=color]").focus()
    page.press("ArrowRight")
    page.shows(1)
    page.close()
    server.stop()


def test_names_for_screen_readers(chromium: Any, shot: Any, tmp_path: Path) -> None:
    server = PageServer(shot[0], "-o", tmp_path / "project")
    page = Page(chromium, server.address)
    page.press("a", "a")
    page.page.locator("#objects li.chosen[data-id='2']").wait_for()
    for role in ("button", "textbox", "slider", "checkbox", "img", "status"):
        found = page.page.get_by_role(role)
        assert found.count(), role
    tree = page.page.locator("body").aria_snapshot()
    assert not re.search(r"- (button|textbox|slider|checkbox)( \[.*\])?$", tree, re.M), tree
    page.close()
    server.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_dark_and_a_large_window(
    chromium: Any, scheme: str, tmp_path: Path, shared: Path
) -> None:
    """Nothing is cut off, from 1280x720 up; pictures to look at."""
    server = PageServer(shared / "data" / "davis-train" / "bear.mp4", "-o", tmp_path / "project")
    page = Page(chromium, server.address, (854, 480))
    page.page.emulate_media(color_scheme=scheme)
    page.click(430, 250)
    page.page.locator("#objects li").wait_for()
    page.picture(f"10-{scheme}")
    for width, height in ((800, 600), (1280, 720), (1920, 1080), (2560, 1300)):
        page.page.set_viewport_size({"width": width, "height": height})
        for where in ("#export", "#help", "#timeline", "#said", "aside"):
            box = page.page.locator(where).bounding_box()
            assert box["x"] >= 0, where
            assert box["x"] + box["width"] <= width + 1, where
            assert box["y"] + box["height"] <= height + 1, where
    page.picture(f"11-{scheme}-large")
    page.close()
    server.stop()


def test_a_mask_file_is_dropped(chromium: Any, tmp_path: Path) -> None:
    project = tmp_path / "project"
    server = PageServer(EXAMPLES / "clip.mp4", "-o", project)
    page = Page(chromium, server.address, (640, 360))
    data = (EXAMPLES / "first.png").read_bytes()
    transfer = page.page.context.new_cdp_session(page.page)
    place = tmp_path / "first.png"
    place.write_bytes(data)
    x, y = page.at(320, 180)
    for kind in ("dragEnter", "dragOver", "drop"):
        transfer.send(
            "Input.dispatchDragEvent",
            {
                "type": kind, "x": x, "y": y,
                "data": {"items": [], "files": [str(place)], "dragOperationsMask": 1},
            },
        )  # fmt: skip
    page.said("first.png")
    until(lambda: (project / "masks" / "00000.png").exists())
    want = cv2.imread(str(EXAMPLES / "first.png"), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(key(project, 0) > 0, want > 0)
    page.picture("12-dropped")
    page.close()
    server.stop()
