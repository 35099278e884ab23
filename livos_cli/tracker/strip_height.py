"""How high the strips are that a frame is computed in, so that it fits a memory budget."""

from __future__ import annotations

from collections.abc import Sequence

from livos_cli.device import memory_to_use
from livos_cli.errors import InputError
from livos_cli.network.budget import FEWEST_ROWS, rows_within, working_memory
from livos_cli.network.livos import LiVOS
from livos_cli.network.strips import STRIDE

__all__ = ["StripHeight"]


class StripHeight:
    """Rows of the 1/16 grid that one network computes at a time.

    Args:
        model: whose weights count.
        budget: bytes, weights counted. None: a share of what the device has free when the first
            frame comes.
        chunk: objects computed at a time, 0 for all.

    Raises:
        ValueError: a budget of 0 or less.
    """

    def __init__(self, model: LiVOS, budget: int | None, chunk: int) -> None:
        if budget is not None and budget <= 0:
            raise ValueError(f"memory_budget must be above 0, not {budget}")
        self.given = budget
        self._model, self._chunk = model, chunk
        self._weights = sum(p.numel() * p.itemsize for p in model.parameters())
        self._budget = budget
        self.at_most = 0  # rows, 0 for any; set where memory ran out all the same

    def rows(self, height: int, width: int, objects: int) -> int:
        """Rows to compute at a time, 0 for all.

        Args:
            height: of the frame, in rows of the 1/16 grid.
            width: likewise.
            objects: followed, 0 or more.

        Raises:
            InputError: no height fits the budget that was given.
        """
        if self._budget is None:
            self._budget = memory_to_use(self._model.device) + self._weights
        config, itemsize = self._model.config, self._model.dtype.itemsize
        frame = (height, width, max(1, objects), itemsize)
        rows = rows_within(self._budget - self._weights, config, *frame, chunk=self._chunk)
        if rows is None:
            if self.given is not None:
                least = working_memory(config, *frame, rows=FEWEST_ROWS) + self._weights
                raise InputError(
                    f"frames of {width * STRIDE}x{height * STRIDE} with {frame[2]} object(s) need "
                    f"{least / 2**30:.2f} GiB, more than the memory budget",
                    "use a larger --memory-budget or a smaller --max-size",
                )
            rows = FEWEST_ROWS
        if self.at_most:
            rows = min(rows or height, self.at_most)
        return rows

    def fits_twice(self, size: Sequence[int], objects: int) -> bool:
        """Whether there is memory for a frame beside what a CUDA graph holds for another.

        Args:
            size: of the frame in pixels, height and width, multiples of 16.
            objects: followed.
        """
        assert self._budget is not None  # `rows` comes first
        config, itemsize = self._model.config, self._model.dtype.itemsize
        height, width = (side // STRIDE for side in size)
        frame = (height, width, max(1, objects), itemsize)
        need = working_memory(config, *frame, chunk=self._chunk)
        return 2 * need <= self._budget - self._weights

    def halve(self, rows: int, height: int) -> int:
        """Memory ran out with so many rows, 0 for all of `height`: from now on at most half.

        Returns:
            That half, at least 1.
        """
        self.at_most = max(1, (rows or height) // 2)
        return self.at_most
