"""Ctrl-C once: finish the frame and leave a checkpoint. Twice: stop at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

__all__ = ["Stop", "heeded"]

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


def heeded(names: Iterable[str]) -> Iterator[int]:
    """Those of these signals that there are here and that are not ignored.

    What is ignored stays so: that is how nohup and shells keep a command running.
    """
    for name in names:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            yield number


class Stop:
    """Takes the signals that end a run, while one is under way that can be resumed.

    Until `armed` is set, and from the second signal on, they do what they did before.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.armed = False
        self._quiet = quiet
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        for number in heeded(SIGNALS):
            self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """Whether to stop after this frame."""
        return self._received is not None

    @property
    def exit_code(self) -> int:
        """What shells expect of a command that was stopped so."""
        received = self._received
        return 130 if received in (None, signal.SIGINT) else 128 + int(received or 0)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.armed and self._received is None:
            self._received = number
            if not self._quiet:
                # Not through a console: what it locks may be held by the code interrupted here.
                os.write(2, b"\nstopping after this frame; once more to stop at once\n")
            return
        before = self._before[number]
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            sys.exit(128 + number)
