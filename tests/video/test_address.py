"""What a video is given as, told in one place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from livos_cli.video.address import Address


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.b.mp4").touch()
    (tmp_path / "frames.v1").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    told = {
        "-": ("stdin", None, "stdin", False),
        "rtsp://me:key@camera/live/one.ts?x=1": ("url", None, "one", False),
        "a.b.mp4": ("file", Path("a.b.mp4"), "a.b", True),
        "./frames.v1/": ("folder", Path("frames.v1"), "frames.v1", True),
        "pipe.mp4": ("other", Path("pipe.mp4"), "pipe", False),
        "gone.mp4": ("other", Path("gone.mp4"), "gone", False),
        "//x": ("other", Path("//x"), "x", False),
    }
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        for text, want in told.items():
            address = Address.of(text)
            assert (address.kind, address.path, address.stem, address.repeatable) == want
            assert address.text == text
        assert Address.of("").kind == "folder"  # as a path it is here
        assert Address.of("a\0b").kind == "other"
        assert Address.of("x" * 5000).kind == "other"
        # Only text can be a URL: of a path, two slashes are one.
        assert Address.of(Path("rtsp://camera")).kind == "other"
        assert Address.of(Path("-")).kind == "stdin"
    finally:
        os.chdir(before)


@pytest.mark.skipif(os.name == "nt", reason="links of POSIX")
def test_a_link_has_the_name_of_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real.mkv").touch()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "real.mkv")
    assert Address.of(tmp_path / "link.mp4").stem == "real"
    assert Address.of(str(tmp_path / "link.mp4")).kind == "file"
