"""log.csv: a line a step of a training run."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path

from livos_cli.files.atomic import create, open_own

__all__ = ["Log"]


class Log:
    """Lines after the step that a run resumes from are of a past that was lost.

    Args:
        path: of the file; what it holds until that step is kept.
        columns: their names; the first is the step.
        step: where the run resumes, 0 for a new one.
    """

    def __init__(self, path: Path, columns: Sequence[str], step: int) -> None:
        kept: list[list[str]] = []
        if step and path.is_file():
            with TextIOWrapper(open_own(path), errors="replace", newline="") as file:
                kept = [row for row in csv.reader(file) if row and row[0].isdecimal()]
                kept = [row for row in kept if int(row[0]) <= step]
        path.unlink(missing_ok=True)  # a link, say; what is kept of it has been read
        self._file = TextIOWrapper(create(path), newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerows([columns, *kept])

    def write(self, *values: object) -> None:
        """Add a line."""
        self._writer.writerow(values)
        self._file.flush()
