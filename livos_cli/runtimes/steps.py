"""The recurrent step in three parts, each a pure function of tensors, as graphs need it.

A frame is encoded, then read with the memory of the frames before, which gives log-odds at a
quarter of its size; with masks made of those it is written to the memory. All is float32, one frame
at a time (B is 1). What is left to the caller: `given_state` and `given_key_sum` of
`network.livos.Memory`, which fade by the gate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from livos_cli.network.livos import Features, LiVOS, Memory

__all__ = ["STEPS", "Step", "examples"]


@dataclass(frozen=True)
class Step:
    """One of the three: its name, what goes in and what comes out, in order.

    A letter of `inputs` is a dimension that may have any size: H W the frame's, multiples of 16; h
    w a sixteenth of it, a b an eighth, c d a quarter; N objects, G groups of them.
    """

    name: str
    inputs: dict[str, str]
    outputs: tuple[str, ...]


ENCODE = Step("encode", {"image": "..HW"}, ("skip8", "skip4", "pixel", "key", "gate"))
READ = Step(
    "read",
    {
        "skip8": "..ab", "skip4": "..cd", "pixel": "..hw", "key": "..hw", "gate": "..",
        "state": ".N..", "key_sum": ".G.hw", "group": "N", "sensory": ".N.hw", "objects": ".N..",
        "masks": ".Nhw",
    },
    ("log_odds", "new_key_sum", "new_sensory"),
)  # fmt: skip
WRITE = Step(
    "write",
    {
        "image": "..HW", "pixel": "..hw", "key": "..hw", "gate": "..", "state": ".N..",
        "sensory": ".N.hw", "objects": ".N..", "masks": ".NHW",
    },
    ("new_state", "new_sensory", "new_objects", "small_masks"),
)  # fmt: skip


class _Encode(nn.Module):
    def __init__(self, model: LiVOS) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        f = self.model.encode_image(image)
        return f.skip8, f.skip4, f.pixel, f.key, f.gate


class _Read(_Encode):
    def forward(  # type: ignore[override]
        self,
        skip8: Tensor,
        skip4: Tensor,
        pixel: Tensor,
        key: Tensor,
        gate: Tensor,
        state: Tensor,
        key_sum: Tensor,
        group: Tensor,
        sensory: Tensor,
        objects: Tensor,
        masks: Tensor,
    ) -> tuple[Tensor, ...]:
        features = Features(pixel, skip8, skip4, pixel, key, gate)
        memory = Memory(state, key_sum, group, sensory, objects, masks, state, key_sum)
        log_odds, new = self.model.read(features, memory)
        return log_odds, new.key_sum, new.sensory


class _Write(_Encode):
    def forward(  # type: ignore[override]
        self,
        image: Tensor,
        pixel: Tensor,
        key: Tensor,
        gate: Tensor,
        state: Tensor,
        sensory: Tensor,
        objects: Tensor,
        masks: Tensor,
    ) -> tuple[Tensor, ...]:
        features = Features(image, pixel, pixel, pixel, key, gate)
        memory = Memory(state, state, gate, sensory, objects, masks, state, state)
        new = self.model.write(features, memory, masks)
        return new.state, new.sensory, new.objects, new.masks


STEPS: tuple[tuple[Step, type[_Encode]], ...] = (
    (ENCODE, _Encode),
    (READ, _Read),
    (WRITE, _Write),
)


@torch.inference_mode()
def examples(
    model: LiVOS, *, height: int = 96, width: int = 160, objects: int = 2, groups: int = 2
) -> dict[str, tuple[Tensor, ...]]:
    """Inputs of each step that fit each other, by the step's name.

    Args:
        model: float32, on the CPU.
        height: of the frame, a multiple of 16.
        width: likewise.
        objects: N.
        groups: G.
    """
    config = model.config
    generator = torch.Generator().manual_seed(0)

    def drawn(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator)

    image = drawn(1, 3, height, width)
    encoded = _Encode(model)(image)
    rows, columns = height // 16, width // 16
    state = drawn(1, objects, config.key, config.value) - 0.5
    key_sum = drawn(1, groups, config.key, rows, columns) + 1
    sensory = drawn(1, objects, config.sensory, rows, columns) - 0.5
    summary = drawn(1, objects, config.queries, config.embed + 1)
    memory = (state, key_sum, torch.arange(objects) % groups, sensory, summary)
    return {
        "encode": (image,),
        "read": (*encoded, *memory, drawn(1, objects, rows, columns) / objects),
        "write": (
            image, *encoded[2:], state, sensory, summary,
            drawn(1, objects, height, width) / objects,
        ),
    }  # fmt: skip
