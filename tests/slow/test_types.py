"""Types as mypy sees them from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

USER = """
import livos_cli

shapes: list[tuple[int, ...]] = []
for result in livos_cli.segment("video.mp4", "first.png", device="cpu"):
    reveal_type(result.index)
    shapes.append(result.mask.shape)
reveal_type(livos_cli.Tracker(livos_cli.load_model()).object_ids)
reveal_type(livos_cli.__version__)
livos_cli.SegmentOptions(max_size="large")
"""


def test_types_are_seen_from_outside(tmp_path: Path) -> None:
    """By mypy, of a user who has the package installed and no setting of this project."""
    (tmp_path / "user.py").write_text(USER)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull, "user.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPY_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("user.py")]
    said = [line.split(": ", 1)[1].split("  [")[0] for line in lines]
    assert said == [
        'note: Revealed type is "int"',
        'note: Revealed type is "list[int]"',
        'note: Revealed type is "str"',
        'error: Argument "max_size" to "SegmentOptions" has incompatible type "str"; '
        'expected "int | None"',
    ], done.stdout
