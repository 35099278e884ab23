"""Changes to a project's files: each complete or not at all, on disk, undone and done again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from livos_cli.errors import InputError, OutputError, UsageError
from livos_cli.files.atomic import create, replacing, write_whole
from livos_cli.files.trust import HISTORY, UntrustedError, read

__all__ = ["History", "Step"]

MOST = 200  # steps that can be undone
LARGEST = 1 << 26  # bytes of a file

Content = bytes | None  # None: there is no such file


@dataclass(frozen=True)
class Step:
    """A change: of each file, digests of what it was and what it is; None where there is none."""

    label: str
    frame: int | None  # where to look
    files: dict[str, list[str | None]] = field(default_factory=dict)


class History:
    """What was changed in a project, and back again.

    What is to be written is kept first, and noted; so a change that was cut short is completed when
    the project is opened again.

    Args:
        root: the project; names of files are relative to it.
        own: a folder of our own, for what files were.
    """

    def __init__(self, root: Path, own: Path) -> None:
        self._root, self._blobs, self._journal = root, own / "blobs", own / "history.json"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._steps: list[Step] = []
        self._done = 0  # of the steps
        if not self._journal.exists():
            return
        try:
            told = read(self._journal, HISTORY)
        except (OSError, UntrustedError) as error:
            raise InputError(
                f"{self._journal} cannot be read ({error})", "remove it: only undo is lost"
            ) from None
        self._steps = [Step(**step) for step in told["steps"]]
        self._done = min(told["done"], len(self._steps))
        if told["pending"] and self._done:
            self._apply(self._steps[self._done - 1], after=True)
        self._forget()

    @property
    def undoable(self) -> Step | None:
        """What `undo` would undo."""
        return self._steps[self._done - 1] if self._done else None

    @property
    def redoable(self) -> Step | None:
        """What `redo` would do."""
        return self._steps[self._done] if self._done < len(self._steps) else None

    def change(self, label: str, frame: int | None, files: Mapping[str, Content]) -> None:
        """Write or remove files, as one step.

        Args:
            label: what was done, in a few words.
            frame: where to look, if it concerns one.
            files: content by name, relative to the project.

        Raises:
            OutputError: one cannot be written; a step that was begun is completed at the next
                opening.
        """
        pairs = {name: [self._keep(self._read(name)), self._keep(c)] for name, c in files.items()}
        pairs = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
        if not pairs:
            return
        step = Step(label, frame, pairs)
        self._steps = [*self._steps[: self._done], step][-MOST:]
        self._done = len(self._steps)
        self._note(pending=True)
        self._apply(step, after=True)
        self._note(pending=False)

    def undo(self) -> Step | None:
        """Undo the last step; returns it, None if there is none."""
        if (step := self.undoable) is None:
            return None
        self._check(step, after=True)
        self._apply(step, after=False)
        self._done -= 1
        self._note(pending=False)
        return step

    def redo(self) -> Step | None:
        """Do once more what was undone last; returns it, None if there is none."""
        if (step := self.redoable) is None:
            return None
        self._check(step, after=False)
        self._done += 1
        self._note(pending=True)
        self._apply(step, after=True)
        self._note(pending=False)
        return step

    def _check(self, step: Step, *, after: bool) -> None:
        """Raises UsageError where somebody else has changed a file meanwhile."""
        for name, pair in step.files.items():
            there = self._read(name)
            if (None if there is None else _digest(there)) != pair[after]:
                raise UsageError(
                    f"{name} was changed by another program since",
                    "it stays as it is; go on from here",
                )

    def _apply(self, step: Step, *, after: bool) -> None:
        for name, pair in step.files.items():
            path, digest = self._root / name, pair[after]
            if digest is None:
                path.unlink(missing_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, (self._blobs / digest).read_bytes())

    def _read(self, name: str) -> Content:
        try:
            return (self._root / name).read_bytes()
        except FileNotFoundError:
            return None

    def _keep(self, content: Content) -> str | None:
        if content is None:
            return None
        digest = _digest(content)
        path = self._blobs / digest
        if not path.exists():
            try:
                with replacing(path) as temporary, create(temporary) as file:
                    file.write(content)
            except OSError as error:
                raise OutputError(
                    f"cannot write to {self._blobs} ({error.strerror})", "free some space"
                ) from None
        return digest

    def _note(self, *, pending: bool) -> None:
        told = {
            "steps": [asdict(step) for step in self._steps],
            "done": self._done,
            "pending": pending,
        }
        write_whole(self._journal, json.dumps(told).encode())

    def _forget(self) -> None:
        """Remove what no step needs any more."""
        needed = set(self._digests())
        for path in self._blobs.iterdir():
            if path.name not in needed:
                with contextlib.suppress(OSError):
                    os.unlink(path)  # noqa: PTH108

    def _digests(self) -> Iterator[str]:
        for step in self._steps:
            for pair in step.files.values():
                yield from (digest for digest in pair if digest is not None)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
