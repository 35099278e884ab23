"""livos: video object segmentation with LiVOS, from the first frame's mask to every frame's.

The public API; everything is imported when first used, so that `import livos_cli` is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = [
    "LivosError",
    "SegmentOptions",
    "Tracker",
    "__version__",
    "load_model",
    "read_mask",
    "segment",
]

_WHERE = {
    "LivosError": "livos_cli.errors",
    "SegmentOptions": "livos_cli.options",
    "Tracker": "livos_cli.tracker.tracker",
    "load_model": "livos_cli.weights.load",
    "read_mask": "livos_cli.masks.object_ids",
    "segment": "livos_cli.pipeline.segment",
}

if TYPE_CHECKING:
    __version__: str
    from livos_cli.errors import LivosError
    from livos_cli.masks.object_ids import read_mask
    from livos_cli.options import SegmentOptions
    from livos_cli.pipeline.segment import segment
    from livos_cli.tracker.tracker import Tracker
    from livos_cli.weights.load import load_model


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("livos_cli.version").VERSION
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'livos_cli' has no attribute '{name}'")
