"""The command line: the only code that prints or exits. Torch is imported inside commands only."""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import Annotated

import typer

from livos_cli import __version__
from livos_cli.cli import bench, evaluate, info, mask, segment, train, weights
from livos_cli.cli.common import printable
from livos_cli.cli.stop import heeded
from livos_cli.cli.streams import complain, reserve_streams, show_traceback
from livos_cli.redact import redact_logs

__all__ = ["app", "main"]

# No reader any more, no space, closed, or a terminal that is gone.
_STDOUT_FAULTS = (errno.EPIPE, errno.ENOSPC, errno.EBADF, errno.EIO)

app = typer.Typer(
    name="livos",
    help="Video object segmentation: a video and the mask of its first frame -> every mask.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: brackets stay brackets, and 80 columns are enough
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("segment")(segment.segment)
app.command("mask", cls=mask.OrderedCommand)(mask.mask)
app.command("info")(info.info)
app.command("bench")(bench.bench)
app.command("eval")(evaluate.evaluate)
app.command("train")(train.train)
app.add_typer(weights.app, name="weights")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"livos {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Options of `livos` itself."""


def main() -> None:
    """Run, and turn every error a user can cause into one line and an exit code."""
    reserve_streams()
    redact_logs()
    # A polite kill or a closed terminal cleans up as Ctrl-C does; shells report 128 + the signal.
    for number in heeded(("SIGTERM", "SIGHUP")):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        code = app(standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        known = _explain(error)
        if known is None:
            sys.excepthook = show_traceback  # not earlier: typer sets its own
            raise
        sys.exit(known)
    if code == 130:  # also what typer makes of an interruption
        complain("interrupted; unfinished results were removed")
    sys.exit(code if isinstance(code, int) else 0)


def _explain(error: Exception) -> int | None:
    """Say in one line what a user can do about an error; its exit code, None if it is a fault."""
    from livos_cli.errors import LivosError
    from livos_cli.memory import out_of_memory, too_little_memory

    if isinstance(error, LivosError):
        complain(str(error))
        return error.exit_code
    # Click's own usage errors, whatever package it is vendored in, print themselves.
    if (show := getattr(error, "show", None)) is not None:
        if isinstance(said := getattr(error, "message", None), str):
            error.message = printable(said)  # type: ignore[attr-defined]  # names what was typed
        show()
        return getattr(error, "exit_code", 2)
    if out_of_memory(error):
        complain(str(too_little_memory()))
        return 1
    if isinstance(error, OSError) and error.errno in _STDOUT_FAULTS and error.filename is None:
        # Only our own stdout has no file name: whoever read it has gone, or it is full.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
        complain(f"cannot write to stdout ({error.strerror})")
        return 1
    return None
