"""Every operation in plain PyTorch: the specification every faster form is tested against.

Letters: B batch, N objects, G groups of objects that entered together, K key channels, V value
channels, S sensory channels, h w the size at 1/16, H W that of a frame. All arithmetic is float32;
gradients flow.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "count_key",
    "decide_masks",
    "finish_convolution",
    "gated_recurrent_update",
    "update_state",
]

SCALE = 4  # from the decoder's size to the frame's
STRIP_VALUES = 1 << 22  # float32 values that decide_masks holds at a time, about


def count_key(
    key_BKHW: Tensor, key_sum_BGKHW: Tensor, decay_B: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The norm, one number an image and group: the sum of k * Z over everything; and the new Z."""
    key = key_BKHW.float()
    # A sum of products, not a matrix product: that adds up thousands of numbers one by one.
    norm_BG = (key.unsqueeze(1) * key_sum_BGKHW).sum(dim=(2, 3, 4))
    if decay_B is not None:
        key_sum_BGKHW = key_sum_BGKHW * decay_B.float()[:, None, None, None, None]
    return norm_BG, key_sum_BGKHW + key.unsqueeze(1)


def update_state(
    state_BNKV: Tensor, key_BKHW: Tensor, value_BNVHW: Tensor, gate_BV: Tensor
) -> Tensor:
    """S * g + sum over pixels of k v^T; the gate is broadcast, never made a diagonal matrix."""
    key = key_BKHW.float().flatten(2)
    added = torch.matmul(key.unsqueeze(1), value_BNVHW.float().flatten(3).transpose(2, 3))
    return state_BNKV * gate_BV.float()[:, None, None, :] + added


def gated_recurrent_update(gates_BNCHW: Tensor, sensory_BNSHW: Tensor) -> Tensor:
    """forget * sensory * (1 - update) + update * new."""
    forget, update, new = gates_BNCHW.float().chunk(3, dim=2)
    update = update.sigmoid()
    kept = forget.sigmoid() * sensory_BNSHW.float() * (1 - update)
    return (kept + update * new.tanh()).to(sensory_BNSHW.dtype)


def finish_convolution(
    map_BCHW: Tensor, bias_C: Tensor, added_BCHW: Tensor | None, activation: str
) -> Tensor:
    """activation(map + bias + added), rounded once."""
    out = map_BCHW.float() + bias_C.float()[:, None, None]
    if added_BCHW is not None:
        out = out + added_BCHW.float()
    if activation == "gelu":
        out = F.gelu(out)
    elif activation != "none":
        out = out.clamp(0, 6 if activation == "relu6" else None)
    return map_BCHW.copy_(out)


def decide_masks(log_odds_BMHW: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Log-odds upsampled four times, their softmax, and the channel that is largest.

    Strips of rows, so that no full-size map of every channel exists; a row at a quarter of the
    size reaches no further than the rows beside it.
    """
    batch, channels, rows, columns = log_odds_BMHW.shape
    height, width = rows * SCALE, columns * SCALE
    soft = log_odds_BMHW.new_empty(batch, channels - 1, height, width, dtype=dtype)
    decided = torch.empty(batch, height, width, dtype=torch.uint8, device=soft.device)
    step = max(1, STRIP_VALUES // (batch * channels * SCALE * width))
    for top in range(0, rows, step):
        bottom = min(top + step, rows)
        above, below = min(1, top), min(1, rows - bottom)
        strip = log_odds_BMHW[:, :, top - above : bottom + below]
        large = F.interpolate(strip, scale_factor=SCALE, mode="bilinear")
        large = large[:, :, above * SCALE : (above + bottom - top) * SCALE]
        inside = slice(top * SCALE, bottom * SCALE)
        decided[:, inside] = _argmax(large)
        soft[:, :, inside] = large.softmax(dim=1)[:, 1:]
    return soft, decided


def _argmax(values_BMHW: Tensor) -> Tensor:
    """Index of the largest channel, the first of equal ones, (B, H, W) uint8.

    torch.argmax over a dimension that is not the last takes many times as long on a CPU.
    """
    best = values_BMHW[:, 0]
    index = torch.zeros_like(best, dtype=torch.uint8)
    for channel in range(1, values_BMHW.shape[1]):
        index.masked_fill_(values_BMHW[:, channel] > best, channel)
        best = torch.maximum(best, values_BMHW[:, channel])
    return index
