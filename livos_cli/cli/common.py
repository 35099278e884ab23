"""Options that several commands have, declared once, and the consoles."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from livos_cli.errors import OutputError
from livos_cli.options import BACKENDS, DEVICES, PRECISIONS
from livos_cli.redact import redact

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = [
    "LONGEST",
    "Device",
    "Json",
    "MaxSize",
    "MemoryBudget",
    "Overwrite",
    "PrecisionOption",
    "BackendOption",
    "Quiet",
    "Weights",
    "as_cell",
    "check_free",
    "human",
    "one_of",
    "printable",
    "say",
    "say_terms",
    "short",
    "stderr_console",
    "stdout_console",
    "terms_line",
    "warn",
]

LONGEST = 2000  # characters of a line for people; a name or a library's reason may be of any length
# Besides the control characters: what changes the order in which text is shown.
_TURNS_TEXT = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


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
        help="auto, fp32, fp16, bf16 or int8. auto: fp16 on CUDA, bf16 on CPUs "
        "that are faster with it, else fp32.",
        autocompletion=one_of(*PRECISIONS),
    ),
]
BackendOption = Annotated[
    str,
    typer.Option(
        "--backend",
        metavar="NAME",
        help="What computes the frames: auto, torch, or on the CPU onnxruntime or "
        "openvino (packages of their own). auto: onnxruntime for int8, else torch.",
        autocompletion=one_of(*BACKENDS),
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
        help="Memory for the network, like 3GiB; large frames are computed in strips to stay "
        "below it. [default: a share of what the device has free]",
        show_default=False,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", "-y", help="Replace existing outputs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, one object per line.")]


def printable(text: str, *, keep: str = "", longest: int | None = LONGEST) -> str:
    """A text that is safe on a terminal: names of files come from anywhere.

    Args:
        text: with names, addresses, reasons of libraries in it.
        keep: control characters that stay as they are.
        longest: characters from which it is cut; None for never.

    Returns:
        One line (unless `keep` has line ends): control characters are escaped, as are bytes that
        are no text; addresses are without their secrets.
    """
    if longest is not None and len(text) > longest:
        # Before anything is looked for in it: it may have hundreds of millions of characters.
        text = f"{text[:longest]}… ({len(text)} characters)"
    text = redact(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or _harmless(c) else _escaped(c) for c in text)


def _harmless(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind not in ("Cc", "Cs", "Zl", "Zp") and character not in _TURNS_TEXT


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds a byte that is no text
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def say(text: str, *, longest: int | None = None) -> None:
    """One line on stdout, for people; JSON has its own escapes."""
    print(printable(text, longest=longest))


def check_free(*paths: Path | None, overwrite: bool) -> None:
    """Make sure that nothing is overwritten unless that was asked for.

    Raises:
        OutputError: there is something at one of these paths.
    """
    for path in paths:
        if path is not None and path.exists() and not overwrite:
            raise OutputError(f"{path} exists already", "use -y to overwrite it")


def as_cell(text: str) -> Text:
    """A name for a table: its brackets are no markup."""
    from rich.text import Text

    return Text(printable(text))


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    class Safe(Console):
        """Whatever text is printed, it is made safe first."""

        def print(self, *objects: Any, **how: Any) -> None:
            safe = (printable(one) if isinstance(one, str) else one for one in objects)
            super().print(*safe, **{"markup": False, **how})

    stream = sys.stderr if stderr else sys.stdout
    if stream is None:  # closed by whoever started us
        return Safe(quiet=True)
    return Safe(stderr=stderr, highlight=False, soft_wrap=stderr, emoji=False)


def stderr_console() -> Console:
    """Where progress and logs go; obeys NO_COLOR, and draws nothing where there is no terminal."""
    return _console(stderr=True)


def stdout_console() -> Console:
    """Where tables go that are the result."""
    return _console(stderr=False)


def warn(console: Console, text: str) -> None:
    """One line on stderr."""
    console.print(f"warning: {text}", style="yellow")


def terms_line(weights: str, terms: str | None) -> str | None:
    """What to say of weights that are known to be for non-commercial use; None of others."""
    from livos_cli.weights.registry import OPEN
    from livos_cli.weights.terms import forbids_commerce

    if not forbids_commerce(terms):
        return None
    short_terms = str(terms).removesuffix(" (non-commercial)")
    return f"weights {weights}: not for commercial use ({short_terms}); {OPEN} is"


def say_terms(console: Console, weights: str, path: Path) -> None:
    """One line, where these weights, found at `path`, are known to be for non-commercial use."""
    from livos_cli.weights.terms import terms_of

    if line := terms_line(weights, terms_of(weights, path)):
        console.print(line)


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
