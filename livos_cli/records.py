"""What livos keeps to itself in a hidden folder beside the outputs, apart from its content."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from livos_cli.names import fitting

__all__ = [
    "JOURNAL_LOCK",
    "PUBLISHING",
    "RECORDS",
    "discard_journal",
    "empty_journal",
    "journal_folder",
    "unpublished",
]

RECORDS = ".livos"
PUBLISHING = "publishing.json"  # in the folder of checkpoints
JOURNAL_LOCK = "lock"


def journal_folder(paths: Mapping[str, object]) -> Path | None:
    """Where checkpoints of a run that writes these are; None if nothing stays."""
    first = next((path for path in paths.values() if isinstance(path, Path)), None)
    return first and first.absolute().parent / RECORDS / f"{fitting(first.name)}.unfinished"


def unpublished(folder: Path) -> frozenset[Path]:
    """Outputs that a run was naming when it was killed: they are livos's to replace."""
    try:
        return frozenset(map(Path, json.loads((folder / PUBLISHING).read_text())))
    except (OSError, ValueError):
        return frozenset()


def empty_journal(folder: Path) -> None:
    """Remove a folder of checkpoints; whoever calls holds its lock."""
    with contextlib.suppress(OSError):
        # State before results, or what is left would be a checkpoint that cannot be read. The lock
        # goes last, or another process could begin in what is being removed.
        for path in sorted(folder.iterdir(), reverse=True):
            if path.name != JOURNAL_LOCK:
                path.unlink(missing_ok=True)
        shutil.rmtree(folder)


def discard_journal(folder: Path) -> None:
    """Remove the checkpoints of a run that was killed when its results were there already."""
    try:
        with FileLock(folder / JOURNAL_LOCK, blocking=False):
            empty_journal(folder)
    except (Timeout, OSError):
        pass  # somebody is at it, or it cannot be removed
