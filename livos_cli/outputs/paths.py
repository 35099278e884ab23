"""Where results go: which file or folder for each kind, checked before any work is done."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from livos_cli.errors import OutputError, UsageError
from livos_cli.files.livos_folder import checkpoint_folder, unpublished
from livos_cli.files.names import LONGEST
from livos_cli.options import RunOptions
from livos_cli.outputs.formats import KINDS, SINKS, Kind, Stdout
from livos_cli.outputs.preview import check_suffix
from livos_cli.video.address import Address

__all__ = ["check_kinds", "names_a_file", "plan_outputs"]

FILE_SUFFIXES = frozenset(  # never of folders
    {".avi", ".json", ".jsonl", ".mkv", ".mov", ".mp4", ".png", ".svg", ".webm"}
)


def names_a_file(path: Path) -> bool:
    """Whether a path is no folder, or, where there is nothing yet, is meant for a file."""
    return not path.is_dir() and (path.exists() or path.suffix.lower() in FILE_SUFFIXES)


def check_kinds(kinds: Iterable[str]) -> None:
    """Raises UsageError if one is unknown."""
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UsageError(f"unknown kind '{unknown[0]}'", f"--save takes {', '.join(KINDS)}")


def plan_outputs(
    video: str | Path,
    mask: Path,
    output: RunOptions,
    *,
    stem: str | None = None,
    ours: Callable[[Path], bool] = lambda _: False,
) -> dict[str, Path | Stdout]:
    """Where each kind goes; checked before any work is done.

    Args:
        video: file, folder, URL, or -.
        mask: file or folder.
        output: what is written, and where.
        stem: what outputs are called; `output.output` is then a folder, whatever its name.
        ours: whether something that is there may be replaced, for it was made by livos.

    Raises:
        UsageError: an unknown kind, or a file name that cannot hold what is asked for.
        OutputError: a result exists already and may not be overwritten.
    """
    check_kinds(output.save)
    address = Address.of(video)
    source = address.path
    if stem is not None and str(output.output) != "-":
        paths = _in_folder(output.output or _folder_of(source), stem, output)
    else:
        paths = _named(source, address.stem, output)
    if output.preview is not None:
        check_suffix(output.preview)
        paths["preview"] = output.preview
    for path in paths.values():
        if isinstance(path, Path):
            _check_length(path)
    _check_free(paths, [mask, *([] if source is None else [source])], output, ours)
    return paths


def _folder_of(source: Path | None) -> Path:
    """Where outputs lie if nothing else is said: beside a file, else where one is."""
    return Path.cwd() if source is None else source.resolve().parent


def _in_folder(folder: Path, stem: str, output: RunOptions) -> dict[str, Path | Stdout]:
    return {kind: _place(folder, stem, KINDS[kind].suffix(output)) for kind in output.save}


def _named(source: Path | None, stem: str, output: RunOptions) -> dict[str, Path | Stdout]:
    """Where the kinds go by what -o says: stdout, a file, or a folder."""
    kinds, target = list(dict.fromkeys(output.save)), output.output
    if str(target) == "-":
        stdout = Stdout()  # raises if it is closed
        return {_one_stream(kinds, output): stdout}
    if target is not None and not target.is_dir() and target.suffix and len(kinds) == 1:
        suffix = KINDS[kinds[0]].suffix(output)
        if not suffix.endswith("/") and target.suffix.lower() == Path(suffix).suffix:
            return {kinds[0]: target}
        if target.suffix.lower() in FILE_SUFFIXES:
            raise UsageError(
                f"-o {target}: kind '{kinds[0]}' is written as <stem>{suffix}",
                "give a folder, or a file of that suffix",
            )
    elif target is not None and names_a_file(target):
        raise UsageError(f"-o {target} names a file", "give a folder for several kinds")
    return _in_folder(target or _folder_of(source), stem, output)


def _check_length(path: Path) -> None:
    if (size := len(os.fsencode(path.name))) > LONGEST:
        raise OutputError(
            f"the name {path.name[:24]}…{path.name[-12:]} would have {size} bytes, more than "
            f"the {LONGEST} that a name may have",
            f"give a shorter one: -o out{path.suffix}",
        )


def _check_free(
    paths: dict[str, Path | Stdout],
    inputs: list[Path],
    output: RunOptions,
    ours: Callable[[Path], bool],
) -> None:
    """Raises where a result would take the place of something that must stay."""
    there = [path for path in paths.values() if isinstance(path, Path) and os.path.lexists(path)]
    checkpoint = checkpoint_folder(paths) if there else None
    owned = unpublished(checkpoint) if checkpoint is not None else frozenset()
    for name, path in paths.items():
        if path not in there or isinstance(path, Stdout):
            continue
        for given in inputs:
            if path.resolve() in [given.resolve(), *given.resolve().parents]:
                raise UsageError(
                    f"{path} is or holds the input itself", "choose another place with -o"
                )
        if not (output.overwrite or path.absolute() in owned or ours(path)):
            raise OutputError(f"{path} exists already", "use -y to overwrite it")
        row = SINKS[name]
        _check_replaceable(path, row if row.suffix(output).endswith("/") else None)


def _one_stream(kinds: list[str], output: RunOptions) -> str:
    """The kind that goes to stdout."""
    able = ", ".join(kind for kind, row in KINDS.items() if row.streams)
    if len(kinds) != 1 or not KINDS[kinds[0]].streams:
        raise UsageError(
            f"-o - takes one of {able}, not {', '.join(kinds)}", "give a folder for the others"
        )
    if KINDS[kinds[0]].suffix(output).endswith("/"):
        raise UsageError(f"-o - cannot take a folder of {kinds[0]}", "add --contours json")
    if sys.stdout.isatty():
        raise UsageError("-o - would fill the terminal", "pipe it on, or redirect it to a file")
    return kinds[0]


def _check_replaceable(path: Path, kind: Kind | None) -> None:
    """Raises OutputError where -y would destroy what is no earlier result of a folder's kind."""
    if kind is None and path.is_dir():
        raise OutputError(f"{path} is a folder", "choose another place with -o")
    if kind is not None and path.is_dir():
        other = next((p.name for p in path.iterdir() if not kind.owns(p)), None)
        if other is not None:
            raise OutputError(
                f"{path} holds more than an earlier result ({other}) and will not be replaced",
                "choose another place with -o, or remove it yourself",
            )
    elif kind is not None and path.exists():
        raise OutputError(f"{path} is a file", "choose another place with -o")


def _place(folder: Path, stem: str, suffix: str) -> Path:
    return folder / f"{stem}{suffix}".rstrip("/")
