"""What livos's own files on disk must look like: others may have written them, and disks fail.

Each file has a row in a table; whatever does not fit its row is not used, and that is said.
Tensors have a table of their own, beside the tracker: `tracker.saved_state`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from livos_cli.files.atomic import read_own
from livos_cli.files.outside import plain_name

__all__ = [
    "CHECKPOINT",
    "HISTORY",
    "INDEX",
    "LONG",
    "MANIFEST",
    "MARKS",
    "OWNER",
    "PROJECT",
    "PUBLISHING",
    "REPORT",
    "SCORES",
    "SETTINGS",
    "TRACKED",
    "Rule",
    "UntrustedError",
    "parse",
    "read",
]

FAR = 1 << 62  # more than any size, number or time there is


class UntrustedError(ValueError):
    """Content that livos would not have written there."""


class Rule(Protocol):
    """A row of a table."""

    def check(self, value: object, where: str) -> None:
        """Raises UntrustedError, which names the place."""


@dataclass(frozen=True)
class Text:
    """Characters that can be shown in a line."""

    most: int = 10_000

    def check(self, value: object, where: str) -> None:
        if not isinstance(value, str) or len(value) > self.most:
            raise UntrustedError(f"{where} is not a text")


@dataclass(frozen=True)
class Shown(Text):
    """Text that goes to the terminal."""

    def check(self, value: object, where: str) -> None:
        super().check(value, where)
        if not str(value).isprintable():
            raise UntrustedError(f"{where} cannot be shown")


@dataclass(frozen=True)
class Name:
    """Of one file."""

    def check(self, value: object, where: str) -> None:
        try:
            plain_name(value if isinstance(value, str) else "")
        except ValueError:
            raise UntrustedError(f"{where} is no name of a file") from None


@dataclass(frozen=True)
class OfProject:
    """A file that a step of a project's history may concern, relative to the project."""

    def check(self, value: object, where: str) -> None:
        name = r"[^/\\:\0]+" if os.name == "nt" else r"[^/\0]+"
        known = rf"project\.json|masks/{name}\.png|\.livos(-\d+)?/page/marks/\d+\.json"
        if not (isinstance(value, str) and re.fullmatch(known, value)):
            raise UntrustedError(f"{where} has something that is not a file of a project")


@dataclass(frozen=True)
class Real:
    """Any number that is one."""

    def check(self, value: object, where: str) -> None:
        if not (isinstance(value, (int, float)) and type(value) is not bool and abs(value) < FAR):
            raise UntrustedError(f"{where} is not a number")


@dataclass(frozen=True)
class Digest:
    """A sha256, in hexadecimal."""

    def check(self, value: object, where: str) -> None:
        good = isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")
        if not good:
            raise UntrustedError(f"{where} is not a digest")


@dataclass(frozen=True)
class Whole:
    """A whole number."""

    least: int = 0
    most: int = FAR

    def check(self, value: object, where: str) -> None:
        if type(value) is not int or not self.least <= value <= self.most:
            raise UntrustedError(f"{where} is not a number from {self.least} on")


@dataclass(frozen=True)
class Id:
    """An object's id, as text."""

    def check(self, value: object, where: str) -> None:
        if not (isinstance(value, str) and value.isascii() and value.isdecimal()):
            raise UntrustedError(f"{where} has what is not an id")
        Whole(0, 1 << 16).check(int(value[:9]), where)


@dataclass(frozen=True)
class Number:
    """Any number from 0 on that is one."""

    def check(self, value: object, where: str) -> None:
        # Not a bool; and what is no number compares as false.
        if not (isinstance(value, (int, float)) and type(value) is not bool and 0 <= value < FAR):
            raise UntrustedError(f"{where} is not a number")


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def check(self, value: object, where: str) -> None:
        if type(value) is not bool:
            raise UntrustedError(f"{where} is not true or false")


@dataclass(frozen=True)
class Colour:
    """Like #00ff00."""

    def check(self, value: object, where: str) -> None:
        if not (isinstance(value, str) and re.fullmatch(r"#[0-9a-f]{6}", value)):
            raise UntrustedError(f"{where} is not a colour")


@dataclass(frozen=True)
class Maybe:
    """Null, or something."""

    rule: Rule

    def check(self, value: object, where: str) -> None:
        if value is not None:
            self.rule.check(value, where)


@dataclass(frozen=True)
class Many:
    """A list of one kind."""

    rule: Rule
    least: int = 0
    most: int = 1_000_000

    def check(self, value: object, where: str) -> None:
        if not isinstance(value, list) or not self.least <= len(value) <= self.most:
            raise UntrustedError(f"{where} is no such list")
        for number, one in enumerate(value):
            self.rule.check(one, f"{where}[{number}]")


