"""The command line: the only code that prints or exits. Torch is imported inside commands only."""

from __future__ import annotations

import errno
import json
import os
import sys
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from livos_cli.cli import bench, evaluate, export, info, mask, segment, train, ui, weights
from livos_cli.cli.help_panels import PanelCommand
from livos_cli.cli.hints import OrderedCommand
from livos_cli.cli.signals import exit_on_request
from livos_cli.cli.streams import complain, reserve_streams, show_traceback
from livos_cli.cli.threads import prepare_threads
from livos_cli.errors import LivosError, ReaderGoneError
from livos_cli.redact import redact, redact_logs

__all__ = ["app", "main"]

# No reader any more, no space, closed, or a terminal that is gone.
_STDOUT_FAULTS = (errno.EPIPE, errno.ENOSPC, errno.EBADF, errno.EIO)

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
app.command("mask", cls=OrderedCommand)(mask.mask)
app.command("ui", epilog=ui.EXAMPLES)(ui.ui)
app.command("info")(info.info)
app.command("bench")(bench.bench)
app.command("eval")(evaluate.evaluate)
app.command("train")(train.train)
app.command("export", epilog=export.EXAMPLES)(export.export)
app.add_typer(weights.app, name="weights")


def _version(wanted: bool) -> None:
    if wanted:
        from livos_cli.version import VERSION

        print(f"livos {VERSION}")
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
    prepare_threads()
    redact_logs()
    exit_on_request()
    stdout = sys.stdout
    try:
        code = app(prog_name="livos", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except SystemExit:
        if sys.stdout is not stdout:  # typer has met the closed pipe, and put that aside
            _leave_quietly(ReaderGoneError.exit_code)
        raise
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        known = _explain(error)
        if known is None:
            said = f"unexpected {type(error).__name__}: {error}"
            _tell_json(redact(said), "please report this", 1)
            sys.excepthook = show_traceback  # not earlier: typer sets its own
            raise
        sys.exit(known)
    if code == 130:  # also what typer makes of an interruption
        said = "interrupted; unfinished results were removed"
        _tell_json(said, "", code)
        complain(said)
    sys.exit(code if isinstance(code, int) else 0)


def _explain(error: Exception) -> int | None:
    """Say in one line what a user can do about an error; its exit code, None if it is a fault."""
    from livos_cli.memory import out_of_memory, too_little_memory

    if isinstance(error, ReaderGoneError):
        _leave_quietly(error.exit_code)
    if isinstance(error, LivosError):
        return _tell(error)
    # Click's own usage errors, whatever package it is vendored in, say how by these two.
    if getattr(error, "show", None) is not None and hasattr(error, "format_message"):
        if type(error).__name__ == "NoArgsIsHelpError":  # no command: the help, line by line
            error.show()  # type: ignore[attr-defined]
            return 2
        from livos_cli.cli.usage import explained

        return _tell(explained(error, sys.argv[1:]))
    if out_of_memory(error):
        return _tell(too_little_memory())
    if "initialize cpuinfo" in str(error):
        said = "PyTorch cannot find out what processor this is"
        return _tell(LivosError(said, "mount /proc; a chroot or container may lack it"))
    if isinstance(error, OSError) and error.errno in _STDOUT_FAULTS and error.filename is None:
        # Only our own stdout has no file name: whoever read it has gone, or it is full.
        if error.errno == errno.EPIPE:
            _leave_quietly(ReaderGoneError.exit_code)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
        complain(f"cannot write to stdout ({error.strerror})")
        return 1
    return None


def _tell(error: LivosError) -> int:
    _tell_json(error.message, error.hint, error.exit_code)
    complain(str(error))
    return error.exit_code


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
