"""A convolution with what follows it is the same function, however few passes it takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from livos_cli.network import convolve as under_test
from livos_cli.network.convolve import Activation, convolve

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FUNCTIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "none": torch.clone,
    "relu": F.relu,
    "relu6": F.relu6,
    "gelu": F.gelu,
}
LAYERS = {
    "pointwise": lambda: nn.Conv2d(16, 24, 1),
    "pointwise, one channel": lambda: nn.Conv2d(16, 1, 1),
    "pointwise, halving": lambda: nn.Conv2d(16, 24, 1, stride=2),
    "3x3": lambda: nn.Conv2d(16, 24, 3, padding=1),
    "3x3, halving, no bias": lambda: nn.Conv2d(16, 24, 3, stride=2, padding=1, bias=False),
    "depthwise": lambda: nn.Conv2d(16, 16, 5, padding=2, groups=16),
    "7x7": lambda: nn.Conv2d(16, 24, 7, stride=2, padding=3),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("activation", FUNCTIONS)
def test_fused_is_the_same_function(name: str, activation: Activation) -> None:
    """The way of half precision on a GPU; on a CPU with plain PyTorch for its kernels."""
    torch.manual_seed(0)
    layer, exact = LAYERS[name](), LAYERS[name]()
    exact.load_state_dict(layer.state_dict())
    half = layer.to(DEVICE, torch.bfloat16, memory_format=torch.channels_last).requires_grad_(False)
    exact = exact.double()
    exact.load_state_dict(half.state_dict())
    x = torch.randn(2, 16, 9, 10, dtype=torch.bfloat16)
    with torch.inference_mode():
        plain = exact(x.double())
        added = torch.randn(plain.shape, dtype=torch.bfloat16)
        for more in (None, added):
            want = FUNCTIONS[activation](plain if more is None else plain + more.double())
            got = under_test._fused(
                half,
                x.to(DEVICE, memory_format=torch.channels_last),
                activation,
                None if more is None else more.to(DEVICE, memory_format=torch.channels_last),
            )
            assert got.dtype == torch.bfloat16
            assert got.shape == want.shape
            error = float((got.cpu().double() - want).abs().max() / want.abs().max())
            assert error < 0.01, error


def test_training_is_unchanged() -> None:
    """Gradients flow through norm, shortcut and activation."""
    torch.manual_seed(0)
    layer, norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
    x = torch.randn(2, 4, 5, 5)
    got = convolve(layer, x, "relu", norm=norm, added=x)
    got.sum().backward()
    found = layer.weight.grad
    layer.weight.grad = None
    (F.relu(norm(layer(x)) + x)).sum().backward()
    assert found is not None
    assert torch.equal(found, layer.weight.grad)


def test_cudnn_is_taken_only_where_it_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    def right(x: Tensor, weight: Tensor, bias: Tensor, *where: int) -> Tensor:
        return F.relu(F.conv2d(x, weight, bias, *where))

    def sums(
        x: Tensor, weight: Tensor, added: Tensor, alpha: float, bias: Tensor, *where: int
    ) -> Tensor:
        return F.relu(F.conv2d(x, weight, bias, *where) + alpha * added)

    def without_bias(x: Tensor, weight: Tensor, _: Tensor, *where: int) -> Tensor:
        return F.relu(F.conv2d(x, weight, None, *where))

    def no_engine(*_: object) -> Tensor:
        raise RuntimeError("GET was unable to find an engine to execute this computation")

    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", sums)
    for found, fine in ((right, True), (without_bias, False), (no_engine, False)):
        under_test._cudnn_fuses.cache_clear()
        monkeypatch.setattr(torch, "cudnn_convolution_relu", found)
        assert under_test._cudnn_fuses(torch.device("cpu"), torch.bfloat16) is fine
    under_test._cudnn_fuses.cache_clear()
