"""Gated linear matching against formulas written out in float64."""

from __future__ import annotations

import pytest
import torch
from livos_kernels import count_key, update_state

from livos_cli.network import LiVOS
from livos_cli.network.livos import Features, Memory

SHAPES = [(1, 1, 64, 256, 6, 9), (1, 3, 64, 128, 5, 7), (2, 2, 16, 32, 3, 4)]


def inputs(shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    b, n, k, v, h, w = shape
    generator = torch.Generator().manual_seed(7)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator)

    return {
        "key": (normal(b, k, h, w) * 3).softmax(1),
        "state": normal(b, n, k, v),
        "key_sum": normal(b, 2, k, h, w).exp(),
        "value": normal(b, n, v, h, w),
        "gate": normal(b, v).sigmoid(),
        "group": torch.arange(n) % 2,
    }


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("decay", [None, 0.0, 0.7, 1.0])
def test_count_key(shape: tuple[int, ...], decay: float | None) -> None:
    x = inputs(shape)
    decay_B = None if decay is None else torch.full((shape[0],), decay)
    norm, key_sum = count_key(x["key"], x["key_sum"], decay_B)
    key = x["key"].double()
    want = (key[:, None] * x["key_sum"].double()).sum(dim=(2, 3, 4))
    assert torch.allclose(norm.double(), want, rtol=1e-5)
    want_sum = x["key_sum"].double() * (1 if decay is None else decay) + key[:, None]
    assert torch.allclose(key_sum.double(), want_sum, rtol=1e-6)


@torch.inference_mode()
def test_the_state_is_read_under_a_linear_map(tiny: LiVOS) -> None:
    """Key^T state / norm, which no map of every pixel is made of."""
    x = inputs((1, 3, tiny.config.key, tiny.config.value, 5, 7))
    nothing = torch.empty(0)
    features = Features(nothing, nothing, nothing, nothing, x["key"], x["gate"])
    memory = Memory(
        x["state"], x["key_sum"], x["group"], nothing, nothing, nothing, nothing, nothing
    )
    readout, key_sum = tiny.read_memory(features, memory)
    decay = x["gate"].mean(dim=1)  # the normaliser of these weights is gated
    assert torch.equal(key_sum, count_key(x["key"], x["key_sum"], decay)[1])
    key, weight = x["key"][0].double(), torch.randn(9, tiny.config.value)
    got = readout(weight)
    for n, group in enumerate(x["group"].tolist()):
        norm = (key * x["key_sum"][0, group].double()).sum()
        want = torch.einsum("khw,kv,ev->ehw", key, x["state"][0, n].double(), weight.double())
        assert torch.allclose(got[0, n].double(), want / norm, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gate", [None, 0.0, 1.0])
def test_update_state(shape: tuple[int, ...], gate: float | None) -> None:
    x = inputs(shape)
    gate_BV = x["gate"] if gate is None else torch.full_like(x["gate"], gate)
    got = update_state(x["state"], x["key"], x["value"], gate_BV)
    key = x["key"].double()
    added = torch.einsum("bkhw,bnvhw->bnkv", key, x["value"].double())
    want = x["state"].double() * gate_BV.double()[:, None, None] + added
    assert torch.allclose(got.double(), want, rtol=1e-4, atol=1e-5)


def test_low_precision_inputs_keep_a_float32_state() -> None:
    x = inputs(SHAPES[1])
    state = update_state(x["state"], x["key"].bfloat16(), x["value"].half(), x["gate"].bfloat16())
    assert state.dtype == torch.float32
    assert [t.dtype for t in count_key(x["key"].half(), x["key_sum"])] == [torch.float32] * 2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = update_state(x["state"], x["key"], x["value"], x["gate"])
    assert torch.equal(inside, update_state(x["state"], x["key"], x["value"], x["gate"]))


def test_what_does_not_fit_is_refused() -> None:
    x = inputs(SHAPES[1])
    with pytest.raises(TypeError, match="state must be float32"):
        update_state(x["state"].half(), x["key"], x["value"], x["gate"])
    with pytest.raises(ValueError, match="value has shape"):
        update_state(x["state"], x["key"], x["value"][:, :1], x["gate"])
    with pytest.raises(ValueError, match="key_sum has shape"):
        count_key(x["key"], x["key_sum"][..., :2])
