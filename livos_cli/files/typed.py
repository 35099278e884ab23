"""Commands and paths as somebody can type them."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

__all__ = ["command", "typed"]


def command(*words: object) -> str:
    """A command that can be copied into a shell; see `typed` for paths."""
    if os.name == "nt":
        return subprocess.list2cmdline([str(word) for word in words])
    return shlex.join(str(word) for word in words)


def typed(path: str | Path) -> str:
    """A path as an argument that is not taken for an option."""
    return f"./{path}" if str(path).startswith("-") and str(path) != "-" else str(path)
