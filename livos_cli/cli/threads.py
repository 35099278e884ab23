"""How many threads compute, and how they wait for each other: said before PyTorch is imported."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["prepare_threads"]

# Turns that a thread of GNU's OpenMP, which PyTorch has on Linux, waits in before it yields its
# core. Its own 300,000 are for a machine that does nothing else: beside two busy programs on two
# cores they make a run take 1.8 to 7 times as long. Alone, these cost 1 %: see
# docs/notes/performance.md.
SPIN = 1000
_SAID = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
CGROUP = Path("/sys/fs/cgroup")


def prepare_threads(cgroup: Path = CGROUP) -> None:
    """Set what OpenMP reads from the environment, where the user has not.

    For the command line alone: a program that uses livos as a library decides for itself.
    """
    environment = os.environ
    if not any(name in environment for name in _SAID):
        environment["GOMP_SPINCOUNT"] = str(SPIN)
    quota = _quota(cgroup)
    if "OMP_NUM_THREADS" not in environment and quota is not None and quota < _cores():
        environment["OMP_NUM_THREADS"] = str(max(1, math.floor(quota)))


def _cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota(cgroup: Path) -> float | None:
    """Cores' worth of time that a container gives, None for any: threads are not limited by it."""
    try:
        used, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:  # version 1
            used = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        return int(used) / int(period) if int(used) > 0 else None
    except (ValueError, ZeroDivisionError):  # "max": no limit
        return None
