"""The measurements that want a GPU, tried without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from conftest import ROOT


def test_the_gpu_check_can_be_tried_without_a_gpu(tmp_path: Path) -> None:
    """The script itself: every part runs, small and on the CPU, and the JSON is complete."""
    result = tmp_path / "check.json"
    script = ROOT / "kernels" / "gpu_check.sh"
    done = subprocess.run(
        ["bash", str(script), str(result), "--dry-run"],
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(result.read_text())
    assert [run.get("problem") for run in found["runs"]] == [""] * 9
    assert min(found["same_as_eager"].values()) > 0.999
    assert found["agreement"] > 0.99
    assert "problem" not in found["kernels"]
    assert {name for name, mark in found["marks"].items() if mark["met"] is None} <= {
        "480p: memory at frame 10,000 over that at 100",
        "matching: share of the copy",
    }
