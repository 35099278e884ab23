"""Changes to a project's files: each complete or not at all, on disk, undone and done again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from livos_cli.errors import InputError, LivosError, OutputError, UsageError
from livos_cli.files.atomic import make_own_folder, put, write_whole
from livos_cli.files.trust import HISTORY, UntrustedError, read

__all__ = ["Content", "History", "Kept", "Step"]

MOST = 200  # steps that can be undone
LONGEST = 120  # letters of a label


class Kept(str):
    """Digest of content that `History.keep` has put aside."""

    __slots__ = ()


Content = bytes | Kept | None  # None: there is no such file


@dataclass(frozen=True)
class Step:
    """A change: of each file, digests of what it was and what it is; None where there is none."""

    label: str
    frame: int | None  # where to look
    files: dict[str, list[str | None]] = field(default_factory=dict)


class History:
    """What was changed in a project, and back again.

    What is to be written is kept first, and noted; so a change that was cut short, or its undoing,
    is completed when the project is opened again.

    Args:
        root: the project; names of files are relative to it.
        own: a folder of our own, for what files were.

    Raises:
        InputError: what was noted cannot be read.
        OSError: the folder cannot be used.
    """

    def __init__(self, root: Path, own: Path) -> None:
        self._root, self._blobs, self._journal = root, own / "blobs", own / "history.json"
        make_own_folder(self._blobs)
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
        if told["pending"] == "after" and self._done:
            self._apply(self._steps[self._done - 1], after=True)
        elif told["pending"] == "before" and self.redoable is not None:
            self._apply(self.redoable, after=False)
        if told["pending"]:
            self._note()
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
            OutputError: one cannot be written; then all are as they were, if that can be.
        """
        pairs = {name: [self._keep(self._read(name)), self._keep(c)] for name, c in files.items()}
        pairs = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
        if not pairs:
            return
        plain = "".join(c if c.isprintable() else " " for c in label)[:LONGEST]
        step, before = Step(plain, frame, pairs), (self._steps, self._done)
        steps = [*self._steps[: self._done], step]
        self._steps = steps[-MOST:]
        self._done = len(self._steps)
        try:
            self._note("after")
            self._apply(step, after=True)
        except LivosError:
            self._steps, self._done = before
            with contextlib.suppress(LivosError):
                self._apply(step, after=False)
                self._note()
            raise
        self._note()
        if len(steps) > MOST:
            self._forget()

    def undo(self) -> Step | None:
        """Undo the last step; returns it, None if there is none.

        Raises:
            UsageError: somebody else has changed a file since.
        """
        if (step := self.undoable) is not None:
            self._move(step, self._done - 1, after=False)
        return step

    def redo(self) -> Step | None:
        """Do once more what was undone last; returns it, None if there is none.

        Raises:
            UsageError: somebody else has changed a file since.
        """
        if (step := self.redoable) is not None:
            self._move(step, self._done + 1, after=True)
        return step

    def _move(self, step: Step, done: int, *, after: bool) -> None:
        for name, pair in step.files.items():
            there = self._read(name)
            if (None if there is None else _digest(there)) != pair[not after]:
                raise UsageError(
                    f"{name} was changed by another program since",
                    "it stays as it is; go on from here",
                )
        was, self._done = self._done, done
        try:
            self._note("after" if after else "before")
            self._apply(step, after=after)
        except LivosError:
            self._done = was
            with contextlib.suppress(LivosError):
                self._apply(step, after=not after)
                self._note()
            raise
        self._note()

    def _apply(self, step: Step, *, after: bool) -> None:
        for name, pair in step.files.items():
            path, digest = self._place(name), pair[after]
            data = None if digest is None else self._blob(digest)
            try:
                if data is None:
                    path.unlink(missing_ok=True)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(
                    f"cannot write {path} ({error.strerror})", "is the folder yours?"
                ) from None
            write_whole(path, data)

    def _blob(self, digest: str) -> bytes:
        try:
            return (self._blobs / digest).read_bytes()
        except OSError as error:
            raise InputError(
                f"{self._blobs / digest} cannot be read ({error.strerror})",
                f"remove {self._journal}: only undo is lost",
            ) from None

    def _place(self, name: str) -> Path:
        """Where a file is. Raises OutputError where a link leads out of the project."""
        path = self._root / name
        for folder in path.relative_to(self._root).parents:
            if (self._root / folder).is_symlink() and str(folder) != ".":
                raise OutputError(f"{self._root / folder} is a link", "remove it")
        return path

    def _read(self, name: str) -> bytes | None:
        path = self._place(name)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror})", "is it yours to read?"
            ) from None

    def keep(self, content: bytes) -> Kept:
        """Put content aside, for `change`.

        Raises:
            OutputError: it cannot be written.
        """
        digest = _digest(content)
        path = self._blobs / digest
        if not path.exists():
            try:
                put(path, content)
            except OSError as error:
                raise OutputError(
                    f"cannot write to {self._blobs} ({error.strerror})", "free some space"
                ) from None
        return Kept(digest)

    def _keep(self, content: Content) -> str | None:
        return self.keep(content) if isinstance(content, bytes) else content

    def _note(self, pending: str | None = None) -> None:
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
            if re.fullmatch(r"[0-9a-f]{64}", path.name) and path.name not in needed:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _digests(self) -> Iterator[str]:
        for step in self._steps:
            for pair in step.files.values():
                yield from (digest for digest in pair if digest is not None)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
