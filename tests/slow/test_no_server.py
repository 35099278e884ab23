"""Weights from a Hub that does not answer: the client tries for 25 seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def test_no_server(livos: Any, tmp_path: Path) -> None:
    env = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(tmp_path)}
    done = livos("weights", "download", "owner/repo", env=env)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("livos: ")]
    assert "local cache" in said
