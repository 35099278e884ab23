"""The command line: the only code that prints or exits. Torch is imported inside commands only."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from livos_cli import __version__
from livos_cli.cli import bench, evaluate, info, mask, segment, train, weights
from livos_cli.cli.panels import PanelCommand
from livos_cli.cli.stop import heeded

if TYPE_CHECKING:
    from livos_cli.errors import LivosError

__all__ = ["app", "main"]

app = typer.Typer(
    name="livos",
    help="Video object segmentation: a video and the mask of its first frame -> every mask.",
    epilog="\b\nNo mask yet? See a frame with coordinates, box the object, follow it:\n"
    "  livos mask video.mp4 --show\n"
    "  livos mask video.mp4 --box 100,50,300,200\n"
    "  livos segment video.mp4 -m video.first.png",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: brackets stay brackets, and 80 columns are enough
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("segment", cls=PanelCommand, epilog=segment.EXAMPLES)(segment.segment)
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
    from livos_cli.errors import LivosError, ReaderGoneError

    # A polite kill or a closed terminal cleans up as Ctrl-C does; shells report 128 + the signal.
    for number in heeded(("SIGTERM", "SIGHUP")):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    stdout = sys.stdout
    try:
        code = app(prog_name="livos", standalone_mode=False)
        sys.stdout.flush()
    except ReaderGoneError as error:
        _leave_quietly(error.exit_code)
    except SystemExit:
        if sys.stdout is not stdout:  # typer has met the closed pipe, and put that aside
            _leave_quietly(ReaderGoneError.exit_code)
        raise
    except LivosError as error:
        _fail(error)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC) or error.filename is not None:
            raise
        # Only our own stdout has no file name: whoever read it has gone, or it is full.
        if error.errno == errno.EPIPE:
            _leave_quietly(ReaderGoneError.exit_code)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
        _complain(f"cannot write to stdout ({error.strerror})")
        sys.exit(1)
    except Exception as error:
        # Click's own usage errors, whatever package it is vendored in, say how by these two.
        if getattr(error, "show", None) is None or not hasattr(error, "format_message"):
            _tell_json(f"unexpected {type(error).__name__}: {error}", "please report this", 1)
            raise
        from livos_cli.cli.usage import explained

        _fail(explained(error, sys.argv[1:]))
    if code == 130:  # also what typer makes of an interruption
        said = "interrupted; unfinished results were removed"
        _tell_json(said, "", code)
        _complain(said)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(error: LivosError) -> NoReturn:
    _tell_json(error.message, error.hint, error.exit_code)
    _complain(str(error))
    sys.exit(error.exit_code)


def _tell_json(message: str, hint: str, code: int) -> None:
    """With --json, errors are a line on stdout too."""
    before = sys.argv[1 : sys.argv.index("--") if "--" in sys.argv else None]
    if "--json" not in before:
        return
    told = {"error": " ".join(message.split()), "hint": " ".join(hint.split()), "exit_code": code}
    with suppress(OSError):
        print(json.dumps(told), flush=True)


def _leave_quietly(code: int) -> NoReturn:
    """Whoever read stdout has what it wanted, as with `| head`."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - nothing more is flushed into it
    sys.exit(code)


def _complain(message: str) -> None:
    print("livos:", " ".join(message.split()), file=sys.stderr)
