"""The Triton kernels against plain PyTorch and against float64.

Run natively where there is a CUDA device, else in Triton's interpreter (conftest sets it up); and
compiled for CUDA devices of three generations, which needs none.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from livos_kernels import (
    ACTIVATIONS,
    count_key,
    decide_masks,
    finish_convolution,
    gated_recurrent_update,
    update_state,
)

pytest.importorskip("triton", reason="the kernels need triton (Linux only)")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# batch, objects, key and value channels, rows, columns: odd sizes, one row, one column, one to ten
# objects, more pixels than a block of the key sum and than a program of the update has.
SHAPES = [
    (1, 1, 64, 256, 6, 9),
    (2, 3, 16, 40, 7, 11),
    (1, 10, 64, 32, 5, 7),
    (1, 2, 64, 64, 23, 29),
    (1, 1, 24, 100, 1, 5),
    (1, 2, 64, 32, 5, 1),
]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def laid_out(map_: torch.Tensor, layout: torch.memory_format) -> torch.Tensor:
    """(B, N, C, h, w) in a layout that a convolution of (B * N, C, h, w) may leave."""
    return (
        map_.flatten(0, 1).contiguous(memory_format=layout).unflatten(0, map_.shape[:2]).to(DEVICE)
    )


class Inputs:
    def __init__(
        self,
        shape: tuple[int, ...],
        layout: torch.memory_format = torch.contiguous_format,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        b, n, k, v, h, w = shape
        generator = torch.Generator().manual_seed(sum(shape))

        def normal(*size: int) -> torch.Tensor:
            return torch.randn(*size, generator=generator)

        self.key = laid_out(normal(b, 1, k, h, w).mul(3).softmax(2).to(dtype), layout)[:, 0]
        self.state = normal(b, n, k, v).to(DEVICE)
        self.key_sum = laid_out(normal(b, 2, k, h, w).exp(), layout)
        self.group = torch.arange(n, device=DEVICE) % 2
        self.value = laid_out(normal(b, n, v, h, w).to(dtype), layout)
        self.gate = normal(b, v).sigmoid().to(DEVICE, dtype)
        self.decay = torch.rand(b, generator=generator).to(DEVICE)
        self.gates = laid_out(normal(b, n, 3 * v, h, w).mul(4).to(dtype), layout)
        self.sensory = laid_out(normal(b, n, v, h, w).to(dtype), layout)
        self.log_odds = (normal(b, n + 1, h, w) * 6).to(DEVICE)

    def double(self) -> Inputs:
        for name, tensor in vars(self).items():
            if tensor.is_floating_point():
                setattr(self, name, tensor.double())
        return self


def close(got: torch.Tensor, want: torch.Tensor, limit: float) -> None:
    """Largest error, relative to the largest value."""
    assert got.shape == want.shape
    error = float((got.double() - want.double()).abs().max() / want.double().abs().max())
    assert error <= limit, error


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh memory is full of NaN: whatever a kernel does not write shows."""
    empty, empty_like = torch.empty, torch.empty_like

    def poison(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.fill_(float("nan") if tensor.is_floating_point() else 77)

    monkeypatch.setattr(torch, "empty", lambda *a, **k: poison(empty(*a, **k)))
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: poison(empty_like(*a, **k)))


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("shape", "decay"), list(zip(SHAPES, [None, 0.7, 0.0, 1.0, None, 0.7], strict=True))
)
def test_count_key(
    shape: tuple[int, ...], layout: torch.memory_format, decay: float | None
) -> None:
    x, exact = Inputs(shape, layout), Inputs(shape).double()
    decay_B = None if decay is None else torch.full((shape[0],), decay, device=DEVICE)
    norm, key_sum = count_key(x.key, x.key_sum, decay_B, backend="triton")
    close(norm, torch.einsum("bkhw,bgkhw->bg", exact.key, exact.key_sum), 2e-6)
    want = exact.key_sum * (1 if decay is None else decay) + exact.key[:, None]
    close(key_sum, want, 1e-6)
    # The layout the network uses goes in and comes out.
    if layout is torch.channels_last and shape[4] > 1 and shape[5] > 1:
        assert key_sum.stride(2) == 1
    again = count_key(x.key, x.key_sum, decay_B, backend="triton")
    assert torch.equal(norm, again[0])
    assert torch.equal(key_sum, again[1])


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("shape", "gate"), list(zip(SHAPES, [None, 0.0, 1.0, None, None, 1.0], strict=True))
)
@pytest.mark.parametrize("programs", [1, 2, 1000])
def test_update_state(
    shape: tuple[int, ...],
    layout: torch.memory_format,
    gate: float | None,
    programs: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one part, in two, and in as many as there are."""
    monkeypatch.setattr("livos_kernels.update._programs", lambda _: programs)
    x, exact = Inputs(shape, layout), Inputs(shape).double()
    if gate is not None:
        x.gate.fill_(gate)
        exact.gate.fill_(gate)
    got = update_state(x.state, x.key, x.value, x.gate, backend="triton")
    added = torch.einsum("bkhw,bnvhw->bnkv", exact.key, exact.value)
    close(got, exact.state * exact.gate[:, None, None] + added, 2e-6)
    assert torch.equal(update_state(x.state, x.key, x.value, x.gate, backend="triton"), got)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_gated_recurrent_update(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    x, exact = Inputs(shape, layout), Inputs(shape).double()
    x.gates[0, 0, :, 0, 0] = exact.gates[0, 0, :, 0, 0] = 200.0  # saturates, does not overflow
    x.gates[-1, -1, :, -1, -1] = exact.gates[-1, -1, :, -1, -1] = -200.0
    got = gated_recurrent_update(x.gates, x.sensory, backend="triton")
    forget, update, new = exact.gates.chunk(3, dim=2)
    update = update.sigmoid()
    close(got, forget.sigmoid() * exact.sensory * (1 - update) + update * new.tanh(), 1e-6)
    assert torch.equal(gated_recurrent_update(x.gates, x.sensory, backend="triton"), got)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("backend", ["triton", "torch"])
@pytest.mark.parametrize("shape", SHAPES)
def test_decide_masks(
    shape: tuple[int, ...], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import livos_kernels.reference

    # Small strips, so that plain PyTorch is made to use several.
    monkeypatch.setattr(livos_kernels.reference, "STRIP_VALUES", 4000)
    x = Inputs(shape)
    x.log_odds[0, :, 0, 0] = 2.5  # a tie goes to the first, the background
    soft, decided = decide_masks(x.log_odds, backend=backend)
    large = torch.nn.functional.interpolate(x.log_odds.double(), scale_factor=4, mode="bilinear")
    # A log-odd is the mean of four by way of four roundings, half of which softmax passes on.
    rounding = torch.finfo(torch.float32).eps / 2
    limit = 2 * rounding * float(x.log_odds.abs().max())
    close(soft, large.softmax(dim=1)[:, 1:], max(2e-6, limit))
    assert decided.dtype == torch.uint8
    assert int(decided[0, 0, 0]) == 0
    # Where rounding decides, either of the two largest is right.
    chosen = large.gather(1, decided[:, None].long())[:, 0]
    assert float((large.amax(dim=1) - chosen).max()) < 1e-4


@pytest.mark.parametrize("backend", ["triton", "torch"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(1, 256, 5, 7), (2, 1, 3, 4), (1, 300, 2, 2), (3, 24, 1, 9)])
def test_finish_convolution(
    shape: tuple[int, ...], activation: str, layout: torch.memory_format, backend: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    map_, added = (torch.randn(*shape, generator=generator).mul(4).to(DEVICE) for _ in range(2))
    bias = torch.randn(shape[1], generator=generator).to(DEVICE)
    function = {
        "none": torch.clone,
        "relu": torch.nn.functional.relu,
        "relu6": torch.nn.functional.relu6,
        "gelu": torch.nn.functional.gelu,
    }[activation]
    for dtype, limit in ((torch.float32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 8e-3)):
        for more in (None, added.to(dtype)):
            given, per = map_.to(dtype, memory_format=layout, copy=True), bias.to(dtype)
            want = given.double() + per.double()[:, None, None]
            want = function(want if more is None else want + more.double())
            got = finish_convolution(given, per, more, activation, backend=backend)
            assert got.data_ptr() == given.data_ptr()
            close(got, want, limit)


def test_a_map_with_gaps_is_refused() -> None:
    """What a kernel would change is a copy then."""
    part = torch.zeros(1, 4, 8, 8, device=DEVICE)[..., 1:-1]
    with pytest.raises(ValueError, match="cannot be changed in place"):
        finish_convolution(part, torch.zeros(4, device=DEVICE), backend="triton")


def test_an_unknown_activation_is_named() -> None:
    with pytest.raises(ValueError, match="must be one of none, relu, relu6, gelu, not 'tanh'"):
        finish_convolution(torch.zeros(1, 2, 3, 3), torch.zeros(2), None, "tanh")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_cast_at_load_and_store(dtype: torch.dtype) -> None:
    x = Inputs(SHAPES[3], torch.channels_last, dtype)
    counted = [
        count_key(x.key, x.key_sum, x.decay, backend=backend) for backend in ("torch", "triton")
    ]
    limit = torch.finfo(dtype).eps
    for got, want in zip(counted[1], counted[0], strict=True):
        assert got.dtype == want.dtype == torch.float32
        close(got, want, 2e-6)
    states = [
        update_state(x.state, x.key, x.value, x.gate, backend=backend)
        for backend in ("torch", "triton")
    ]
    assert states[1].dtype == torch.float32
    close(states[1], states[0], 2e-6)
    renewed = [
        gated_recurrent_update(x.gates, x.sensory, backend=backend)
        for backend in ("torch", "triton")
    ]
    assert renewed[1].dtype == dtype
    close(renewed[1], renewed[0], limit)
    soft = [decide_masks(x.log_odds, dtype=dtype, backend=b)[0] for b in ("torch", "triton")]
    assert soft[1].dtype == dtype
    close(soft[1], soft[0], limit)


def test_a_video_in_two_parts_is_the_whole_to_the_bit() -> None:
    """State and key sum, saved half way and loaded, go on to the same bits."""
    frames = [Inputs((1, 2, 64, 64, 6, 9 + t)) for t in (0, 0, 0, 0)]
    for t, frame in enumerate(frames):
        frame.key = frame.key.roll(t, dims=2)

    def run(memory: tuple[torch.Tensor, ...], some: list[Inputs]) -> tuple[torch.Tensor, ...]:
        state, key_sum = memory
        for x in some:
            norm, key_sum = count_key(x.key, key_sum, x.decay, backend="triton")
            state = update_state(state, x.key, x.value, x.gate, backend="triton") / norm[0, 0]
        return state, key_sum

    start = frames[0].state, frames[0].key[:, None].repeat(1, 2, 1, 1, 1)
    whole = run(start, frames)
    saved = tuple(t.cpu().clone().to(DEVICE) for t in run(start, frames[:2]))
    for one, other in zip(whole, run(saved, frames[2:]), strict=True):
        assert torch.equal(one, other)


def test_a_window_of_a_larger_map_is_read_right() -> None:
    """Its rows do not follow each other in memory."""
    x, exact = Inputs(SHAPES[3]), Inputs(SHAPES[3]).double()

    def window(map_: torch.Tensor) -> torch.Tensor:
        return map_[..., 3:20, 2:19]

    key = window(exact.key)
    added = torch.einsum("bkhw,bnvhw->bnkv", key, window(exact.value))
    got = update_state(x.state, window(x.key), window(x.value), x.gate, backend="triton")
    close(got, exact.state * exact.gate[:, None, None] + added, 2e-6)
    norm, key_sum = count_key(window(x.key), window(x.key_sum), backend="triton")
    close(norm, torch.einsum("bkhw,bgkhw->bg", key, window(exact.key_sum)), 2e-6)
    close(key_sum, window(exact.key_sum) + key[:, None], 1e-6)


@pytest.mark.parametrize("objects", [0, 255, 300])
def test_no_objects_and_many(objects: int) -> None:
    x = Inputs((1, objects, 16, 16, 3, 5), torch.channels_last)
    for module in (update_state, gated_recurrent_update):
        inputs = (
            (x.state, x.key, x.value, x.gate) if module is update_state else (x.gates, x.sensory)
        )
        got, want = (module(*inputs, backend=backend) for backend in ("triton", "torch"))
        assert got.shape == want.shape
        if objects:
            close(got, want, 2e-6)
    if objects < 256:
        soft, decided = decide_masks(x.log_odds, backend="triton")
        want_soft, want_decided = decide_masks(x.log_odds, backend="torch")
        assert soft.shape == want_soft.shape
        assert float((decided == want_decided).float().mean()) > 0.99


@pytest.mark.skipif(DEVICE != "cpu", reason="a sparse file is no GPU's memory")
def test_maps_beyond_two_to_the_31st(tmp_path: Path) -> None:
    """The second object, or group, lies past what 32 bits count; what lies between is empty."""
    far = (1 << 31) + 4096
    x = Inputs((1, 2, 16, 16, 3, 5))
    files = np.memmap(tmp_path / "maps", np.float32, "w+", shape=(2 * far,))
    memory = torch.from_numpy(files)

    def placed(map_: torch.Tensor) -> torch.Tensor:
        height, width = map_.shape[3:]
        strides = (2 * far, far, height * width, width, 1)
        return memory.as_strided(map_.shape, strides, 0).copy_(map_)

    value = placed(x.value)
    got = update_state(x.state, x.key, value, x.gate, backend="triton")
    assert torch.equal(got, update_state(x.state, x.key, x.value, x.gate, backend="triton"))
    key_sum = placed(x.key_sum)
    got = count_key(x.key, key_sum, backend="triton")
    want = count_key(x.key, x.key_sum, backend="triton")
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    sensory = placed(x.sensory)
    got = gated_recurrent_update(x.gates, sensory, backend="triton")
    assert torch.equal(got, gated_recurrent_update(x.gates, x.sensory, backend="triton"))
    odds = placed(x.log_odds[:, :2, None])[:, :, 0]
    for a, b in zip(
        decide_masks(odds, backend="triton"),
        decide_masks(x.log_odds[:, :2], backend="triton"),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_an_explicit_backend_that_cannot_run_raises() -> None:
    x = Inputs(SHAPES[0])
    with pytest.raises(ValueError, match="backend must be one of"):
        update_state(x.state, x.key, x.value, x.gate, backend="cuda")  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="have no gradients"):
        update_state(x.state, x.key, x.value.requires_grad_(), x.gate, backend="triton")
    assert update_state(x.state, x.key, x.value, x.gate).requires_grad  # auto: plain PyTorch
    code = (
        "import torch\nfrom livos_kernels import decide_masks\n"
        "decide_masks(torch.zeros(1, 2, 3, 3), backend='triton')"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 1
    assert "cannot run on cpu" in done.stderr


def no_compiler(*_: object) -> None:
    raise RuntimeError("Failed to find C compiler.\nPlease specify via CC.")


def test_auto_tries_the_kernels_before_it_takes_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a device that is not there, but for what is asked of it."""
    import livos_kernels
    import livos_kernels.triton

    device = torch.device("cuda", 7)
    zeros = torch.zeros
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch, "zeros", lambda *size, **_: zeros(*size, device=DEVICE))
    livos_kernels._auto.cache_clear()
    with caplog.at_level("INFO"):
        assert livos_kernels._auto(device)
        livos_kernels._auto.cache_clear()
        assert "Triton kernels" in caplog.text
        assert "plain PyTorch" not in caplog.text
        monkeypatch.setattr(livos_kernels.triton, "decide_masks", no_compiler)
        caplog.clear()
        assert not livos_kernels._auto(device)
        assert not livos_kernels._auto(device)
    livos_kernels._auto.cache_clear()
    (record,) = caplog.records  # said once, in one line
    assert record.levelname == "WARNING"
    said = record.getMessage()
    assert "uses plain PyTorch" in said
    assert "Failed to find C compiler." in said
    assert "\n" not in said


def test_a_backend_that_was_asked_for_raises_what_went_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("livos_kernels.triton.decide_masks", no_compiler)
    with pytest.raises(RuntimeError, match="Failed to find C compiler"):
        decide_masks(torch.zeros(1, 2, 3, 3, device=DEVICE), backend="triton")


def test_too_little_memory_is_no_reason_against_the_kernels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import livos_kernels

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("livos_kernels.triton.decide_masks", full)
    with pytest.raises(torch.OutOfMemoryError):
        livos_kernels._trial(torch.device(DEVICE))
