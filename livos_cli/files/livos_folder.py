"""What livos keeps to itself in a hidden folder beside the outputs, apart from its content."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from livos_cli.errors import OutputError
from livos_cli.files.atomic import is_mine, make_own_folder, open_own, synced
from livos_cli.files.names import fitting
from livos_cli.files.trust import PUBLISHING as PUBLISHING_RULE
from livos_cli.files.trust import UntrustedError, read

__all__ = [
    "CHECKPOINT_LOCK",
    "PUBLISHING",
    "LIVOS_FOLDER",
    "discard_checkpoint",
    "empty_checkpoint",
    "identity_of",
    "checkpoint_folder",
    "lock_in",
    "note_publishing",
    "livos_folder",
    "unpublished",
]

LIVOS_FOLDER = ".livos"
PUBLISHING = "publishing.json"  # in the folder of checkpoints
CHECKPOINT_LOCK = "lock"


def livos_folder(folder: Path) -> Path:
    """Where livos keeps its own of a folder of results; it need not be there yet.

    That is `.livos`; where someone else has one in a folder that is used together, `.livos-1000`,
    by the number of the user. Nothing that others wrote is read or written.

    Raises:
        OutputError: what has that name is a link, or no folder.
    """
    names = [LIVOS_FOLDER]
    if hasattr(os, "geteuid"):
        names.append(f"{LIVOS_FOLDER}-{os.geteuid()}")
    for name in names:
        path = folder / name
        try:
            found = path.lstat()
            mine = is_mine(path, found)
        except OSError:
            return path  # there is none, or it will be said when it is made
        if mine and stat.S_ISDIR(found.st_mode):
            return path
        if mine or name != LIVOS_FOLDER:
            what = "a link" if stat.S_ISLNK(found.st_mode) else "not a folder of yours"
            raise OutputError(
                f"{path} is {what}, and livos keeps its own there",
                "remove it, or choose another place with -o",
            )
    raise AssertionError("the last name is returned or refused")


def checkpoint_folder(paths: Mapping[str, object]) -> Path | None:
    """Where checkpoints of a run that writes these are; None if nothing stays.

    Raises:
        OutputError: as `livos_folder`.
    """
    first = next((path for path in paths.values() if isinstance(path, Path)), None)
    return first and livos_folder(first.absolute().parent) / f"{fitting(first.name)}.unfinished"


def lock_in(folder: Path, name: str = CHECKPOINT_LOCK) -> FileLock:
    """Take the lock of a folder of ours, which is made if it is not there.

    Raises:
        Timeout: somebody has it.
        OSError: the folder or the lock is not ours, or cannot be made.
    """
    make_own_folder(folder.parent)
    make_own_folder(folder)
    open_own(folder / name, "a").close()  # a link, a pipe, or another's is refused here
    lock = FileLock(folder / name, blocking=False)
    lock.acquire()
    return lock


def identity_of(path: Path) -> list[int] | None:
    """What a file or folder keeps when it is renamed, and no other has; None if it is not there."""
    try:
        found = path.lstat()
    except OSError:
        return None
    size = 0 if stat.S_ISDIR(found.st_mode) else found.st_size
    return [found.st_ino, size, found.st_mtime_ns]


def note_publishing(folder: Path, outputs: Iterable[tuple[Path, Path]]) -> None:
    """Note the final name of each finished file: a run killed while renaming may replace them.

    Args:
        folder: of checkpoints.
        outputs: each finished result where it is now, and where it will be.

    Raises:
        OSError: it cannot be written.
    """
    # Those of the last time are still there, until the new ones take their place.
    entries = _still_there(folder)
    entries += [{"path": str(p.absolute()), "is": identity_of(now)} for now, p in outputs]
    with synced(folder / PUBLISHING) as file:
        file.write(json.dumps(entries).encode())


def unpublished(folder: Path) -> frozenset[Path]:
    """Outputs that a run was naming when it was killed, and that are still as it made them."""
    return frozenset(Path(entry["path"]) for entry in _still_there(folder))


def _still_there(folder: Path) -> list[dict[str, Any]]:
    try:
        if not (stat.S_ISDIR(folder.lstat().st_mode) and is_mine(folder)):
            return []
        noted = read(folder / PUBLISHING, PUBLISHING_RULE)
        # A file that came by another way has another number: whoever writes such a note into an
        # archive, say, does not know it.
        return [one for one in noted if identity_of(Path(one["path"])) == one["is"]]
    except (OSError, UntrustedError, ValueError):
        return []


def empty_checkpoint(folder: Path) -> None:
    """Remove a folder of checkpoints; whoever calls holds its lock."""
    with contextlib.suppress(OSError):
        # States before results, or what is left would be a checkpoint that cannot be read. The
        # lock goes last, or another process could begin in what is being removed.
        for path in sorted(folder.iterdir(), reverse=True):
            if path.name != CHECKPOINT_LOCK:
                path.unlink(missing_ok=True)
        shutil.rmtree(folder)


def discard_checkpoint(folder: Path) -> None:
    """Remove the checkpoints of a run that was killed when its results were there already."""
    try:
        with lock_in(folder):
            empty_checkpoint(folder)
    except (Timeout, OSError):
        pass  # somebody is at it, or it cannot be removed
