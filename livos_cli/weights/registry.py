"""The table of weights: names, and where each is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "CLICKS",
    "DEFAULT",
    "HUB_VARIABLE",
    "OPEN",
    "REGISTRY",
    "RETIRED",
    "WITH_CLICKS",
    "Entry",
    "clicks_with",
]

DEFAULT = "lite"  # the weights where none are named
OPEN = "lite-open"  # those for commercial use
RETIRED = {"tiny": DEFAULT}  # names that earlier versions had, and what is better
HUB_VARIABLE = "LIVOS_HUB_REPO"  # environment variable: a Hub mirror of the published weights
_HERE = Path(__file__).parent
CLICKS = _HERE / "clicks.safetensors"  # the click network of the default
# Those of the data that they were trained with.
BY_SA = "CC BY-SA 4.0"
NC = "CC BY-NC 4.0 (non-commercial)"
NONE_STATED = "none stated by the authors"  # as of 2026-11-27, beside their code and weights


@dataclass(frozen=True)
class Entry:
    """One named checkpoint."""

    name: str
    summary: str
    terms: str  # of use, in a few words
    file: Path | None = None  # built in: where it lies in the package
    clicks: Path | None = None  # the click network on its image encoder, where there is one
    int8: Path | None = None  # folder of its graphs in int8, where there are some
    sha256: str | None = None  # of the file, where known
    drive: str | None = None  # Google Drive file id
    size: int | None = None  # shorter side it was trained for, where its file does not say
    stated: str | None = None  # what its authors measured (LiVOS, CVPR 2025)

    @property
    def mirror(self) -> str | None:
        """The Hub repository the user named as a mirror, for weights that are not built in."""
        return None if self.file else os.environ.get(HUB_VARIABLE) or None


def _published(name: str, summary: str, drive: str, size: int, stated: str | None = None) -> Entry:
    words = f"the authors': {summary}"
    return Entry(name, words, NONE_STATED, drive=drive, size=size, stated=stated)


REGISTRY: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            "lite",
            "the default, 4.5 M parameters",
            NC,
            file=_HERE / "lite.safetensors",
            clicks=CLICKS,
            int8=_HERE / "lite.int8",
        ),
        Entry(
            OPEN,
            "the same network, from data that allow commercial use",
            BY_SA,
            file=_HERE / "lite-open.safetensors",
            clicks=_HERE / "lite-open.clicks.safetensors",
        ),
        _published(
            "livos-nomose-480p",
            "480p, without MOSE",
            "1ZjhVMUppZ5OZipCALU9ZYwiVF5DEPBxX",
            480,
        ),
        _published(
            "livos-nomose-ft-480p",
            "the same, fine-tuned",
            "1rUxSjKreh5Q_X7FHvFRyoKBR7GqJr04P",
            480,
            "J&F 85.1 on DAVIS 2017 val",
        ),
        _published(
            "livos-wmose-480p",
            "480p, with MOSE",
            "1lhfnRCe1yPfB9dcWSA6hv7ABPzHFuNCY",
            480,
            "J&F 64.8 on MOSE valid",
        ),
        _published(
            "livos-nomose-1024p",
            "1024p, without MOSE",
            "1_NjVaumXO8IPsFocXdRAvs6hqd-TOSGH",
            1024,
        ),
        _published(
            "livos-nomose-2048p",
            "2048p, without MOSE",
            "1Od-djH3AUDEXJmXmqygCUSrFWUmVyNBG",
            2048,
        ),
    )
}

WITH_CLICKS = tuple(name for name, entry in REGISTRY.items() if entry.clicks)


def clicks_with(weights: str) -> tuple[str, Path]:
    """The weights whose click network goes with these, and its file: their own or the default's."""
    entry = REGISTRY.get(weights)
    return (weights, entry.clicks) if entry and entry.clicks else (DEFAULT, CLICKS)
