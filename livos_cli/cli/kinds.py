"""Which kinds of result `livos segment` writes, by --save and -o."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from livos_cli.errors import UsageError
from livos_cli.options import RunOptions

__all__ = ["KIND_NAMES", "asked_for", "with_default"]

# Those of `outputs.formats.KINDS`, which takes PyAV to import: too long for a key press.
KIND_NAMES = (
    "mask", "overlay", "png", "alpha", "matte", "cutout", "objects", "rle", "coco", "yolo",
    "contours",
)  # fmt: skip

ONE, MANY = ("mask", "overlay"), ("mask",)  # a person wants to look at one; a batch is for machines


def asked_for(given: Iterable[str]) -> tuple[str, ...]:
    """`--save mask,overlay --save png`, as kinds.

    Raises:
        UsageError: one is unknown.
    """
    from livos_cli.outputs.paths import check_kinds

    kinds = tuple(part.strip() for text in given for part in text.split(",") if part.strip())
    check_kinds(kinds)
    return tuple(dict.fromkeys(kinds))


def with_default(output: RunOptions, *, many: bool) -> RunOptions:
    """What is written where nothing is said: by the file that -o names, if it names one.

    Raises:
        UsageError: that file leaves open what is meant.
    """
    from livos_cli.outputs.formats import KINDS
    from livos_cli.outputs.paths import names_a_file

    if output.save:
        return output
    target = output.output
    if many:
        return replace(output, save=MANY)
    if str(target) == "-":
        return replace(output, save=("mask",))
    if target is None or not names_a_file(target):
        return replace(output, save=ONE)
    suffix = target.suffix.lower()
    fit = [k for k, row in KINDS.items() if not suffix or row.suffix(output).endswith(suffix)]
    preferred = {".mkv": "mask", ".mp4": "overlay"}.get(suffix)
    if preferred is not None:
        return replace(output, save=(preferred,))
    raise UsageError(
        f"-o {target} does not say what to write there",
        f"add --save {fit[0]}" + (f" (or {', '.join(fit[1:])})" if fit[1:] else "")
        if fit
        else "name a .mp4 file (overlay), a .mkv file (mask) or a folder",
    )
