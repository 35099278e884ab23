"""What a result depends on, in few characters: inputs, settings, weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from livos_cli.network.livos import LiVOS
from livos_cli.options import RunOptions, SegmentOptions
from livos_cli.version import VERSION
from livos_cli.video.address import Address
from livos_cli.video.images import list_images

# Fields by the names that they have in digests: a new name for a field makes no result another.
KEYS = {"latency_first": "latest"}
SAME = {"cuda_graphs": False}  # fields that change no result, by what digests have of them
RESULTS = 3  # how results are kept on disk: those of another livos are not read

__all__ = ["exactly", "of_mask", "of_run", "of_settings", "of_source", "stamp_of"]


def of_source(video: Path) -> str:
    """A video's size and time of change; of a folder of images, those of all images."""
    files = list_images(video) if video.is_dir() else [video]
    seen = [(p.name, (s := p.stat()).st_size, s.st_mtime_ns) for p in files]
    return _digest(seen)


def stamp_of(video: str | Path) -> str:
    """What changes when a video is written to while it is read; of streams, nothing."""
    path = Address.of(video).path
    if path is None:
        return ""
    try:
        return f"{path.stat().st_ino} {of_source(path)}"
    except OSError as error:
        return f"gone: {error.strerror}"


def of_mask(mask: Path) -> str:
    """The content of a mask, or of all images of a folder of masks."""
    digest = hashlib.sha256()
    files = sorted(p for p in mask.rglob("*") if p.is_file()) if mask.is_dir() else [mask]
    for path in files:
        data = path.read_bytes()
        digest.update(f"{path.relative_to(mask)}\0{len(data)}\0".encode(errors="surrogateescape"))
        digest.update(data)
    return digest.hexdigest()


def of_settings(options: SegmentOptions, output: RunOptions, weights: str) -> str:
    """Settings and weights that decide what the results are; not where they go, nor how many."""
    plain = replace(output, save=(), output=None, overwrite=False, preview=None)
    return _digest([_facts(options), _facts(plain), weights])


def of_run(inputs: str, options: SegmentOptions, weights: str, *, matte: bool, exact: str) -> str:
    """What the tracker's state and results depend on.

    Args:
        inputs: digest of video and mask.
        options: of the run.
        weights: digest of their file.
        matte: whether probabilities are kept beside the decisions.
        exact: what else changes the numbers: device and precision.
    """
    # Until a file is damaged, it makes no difference whether that would be taken.
    same = replace(options, allow_truncated=False)
    return _digest([VERSION, RESULTS, inputs, _facts(same), weights, matte, exact])


def exactly(model: LiVOS) -> str:
    """What of a network changes the numbers, beside its weights: for `of_run`."""
    exact = f"{model.device.type} {model.dtype}"
    if model.precision not in str(model.dtype):  # another program computes
        exact += f" {model.precision}"
    return exact


def _facts(options: SegmentOptions | RunOptions) -> dict[str, Any]:
    facts = asdict(options)
    facts |= {name: value for name, value in SAME.items() if name in facts}
    return {KEYS.get(name, name): value for name, value in facts.items()}


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
