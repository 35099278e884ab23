"""Standard streams that may be closed, and the lines that are printed when all else fails."""

from __future__ import annotations

import os
import sys
import traceback
from types import TracebackType

from livos_cli.cli.common import printable

__all__ = ["complain", "reserve_streams", "show_traceback"]


def reserve_streams() -> None:
    """Give closed streams (`>&-`) their numbers back, leading nowhere.

    Or the next file to be opened would get the number, and with it what C libraries print.
    `sys.stdin` and `sys.stdout` stay None, so that who needs them can say that they are closed;
    what is told on stderr is for nobody then.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123


def complain(message: str) -> None:
    """One line on stderr."""
    print("livos:", printable(message), file=sys.stderr)


def show_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """A fault of livos itself; it may quote names and addresses like any other message."""
    lines = "".join(traceback.format_exception(kind, error, trace))
    print(printable(lines, keep="\n\t", longest=None), end="", file=sys.stderr)
