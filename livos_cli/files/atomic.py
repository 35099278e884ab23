"""Files that are complete or absent, and nobody else's.

A folder of results may be one that others write to. What lies there under a name that livos is
about to use is not followed if it is a link, not waited for if it is a pipe, and not touched if it
belongs to someone else; what livos makes for a while has a name that nobody can know before.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Literal

from livos_cli.errors import OutputError

__all__ = [
    "absent",
    "create",
    "is_mine",
    "make_own_folder",
    "open_own",
    "put",
    "read_own",
    "remove_empty",
    "remove_leftovers",
    "replacing",
    "set_aside",
    "swap_folder",
    "synced",
    "temporary_of",
    "whole",
    "write_whole",
]

# Windows has no links that are made without being asked for, no such pipes, and its own O_BINARY.
_CAREFUL = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_MODES = {
    "r": os.O_RDONLY,
    "a": os.O_RDWR | os.O_CREAT | os.O_APPEND,
    "r+": os.O_RDWR | os.O_CREAT,
}
OWN_FOLDER = 0o755  # others may look into it, and not put anything there


def temporary_of(path: Path, ending: Literal["partial", "old"] = "partial") -> Path:
    """A neighbour's name for a while: short however long the final one, and not to be guessed.

    The first half says which name it stands for, so that `remove_leftovers` finds it.
    """
    return path.with_name(f"{_tag(path)}{secrets.token_hex(4)}.{ending}")


def _tag(path: Path) -> str:
    name = path.name.encode(errors="surrogateescape")
    return f".livos-{hashlib.sha256(name).hexdigest()[:8]}-"


def create(path: Path) -> IO[bytes]:
    """Open a new file for writing.

    Raises:
        FileExistsError: something has that name, be it a link that leads nowhere.
        OSError: it cannot be made.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _CAREFUL
    return os.fdopen(os.open(path, flags, 0o666), "w+b")


def open_own(path: Path, mode: Literal["r", "a", "r+"] = "r") -> IO[bytes]:
    """Open a plain file of ours: to read, to append to, or to read and write; made if missing.

    Raises:
        FileNotFoundError: there is nothing to read.
        OSError: it is a link, a pipe or a device, or somebody else's; or, to write to, it has
            another name elsewhere. `strerror` says so in words.
    """
    if os.name == "nt" and path.is_symlink():
        raise _refusal(path, "it is a link")
    try:
        number = os.open(path, _MODES[mode] | _CAREFUL, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise _refusal(path, "it is a link") from None
        if error.errno == errno.ENXIO:  # a pipe that nobody reads
            raise _refusal(path, "it is no file") from None
        raise
    try:
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode):
            raise _refusal(path, "it is no file")
        if not is_mine(path, found):
            raise _refusal(path, "it belongs to someone else")
        if mode != "r" and found.st_nlink > 1:
            raise _refusal(path, "the same file has another name, a hard link")
        return os.fdopen(number, {"r": "rb", "a": "a+b", "r+": "r+b"}[mode])
    except BaseException:
        os.close(number)
        raise


def _refusal(path: Path, why: str) -> OSError:
    return OSError(errno.EPERM, why, str(path))


def read_own(path: Path, most: int = 1 << 26) -> bytes:
    """The content of a file of ours.

    Raises:
        OSError: as `open_own`; or it is larger than anything that livos puts there.
    """
    with open_own(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most >> 20} MiB", str(path))
    return data


def is_mine(path: Path, found: os.stat_result | None = None) -> bool:
    """Whether what is there, itself and not what it may link to, belongs to who runs this."""
    if not hasattr(os, "geteuid"):
        return True
    if found is None:
        found = path.lstat()
    # Network shares and foreign disks may have one owner for all: what is made there has it too.
    return found.st_uid == os.geteuid() or found.st_uid == _owner_in(str(path.parent))


@cache
def _owner_in(folder: str) -> int | None:
    """Who owns a file that is made in a folder; None if none can be."""
    path = temporary_of(Path(folder) / "owner")
    try:
        with create(path) as file:
            return os.fstat(file.fileno()).st_uid
    except OSError:
        return None
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def make_own_folder(path: Path) -> None:
    """Make a folder that nobody else can put anything into, or take one of ours.

    Raises:
        OSError: it is a link or a file, somebody else's, or cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(OWN_FOLDER)
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise _refusal(path, "it is a link")
    if not stat.S_ISDIR(found.st_mode):
        raise OSError(errno.ENOTDIR, "it is no folder", str(path))
    if not is_mine(path, found):
        raise _refusal(path, "it belongs to someone else")


def absent(path: Path) -> list[Path]:
    """Which of a folder and those it lies in are not there yet, the innermost first."""
    return [folder for folder in (path, *path.parents) if not folder.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders, in this order, but for what is not empty: somebody else uses it."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A free name beside a path, for a new file; what has it after the block gets the path's.

    Raises:
        OSError: there is no file then, or it cannot be renamed.
    """
    temporary = temporary_of(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def swap_folder(fresh: Path, folder: Path) -> Path | None:
    """Give a finished folder its name; returns where the one is that had it, for removal.

    Folders cannot be replaced in one step. Where it is cut short between two, `set_aside` finds
    the old one.

    Raises:
        OSError: it cannot be renamed; what had the name has it still.
    """
    if not os.path.lexists(folder):
        os.replace(fresh, folder)
        return None
    old = temporary_of(folder, "old")
    os.replace(folder, old)
    try:
        os.replace(fresh, folder)
    except OSError:
        os.replace(old, folder)
        raise
    return old


@contextmanager
def synced(path: Path) -> Iterator[IO[bytes]]:
    """A new file to write to; it gets the name, and is on the disk, after the block.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, create(temporary) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """Like `synced`, for what a user asked for, with an error that says so.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with synced(path) as file:
            yield file
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {path} ({reason})", "choose another place") from None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, complete or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with whole(path) as file:
        file.write(data)


def put(path: Path, data: bytes) -> None:
    """Like `write_whole` without waiting for the disk: for what can be made again.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path) as temporary, create(temporary) as file:
        file.write(data)


def _leftovers(path: Path) -> Iterator[Path]:
    """What stands for a name for a while and is ours, beside it."""
    tag = _tag(path)
    for other in list(path.parent.iterdir()) if path.parent.is_dir() else ():
        if other.name.startswith(tag) and other.suffix in (".partial", ".old") and is_mine(other):
            yield other


def set_aside(path: Path) -> Path | None:
    """What had a name until it was about to be replaced, if that was cut short."""
    return next((other for other in _leftovers(path) if other.suffix == ".old"), None)


def remove_leftovers(path: Path) -> None:
    """What a killed run left beside a file or folder; whoever calls holds the lock on it."""
    for other in _leftovers(path):
        if other.suffix == ".old" and not os.path.lexists(path):
            other.rename(path)  # it was about to be replaced
        elif other.is_dir() and not other.is_symlink():
            shutil.rmtree(other)
        else:
            other.unlink()
