"""A run's checkpoint: a folder of parts small enough for any file transfer, complete or absent."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from livos_cli.errors import InputError, OutputError

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
    fresh, old = folder.with_name(f"{folder.name}.new"), folder.with_name(f"{folder.name}.old")
    try:
        for rest in (fresh, old):
            # An old one is only in the way if there is a newer one.
            if rest.exists() and (rest == fresh or folder.exists()):
                shutil.rmtree(rest)
        fresh.mkdir(parents=True)
        parts = []
        for number, start in enumerate(range(0, len(data), PART)):
            part = data[start : start + PART]
            name = f"{number:03d}.part"
            (fresh / name).write_bytes(part)
            parts.append({"name": name, "sha256": hashlib.sha256(part).hexdigest()})
        index = {"step": content.get("step"), "bytes": len(data), "parts": parts}
        (fresh / INDEX).write_text(json.dumps(index, indent=1))
        if folder.exists():
            os.replace(folder, old)
        os.replace(fresh, folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise OutputError(f"cannot write {folder} ({error.strerror})", "free some space") from None


def load(folder: Path) -> dict[str, Any] | None:
    """What `save` wrote, on the CPU; None if there is nothing.

    Raises:
        InputError: a part is missing or damaged.
    """
    if not folder.exists():  # `save` was interrupted between its two renames
        folder = folder.with_name(f"{folder.name}.old")
    if not folder.exists():
        return None
    try:
        index = json.loads((folder / INDEX).read_text())
        data = bytearray()
        for entry in index["parts"]:
            part = (folder / entry["name"]).read_bytes()
            if hashlib.sha256(part).hexdigest() != entry["sha256"]:
                raise ValueError(f"{entry['name']} has changed")
            data += part
        loaded: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(
            f"the checkpoint {folder} cannot be read ({error})", "copy it again, or start anew"
        ) from None
    return loaded
