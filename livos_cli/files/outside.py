"""Names that come from outside: from archives, listings, lists and notes on disk."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

__all__ = ["inner_path", "plain_name"]


def plain_name(name: str) -> str:
    """A name of one file or folder, as it is.

    Raises:
        ValueError: it is none: it would lead elsewhere, or no system takes it.
    """
    if inner_path(name).name != name:
        raise ValueError(f"{name[:80]!r} is no plain name")
    return name


def inner_path(path: str) -> PurePosixPath:
    """A path that stays inside of the folder it is put into, on any system.

    Raises:
        ValueError: it is empty, absolute, goes up by `..`, has the letter of a drive, or a NUL.
    """
    parts = re.split(r"[/\\]", path)
    wrong = "\0" in path or parts[0] == "" or ".." in parts
    if wrong or any(re.match(r"[A-Za-z]:", part) for part in parts) or set(parts) <= {"", "."}:
        raise ValueError(f"{path[:80]!r} leads elsewhere")
    return PurePosixPath(path)
