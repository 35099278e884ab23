"""Gated linear matching in plain PyTorch: the specification every faster form is tested against.

Letters: B batch, N objects, G groups of objects that entered together, K key channels, V value
channels, h w the size at 1/16. All arithmetic is float32; gradients flow.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["read_state", "start_key_sum", "update_state"]


def start_key_sum(key_BKHW: Tensor) -> Tensor:
    """The key sum of objects that enter with this frame, (B, 1, K, h, w) float32."""
    return key_BKHW.float().softmax(dim=1).unsqueeze(1)


def read_state(
    key_BKHW: Tensor,
    state_BNKV: Tensor,
    key_sum_BGKHW: Tensor,
    group_N: Tensor,
    decay_B: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Readout k^T S / norm, where norm is one number an image: the sum of k * Z over everything.

    See `livos_kernels.read_state` for shapes.
    """
    height, width = key_BKHW.shape[-2:]
    key = key_BKHW.float().softmax(dim=1)
    norm_BG = torch.einsum("bkhw,bgkhw->bg", key, key_sum_BGKHW)
    # Divide the small state, not the large readout.
    scaled = state_BNKV / norm_BG[:, group_N, None, None]
    readout = torch.matmul(scaled.transpose(2, 3), key.flatten(2).unsqueeze(1))
    if decay_B is not None:
        key_sum_BGKHW = key_sum_BGKHW * decay_B.float()[:, None, None, None, None]
    return readout.unflatten(3, (height, width)), key_sum_BGKHW + key.unsqueeze(1)


def update_state(
    state_BNKV: Tensor, key_BKHW: Tensor, value_BNVHW: Tensor, gate_BV: Tensor
) -> Tensor:
    """S * g + sum over pixels of k v^T; the gate is broadcast, never made a diagonal matrix."""
    key = key_BKHW.float().softmax(dim=1).flatten(2)
    added = torch.matmul(key.unsqueeze(1), value_BNVHW.float().flatten(3).transpose(2, 3))
    return state_BNKV * gate_BV.float()[:, None, None, :] + added