@dataclass(frozen=True)
class Rows:
    """An object with these fields, and, for later versions, maybe others."""

    rows: Mapping[str, Rule]

    def check(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise UntrustedError(f"{where or 'it'} is no object")
        for name, rule in self.rows.items():
            if name not in value:
                if isinstance(rule, Maybe):
                    continue
                raise UntrustedError(f"{where}{'.' if where else ''}{name} is missing")
            rule.check(value[name], f"{where}{'.' if where else ''}{name}")


@dataclass(frozen=True)
class Each:
    """An object with any names of a kind."""

    name: Rule
    rule: Rule

    def check(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise UntrustedError(f"{where} is no object")
        for name, one in value.items():
            self.name.check(name, where)
            self.rule.check(one, f"{where}.{name[:40]}")


# Size and time of change: of a file, or of a folder. Before 1970 there are times, too.
_STATE = Many(Whole(-FAR), 2, 2)
_OUTPUT = Rows({"kind": Text(), "made_from": Text(), "is": Maybe(_STATE)})
# .livos/<stem>.json: batch/manifest.py
MANIFEST = Rows({
    "format": Whole(1, 1),
    "frames": Maybe(Whole()),
    "outputs": Each(Text(), _OUTPUT),
})  # fmt: skip
# .livos/owner.json: lock.py
OWNER = Rows({"host": Shown(300), "process": Whole(), "since": Number()})
# .livos/<name>.unfinished/publishing.json: livos_folder.py
PUBLISHING = Many(Rows({"path": Text(), "is": Many(Whole(-FAR), 3, 3)}))
# The notes in a checkpoint's header: `pipeline.checkpoint`
CHECKPOINT = Rows({
    "fingerprint": Digest(),
    "frames": Whole(1, 1 << 40),
    "bytes": Whole(1),
    "crc": Whole(0, 0xFFFFFFFF),
    "warnings": Many(Text()),
    "computed_on": Maybe(Shown()),
})  # fmt: skip
# A line of a batch's report: batch/report.py
REPORT = Rows({"video": Text(), "status": Text(20), "livos": Text(100)})
# Of an evaluation: settings.json, scores/<sequence>.json, long/<sequence>.json
SETTINGS = Rows({"livos": Text(100)})
SCORES = Rows({
    "frames": Whole(),
    "seconds": Number(),
    "objects": Each(Id(), Many(Number(), 2, 2)),
})  # fmt: skip
LONG = Many(Number(), 1)
# index.json of a training run's checkpoint: training/checkpoint.py
INDEX = Rows({
    "step": Maybe(Whole()),
    "bytes": Whole(),
    "parts": Many(Rows({"name": Name(), "sha256": Digest()})),
})  # fmt: skip

# project.json in a project of `livos ui`: ui/project.py
PROJECT = Rows({
    "format": Whole(1, 1),
    "video": Text(),
    "objects": Many(
        Rows({
            "id": Whole(1, 255),
            "name": Shown(200),
            "colour": Colour(),
            "visible": Flag(),
            "locked": Flag(),
        }),
        0,
        255,
    ),
    "drops": Many(Many(Whole(), 2, 2)),
    "locked": Many(Whole()),
    "range": Maybe(Many(Whole(), 2, 2)),
})  # fmt: skip
# .livos/page/history.json: ui/history.py
HISTORY = Rows({
    "steps": Many(
        Rows({
            "label": Shown(200),
            "frame": Maybe(Whole()),
            "files": Each(OfProject(), Many(Maybe(Digest()), 2, 2)),
        })
    ),
    "done": Whole(),
    "pending": Maybe(Text(6)),
})  # fmt: skip
# .livos/page/marks/NNNNN.json: ui/marks.py
_COORDINATE = Real()
MARKS = Each(
    Id(),
    Rows({
        "points": Many(Many(_COORDINATE, 3, 3), 0, 10_000),
        "box": Maybe(Many(_COORDINATE, 4, 4)),
        "strokes": Many(
            Rows({
                "on": Flag(),
                "radius": _COORDINATE,
                "path": Many(Many(_COORDINATE, 2, 2), 1, 100_000),
            }),
            0,
            10_000,
        ),
    }),
)  # fmt: skip
# A line of .livos/page/tracked/<chain>/index.jsonl: ui/tracked.py
TRACKED = Rows({
    "frame": Whole(),
    "areas": Each(Id(), Whole()),
    "certainty": Each(Id(), Number()),
})  # fmt: skip


def parse(data: bytes | str, rule: Rule) -> Any:
    """JSON that fits a row.

    Raises:
        UntrustedError: it is none, or does not fit.
    """
    try:
        value = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UntrustedError(f"it is not JSON ({reason[:100]})") from None
    rule.check(value, "")
    return value


def _no_number(text: str) -> float:
    raise UntrustedError(f"{text} is not a number")


def read(path: Path, rule: Rule) -> Any:
    """JSON that fits a row, from a file of ours.

    Raises:
        UntrustedError: it does not fit.
        OSError: it cannot be read, or is not ours; see `livos_cli.files.atomic.open_own`.
    """
    return parse(read_own(path), rule)
