"""What is known of finished results, in a file beside them, so that they need not be made twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from livos_cli.files.atomic import make_own_folder, remove_leftovers, synced
from livos_cli.files.livos_folder import records_folder
from livos_cli.files.names import fitting
from livos_cli.files.trust import MANIFEST, UntrustedError, read
from livos_cli.version import VERSION

__all__ = ["Manifest"]

FORMAT = 1


class Manifest:
    """Of one video's results in one folder: `.livos/<stem>.json` there.

    Each kind has the digest of what it was made from, and its file's size and time of change: a
    result that was changed or is gone is no finished result.

    Raises:
        OutputError: as `livos_cli.files.livos_folder.records_folder`.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self.path = records_folder(folder) / f"{fitting(stem)}.json"
        self.facts: dict[str, Any] = {}
        self.problem: str | None = None  # why one that is there is not used
        try:
            self.facts = read(self.path, MANIFEST)
        except FileNotFoundError:
            pass
        except (OSError, UntrustedError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            self.problem = f"what is noted in {self.path} is not used: {reason}"

    @property
    def frames(self) -> int | None:
        return self.facts.get("frames")

    def _entry(self, path: Path) -> dict[str, Any] | None:
        """What is noted of an output, if that is still what is there."""
        entry = self.facts.get("outputs", {}).get(path.name)
        return entry if entry is not None and entry.get("is") == _state(path) else None

    def done(self, outputs: Mapping[str, Path], made_from: str) -> bool:
        """Whether all of these are there, made from this."""
        entries = [self._entry(path) for path in outputs.values()]
        return bool(entries) and all(e is not None and e["made_from"] == made_from for e in entries)

    def ours(self, path: Path) -> bool:
        """Whether what is there is as it was made, and may be made anew."""
        return self._entry(path) is not None

    def write(
        self, outputs: Mapping[str, Path], made_from: str, facts: Mapping[str, object]
    ) -> None:
        """Note results; those of other kinds stay noted.

        Raises:
            OSError: it cannot be written.
        """
        entries = dict(self.facts.get("outputs", {}))
        for kind, path in outputs.items():
            entries[path.name] = {"kind": kind, "made_from": made_from, "is": _state(path)}
        self.facts = {"format": FORMAT, "livos": VERSION, **facts, "outputs": entries}
        # What a run left that was killed right here: its video is done again, by one process.
        make_own_folder(self.path.parent)
        remove_leftovers(self.path)
        with synced(self.path) as file:
            file.write(json.dumps(self.facts, indent=1).encode())


def _state(path: Path) -> list[int] | None:
    """Size and time of change of a file; of a folder, number of files and its time of change."""
    try:
        stat = path.stat()
        size = sum(1 for _ in path.iterdir()) if path.is_dir() else stat.st_size
    except OSError:
        return None
    return [size, stat.st_mtime_ns]
