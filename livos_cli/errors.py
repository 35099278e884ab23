"""The one error a user can cause, and the few kinds of it that callers tell apart."""

from __future__ import annotations

import signal

from livos_cli.redact import redact

__all__ = [
    "InputError",
    "InterruptionError",
    "KindError",
    "LivosError",
    "OutputError",
    "PastEndError",
    "ReaderGoneError",
    "ShortMemoryError",
    "UsageError",
    "WeightsError",
]


class LivosError(Exception):
    """Something the user can mend: one line that says what is wrong, one that says what to do.

    Args:
        message: what is wrong, without a final stop.
        hint: what to do about it; may be empty.

    Examples:
        >>> from livos_cli import LivosError, load_model
        >>> try:
        ...     load_model("huge")
        ... except LivosError as error:
        ...     print(error.message)
        unknown weights 'huge'
    """

    exit_code = 1

    def __str__(self) -> str:
        return f"{self.message} — {self.hint}" if self.hint else self.message

    def __init__(self, message: str, hint: str = "") -> None:
        message, hint = redact(message), redact(hint)  # both may quote an address with a password
        super().__init__(message, hint)  # both, so that it can be sent to another process
        self.message = message
        self.hint = hint


class UsageError(LivosError):
    """The command or call itself is wrong: contradicting options, a device that is not there."""

    exit_code = 2


class InputError(LivosError):
    """A video or mask that cannot be used."""


class PastEndError(InputError):
    """A range that begins after the last frame."""


class OutputError(LivosError):
    """A result that cannot be written."""


class KindError(OutputError):
    """One kind of result cannot hold this video; others may."""


class ReaderGoneError(OutputError):
    """Whoever read our stdout has ended, as `head` does; no fault, so nothing is said."""

    exit_code = 141  # what shells report of a program that SIGPIPE ended


class WeightsError(LivosError):
    """Weights that cannot be found, fetched, read or trusted."""


class ShortMemoryError(LivosError):
    """The machine has too little memory for what was asked; no fault of the input."""


class InterruptionError(LivosError):
    """Stopped because that was asked for; what is needed to resume is on disk.

    Args:
        message: what was stopped, without a final stop.
        hint: how to resume; may be empty.
        received: number of the signal that asked for it; the exit code is 128 more, as in shells.
    """

    def __init__(self, message: str, hint: str = "", received: int = signal.SIGINT) -> None:
        super().__init__(message, hint)
        self.args = (self.message, self.hint, int(received))  # see LivosError
        self.exit_code = 128 + int(received)
