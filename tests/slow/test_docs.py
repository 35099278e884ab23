"""The site is built as the gate builds it, and its Python is run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import EXAMPLES, ROOT


def test_the_python_of_the_guide_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "guides" / "python.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    shutil.copy(EXAMPLES / "first.png", tmp_path / "first.png")
    words = ["ffmpeg", "-v", "error", "-i", EXAMPLES / "clip.mp4", "-frames:v", "6", "video.mp4"]
    if shutil.which("ffmpeg") is None:
        pytest.skip("the video is cut by ffmpeg, which is not here")
    subprocess.run(words, cwd=tmp_path, check=True)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    said = done.stdout.splitlines()
    assert len(said) == 6 + 2 * 6  # a line a frame of segment, two of the tracker
    assert said[6].startswith("[1, 2, 3] ")


def test_the_site_is_built_and_has_every_command(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="needs the extra 'docs'")
    words = [sys.executable, "-m", "mkdocs", "build", "-q", "--strict", "-d", str(tmp_path)]
    subprocess.run(words, cwd=ROOT, check=True)
    page = (tmp_path / "reference" / "cli" / "index.html").read_text()
    for command in ("segment", "mask", "ui", "eval", "weights-convert"):
        assert f'id="livos-{command}"' in page
    assert "Usage: livos segment" in page
    assert "PyAV" in (tmp_path / "contributing" / "index.html").read_text()
    assert (
        'id="livos_cli.masks.object_ids.read_mask"'
        in (tmp_path / "reference" / "api" / "index.html").read_text()
    )
