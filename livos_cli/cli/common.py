"""Options that several commands have, declared once, and the consoles."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from livos_cli.options import DEVICES, PRECISIONS

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "Device",
    "Json",
    "MaxSize",
    "MemoryBudget",
    "Overwrite",
    "PrecisionOption",
    "Quiet",
    "Weights",
    "clock",
    "command",
    "human",
    "one_of",
    "short",
    "stderr_console",
    "typed",
    "warn",
]


def one_of(*names: str) -> Callable[[str], list[str]]:
    """What a shell offers for an option's value; after a comma, for the next one of a list."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in names if name.startswith(last)]

    return complete


def _known_weights(incomplete: str) -> list[str]:
    from livos_cli.weights.registry import REGISTRY

    return [name for name in REGISTRY if name.startswith(incomplete)]


Weights = Annotated[
    str,
    typer.Option(
        "--weights",
        "-w",
        metavar="WEIGHTS",
        autocompletion=_known_weights,
        help="A name (see `livos weights list`), a file, or owner/repo[@revision][:file] on the "
        "Hugging Face Hub.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.", autocompletion=one_of(*DEVICES)
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="auto, fp32, fp16 or bf16. auto: fp16 on CUDA, bf16 on CPUs "
        "with tiles for it (AMX), else fp32.",
        autocompletion=one_of(*PRECISIONS),
    ),
]
MaxSize = Annotated[
    Optional[int],
    typer.Option(
        "--max-size",
        metavar="PIXELS",
        help="Shorter side at which the network runs; -1 for the video's own. "
        "[default: what the weights were trained for]",
        show_default=False,
    ),
]
MemoryBudget = Annotated[
    Optional[str],
    typer.Option(
        "--memory-budget",
        metavar="SIZE",
        help="Memory for the network, like 3GiB; large frames are computed in strips to keep it. "
        "[default: a share of what the device has free]",
        show_default=False,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", "-y", help="Replace existing outputs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, one object a line.")]


def stderr_console() -> Console:
    """Where progress and logs go; obeys NO_COLOR, and draws nothing where there is no terminal."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def warn(console: Console, text: str) -> None:
    """One line on stderr."""
    console.print(f"warning: {text}", style="yellow", markup=False)


def clock(seconds: float) -> str:
    """A time for people, as options take it: 1:02.5."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:04.1f}"
    return f"{hours}:{minutes:02}:{text}" if hours else f"{minutes}:{text}"


def command(*words: object) -> str:
    """A command that can be copied into a shell; see `typed` for paths."""
    if os.name == "nt":
        return subprocess.list2cmdline([str(word) for word in words])
    return shlex.join(str(word) for word in words)


def typed(path: str | Path) -> str:
    """A path as an argument that is not taken for an option."""
    return f"./{path}" if str(path).startswith("-") and str(path) != "-" else str(path)


def human(count: int | None) -> str:
    """Bytes for people."""
    if count is None:
        return "?"
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"


def short(path: Path) -> str:
    """A path as the user would type it from here."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
