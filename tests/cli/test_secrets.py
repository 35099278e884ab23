"""Passwords and keys in addresses: nowhere on a terminal, and in no file that is kept."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media import scene, write_png, write_video

from livos_cli.errors import InputError
from livos_cli.redact import redact
from livos_cli.video.container import stem_of

SECRETS = ("hunter2", "maria", "s3cr3t")
CLOSED = "127.0.0.1:9"  # nobody listens there


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("https://maria:hunter2@h/a.mp4?sig=s3cr3t", "https://***@h/a.mp4?***"),
        ("zip://a.mp4::https://maria:hunter2@h/x.zip?k=s3cr3t", "zip://a.mp4::https://***@h/x.zip?***"),
        ("https://maria:hunt/er2@h/a.mp4", "https://***@h/a.mp4"),
        ("https://maria:hunt@er2@h/a.mp4", "https://***@h/a.mp4"),
        ("https://s3cr3t@h/a.mp4", "https://***@h/a.mp4"),
        ("rtsp://maria:hunter2@10.0.0.1", "rtsp://***@10.0.0.1"),
        ("h: 'https://h/a?k=s3cr3t', gone", "h: 'https://h/a?***', gone"),
        ("https://h/#token=s3cr3t.", "https://h/?***."),
        ("https://h/my file.mp4?k=s3cr3t gone", "https://h/my file.mp4?*** gone"),
        ("refused with url: /x?sig=s3cr3t (try again)", "refused with url: /x?*** (try again)"),
        # What is no secret stays.
        ("https://host:8080/a@b.mp4", "https://host:8080/a@b.mp4"),
        ("hf://owner/repo@main/a.mp4", "hf://owner/repo@main/a.mp4"),
        ("ray://host:10001", "ray://host:10001"),
        ("was it there? see https://h/ for more", "was it there? see https://h/ for more"),
        ("a file called what?.mp4, and me@home", "a file called what?.mp4, and me@home"),
    ],
)  # fmt: skip
def test_addresses_lose_their_secrets(text: str, want: str) -> None:
    assert redact(text) == want
    assert redact(want) == want
    error = InputError(f"{text} gone", f"try {text} again")
    assert not any(secret in str(error) for secret in SECRETS)


def test_a_camera_without_a_path_gives_no_name_away() -> None:
    assert stem_of("rtsp://maria:hunter2@10.0.0.1:554/?k=s3cr3t") == "10.0.0"
    assert stem_of("https://h/clips/a.b.mp4?k=s3cr3t") == "a.b"


def assert_silent(*texts: str) -> None:
    for text in texts:
        assert not any(secret in text for secret in SECRETS), text


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    made = {"video": tmp_path / "site" / "clip.mp4", "mask": tmp_path / "masks" / "clip.png"}
    made["video"].parent.mkdir()
    write_video(made["video"], [rgb for rgb, _ in scene(64, 96, 4)])
    mask = np.zeros((64, 96), np.uint8)
    mask[20:40, 20:50] = 255
    write_png(made["mask"], mask, "gray")
    with zipfile.ZipFile(tmp_path / "site" / "clips.zip", "w") as archive:
        archive.write(made["video"], "clip.mp4")
    return made


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def site(files: dict[str, Path]) -> Iterator[str]:
    """A server that does not care who asks."""
    handler = partial(Quiet, directory=str(files["video"].parent))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_one_video_from_an_address(
    files: dict[str, Path], site: str, tmp_path: Path, livos: Any
) -> None:
    url = f"http://maria:hunter2@{site}/clip.mp4?sig=s3cr3t"
    out = tmp_path / "out"
    done = livos("segment", url, "-m", files["mask"], "-o", out, "--json", "--save", "coco")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["video"] == f"http://***@{site}/clip.mp4?***"
    assert_silent(done.stdout, done.stderr, *map(str, out.rglob("*")))
    assert_silent(*(p.read_text() for p in out.rglob("*") if p.is_file()))


def test_an_address_that_cannot_be_reached(
    files: dict[str, Path], tmp_path: Path, livos: Any
) -> None:
    for url in (
        f"http://maria:hunter2@{CLOSED}/clip.mp4?sig=s3cr3t",
        f"rtsp://maria:hunter2@{CLOSED}",
    ):
        done = livos("segment", url, "-m", files["mask"], "-o", tmp_path / "out")
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert_silent(done.stdout, done.stderr)
    done = livos(
        "segment", files["video"], "-m", files["mask"], "-w", "https://maria:hunter2@h/w?k=s3cr3t"
    )
    assert_silent(done.stdout, done.stderr)
    done = livos(
        "segment", files["video"], "-m", files["mask"], "--https://maria:hunter2@h/?k=s3cr3t"
    )
    assert done.returncode == 2
    assert_silent(done.stdout, done.stderr)


def test_many_videos_leave_no_secret_in_reports_and_manifests(
    files: dict[str, Path], tmp_path: Path, livos: Any
) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"rtsp://maria:hunter2@{CLOSED}/clip.mp4?sig=s3cr3t\n{files['video']}\n")
    out = tmp_path / "out"
    for more in ((), ("--json",), ("--dry-run",), ("--dry-run", "--json")):
        done = livos("segment", "--list", listed, "-m", files["mask"].parent, "-o", out, *more)
        assert_silent(done.stdout, done.stderr)
    kept = [p for p in out.rglob("*") if p.suffix in (".json", ".jsonl")]
    assert out / "report.jsonl" in kept
    assert_silent(*(p.read_text() for p in kept), *map(str, out.rglob("*")))


def test_results_of_an_archive_have_a_manifest_without_its_path(
    files: dict[str, Path], tmp_path: Path, livos: Any
) -> None:
    secret = tmp_path / "s3cr3t"
    secret.mkdir()
    archive = (tmp_path / "site" / "clips.zip").rename(secret / "clips.zip")
    out = tmp_path / "out"
    arguments = (
        "segment",
        f"zip://clip.mp4::file://{archive}",
        "-r",
        "-m",
        files["mask"].parent,
        "-o",
        out,
    )
    done = livos(*arguments)
    assert done.returncode == 0, done.stderr
    (manifest,) = (out / ".livos").glob("*.json")
    made_from = json.loads(manifest.read_text())["outputs"]["clip.mask.mkv"]["made_from"]
    assert_silent(made_from)
    assert "done already" in livos(*arguments).stderr


LOGS = """
import logging, sys
from livos_cli.redact import redact_logs
redact_logs(); redact_logs()
from huggingface_hub.utils import http_backoff
try:
    http_backoff("GET", "http://maria:hunter2@127.0.0.1:9/x?sig=s3cr3t", max_retries=1,
                 base_wait_time=0.01)
