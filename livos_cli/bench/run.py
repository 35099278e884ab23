"""Runs one after the other, each in a process of its own, so that one's memory is not another's."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from livos_cli.bench.measure import measure
from livos_cli.bench.settings import Measured, Setting

__all__ = ["run_all"]


def run_all(settings: list[Setting]) -> Iterator[Measured]:
    """Measure every setting. One that its process does not survive has a `problem`."""
    for setting in settings:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            try:
                yield pool.submit(measure, setting).result()
            except BrokenProcessPool:
                yield Measured(setting, problem="its process was killed, out of memory it seems")
