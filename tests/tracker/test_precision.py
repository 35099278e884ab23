"""What half precision changes, with the built-in weights on real sequences."""

from __future__ import annotations

import torch

from livos_cli.network import TINY, LiVOS
from livos_cli.network.inference import to_device
from livos_cli.network.strips import split


def test_frames_are_normalised_in_float32() -> None:
    """The mean and standard deviation of images are not rounded to the network's precision."""
    frame = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 3, 16, 16)
    (whole,) = split(1, 0, 0)
    want = LiVOS(TINY).normalise(frame, whole)
    for dtype in (torch.float16, torch.bfloat16):
        half = to_device(LiVOS(TINY), torch.device("cpu"), dtype)
        got = half.normalise(frame, whole)
        assert got.dtype == dtype
        assert torch.equal(got, want.to(dtype))


def test_folded_batch_norm_is_the_same_function() -> None:
    """In double precision, where nothing but the arithmetic is left."""
    from livos_cli.network import TINY, LiVOS

    torch.manual_seed(0)
    plain = LiVOS(TINY).eval()
    for module in plain.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    folded = LiVOS(TINY)
    folded.load_state_dict(plain.state_dict())
    folded = to_device(folded.double(), torch.device("cpu"), torch.float64)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    image = torch.rand(1, 3, 64, 96, dtype=torch.float64)
    with torch.inference_mode():
        want, got = plain.double().encode_image(image), folded.encode_image(image)
    for name in ("skip8", "skip4", "pixel", "key"):
        assert torch.allclose(getattr(got, name), getattr(want, name), rtol=1e-10, atol=1e-10)
