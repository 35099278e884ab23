"""Measure `livos ui`: how long a click takes, and what memory server and page take.

    python examples/measure_page.py clicks VIDEO
    python examples/measure_page.py memory VIDEO [--max-size 128] [--frames 10000]

clicks: forty clicks near the middle of the first frame, each until its mask is there, as the page
asks for it. memory: a click in the middle of the first frame, then tracking to the end while the
page follows, and jumps about in what is tracked; resident memory of the server (VmRSS) and
proportional memory of the browser (Pss of all its processes) at frames 100, 1,000 and 10,000.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TOKEN = "a-token-for-measuring"
MARKS = (100, 300, 1000, 3000, 10000)


class Server:
    """`livos ui` in a process of its own."""

    def __init__(self, video: Path, folder: str, *more: str) -> None:
        words = ["ui", str(video), "-o", folder, "--no-browser", "--token", TOKEN, "-q", *more]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "livos_cli", *words], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        found = re.search(r":(\d+)/", self.address)
        assert found
        self.host = f"127.0.0.1:{found[1]}"
        self._connection = http.client.HTTPConnection(self.host)
        self._cookie = ""
        answer, _ = self.ask(f"/?token={TOKEN}")
        self._cookie = (answer.getheader("set-cookie") or "").split(";")[0]

    def ask(self, path: str, body: object = None) -> tuple[http.client.HTTPResponse, bytes]:
        headers = {"Cookie": self._cookie, "Origin": f"http://{self.host}"}
        text = None if body is None else json.dumps(body)
        self._connection.request("GET" if body is None else "POST", path, text, headers)
        answer = self._connection.getresponse()
        return answer, answer.read()

    def told(self, path: str) -> dict:
        return json.loads(self.ask(path)[1])


def clicks(video: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(video, folder)
        project = server.told("/api/project")
        width, height = project["width"], project["height"]
        server.ask("/api/frame/0?w=1280")
        server.ask("/api/prepare", {"frame": 0})
        server.ask("/api/add_object", {})
        rng, taken = np.random.default_rng(0), []
        for n in range(41):
            x, y = width * rng.uniform(0.35, 0.65), height * rng.uniform(0.35, 0.65)
            click = {"frame": 0, "object": 1, "x": x, "y": y, "on": n % 3 == 0}
            begun = time.perf_counter()
            server.ask("/api/click", click)
            server.ask("/api/mask/0?w=1280")
            taken.append(1000 * (time.perf_counter() - begun))
        first, rest = taken[0], np.array(taken[1:])
        print(
            f"{video.name}, {width}x{height}: a click until its mask is there: median "
            f"{np.median(rest):.0f} ms, 95 % within {np.percentile(rest, 95):.0f} ms, the first "
            f"one {first:.0f} ms"
        )
        server.process.terminate()
        server.process.wait()


def memory_of(process: int, name: str = "VmRSS") -> float:
    """MB, of /proc/PROCESS/status or smaps_rollup."""
    file = "status" if name == "VmRSS" else "smaps_rollup"
    try:
        text = Path(f"/proc/{process}/{file}").read_text()
    except OSError:
        return 0.0
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.M)
    return int(found[1]) / 1000 if found else 0.0


def browser_processes(marker: str) -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            try:
                words = (path / "cmdline").read_bytes().decode(errors="ignore")
            except OSError:
                continue
            if marker in words:
                found.append(int(path.name))
    return found


def memory(video: Path, frames: int, browser: str, more: list[str]) -> None:
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = Server(video, folder, *more)
        place = tempfile.mkdtemp()
        context = playwright.chromium.launch_persistent_context(
            place, executable_path=browser, args=["--no-sandbox"],
            viewport={"width": 1280, "height": 720},
        )  # fmt: skip
        page = context.pages[0]
        page.goto(server.address)
        page.wait_for_selector('#view[data-exact="true"]')
        box = page.locator("#view").bounding_box()
        assert box
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.locator("#objects li").wait_for()
        page.locator('#undo[title*="click"]').wait_for()
        page.keyboard.press("t")
        line = page.locator("#timeline").bounding_box()
        assert line
        rng, marks, begun, total = random.Random(0), list(MARKS), time.time(), 0
        while marks and marks[0] <= frames:
            job = server.told("/api/project")["job"]
            total = max(total, job.get("total", 0))
            done = total if job["state"] == "done" else job.get("done", 0)
            if not total or done < marks[0]:
                where = line["x"] + line["width"] * rng.random() * max(0.01, done / max(1, total))
                page.mouse.click(where, line["y"] + 20)
                time.sleep(0.4)
                page.keyboard.press("ArrowRight")
                time.sleep(0.6)
                continue
            pss = sum(memory_of(one, "Pss") for one in browser_processes(place))
            print(
                f"frame {marks.pop(0)}: server {memory_of(server.process.pid):.0f} MB, browser "
                f"{pss:.0f} MB after {time.time() - begun:.0f} s",
                flush=True,
            )
        context.close()
        server.process.terminate()
        server.process.wait()


def main() -> None:
    """Read the options, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("clicks", "memory"))
    parser.add_argument("video", type=Path)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--browser", default="/usr/bin/chromium")
    parser.add_argument("--max-size", help="as for `livos ui`")
    arguments = parser.parse_args()
    if arguments.what == "clicks":
        clicks(arguments.video)
        return
    more = ["--max-size", arguments.max_size] if arguments.max_size else []
    memory(arguments.video, arguments.frames, arguments.browser, more)


if __name__ == "__main__":
    main()
