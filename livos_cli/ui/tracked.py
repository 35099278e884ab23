"""What was tracked, on disk: a frame's result and numbers by link, and states to go on from."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from livos_cli.errors import OutputError
from livos_cli.files.atomic import create, make_own_folder, open_own, put, replacing
from livos_cli.files.trust import TRACKED, UntrustedError, parse
from livos_cli.outputs.formats import FrameResult
from livos_cli.pipeline.spool import read_result, write_result
from livos_cli.ui.chain import Chain

__all__ = ["Row", "Tracked"]

INDEX = "index.jsonl"
OLDER = 3  # results of a frame that are kept, of other links than the present one
STATES_BYTES = 2 << 30  # of all, at most


@dataclass(frozen=True)
class Row:
    """What is told of a frame's result; all of a long video's stay in memory."""

    areas: tuple[tuple[int, int], ...]  # id, pixels
    certainty: tuple[tuple[int, float], ...]  # id, how likely its mask is right

    @classmethod
    def of(cls, decided: FrameResult) -> Row:
        areas = decided.areas
        return cls(
            tuple((int(i), int(areas[i])) for i in np.flatnonzero(areas) if i),
            tuple((int(i), round(float(c), 4)) for i, c in decided.certainty.items()),
        )


class Tracked:
    """Results of all links there are.

    Args:
        folder: of our own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: OrderedDict[str, dict[int, Row]] = OrderedDict()  # by link, last written last
        self._lock = threading.RLock()  # of the rows: pages read while tracking writes
        make_own_folder(folder)
        self._states = sum(p.stat().st_size for p in folder.glob("*/*.state"))  # bytes
        for index in sorted(folder.glob(f"*/{INDEX}"), key=lambda path: path.stat().st_mtime_ns):
            there = {path.name for path in index.parent.iterdir()}  # results are removed one by one
            rows = self._read_index(index.parent)
            self._rows[index.parent.name] = {n: row for n, row in rows if f"{n:05d}" in there}

    def _read_index(self, folder: Path) -> Iterator[tuple[int, Row]]:
        try:
            with open_own(folder / INDEX) as file:
                for line in file:
                    told = parse(line, TRACKED)
                    areas, certainty = (
                        tuple((int(i), v) for i, v in told[k].items())
                        for k in ("areas", "certainty")
                    )
                    yield told["frame"], Row(areas, certainty)
        except (OSError, UntrustedError):
            return  # a line that was cut short is the last one

    def row(self, link: str, frame: int) -> Row | None:
        """What is told of a result; None if there is none."""
        return self._rows.get(link, {}).get(frame)

    def objects(self) -> set[int]:
        """Ids in any result."""
        with self._lock:
            return {
                i for rows in self._rows.values() for row in rows.values() for i, _ in row.areas
            }

    def newest(self, frame: int, link: str | None) -> str | None:
        """The link of a frame's result to be shown: the present one's, else the newest there is."""
        if link is not None and self.row(link, frame) is not None:
            return link
        with self._lock:
            return self._newest(frame)

    def _newest(self, frame: int) -> str | None:
        return next((one for one in reversed(self._rows) if frame in self._rows[one]), None)

    def read(self, link: str, frame: int) -> FrameResult | None:
        """A result; None if there is none, or it is damaged."""
        try:
            with open_own(self._folder / link / f"{frame:05d}") as file:
                return read_result(file)
        except (OSError, ValueError):
            self._rows.get(link, {}).pop(frame, None)
            return None

    def write(self, link: str, frame: int, decided: FrameResult) -> Row:
        """Keep a result. Raises OutputError where it cannot be written."""
        row = Row.of(decided)
        folder = self._folder / link
        try:
            make_own_folder(folder)
            with replacing(folder / f"{frame:05d}") as temporary, create(temporary) as file:
                write_result(file, decided)
            told = {"frame": frame, "areas": dict(row.areas), "certainty": dict(row.certainty)}
            with open_own(folder / INDEX, "a") as log:
                log.write(json.dumps(told).encode() + b"\n")
        except OSError as error:
            raise OutputError(
                f"cannot write to {folder} ({error.strerror})", "free some space"
            ) from None
        with self._lock:
            self._rows.setdefault(link, {})[frame] = row
            self._rows.move_to_end(link)
        return row

    def save_state(self, link: str, frame: int, state: dict[str, Tensor]) -> None:
        """Keep the tracker's state after a frame; of many, every second one goes."""
        folder = self._folder / link
        make_own_folder(folder)
        path = folder / f"{frame:05d}.state"
        try:
            put(path, safetensors.torch.save(state))
        except OSError as error:
            raise OutputError(
                f"cannot write to {folder} ({error.strerror})", "free some space"
            ) from None
        self._states += path.stat().st_size
        if self._states > STATES_BYTES:
            self._thin()

    def _thin(self) -> None:
        """Remove every second state, the oldest first, until half of the room is free."""
        states = sorted(self._folder.glob("*/*.state"), key=lambda path: path.stat().st_mtime_ns)
        for path in [*states[:-1:2], *states[1:-1:2]]:
            if self._states <= STATES_BYTES // 2:
                return
            self._states -= path.stat().st_size
            path.unlink()

    def state_before(self, chain: Chain, frame: int) -> tuple[int, dict[str, Tensor]] | None:
        """The latest state after a frame before this one, with that frame's number."""
        while frame > chain.origin:
            link = chain.at(frame - 1)
            begin = max(begin for begin in chain.begins if begin < frame)
            found = sorted((self._folder / link).glob("*.state"), reverse=True)
            for path in found:
                number = int(path.stem)
                if begin <= number < frame:
                    with contextlib.suppress(OSError, SafetensorError):
                        return number, safetensors.torch.load(path.read_bytes())
            frame = begin
        return None

    def forget(self, present: set[str]) -> None:
        """Remove results that nobody will ask for: of each frame, all but the newest few."""
        seen: dict[int, int] = {}
        with self._lock:
            for link in [link for link in reversed(self._rows) if link not in present]:
                rows = self._rows[link]
                for frame in list(rows):
                    seen[frame] = seen.get(frame, 0) + 1
                    if seen[frame] > OLDER:
                        rows.pop(frame)
                        (self._folder / link / f"{frame:05d}").unlink(missing_ok=True)
                if not rows:
                    self._remove(link)

    def _remove(self, link: str) -> None:
        self._states -= sum(p.stat().st_size for p in (self._folder / link).glob("*.state"))
        self._rows.pop(link, None)
        shutil.rmtree(self._folder / link, ignore_errors=True)

    def told(self, chain: Chain | None, count: int) -> dict[str, Any]:
        """Of every frame, for the page: 0 nothing, 1 out of date, 2 up to date; and the numbers."""
        status = bytearray(count)
        rows: list[Row | None] = [None] * count
        with self._lock:
            for known in self._rows.values():  # the newest last
                for frame, row in known.items():
                    if frame < count:
                        status[frame], rows[frame] = 1, row
        if chain is not None:
            for frame in range(chain.first, min(chain.end, count)):
                if (present := self.row(chain.at(frame), frame)) is not None:
                    status[frame], rows[frame] = 2, present
        areas: dict[int, list[int]] = {}
        certainty: dict[int, list[float]] = {}
        for frame, one in enumerate(rows):
            for i, area in () if one is None else one.areas:
                areas.setdefault(i, [0] * count)[frame] = area
            for i, value in () if one is None else one.certainty:
                certainty.setdefault(i, [-1.0] * count)[frame] = value
        return {"status": "".join(map(str, status)), "areas": areas, "certainty": certainty}
