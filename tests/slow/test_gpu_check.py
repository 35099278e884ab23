"""The measurements that want a GPU, tried without one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

COMMAND = ["bash", str(ROOT / "kernels" / "gpu_check.sh")]
ENVIRONMENT = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}


def test_the_gpu_check_can_be_tried_without_a_gpu(tmp_path: Path) -> None:
    """The script itself: every part runs, small and on the CPU, and the JSON is complete."""
    path = tmp_path / "check.json"
    done = subprocess.run(
        [*COMMAND, str(path), "--dry-run"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(path.read_text())
    parts = found["parts"]
    assert next(iter(parts)) == "kernels"
    assert next(reversed(parts)) == "tests"
    assert all(part["rows"] and "problem" not in part for part in parts.values())
    speeds = [row for name, part in parts.items() if "speed" in name for row in part["rows"]]
    assert len(speeds) == 8 * 2
    assert all(row["model_fps"] > 0 and row["first_frames"] > 0 for row in speeds)
    for row in parts["same as eager"]["rows"]:
        assert row["eager"] == row["again"] == row["graphs"] == 1.0
        assert row["strips"] > 0.999
    assert parts["agreement"]["rows"][0]["share"] > 0.99
    assert parts["training"]["rows"][0]["steps_s"] > 0


def test_the_page_has_the_figures_of_the_newest_results() -> None:
    page = subprocess.run(
        [sys.executable, ROOT / "kernels" / "gpu_page.py"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (ROOT / "docs" / "notes" / "gpu.md").read_text() == page.stdout


@pytest.mark.skipif(os.name == "nt", reason="process groups of POSIX")
def test_what_is_finished_stays_when_it_is_killed(tmp_path: Path) -> None:
    """At a moment that nobody chose: the parts that were told of are in the JSON, whole."""
    path = tmp_path / "check.json"
    process = subprocess.Popen(
        [*COMMAND, str(path), "--dry-run", "--only", "kernels,reference,budgets,softmax"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    told = []
    for line in process.stdout:
        told.append(line)
        if line.startswith("reference:"):
            break
    time.sleep(time.monotonic() % 3)
    os.killpg(process.pid, signal.SIGKILL)
    told += process.stdout.readlines()
    process.wait()
    parts = json.loads(path.read_text())["parts"]
    named = [line.split(":")[0] for line in told if " rows" in line]
    assert named[:2] == ["kernels", "reference"]
    assert all(parts[name]["rows"] for name in named)


def test_a_part_that_fails_is_told_and_the_others_run(tmp_path: Path) -> None:
    path = tmp_path / "check.json"
    broken = tmp_path / "benchmark.py"  # found before the real one
    broken.write_text("raise RuntimeError('no such card')")
    code = (
        "import sys; import kernels.gpu_check as check; sys.argv = ['x', *sys.argv[1:]];"
        "check.main()"
    )
    where = os.pathsep.join(map(str, (tmp_path, ROOT, ROOT / "kernels")))
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), "--dry-run", "--only", "kernels,reference"],
        env=ENVIRONMENT | {"PYTHONPATH": where, "PYTHONSAFEPATH": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "RuntimeError: no such card" in done.stdout
    parts = json.loads(path.read_text())["parts"]
    assert "no such card" in parts["kernels"]["problem"]
    assert "problem" not in parts["reference"]
    assert parts["reference"]["rows"]
