"""Names of temporary files, which must fit where the name of the result just does."""

from __future__ import annotations

import hashlib
import os

__all__ = ["LONGEST", "fitting"]

LONGEST = 255  # bytes of a name, on nearly all file systems
ROOM = 24  # bytes for what is put before and after it


def fitting(name: str) -> str:
    """The name; or of a long one its beginning and a digest, so that something can be added."""
    data = os.fsencode(name)
    if len(data) + ROOM <= LONGEST:
        return name
    digest = hashlib.sha256(data).hexdigest()[:12]
    start = data[: LONGEST - ROOM - 13].decode(errors="ignore")  # no half letter
    return f"{start}~{digest}"
