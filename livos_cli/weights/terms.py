"""Terms of use of weights: of those with a name, or what a file says of itself. Without torch."""

from __future__ import annotations

from pathlib import Path

import safetensors

from livos_cli.weights.registry import REGISTRY

__all__ = ["TERMS_KEY", "forbids_commerce", "read_terms", "terms_of"]

TERMS_KEY = "livos_terms"  # in the metadata of a .safetensors
LONGEST = 100  # characters of a file's own terms that are kept


def read_terms(path: Path) -> str | None:
    """What the metadata of a `.safetensors` says of its terms; None where it says nothing.

    Files come from anywhere: what cannot be read says nothing either.
    """
    if path.suffix != ".safetensors":
        return None
    try:
        with safetensors.safe_open(str(path), framework="np") as file:
            return (file.metadata() or {}).get(TERMS_KEY, "")[:LONGEST] or None
    except (safetensors.SafetensorError, OSError, ValueError, MemoryError):
        return None


def terms_of(weights: str, path: Path) -> str | None:
    """The terms of some weights as they were named, and found at `path`; None if unknown."""
    entry = REGISTRY.get(weights)
    return entry.terms if entry is not None else read_terms(path)


def forbids_commerce(terms: str | None) -> bool:
    """Whether these terms, in a few words, are known to allow no commercial use."""
    return terms is not None and "non-commercial" in terms.lower()
