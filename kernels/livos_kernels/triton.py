"""The same operations as Triton kernels, for CUDA devices, and for CPUs in Triton's interpreter.

One file an operation, with its launcher. Pixels (h * w, or H * W) are one axis p: a map may be
contiguous or channels-last, and is read by its strides as it is. Arithmetic is float32, cast at
load and store; products of half precision are summed in float32. Every reduction has a fixed
order, so the same inputs give the same bits: sums over pixels are made in blocks, whose partial
sums a second launch adds up in order. Block sizes are constants of each file; how many blocks
there are depends on the device.

What changes from video to video, or within one (pixels, objects, groups, most strides), is not
specialised: it would be half a second of compiling in the middle of a video.
"""

from livos_kernels.count import count_key
from livos_kernels.decide import decide_masks
from livos_kernels.finish import finish_convolution
from livos_kernels.maps import interpreted
from livos_kernels.sensory import gated_recurrent_update
from livos_kernels.update import update_state

__all__ = [
    "count_key",
    "decide_masks",
    "finish_convolution",
    "gated_recurrent_update",
    "interpreted",
    "update_state",
]
