"""What half precision changes, with the built-in weights on real sequences."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from livos_cli.network import TINY, LiVOS
from livos_cli.network.prepare import to_device
from livos_cli.network.strips import split
from livos_cli.tracker.tracker import Tracker
from livos_cli.weights.load import load_model

SEQUENCES = ("bear", "car-turn", "dance-jump", "horsejump-low", "scooter-gray")
FRAMES = int(os.environ.get("LIVOS_PRECISION_FRAMES", "6"))  # of each; a large number: all
DEVICE, HALF = ("cuda", "fp16") if torch.cuda.is_available() else ("cpu", "bf16")


@pytest.mark.slow
@pytest.mark.parametrize("name", SEQUENCES)
def test_half_precision_decides_as_float32(name: str, shared: Path) -> None:
    """fp16 where there is a GPU, else bf16; each goes on from its own decisions."""
    trackers = [
        Tracker(load_model("tiny", device=DEVICE, precision=precision))
        for precision in ("fp32", HALF)
    ]
    folder = shared / "data" / "davis-train"
    same = []
    with (
        av.open(str(folder / f"{name}.mp4")) as video,
        av.open(str(folder / f"{name}.masks.mkv")) as masks,
    ):
        pairs = zip(video.decode(video=0), masks.decode(video=0), strict=True)
        for index, (frame, ids) in enumerate(pairs):
            if index > FRAMES:
                break
            rgb = frame.to_ndarray(format="rgb24")
            given = ids.to_ndarray(format="gray") if index == 0 else None
            one, other = (tracker.step_ids(rgb, given) for tracker in trackers)
            if index:
                same.append(float((one == other).mean()))
    print(f"{name}: {np.mean(same):.4%} of pixels over {len(same)} frames, {HALF} on {DEVICE}")
    assert np.mean(same) >= 0.99


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
