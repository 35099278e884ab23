"""From a name, a path or a Hub address to a local file; without torch, which takes its time."""

from __future__ import annotations

import difflib
from pathlib import Path

from livos_cli.errors import WeightsError
from livos_cli.weights.hub import fetch_hub, fetch_named, parse_hub, sha256_of, verify_sha256
from livos_cli.weights.registry import REGISTRY, RETIRED

__all__ = ["locate", "sha256_of"]


def locate(weights: str | Path) -> Path:
    """The local file of some weights, downloaded if need be.

    Args:
        weights: a name (`livos weights list`), a path, or `owner/repo[@revision][:file]`.

    Raises:
        WeightsError: nothing of the kind, or it could not be had.
    """
    text = str(weights)
    if entry := REGISTRY.get(text):
        if entry.file is None:
            return fetch_named(entry)
        if entry.sha256:
            verify_sha256(entry.file, entry.sha256)
        return entry.file
    if better := RETIRED.get(text):
        raise WeightsError(f"livos no longer has the weights '{text}'", f"use `-w {better}`")
    path = Path(weights).expanduser()
    if path.is_file():
        return path
    looks_local = path.suffix in (".safetensors", ".pth", ".pt") and ":" not in text
    if not looks_local and not isinstance(weights, Path) and (address := parse_hub(text)):
        return fetch_hub(address)
    if looks_local:
        raise WeightsError(f"the weights file {path} does not exist", "check the path")
    near = difflib.get_close_matches(text, REGISTRY, 1)
    raise WeightsError(
        f"unknown weights '{text}'" + (f", did you mean '{near[0]}'?" if near else ""),
        f"use a name ({', '.join(REGISTRY)}), a file, or owner/repo on the Hugging Face Hub",
    )
