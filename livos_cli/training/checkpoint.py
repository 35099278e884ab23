"""A run's checkpoint: a folder of parts small enough for any file transfer, complete or absent."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from livos_cli.errors import InputError, OutputError
from livos_cli.files.atomic import (
    create,
    make_own_folder,
    read_own,
    remove_leftovers,
    set_aside,
    swap_folder,
    temporary_of,
)
from livos_cli.files.trust import INDEX as INDEX_RULE
from livos_cli.files.trust import read

__all__ = ["PART", "load", "save"]

PART = 16 * 1000 * 1000  # bytes of a part, at most
INDEX = "index.json"


def save(folder: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values as `folder/index.json` and parts, replacing what was there.

    At every moment either the old or the new checkpoint can be loaded.

    Raises:
        OutputError: it cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getbuffer()
    fresh = temporary_of(folder)
    try:
        remove_leftovers(folder)  # one process at a time saves
        make_own_folder(fresh)
        parts = []
        for number, start in enumerate(range(0, len(data), PART)):
            part = data[start : start + PART]
            name = f"{number:03d}.part"
            with create(fresh / name) as file:
                file.write(part)
            parts.append({"name": name, "sha256": hashlib.sha256(part).hexdigest()})
        index = {"step": content.get("step"), "bytes": len(data), "parts": parts}
        with create(fresh / INDEX) as file:
            file.write(json.dumps(index, indent=1).encode())
        if old := swap_folder(fresh, folder):
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise OutputError(
            f"cannot write {folder} ({error.strerror or error})", "free some space"
        ) from None


def load(folder: Path) -> dict[str, Any] | None:
    """What `save` wrote, on the CPU; None if there is nothing.

    Raises:
        InputError: a part is missing or damaged.
    """
    if not folder.exists():  # `save` was interrupted between its two renames
        found = set_aside(folder)
        if found is None:
            return None
        folder = found
    try:
        index = read(folder / INDEX, INDEX_RULE)
        data = bytearray()
        for entry in index["parts"]:
            part = read_own(folder / entry["name"], PART)
            if hashlib.sha256(part).hexdigest() != entry["sha256"]:
                raise ValueError(f"{entry['name']} has changed")
            data += part
        loaded: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
        if not isinstance(loaded, dict):
            raise ValueError("it holds something else")
    # What torch raises of a file that is none has no common class.
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, UnpicklingError) as error:
        raise InputError(
            f"the checkpoint {folder} cannot be read ({error})", "copy it again, or start over"
        ) from None
    return loaded
