"""Gated linear matching (LiVOS, section 3) and the other steps that hold a video's memory.

`count_key` and `update_state` are the matching: measure a frame's key by those before, then add
the frame to a constant-size state. Between them the state is read: one product, of any key with the
state divided by the norm, which is left to whoever has more to multiply it with.
`gated_recurrent_update` renews the sensory memory; `decide_masks` turns log-odds into masks;
`finish_convolution` adds what follows a convolution.

Letters: B batch, N objects, G groups of objects that entered together, K key channels, V value
channels, S sensory channels, h w the frame's size at 1/16, M objects and a background, H W the
frame's size.

A key is a map after its softmax over channels. State and key sum are float32 whatever the precision
of key and value, and so are all sums.

Every function takes `backend`: `torch`, the specification in plain PyTorch; `triton`, kernels for
CUDA devices, without gradients; `auto`, kernels where the tensors are on a CUDA device that can
run them and no gradient is wanted. Whether it can is tried once, with a tiny launch. An explicit
backend that cannot run raises; nothing is tried again in another way.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor

from livos_kernels import reference

__all__ = [
    "ACTIVATIONS",
    "Backend",
    "count_key",
    "decide_masks",
    "finish_convolution",
    "gated_recurrent_update",
    "runs_on",
    "update_state",
]

Backend = Literal["auto", "torch", "triton"]
BACKENDS = ("auto", "torch", "triton")
ACTIVATIONS = ("none", "relu", "relu6", "gelu")
OLDEST_DEVICE = (8, 0)  # compute capability: tensor cores with TF32

log = logging.getLogger(__name__)


def _check(name: str, tensor: Tensor, shape: tuple[int | None, ...], *, single: bool) -> None:
    fits = tensor.ndim == len(shape) and all(
        want is None or want == got for want, got in zip(shape, tensor.shape, strict=False)
    )
    if not fits:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")
    if single and tensor.dtype != torch.float32:
        raise TypeError(f"{name} must be float32, not {tensor.dtype}")


@functools.cache
def _auto(device: torch.device) -> bool:
    """Whether `auto` takes the kernels on a device; says so once."""
    if device.type != "cuda":
        return False
    if importlib.util.find_spec("triton") is None:
        log.warning("triton is not installed: %s uses plain PyTorch, which is slower", device)
        return False
    if torch.version.hip is not None or torch.cuda.get_device_capability(device) < OLDEST_DEVICE:
        log.info("%s: plain PyTorch (the kernels are for CUDA devices from 8.0 on)", device)
        return False
    if why := _trial(device):
        log.warning(
            "the Triton kernels do not run on %s, which uses plain PyTorch, which is slower: %s "
            "(Triton needs a C compiler and Python's headers, as of gcc and python3-dev)",
            device,
            why,
        )
        return False
    log.info("%s: Triton kernels", device)
    return True


def runs_on(device: torch.device) -> bool:
    """Whether `auto` takes the Triton kernels on a device."""
    return _auto(device)


def _trial(device: torch.device) -> str:
    """Why a tiny launch fails, in one line; nothing if it does not.

    Triton compiles what launches its kernels when the first one is launched.

    Raises:
        torch.OutOfMemoryError: that says nothing about the kernels.
    """
    try:
        from livos_kernels import triton

        triton.decide_masks(torch.zeros(1, 2, 1, 1, device=device), torch.float32)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of Triton, the compiler, the disk of its cache
        first = (str(error).strip().splitlines() or [""])[0]
        return f"{type(error).__name__}: {first[:200]}"
    return ""


def _kernels(backend: Backend, *tensors: Tensor) -> ModuleType | None:
    """The module of kernels if they are to be used, else None."""
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    gradients = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    device = tensors[0].device
    if backend == "torch" or (backend == "auto" and (gradients or not _auto(device))):
        return None
    if gradients:
        raise RuntimeError("the Triton kernels have no gradients; use backend='torch'")
    if any(t.device != device for t in tensors):
        raise ValueError(f"tensors on several devices: {[str(t.device) for t in tensors]}")
    if importlib.util.find_spec("triton") is None:
        raise RuntimeError("backend='triton' needs the package triton, which is not installed")
    from livos_kernels import triton

    if device.type != "cuda" and not triton.interpreted():
        raise RuntimeError(
            f"the Triton kernels cannot run on {device} (in Triton's interpreter they can: set "
            "TRITON_INTERPRET=1 before triton is imported)"
        )
    return triton


def count_key(
    key_BKHW: Tensor,
    key_sum_BGKHW: Tensor,
    decay_B: Tensor | None = None,
    *,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Measure a frame's key by the sum of the keys before, then count it.

    norm_g = sum over channels and pixels of key * key_sum[g]: one number an image and group. The
    readout of object n is key^T state[n] / norm_group[n].

    Args:
        key_BKHW: (B, K, h, w), any float type, softmax over channels.
        key_sum_BGKHW: (B, G, K, h, w) float32, without this frame's key.
        decay_B: (B,) factor on the old key sum before the key is added; None for 1, the
            published rule.
        backend: see the package.

    Returns:
        The norm (B, G) float32, and the new key sum.

    Raises:
        ValueError: shapes that do not fit each other.
        TypeError: a key sum that is not float32.
        RuntimeError: a backend that cannot run here.
    """
    batch, channels, height, width = key_BKHW.shape
    _check("key_sum", key_sum_BGKHW, (batch, None, channels, height, width), single=True)
    if decay_B is not None:
        _check("decay", decay_B, (batch,), single=False)
    inputs = (key_BKHW, key_sum_BGKHW)
    kernels = _kernels(backend, *inputs, *([] if decay_B is None else [decay_B]))
    if kernels is not None:
        return kernels.count_key(*inputs, decay_B)
    with torch.autocast(key_BKHW.device.type, enabled=False):
        return reference.count_key(*inputs, decay_B)


