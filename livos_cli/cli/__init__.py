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
from livos_cli.cli.stop import heeded

__all__ = ["app", "main"]

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
    from livos_cli.errors import LivosError

    # A polite kill or a closed terminal cleans up as Ctrl-C does; shells report 128 + the signal.
    for number in heeded(("SIGTERM", "SIGHUP")):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except LivosError as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC) or error.filename is not None:
            raise
        # Only our own stdout has no file name: whoever read it has gone, or it is full.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
        _complain(f"cannot write to stdout ({error.strerror})")
        sys.exit(1)
    except Exception as error:
        # Click's own usage errors, whatever package it is vendored in, print and exit by show().
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        sys.exit(getattr(error, "exit_code", 2))
    if code == 130:  # also what typer makes of an interruption
        _complain("interrupted; unfinished results were removed")
    sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str) -> None:
    print("livos:", " ".join(message.split()), file=sys.stderr)
