"""Frames and masks brought to the network's size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from livos_cli.tracker.resize import downsample_ids, downsample_image


def test_a_device_without_antialiasing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apple's, before PyTorch 2.7: that step is done on the CPU."""
    torch.manual_seed(1)
    image = torch.randint(0, 256, (40, 60, 3), dtype=torch.uint8)
    ids = torch.zeros(40, 60, dtype=torch.int64)
    ids[5:20, 8:30] = 3
    want = downsample_image(image, (20, 30)), downsample_ids(ids, (20, 30))
    real, asked = F.interpolate, []

    def interpolate(x: torch.Tensor, **how: Any) -> torch.Tensor:
        asked.append(how)
        if len(asked) % 2:  # the first try of each
            raise NotImplementedError("aten::_upsample_bilinear2d_aa.out on this device")
        return real(x, **how)

    monkeypatch.setattr(F, "interpolate", interpolate)
    assert torch.equal(downsample_image(image, (20, 30)), want[0])
    assert torch.equal(downsample_ids(ids, (20, 30)), want[1])
