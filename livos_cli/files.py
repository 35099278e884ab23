"""Files that are complete or absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from livos_cli.errors import OutputError
from livos_cli.names import fitting

__all__ = ["remove_leftovers", "synced", "whole", "write_whole"]


@contextmanager
def synced(path: Path) -> Iterator[Path]:
    """A temporary neighbour to write to; it gets the name, and is on the disk, after the block.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(f".{fitting(path.name)}.partial-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Like `synced`, for what a user asked for.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with synced(path) as temporary:
            yield temporary
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {path} ({reason})", "choose another place") from None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, complete or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with whole(path) as temporary:
        temporary.write_bytes(data)


def remove_leftovers(path: Path) -> None:
    """What a killed run left beside a file or folder; whoever calls holds the lock on it."""
    if not path.parent.is_dir():
        return
    name = fitting(path.name)
    for other in list(path.parent.iterdir()):
        if other.name.startswith(f".{name}.old-") and not path.exists():
            other.rename(path)  # it was about to be replaced
        elif other.name.startswith((f".{name}.old-", f".{name}.partial-")):
            shutil.rmtree(other) if other.is_dir() else other.unlink()
