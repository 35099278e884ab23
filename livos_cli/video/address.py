"""What a video or a mask is given as: stdin, a URL, a folder, a file; decided in one place."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from livos_cli.video.container import is_url, stem_of

__all__ = ["Address"]


@dataclass(frozen=True)
class Address:
    """Something to read from, and what it is at the moment it is asked about.

    Made by `Address.of`; nothing is opened.
    """

    text: str  # as it was given
    kind: Literal["stdin", "url", "folder", "file", "other"]  # other: a pipe, a device, or nothing

    @classmethod
    def of(cls, text: str | Path) -> Address:
        """Tell what a text or a path is: `-` is stdin, and only text can be a URL."""
        name = str(text)
        if name == "-":
            return cls(name, "stdin")
        if is_url(text):
            return cls(name, "url")
        try:
            mode = os.stat(name or ".").st_mode  # noqa: PTH116 - of 10,000 names
        except (OSError, ValueError):  # ValueError: a NUL in it
            return cls(name, "other")
        return cls(name, "folder" if stat.S_ISDIR(mode) else _file_or_other(mode))

    @property
    def live(self) -> bool:
        """Whether frames come when they come: stdin or a URL."""
        return self.kind in ("stdin", "url")

    @property
    def path(self) -> Path | None:
        """Where it is on this machine; None for stdin and a URL."""
        return None if self.live else Path(self.text)

    @property
    def repeatable(self) -> bool:
        """Whether the same frames come again when it is read again: a file or a folder."""
        return self.kind in ("file", "folder")

    @cached_property
    def stem(self) -> str:
        """What outputs are called: a name without its suffix, with links followed; or `stdin`."""
        if self.kind == "stdin":
            return "stdin"
        if self.kind == "url":
            return stem_of(self.text)
        place = Path(self.text).resolve()
        return place.name if self.kind == "folder" else place.stem


def _file_or_other(mode: int) -> Literal["file", "other"]:
    return "file" if stat.S_ISREG(mode) else "other"
