"""livos: video object segmentation with LiVOS, from the first frame's mask to every frame's.

The public API; everything is imported when first used, so that `import livos_cli` is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["LivosError", "SegmentOptions", "Tracker", "__version__", "load_model", "segment"]

_WHERE = {
    "LivosError": "livos_cli.errors",
    "SegmentOptions": "livos_cli.options",
    "Tracker": "livos_cli.tracker",
    "load_model": "livos_cli.weights.load",
    "segment": "livos_cli.api",
}

if TYPE_CHECKING:
    from livos_cli.api import segment
    from livos_cli.errors import LivosError
    from livos_cli.options import SegmentOptions
    from livos_cli.tracker import Tracker
    from livos_cli.weights.load import load_model


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'livos_cli' has no attribute '{name}'")
