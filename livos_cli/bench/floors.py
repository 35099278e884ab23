"""The least that each stage must do: operations counted, bytes moved once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from livos_cli.network import PRESETS, LiVOS
from livos_cli.network.livos import Features, Memory
from livos_cli.network.strips import STRIDE

__all__ = ["Floor", "floors"]


@dataclass(frozen=True)
class Floor:
    """One stage of one frame."""

    stage: str
    operations: int  # multiplications and additions of convolutions and matrix products
    bytes: int  # inputs, outputs and weights of the stage, each once


@dataclass(frozen=True)
class _Frame:
    """One frame that was read and remembered: what went through it, and operations by stage."""

    model: LiVOS
    features: Features
    memory: Memory
    value: Tensor
    state: Tensor
    masks: Tensor
    encoding: FlopCounterMode
    matching: FlopCounterMode
    reading: FlopCounterMode  # matching counted again
    writing: FlopCounterMode  # likewise


def _count(network: str, height: int, width: int, objects: int) -> _Frame:
    """Run a frame of shapes without data."""
    # Fake tensors: autocast, which meta tensors do not have, is switched off inside.
    with FakeTensorMode(), torch.no_grad():
        model = LiVOS(PRESETS[network]).eval()
        image = torch.empty(1, 3, height, width)
        masks = torch.empty(1, objects, height, width)
        features = model.encode_image(image)
        memory = model.add_objects(features, None, objects)
        config, size = model.config, features.key.shape[-2:]
        value = torch.empty(1, objects, config.value, *size)
        with FlopCounterMode(display=False) as encoding:
            model.encode_image(image)
        with FlopCounterMode(display=False) as matching:
            model.read_memory(features, memory)
            state = model.update_memory(features, memory, value)
        with FlopCounterMode(display=False) as reading:
            model.read(features, memory)
        with FlopCounterMode(display=False) as writing:
            model.write(features, memory, masks)
    return _Frame(
        model, features, memory, value, state, masks, encoding, matching, reading, writing
    )


def floors(network: str, height: int, width: int, objects: int, itemsize: int) -> list[Floor]:
    """Of a frame that is read and remembered.

    Args:
        network: a key of PRESETS.
        height: pixels.
        width: pixels.
        objects: N.
        itemsize: bytes of the network's precision.
    """
    height, width = (-(-side // STRIDE) * STRIDE for side in (height, width))
    counted = _count(network, height, width, objects)
    model, features, memory = counted.model, counted.features, counted.memory
    value = counted.value  # a map of every object, as wide as those between the stages

    def of(counter: FlopCounterMode, *modules: str) -> int:
        counts = counter.get_flop_counts()
        return sum(sum(counts[type(getattr(model, name)).__name__].values()) for name in modules)

    def moved(*tensors: Tensor, weights: tuple[nn.Module, ...] = ()) -> int:
        values = sum(t.numel() for t in tensors)
        values += sum(p.numel() for module in weights for p in module.parameters())
        return values * itemsize

    frame, single = 3 * height * width, 4  # bytes of a frame; of a float32
    shared = (features.skip8, features.skip4, features.pixel, features.key)
    sums = 2 * (memory.key_sum.numel() + counted.state.numel()) * single
    soft = counted.masks.numel() * itemsize
    return [
        Floor(
            "encode image",
            counted.encoding.get_total_flops(),
            frame
            + moved(*shared, weights=(model.image_encoder, model.key_projector))
            + moved(weights=(model.pix_projector, model.gate_projector)),
        ),
        Floor(
            "match",
            counted.matching.get_total_flops(),
            moved(features.key, features.key, value) + sums,
        ),
        Floor(
            "transform",
            of(counted.reading, "pixel_fuser", "object_transformer"),
            moved(
                *(features.pixel, features.key, memory.sensory, value),
                weights=(model.pixel_fuser, model.object_transformer),
            ),
        ),
        Floor(
            "decode mask",
            of(counted.reading, "mask_decoder"),
            moved(
                *(value, features.skip8, features.skip4, memory.sensory, memory.sensory),
                weights=(model.mask_decoder,),
            )
            + soft
            + height * width,
        ),
        Floor(
            "encode mask",
            of(counted.writing, "mask_encoder", "object_summarizer"),
            frame
            + soft
            + moved(
                *(features.pixel, value, memory.sensory, memory.sensory),
                weights=(model.mask_encoder, model.object_summarizer),
            ),
        ),
    ]
