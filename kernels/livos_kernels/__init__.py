"""Gated linear matching (LiVOS, section 3): read a constant-size state, then update it.

Letters: B batch, N objects, G groups of objects that entered together, K key channels, V value
channels, h w the frame's size at 1/16.

State and key sum are float32 whatever the precision of key and value.
"""

from __future__ import annotations

import torch
from torch import Tensor

from livos_kernels import reference

__all__ = ["read_state", "start_key_sum", "update_state"]


def _check(name: str, tensor: Tensor, shape: tuple[int | None, ...], *, single: bool) -> None:
    fits = tensor.ndim == len(shape) and all(
        want is None or want == got for want, got in zip(shape, tensor.shape, strict=False)
    )
    if not fits:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")
    if single and tensor.dtype != torch.float32:
        raise TypeError(f"{name} must be float32, not {tensor.dtype}")


def start_key_sum(key_BKHW: Tensor) -> Tensor:
    """The key sum of objects that enter with this frame.

    Args:
        key_BKHW: raw key map, before its softmax over channels; any float type.

    Returns:
        (B, 1, K, h, w) float32.
    """
    _check("key", key_BKHW, (None,) * 4, single=False)
    with torch.autocast(key_BKHW.device.type, enabled=False):
        return reference.start_key_sum(key_BKHW)


def read_state(
    key_BKHW: Tensor,
    state_BNKV: Tensor,
    key_sum_BGKHW: Tensor,
    group_N: Tensor,
    decay_B: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Read each object's state at every pixel, then count this frame's key.

    With k the softmax of the key over channels, norm_g = sum over channels and pixels of
    k * key_sum[g]: one number an image and group. The readout of object n is
    k^T state[n] / norm_group[n].

    Args:
        key_BKHW: raw key map (B, K, h, w), any float type.
        state_BNKV: (B, N, K, V) float32, of the frame before, not yet gated.
        key_sum_BGKHW: (B, G, K, h, w) float32, without this frame's key.
        group_N: (N,) int64, the row of the key sum that normalises each object.
        decay_B: (B,) factor on the old key sum before the key is added; None for 1, the
            published rule.

    Returns:
        Readout (B, N, V, h, w) float32 and the new key sum.

    Raises:
        ValueError: shapes that do not fit each other.
        TypeError: a state or key sum that is not float32.
    """
    batch, channels, height, width = key_BKHW.shape
    objects = state_BNKV.shape[1]
    _check("state", state_BNKV, (batch, objects, channels, None), single=True)
    _check("key_sum", key_sum_BGKHW, (batch, None, channels, height, width), single=True)
    _check("group", group_N, (objects,), single=False)
    if decay_B is not None:
        _check("decay", decay_B, (batch,), single=False)
    with torch.autocast(key_BKHW.device.type, enabled=False):
        return reference.read_state(key_BKHW, state_BNKV, key_sum_BGKHW, group_N, decay_B)


def update_state(
    state_BNKV: Tensor, key_BKHW: Tensor, value_BNVHW: Tensor, gate_BV: Tensor
) -> Tensor:
    """Forget by the gate, then add the frame: state * gate + sum over pixels of k v^T.

    Args:
        state_BNKV: (B, N, K, V) float32.
        key_BKHW: raw key map (B, K, h, w), any float type.
        value_BNVHW: (B, N, V, h, w), any float type.
        gate_BV: (B, V) in [0, 1], shared by all objects.

    Returns:
        The new state, (B, N, K, V) float32.

    Raises:
        ValueError: shapes that do not fit each other.
        TypeError: a state that is not float32.
    """
    batch, channels, height, width = key_BKHW.shape
    objects, values = state_BNKV.shape[1], state_BNKV.shape[3]
    _check("state", state_BNKV, (batch, objects, channels, values), single=True)
    _check("value", value_BNVHW, (batch, objects, values, height, width), single=False)
    _check("gate", gate_BV, (batch, values), single=False)
    with torch.autocast(key_BKHW.device.type, enabled=False):
        return reference.update_state(state_BNKV, key_BKHW, value_BNVHW, gate_BV)
