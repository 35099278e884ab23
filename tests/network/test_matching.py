"""Gated linear matching against formulas written out in float64."""

from __future__ import annotations

import pytest
import torch
from livos_kernels import read_state, start_key_sum, update_state

SHAPES = [(1, 1, 64, 256, 6, 9), (1, 3, 64, 128, 5, 7), (2, 2, 16, 32, 3, 4)]


def inputs(shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    b, n, k, v, h, w = shape
    generator = torch.Generator().manual_seed(7)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator)

    return {
        "key": normal(b, k, h, w) * 3,
        "state": normal(b, n, k, v),
        "key_sum": normal(b, 2, k, h, w).exp(),
        "value": normal(b, n, v, h, w),
        "gate": normal(b, v).sigmoid(),
        "group": torch.arange(n) % 2,
    }


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("decay", [None, 0.0, 0.7, 1.0])
def test_read_state(shape: tuple[int, ...], decay: float | None) -> None:
    x = inputs(shape)
    decay_B = None if decay is None else torch.full((shape[0],), decay)
    readout, key_sum = read_state(x["key"], x["state"], x["key_sum"], x["group"], decay_B)
    key = x["key"].double().softmax(1)
    for b in range(shape[0]):
        for n in range(shape[1]):
            group = int(x["group"][n])
            norm = (key[b] * x["key_sum"][b, group].double()).sum()
            want = torch.einsum("khw,kv->vhw", key[b], x["state"][b, n].double()) / norm
            assert torch.allclose(readout[b, n].double(), want, rtol=1e-4, atol=1e-6)
    want_sum = x["key_sum"].double() * (1 if decay is None else decay) + key[:, None]
    assert torch.allclose(key_sum.double(), want_sum, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gate", [None, 0.0, 1.0])
def test_update_state(shape: tuple[int, ...], gate: float | None) -> None:
    x = inputs(shape)
    gate_BV = x["gate"] if gate is None else torch.full_like(x["gate"], gate)
    got = update_state(x["state"], x["key"], x["value"], gate_BV)
    key = x["key"].double().softmax(1)
    added = torch.einsum("bkhw,bnvhw->bnkv", key, x["value"].double())
    want = x["state"].double() * gate_BV.double()[:, None, None] + added
    assert torch.allclose(got.double(), want, rtol=1e-4, atol=1e-5)


def test_low_precision_inputs_keep_a_float32_state() -> None:
    x = inputs(SHAPES[1])
    state = update_state(x["state"], x["key"].bfloat16(), x["value"].half(), x["gate"].bfloat16())
    assert state.dtype == torch.float32
    assert start_key_sum(x["key"].half()).dtype == torch.float32
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
        read_state(x["key"], x["state"], x["key_sum"][..., :2], x["group"])
