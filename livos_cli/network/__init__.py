"""The network: stateless modules.

Letters in names: B batch, N objects, K key channels, V value channels, S sensory channels,
Q queries, C any channels; H W the padded frame, h = H/16, w = W/16 (written HW in names too).
"""

from livos_cli.network.config import BASE, LITE, PRESETS, SMALL, TINY, LiVOSConfig
from livos_cli.network.livos import LiVOS, Memory

__all__ = ["BASE", "LITE", "PRESETS", "SMALL", "TINY", "LiVOS", "LiVOSConfig", "Memory"]
