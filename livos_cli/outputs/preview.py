"""One picture of a run: evenly spaced frames, each object's area and certainty over time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from livos_cli.errors import UsageError
from livos_cli.files.atomic import open_own
from livos_cli.masks.palette import palette_of
from livos_cli.outputs.overlay import draw_overlay
from livos_cli.outputs.sink import DOUBTFUL, FrameResult, Job, Named, Partial, Stdout, cannot_write
from livos_cli.video.source import Frame

__all__ = ["Preview", "check_suffix"]

SUFFIXES = (".png", ".jpg", ".jpeg")
THUMBS = 12  # frames shown
COLUMNS = 4
WIDTH = 1600  # pixels of the sheet
STRIP, LEAST_STRIP = 90, 26  # pixels of each object's strip; less where there are many
STRIPS = 900  # pixels of all of them, until they are at their least
SAMPLES = 1024  # points in time of the strips, at most twice as many while collecting
INK, PAPER, LINES = (30, 30, 30), (250, 250, 250), (205, 205, 205)
GONE, DOUBT, CURVE = (220, 40, 40), (255, 190, 90), (20, 60, 200)
FONT = cv2.FONT_HERSHEY_SIMPLEX


class Preview(Named):
    """A contact sheet. Keeps at most twice the frames it shows, small; and samples of the rest.

    Args:
        path: PNG or JPEG.
        job: the run.

    Raises:
        UsageError: another suffix.
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path | Stdout, job: Job) -> None:
        assert isinstance(path, Path)
        check_suffix(path)
        self._partial = Partial(path)
        self.warnings = self._partial.warnings
        self._job = job
        self._suffix = path.suffix.lower()
        width, height = job.info.width, job.info.height
        # A tall picture takes no more room than a wide one.
        self._cell = WIDTH // COLUMNS
        scale = min(self._cell / width, self._cell * 0.75 / height)
        self._size = max(1, round(width * scale)), max(1, round(height * scale))
        self._thumbs: list[tuple[int, float, tuple[int, ...], np.ndarray]] = []
        # Frame number; least area and certainty of each object since, NaN where none is known.
        self._areas: list[tuple[int, np.ndarray]] = []
        self._every = self._sample = 1  # frames
        self._ids = np.array(job.ids)

    def write(self, frame: Frame, decided: FrameResult) -> None:
        count = self._partial.frames
        if count % self._every == 0:
            drawn = draw_overlay(frame.rgb, decided.ids, self._job.look, self._job.names)
            small = cv2.resize(drawn, self._size, interpolation=cv2.INTER_AREA)
            time = float(frame.pts * self._job.info.time_base)
            low = tuple(sorted(i for i, sure in decided.certainty.items() if sure < DOUBTFUL))
            self._thumbs.append((frame.index, time, low, small))
            if len(self._thumbs) >= 2 * THUMBS:
                self._thumbs, self._every = self._thumbs[::2], 2 * self._every
        sure = [decided.certainty.get(i, np.nan) for i in self._ids.tolist()]
        areas = np.stack([decided.areas[self._ids], sure])
        if count % self._sample == 0:
            self._areas.append((frame.index, areas))
        else:
            self._areas[-1] = (self._areas[-1][0], np.fmin(self._areas[-1][1], areas))
        if len(self._areas) >= 2 * SAMPLES:
            pairs = zip(self._areas[::2], self._areas[1::2], strict=True)
            # The least of them: an object that is gone for a frame leaves a notch.
            self._areas = [(one[0], np.fmin(one[1], other[1])) for one, other in pairs]
            self._sample *= 2
        self._partial.frames += 1

    def finish(self, trailing_audio: Iterable[Any] = ()) -> None:
        target = self._partial.target
        assert isinstance(target, Path)
        sheet = np.concatenate([self._grid(), self._strips()])
        data = cv2.imencode(self._suffix, sheet[..., ::-1])[1]
        try:
            with open_own(target, "r+") as file:
                file.write(data.tobytes())
        except OSError as error:
            raise cannot_write(self._partial.path, error) from None

    def _grid(self) -> np.ndarray:
        picks = np.linspace(0, len(self._thumbs) - 1, min(THUMBS, len(self._thumbs)))
        shown = [self._thumbs[round(p)] for p in picks]
        width, height = self._size
        rows = -(-len(shown) // COLUMNS)
        bar = 24
        grid = np.full((rows * (height + bar), WIDTH, 3), PAPER, np.uint8)
        for place, (index, time, low, small) in enumerate(shown):
            row, column = divmod(place, COLUMNS)
            x = column * self._cell + (self._cell - width) // 2
            y = row * (height + bar)
            grid[y : y + height, x : x + width] = small
            text = f"frame {index}  {time:.2f} s"
            if low:
                grid[y : y + height + bar, x : x + width][height:] = DOUBT
                cv2.rectangle(grid, (x + 1, y + 1), (x + width - 2, y + height), DOUBT, 4)
                text += f"  doubtful: {', '.join(map(str, low))}"[:30]
            cv2.putText(grid, text, (x + 4, y + height + 17), FONT, 0.45, INK, 1, cv2.LINE_AA)
        return grid

    def _strips(self) -> np.ndarray:
        """A row an object: how much of the picture it covers, and how certain that is."""
        palette = palette_of(self._job.look.palette)
        pixels = self._job.info.width * self._job.info.height
        margin = 150
        tall_strip = max(LEAST_STRIP, min(STRIP, STRIPS // len(self._ids)))
        both = np.array([pair for _, pair in self._areas])  # (T, 2, N)
        values, certainty = both[:, 0] / pixels, both[:, 1]
        strips = np.full((tall_strip * len(self._ids) + 30, WIDTH, 3), PAPER, np.uint8)
        columns = np.arange(WIDTH - margin - 10)
        at = (columns * len(values) // len(columns)).astype(int)
        for row, object_id in enumerate(self._ids.tolist()):
            share = values[at, row]
            most = float(values[:, row].max()) or 1.0
            base = tall_strip * (row + 1)
            tall = np.rint(share / most * (tall_strip * 0.87)).astype(int)
            area = strips[base - tall_strip : base, margin : margin + len(columns)]
            sure = certainty[at, row]
            area[:, sure < DOUBTFUL] = DOUBT
            heights = np.arange(tall_strip, 0, -1)[:, None]
            area[heights <= tall[None]] = palette[object_id]
            area[(heights == 1) | (heights == tall[None])] = INK
            area[:, share == 0] = np.where(heights[..., None] <= 4, GONE, LINES)
            _draw_curve(area, sure)
            name = self._job.names.get(object_id, f"object {object_id}")[:16]
            lines = [name, f"at most {100 * values[:, row].max():.2g} %"]
            if not np.isnan(certainty[:, row]).all():
                lines.append(f"certain {np.nanmin(certainty[:, row]):.2f} or more")
            fit = 3 if tall_strip >= 65 else 2 if tall_strip >= 45 else 1
            for line, text in enumerate(lines[:fit]):
                where = (8, base - tall_strip + 18 + 20 * line)
                cv2.putText(strips, text, where, FONT, 0.45, INK, 1, cv2.LINE_AA)
        first, last = self._areas[0][0], self._partial.frames - 1 + self._areas[0][0]
        for x, text in ((margin, f"frame {first}"), (WIDTH - 110, f"frame {last}")):
            y = strips.shape[0] - 9
            cv2.putText(strips, text, (x, y), FONT, 0.45, INK, 1, cv2.LINE_AA)
        return strips

    def publish(self, overwrite: bool) -> None:
        self._partial.publish(overwrite)

    def abort(self) -> None:
        self._partial.abandon()


def _draw_curve(area: np.ndarray, sure: np.ndarray) -> None:
    """A certainty a column, 0 at the bottom and 1 at the top; a gap where none is known."""
    tall = area.shape[0]
    known = np.flatnonzero(~np.isnan(sure))
    if not len(known):
        return
    heights = np.rint((1 - np.nan_to_num(sure)) * (tall - 4)).astype(int) + 2
    picture = np.ascontiguousarray(area)
    for run in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
        points = np.stack([run, heights[run]], axis=1).astype(np.int32)
        cv2.polylines(picture, [points], False, PAPER, 4, cv2.LINE_AA)
        cv2.polylines(picture, [points], False, CURVE, 2, cv2.LINE_AA)
    area[:] = picture


def check_suffix(path: Path) -> None:
    """Raises UsageError unless it names a PNG or a JPEG."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--preview {path} is not a picture", f"name it {' or '.join(SUFFIXES)}")
