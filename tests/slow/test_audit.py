"""The audit of what is installed, where there is no network."""

from __future__ import annotations

import os
import subprocess
import time

import pytest
from conftest import ROOT


def test_the_audit_without_a_network_says_so_and_ends_well() -> None:
    if os.name == "nt":
        pytest.skip("a script for bash")
    nowhere = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
    }
    started = time.monotonic()
    done = subprocess.run(
        [str(ROOT / ".ci" / "audit"), str(ROOT)],
        capture_output=True,
        text=True,
        env={**os.environ, **nowhere},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("pip-audit: not run: it cannot be installed")
    assert len(done.stdout.splitlines()) == 1
    assert time.monotonic() - started < 120
