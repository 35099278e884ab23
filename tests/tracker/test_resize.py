"""Frames and masks brought to the network's size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from livos_cli.tracker.resize import (
    _likeliest,
    decide_ids,
    downsample_ids,
    downsample_image,
    ids_in,
)


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


@pytest.mark.parametrize("ids", [[1], [7], [3, 1, 2], list(range(1, 256)), [5, 70_000], [-3, 9]])
@pytest.mark.parametrize("size", [(48, 80), (97, 201)])
def test_a_cpu_decides_as_any_device(ids: list[int], size: tuple[int, int]) -> None:
    """By other means; where two are alike to the last bits, rounding decides."""
    torch.manual_seed(len(ids))
    prob = F.interpolate(torch.randn(1, len(ids) + 1, 6, 10) * 4, size=(48, 80), mode="bicubic")
    prob = prob[0].softmax(0)
    got = decide_ids(prob, ids, size, None)
    names = np.array([0, *ids])
    assert got.dtype == (np.uint8 if all(0 < i < 256 for i in ids) else np.int64)
    assert np.mean(got == names[_likeliest(prob, size).numpy()]) > 0.9999
    given = torch.zeros(size, dtype=torch.int64)
    given[3:9, 4:20] = ids[0]
    corrected = decide_ids(prob, ids, size, given)
    assert np.array_equal(corrected == ids[0], given.numpy() == ids[0])


@pytest.mark.parametrize("values", [[0], [0, 3, 255], [-4, 0, 9], [0, 1 << 40], [0, 70_000]])
def test_ids_of_a_mask(values: list[int]) -> None:
    mask = torch.tensor(values, dtype=torch.int64).repeat(3, 5)
    assert ids_in(mask) == values
    assert ids_in(torch.zeros(0, 4, dtype=torch.int64)) == []
