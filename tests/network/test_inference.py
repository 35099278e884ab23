"""A network made to run fast computes what it did before."""

from __future__ import annotations

import copy

import numpy as np
import torch
from media import scene

from livos_cli import Tracker
from livos_cli.network import LiVOS
from livos_cli.network.inference import ALIGNED, pad_channels
from livos_cli.network.layers import joined


def test_channels_of_zeros_change_nothing(tiny: LiVOS) -> None:
    """As CUDA gets them in half precision, so that tensor cores take every convolution."""
    padded = copy.deepcopy(tiny)
    pad_channels(padded)
    changed = (
        padded.mask_encoder.conv1.weight,
        padded.mask_decoder.sensory_updater.g4_conv.weight,
        padded.pixel_fuser.joined_weight,
    )
    assert [weight.shape[1] % ALIGNED for weight in changed if weight is not None] == [0, 0, 0]
    one, other = Tracker(tiny), Tracker(padded)
    for t, (rgb, ids) in enumerate(scene(96, 128, 6, objects=3)):
        given = ids if t == 0 else None
        a, b = one.step(rgb, given), other.step(rgb, given)
        assert float((a - b).abs().max()) < 1e-3
        assert np.mean((a.argmax(0) != b.argmax(0)).numpy()) < 1e-3


def test_what_is_joined_stays_channels_last() -> None:
    parts = [
        torch.randn(2, channels, 6, 7).contiguous(memory_format=torch.channels_last)
        for channels in (3, 2)
    ]
    for channels in (5, 8):
        whole = joined(parts, channels)
        assert whole.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(whole[:, :5], torch.cat(parts, dim=1))
        assert not whole[:, 5:].any()