def update_state(
    state_BNKV: Tensor,
    key_BKHW: Tensor,
    value_BNVHW: Tensor,
    gate_BV: Tensor,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """Forget by the gate, then add the frame: state * gate + sum over pixels of k v^T.

    Args:
        state_BNKV: (B, N, K, V) float32.
        key_BKHW: (B, K, h, w), any float type, softmax over channels.
        value_BNVHW: (B, N, V, h, w), any float type.
        gate_BV: (B, V) in [0, 1], shared by all objects.
        backend: see the package.

    Returns:
        The new state, (B, N, K, V) float32.

    Raises:
        ValueError: shapes that do not fit each other.
        TypeError: a state that is not float32.
        RuntimeError: a backend that cannot run here.
    """
    batch, channels, height, width = key_BKHW.shape
    objects, values = state_BNKV.shape[1], state_BNKV.shape[3]
    _check("state", state_BNKV, (batch, objects, channels, values), single=True)
    _check("value", value_BNVHW, (batch, objects, values, height, width), single=False)
    _check("gate", gate_BV, (batch, values), single=False)
    inputs = (state_BNKV, key_BKHW, value_BNVHW, gate_BV)
    kernels = _kernels(backend, *inputs)
    if kernels is not None:
        return kernels.update_state(*inputs)
    with torch.autocast(key_BKHW.device.type, enabled=False):
        return reference.update_state(*inputs)


def gated_recurrent_update(
    gates_BNCHW: Tensor,
    sensory_BNSHW: Tensor,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """Renew the sensory memory: forget * sensory * (1 - update) + update * new.

    Args:
        gates_BNCHW: (B, N, 3 S, h, w), any float type: what becomes forget and update by a
            sigmoid, and new by a tanh, in this order.
        sensory_BNSHW: (B, N, S, h, w), any float type.
        backend: see the package.

    Returns:
        (B, N, S, h, w), the type of `sensory_BNSHW`.

    Raises:
        ValueError: shapes that do not fit each other.
        RuntimeError: a backend that cannot run here.
    """
    batch, objects, channels, height, width = sensory_BNSHW.shape
    _check("gates", gates_BNCHW, (batch, objects, 3 * channels, height, width), single=False)
    kernels = _kernels(backend, gates_BNCHW, sensory_BNSHW)
    if kernels is not None:
        return kernels.gated_recurrent_update(gates_BNCHW, sensory_BNSHW)
    with torch.autocast(gates_BNCHW.device.type, enabled=False):
        return reference.gated_recurrent_update(gates_BNCHW, sensory_BNSHW)


def finish_convolution(
    map_BCHW: Tensor,
    bias_C: Tensor,
    added_BCHW: Tensor | None = None,
    activation: str = "none",
    *,
    backend: Backend = "auto",
) -> Tensor:
    """What follows a convolution that was made without its bias, in place and in one pass.

    Args:
        map_BCHW: (B, C, h, w), any float type, dense; becomes activation(map + bias + added).
        bias_C: (C,), any float type.
        added_BCHW: (B, C, h, w), such as a shortcut; None for nothing.
        activation: one of `ACTIVATIONS`.
        backend: see the package.

    Returns:
        `map_BCHW`. Sums are float32, rounded once.

    Raises:
        ValueError: shapes that do not fit each other, or another activation.
        RuntimeError: a backend that cannot run here.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {activation!r}")
    _check("bias", bias_C, (map_BCHW.shape[1],), single=False)
    if added_BCHW is not None:
        _check("added", added_BCHW, tuple(map_BCHW.shape), single=False)
    more = [] if added_BCHW is None else [added_BCHW]
    kernels = _kernels(backend, map_BCHW, bias_C, *more)
    module = reference if kernels is None else kernels
    return module.finish_convolution(map_BCHW, bias_C, added_BCHW, activation)


def decide_masks(
    log_odds_BMHW: Tensor, *, dtype: torch.dtype = torch.float32, backend: Backend = "auto"
) -> tuple[Tensor, Tensor]:
    """Enlarge log-odds four times (bilinear, align_corners False), then softmax over channels.

    Never holds a full-size map of every channel in float32.

    Args:
        log_odds_BMHW: (B, N + 1, H / 4, W / 4) float32, background first; at most 255 objects.
        dtype: of the soft masks.
        backend: see the package.

    Returns:
        Soft masks of the objects (B, N, H, W) in [0, 1], without the background, and the index
        of the likeliest channel (B, H, W) uint8, 0 for background.

    Raises:
        ValueError: another shape, or more objects than eight bits count.
        TypeError: log-odds that are not float32.
        RuntimeError: a backend that cannot run here.
    """
    _check("log_odds", log_odds_BMHW, (None,) * 4, single=True)
    if log_odds_BMHW.shape[1] > 256:
        raise ValueError(f"{log_odds_BMHW.shape[1] - 1} objects; an index of 8 bits tells 255")
    kernels = _kernels(backend, log_odds_BMHW)
    module = reference if kernels is None else kernels
    return module.decide_masks(log_odds_BMHW, dtype)
