"""Threads that leave their core to others, and no more of them than a container may run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from livos_cli.cli import threads

NAMES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "OMP_NUM_THREADS")


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        # First set, so that what the code sets is taken back.
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    monkeypatch.setattr(threads, "_cores", lambda: 8)


@pytest.mark.parametrize(
    ("quota", "count"),
    [
        ("200000 100000", "2"),
        ("250000 100000", "2"),
        ("50000 100000", "1"),
        ("max 100000", None),
        ("1600000 100000", None),
        ("", None),
        ("x y", None),
    ],
)
def test_a_containers_share_of_time(quota: str, count: str | None, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    threads.prepare_threads(tmp_path)
    assert os.environ.get("OMP_NUM_THREADS") == count


@pytest.mark.parametrize(("quota", "count"), [("300000", "3"), ("-1", None)])
def test_the_older_kind_of_container(quota: str, count: str | None, tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    threads.prepare_threads(tmp_path)
    assert os.environ.get("OMP_NUM_THREADS") == count


@pytest.mark.parametrize("name", NAMES[:3])
def test_what_the_user_has_said_stays(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text("200000 100000")
    monkeypatch.setenv(name, "7")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    threads.prepare_threads(tmp_path)
    assert os.environ[name] == "7"
    assert os.environ["OMP_NUM_THREADS"] == "5"
    assert ("GOMP_SPINCOUNT" in os.environ) == (name == "GOMP_SPINCOUNT")


def test_the_command_says_it_before_torch_is_there() -> None:
    """And a library's user is left alone."""
    code = (
        "import os, sys; from livos_cli.cli import main, threads\n"
        "sys.argv = ['livos', '--version']\n"
        "assert 'GOMP_SPINCOUNT' not in os.environ\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules; print(os.environ['GOMP_SPINCOUNT'], threads.SPIN)"
    )
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1000 1000"
