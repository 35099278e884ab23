"""The same operations as Triton kernels, for CUDA devices, and for CPUs in Triton's interpreter.

One file an operation, with its launcher. Pixels (h * w, or H * W) are one axis p: a map may be
contiguous or channels-last, and is read by its strides as it is. Arithmetic is float32, cast at
load and store. Every reduction has a fixed order, so the same inputs give the same bits: sums over
pixels are made in blocks of a fixed size, whose partial sums a second launch adds up in order.
Block sizes are constants of each file.
"""

from livos_kernels.decide import decide_masks
from livos_kernels.maps import interpreted
from livos_kernels.read import read_state
from livos_kernels.sensory import gated_recurrent_update
from livos_kernels.update import update_state

__all__ = ["decide_masks", "gated_recurrent_update", "interpreted", "read_state", "update_state"]
