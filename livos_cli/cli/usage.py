"""What is meant by a command line that cannot be understood, and how it is written."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

from livos_cli.errors import UsageError
from livos_cli.files.typed import command, typed

__all__ = ["explained", "no_mask"]

# What commands are called elsewhere.
ALIASES = {
    "annotate": "mask",
    "benchmark": "bench",
    "box": "mask",
    "draw": "mask",
    "evaluate": "eval",
    "infer": "segment",
    "inference": "segment",
    "predict": "segment",
    "propagate": "segment",
    "run": "segment",
    "seg": "segment",
    "track": "segment",
    "version": "--version",
    "vos": "segment",
}
# (command, option) -> what that is called here.
OPTIONS = {
    ("mask", "--at"): "--frame",
    ("mask", "--bbox"): "--box",
    ("mask", "--end"): "--frame",
    ("mask", "--from"): "--frame",
    ("mask", "--mask"): "-o",
    ("mask", "--points"): "--point",
    ("mask", "--start"): "--frame",
    ("segment", "--box"): "`livos mask` with --box, then --mask",
    ("segment", "--frame"): "--from",
    ("segment", "--force"): "--overwrite",
    ("segment", "--input"): "VIDEO alone, without an option",
    ("segment", "--masks"): "--mask",
    ("segment", "--model"): "--weights",
    ("segment", "--out"): "--output",
    ("segment", "--video"): "VIDEO alone, without an option",
}
NUMBER = r"-?\d+(\.\d*)?"


def explained(error: Any, arguments: list[str]) -> UsageError:
    """A usage error of the parser, as one line with what to type instead.

    Args:
        error: as the parser raised it, with `format_message` and `ctx`.
        arguments: the command line, without the program's name.
    """
    kind, context = type(error).__name__, getattr(error, "ctx", None)
    path = context.command_path if context is not None else "livos"
    group = context.command if context is not None else None
    commands = list(getattr(group, "commands", ()))
    if context is None and arguments and not arguments[0].startswith("-"):
        path = f"{path} {arguments[0]}"  # the parser alone knows no command
    message = _lower(" ".join(str(error.format_message()).split()).rstrip("."))
    help_hint = f"see `{path} --help`"
    name = path.rpartition(" ")[2]
    if match := re.match(r"[Nn]o such command '(.*?)'", message):
        return _no_command(match[1], path, commands, arguments)
    if kind == "NoSuchOption":
        wanted = str(error.option_name)
        near = sorted(error.possibilities or ())
        other = OPTIONS.get((name, wanted)) or (near[0] if near else None)
        return UsageError(
            f"`{path}` has no option {wanted}", f"use {other}; {help_hint}" if other else help_hint
        )
    if match := re.match(r"[Gg]ot unexpected extra argument(?:s|\(s\))? \((.*)\)", message):
        return _extra(match[1].split(), path, name, arguments)
    return UsageError(message, help_hint)


def no_mask(names: list[str]) -> UsageError:
    """`livos segment` without --mask: what to type."""
    from livos_cli.video.images import IMAGE_SUFFIXES

    videos = [name for name in names if Path(name).suffix.lower() not in IMAGE_SUFFIXES]
    others = [name for name in names if name not in videos]
    if not others and len(videos) == 2 and Path(videos[1]).is_dir() and not _is_folder(videos[0]):
        videos, others = videos[:1], videos[1:]
    if videos and len(others) == 1:
        return UsageError(
            f"{others[0]} is not a video, and no mask is given: masks are given with -m",
            command("livos", "segment", *map(typed, videos), "-m", typed(others[0])),
        )
    if len(videos) == 1 and not others and not _is_folder(videos[0]) and videos[0] != "-":
        shown = command("livos", "mask", typed(videos[0]))
        return UsageError(
            "no mask says what to follow: give the mask of the first frame with -m",
            f"if you have none, see the frame with coordinates by `{shown} --show`, "
            f"then `{shown} --box LEFT,TOP,RIGHT,BOTTOM` makes one",
        )
    return UsageError(
        "no mask says what to follow: give masks with -m",
        "for many videos a folder of masks that are named like them; "
        "`livos mask VIDEO --show` helps to make one",
    )


def _is_folder(name: str) -> bool:
    return Path(name).is_dir()


def _no_command(name: str, path: str, commands: list[str], arguments: list[str]) -> UsageError:
    from livos_cli.batch.discover import VIDEO_SUFFIXES
    from livos_cli.video.images import IMAGE_SUFFIXES

    message = f"there is no command '{name}'"
    suffix = Path(name).suffix.lower()
    if path == "livos" and (suffix in VIDEO_SUFFIXES | IMAGE_SUFFIXES or Path(name).exists()):
        video = command(typed(name))
        if any(a == "-m" or a.startswith("--mask") for a in arguments):
            return UsageError(message, f"to follow objects in a video: livos segment {video} …")
        return UsageError(
            message,
            f"to follow objects: livos segment {video} -m MASK.png; "
            f"for a mask: livos mask {video} --show",
        )
    if path == "livos" and (known := ALIASES.get(name.lower())):
        return UsageError(message, f"use `livos {known}`; see `livos --help`")
    near = difflib.get_close_matches(name.lower(), commands, 1, 0.7)
    return UsageError(message, (f"use `{path} {near[0]}`; " if near else "") + f"see `{path} -h`")


def _extra(extra: list[str], path: str, name: str, arguments: list[str]) -> UsageError:
    text = " ".join(extra)
    if name == "mask":
        given = [a for a in arguments if a in ("--box", "--point", "--polygon")]
        if given and all(re.fullmatch(NUMBER + ",?", part) for part in extra):
            option = given[-1]
            first = arguments[len(arguments) - 1 - arguments[::-1].index(option) + 1]
            joined = ",".join([first.rstrip(","), *(part.rstrip(",") for part in extra)])
            return UsageError(
                f"{option} {first} {text} is not one word", f"use commas: {option} {joined}"
            )
        if len(extra) == 1 and re.fullmatch(rf"{NUMBER}(,{NUMBER}){{3}}", text):
            return UsageError(f"{text} is given without an option", f"if it is a box: --box {text}")
        return UsageError(f"{text}: `{path}` takes one video", f"see `{path} --help`")
    return UsageError(f"too many arguments: {text}", f"see `{path} --help`")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
