"""Frames and objects without end: no map has more values than PyTorch's operations count."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from livos_cli.network import LiVOS
from livos_cli.network.config import BASE, LITE
from livos_cli.network.livos import Features, LiVOSConfig, Memory


class Largest(TorchDispatchMode):
    """Remembers how many values the largest map has that is enlarged, convolved or pooled."""

    values = 0

    def __torch_dispatch__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if any(word in name for word in ("upsample", "convolution", "pool")):
            for tensor in (args[0], *(result if isinstance(result, tuple) else (result,))):
                self.values = max(self.values, tensor.numel())
        return result


def memory_of(config: LiVOSConfig, objects: int, height: int, width: int) -> Memory:
    empty = torch.empty
    return Memory(
        state=empty(1, objects, config.key, config.value),
        key_sum=empty(1, 1, config.key, height, width),
        group=torch.zeros(objects, dtype=torch.int64),
        sensory=empty(1, objects, config.sensory, height, width),
        objects=empty(1, objects, config.queries, config.embed + 1),
        masks=empty(1, objects, height, width),
        given_state=empty(1, objects, config.key, config.value),
        given_key_sum=empty(1, 1, config.key, height, width),
    )


@pytest.mark.parametrize("config", [BASE, LITE], ids=["base", "lite"])
@pytest.mark.parametrize(("objects", "height", "width"), [(10, 256, 456), (70, 135, 240)])
def test_no_map_is_too_large_to_count(
    config: LiVOSConfig, objects: int, height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 objects at 4096p, 70 at 2160p: on the device `meta`, which holds nothing."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # `meta` has none
    with torch.device("meta"), torch.inference_mode():
        model = LiVOS(config).eval().to("meta")
        memory = memory_of(config, objects, height, width)
        frame = torch.empty(1, 3, 16 * height, 16 * width, dtype=torch.uint8)
        features: Features = model.encode_image(frame)
        with Largest() as seen:
            odds, memory = model.read(features, memory)
            model.write(features, memory, torch.empty(1, objects, 16 * height, 16 * width))
    assert odds.shape == (1, objects + 1, 4 * height, 4 * width)
    assert 1 << 28 < seen.values < 1 << 31
