"""Signals, all of them: Ctrl-C once leaves what can be resumed, twice stops at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

from livos_cli.errors import InterruptionError

__all__ = ["Stop", "exit_on_request"]


def exit_on_request() -> None:
    """Let a polite kill or a closed terminal clean up as Ctrl-C does.

    The exit code is 128 + the signal, as shells report it.
    """
    for number in _heeded(("SIGTERM", "SIGHUP")):
        signal.signal(number, lambda received, _: sys.exit(128 + received))


class Stop:
    """Takes the signals that end a run, while one is under way that can be resumed.

    Until `armed` is set, and from the second signal on, they do what they did before. An
    InterruptionError that leaves the block says which signal it was.

    Args:
        quiet: say nothing when a signal is taken.
        unit: what is finished first.
    """

    def __init__(self, *, quiet: bool = False, unit: str = "frame") -> None:
        self.armed = False
        self._quiet = quiet
        self._said = f"\nstopping after this {unit}; once more to stop at once\n".encode()
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        for number in _heeded(("SIGINT", "SIGTERM", "SIGHUP")):
            self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if isinstance(error, InterruptionError) and self._received is not None:
            raise InterruptionError(error.message, error.hint, self._received) from None

    def __call__(self) -> bool:
        """Whether a signal has asked to stop."""
        return self._received is not None

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.armed and self._received is None:
            self._received = number
            if not self._quiet:
                # Not through a console: what it locks may be held by the code interrupted here.
                os.write(2, self._said)
            return
        before = self._before[number]
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            sys.exit(128 + number)


def _heeded(names: Iterable[str]) -> Iterator[int]:
    """Those of these signals that there are here and that are not ignored.

    What is ignored stays so: that is how nohup and shells keep a command running.
    """
    for name in names:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            yield number