except Exception as error:
    print(type(error).__name__)
try:
    raise OSError("http://maria:hunter2@h/")
except OSError:
    logging.exception("at %s", "http://h/?k=s3cr3t")
logging.warning("%d", "no number: the logging module tells of that")
"""


def test_lines_that_libraries_log() -> None:
    """The retry line of huggingface-hub, from its own client."""
    done = subprocess.run([sys.executable, "-c", LOGS], capture_output=True, text=True, check=True)
    assert "thrown while requesting GET http://***@127.0.0.1:9/x?***" in done.stderr
    assert "OSError: http://***@h/" in done.stderr
    assert "--- Logging error ---" in done.stderr
    assert_silent(done.stdout, done.stderr)
    assert not getattr(logging.getLogRecordFactory(), "redacts", False)  # of this process


FAULT = """
import sys
from livos_cli.cli import app, main
@app.command("fault")
def fault(): raise ZeroDivisionError("http://maria:hunter2@h/?k=s3cr3t \\x1b[31m")
sys.argv = ["livos", "fault"]
main()
"""


def test_a_fault_of_livos_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAULT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "ZeroDivisionError: http://***@h/?*** \\x1b[31m" in done.stderr
    # The line of the source is shown, too, and that is no address of the user's.
    assert "\x1b" not in done.stderr
