"""The network as pure functions of a frame and a memory: `encode_image`, `read`, `write`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from livos_kernels import count_key, update_state
from torch import Tensor, nn

from livos_cli.network.calibration import Calibration
from livos_cli.network.config import LITE0, LiVOSConfig
from livos_cli.network.efficientnet import EfficientNetLite0
from livos_cli.network.encoders import (
    GateProjector,
    KeyProjector,
    MaskEncoder,
    ObjectSummarizer,
    PixelProjector,
)
from livos_cli.network.exporting import is_exporting
from livos_cli.network.layers import aggregate, area_average, others_of
from livos_cli.network.mask_decoder import MaskDecoder
from livos_cli.network.object_transformer import ObjectTransformer, PixelFuser, Readout
from livos_cli.network.resnet import ResNet, block_of
from livos_cli.network.strips import STRIDE, Strip, encoder_halo, in_strips

__all__ = ["STRIDE", "Features", "LiVOS", "Memory", "nothing"]

MOST_VALUES = (1 << 31) - 1  # in one tensor


def nothing() -> None:
    """Between the stages of a frame, where nothing is to be done there."""


@dataclass(frozen=True)
class Features:
    """What one frame gives, whatever its objects."""

    image: Tensor  # (B, 3, H, W) as it was given: uint8, or float in [0, 1]
    skip8: Tensor  # (B, C, H/8, W/8), projected for the decoder
    skip4: Tensor  # (B, C, H/4, W/4), likewise
    pixel: Tensor  # (B, C, h, w)
    key: Tensor  # (B, K, h, w), softmax over channels
    gate: Tensor  # (B, V) in (0, 1), float32

    def without_skips(self) -> Features:
        """What `write` needs; the skips are most of the memory."""
        nothing = self.pixel.new_empty(0)
        return replace(self, skip8=nothing, skip4=nothing)


@dataclass(frozen=True)
class Memory:
    """All that is carried from frame to frame; its size does not depend on the video's length.

    Objects that entered together, or were corrected together, share a key sum: `group[n]` is the
    row of `key_sum` that normalises object n.

    State and key sum there are once more, as far as masks that were given contributed to them, and
    nothing that was predicted; they fade alike. An object that is corrected starts again from
    these (`LiVOS.restart`).
    """

    state: Tensor  # (B, N, K, V) float32
    key_sum: Tensor  # (B, G, K, h, w) float32
    group: Tensor  # (N,) int64
    sensory: Tensor  # (B, N, S, h, w), network's precision
    objects: Tensor  # (B, N, Q, embed + 1) float32
    masks: Tensor  # (B, N, h, w) float32, the last frame's soft masks, averaged
    given_state: Tensor  # (B, N, K, V) float32
    given_key_sum: Tensor  # (B, G, K, h, w) float32

    def only(self, rows: list[int]) -> Memory:
        """Of these objects alone, in this order; groups that nobody is in any more go."""
        kept = torch.tensor(rows, dtype=torch.int64, device=self.state.device)
        groups, group = self.group[kept].unique(return_inverse=True)
        return Memory(
            state=self.state[:, kept],
            key_sum=self.key_sum[:, groups],
            group=group,
            sensory=self.sensory[:, kept],
            objects=self.objects[:, kept],
            masks=self.masks[:, kept],
            given_state=self.given_state[:, kept],
            given_key_sum=self.given_key_sum[:, groups],
        )

    def and_then(self, others: Memory) -> Memory:
        """With more objects after these, whose groups are their own."""
        return Memory(
            state=torch.cat([self.state, others.state], dim=1),
            key_sum=torch.cat([self.key_sum, others.key_sum], dim=1),
            group=torch.cat([self.group, others.group + self.key_sum.shape[1]]),
            sensory=torch.cat([self.sensory, others.sensory], dim=1),
            objects=torch.cat([self.objects, others.objects], dim=1),
            masks=torch.cat([self.masks, others.masks], dim=1),
            given_state=torch.cat([self.given_state, others.given_state], dim=1),
            given_key_sum=torch.cat([self.given_key_sum, others.given_key_sum], dim=1),
        )

    def mark_given(self, rows: list[int]) -> Memory:
        """After a mask of these objects has been written: all that is in their states was given.

        Objects that enter or start again hold nothing else then.
        """
        taken = torch.zeros(self.state.shape[1], dtype=torch.bool, device=self.state.device)
        taken[rows] = True
        return replace(
            self, given_state=torch.where(taken[:, None, None], self.state, self.given_state)
        )


def _image_encoder(config: LiVOSConfig) -> ResNet | EfficientNetLite0:
    if config.image_block == LITE0:
        return EfficientNetLite0()
    return ResNet(3, block_of(config.image_block), config.stem, config.stages, config.image_depths)


class LiVOS(nn.Module):
    """LiVOS (CVPR 2025, arXiv 2411.02818). Holds weights, no memory; downloads nothing."""

    mean: Tensor
    std: Tensor
    bounded = True  # a memory budget holds

    def __init__(self, config: LiVOSConfig) -> None:
        super().__init__()
        self.config = config
        self.calibration: Calibration | None = None  # of these weights, where there is one
        self.image_encoder = _image_encoder(config)
        self.mask_encoder = MaskEncoder(config)
        self.key_projector = KeyProjector(config)
        self.pix_projector = PixelProjector(config)
        self.gate_projector = GateProjector(config)
        self.mask_decoder = MaskDecoder(config)
        self.pixel_fuser = PixelFuser(config)
        self.object_transformer = ObjectTransformer(config)
        self.object_summarizer = ObjectSummarizer(config)
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """The network's precision."""
        return self.pix_projector.layer.weight.dtype

    @property
    def precision(self) -> str:
        """What it computes in, for people."""
        return str(self.dtype).split(".")[1]

    @property
    def computed_by(self) -> str:
        """Which program computes it, and its version."""
        return f"PyTorch {torch.__version__}"

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.pix_projector.layer.weight.device

    def normalise(self, rgb_B3HW: Tensor, strip: Strip) -> Tensor:
        """A strip of a frame as the encoders take it, in the layout of the weights."""
        rgb = strip.take(rgb_B3HW, STRIDE)
        if rgb.dtype == torch.uint8:
            rgb = rgb.float() / 255
        image = ((rgb - self.mean.to(rgb)) / self.std.to(rgb)).to(self.dtype)
        if self.image_encoder.conv1.weight.is_contiguous(memory_format=torch.channels_last):
            image = image.contiguous(memory_format=torch.channels_last)
        return image

    def encode_image(self, rgb_B3HW: Tensor, rows: int = 0) -> Features:
        """What a frame gives whatever its objects.

        Args:
            rgb_B3HW: RGB, uint8 or float in [0, 1], sides multiples of 16.
            rows: of the 1/16 grid, encoded at a time; 0 for all. Bounds memory, changes nothing
                else.
        """
        if rgb_B3HW.shape[-1] % STRIDE or rgb_B3HW.shape[-2] % STRIDE:
            raise ValueError(f"frame sides must be multiples of {STRIDE}, not {rgb_B3HW.shape}")

        def encode(strip: Strip) -> tuple[Tensor, ...]:
            f16, f8, f4 = self.image_encoder(self.normalise(rgb_B3HW, strip))
            skip8, skip4 = self.mask_decoder.project(strip.keep(f8, 2), strip.keep(f4, 4))
            # Once a frame, and where channels lie side by side.
            key = strip.keep(self.key_projector(f16)).movedim(1, 3).softmax(3).movedim(3, 1)
            f16 = strip.keep(f16)
            return skip8, skip4, self.pix_projector(f16), key, self.gate_projector(f16)

        height = rgb_B3HW.shape[-2] // STRIDE
        skip8, skip4, pixel, key, gate = in_strips(encode, height, rows, encoder_halo(self.config))
        return Features(rgb_B3HW, skip8, skip4, pixel, key, gate.mean(dim=(2, 3)))

    def _at_once(self, chunk: int, map_BNCHW: Tensor) -> int:
        """Objects encoded or decoded at a time, so that no map of theirs has 2^31 values.

        PyTorch's operations on a GPU count no further.

        Args:
            chunk: at most so many; 0 for all.
            map_BNCHW: any map of all objects at 1/16.
        """
        batch, objects, _, height, width = map_BNCHW.shape
        if is_exporting():  # a graph is for any number of objects
            return objects
        width16, width8, _ = self.config.decoder
        # A cell of the 1/16 grid in the decoder at 1/8 and 1/4, and in the stem at 1/2.
        cell = max(4 * width16, 16 * width8, 64 * self.config.stem)
        return max(1, min(chunk or objects, MOST_VALUES // (batch * height * width * cell)))

    def read_memory(self, features: Features, memory: Memory) -> tuple[Readout, Tensor]:
        """The readout of every object, and the new key sum.

        What is read only ever meets a linear map, so the small state is mapped, not the readout
        of every pixel, which is never made.
        """
        decay = features.gate.mean(dim=1) if self.config.normaliser == "gated" else None
        norm, key_sum = count_key(features.key, memory.key_sum, decay)
        state = memory.state / norm[:, memory.group, None, None]
        height, width = features.key.shape[-2:]
        pixels = features.key.movedim(1, -1).flatten(1, 2).unsqueeze(1)  # (B, 1, P, K)

        def mapped(weight_EV: Tensor) -> Tensor:
            with torch.autocast(weight_EV.device.type, enabled=False):
                folded = (state @ weight_EV.float().t()).to(pixels.dtype)  # (B, N, K, E)
                return (pixels @ folded).unflatten(2, (height, width)).movedim(4, 2)

        return mapped, key_sum

    def update_memory(self, features: Features, memory: Memory, value_BNVHW: Tensor) -> Tensor:
        """The new state."""
        return update_state(memory.state, features.key, value_BNVHW, features.gate)

    def read(
        self,
        features: Features,
        memory: Memory,
        *,
        chunk: int = 0,
        rows: int = 0,
        collect: list[Tensor] | None = None,
        between: Callable[[], None] = nothing,
    ) -> tuple[Tensor, Memory]:
        """Find the objects in a new frame.

        Args:
            features: of the frame.
            memory: of the frames before.
            chunk: objects decoded at a time, 0 for all.
            rows: of the 1/16 grid, decoded at a time, 0 for all.
            collect: see `ObjectTransformer`.
            between: called when a stage is done and what only it needed has been freed.

        Returns:
            Log-odds (B, N+1, H/4, W/4) float32, background first, and the memory with this
            frame's key counted and the sensory memory renewed. Its masks are still the last
            frame's.
        """
        readout, key_sum = self.read_memory(features, memory)
        # A frame's soft masks never sum to more than 1, so the clamp of "others" leaves their
        # mean as it is.
        fused = self.pixel_fuser(
            features.pixel, readout, memory.sensory, memory.masks, others_of(memory.masks)
        )
        del readout
        between()
        refined = self.object_transformer(fused, memory.objects, collect)
        del fused
        between()
        chunk = self._at_once(chunk, refined)
        logits, sensory = self.mask_decoder(
            refined, features.skip8, features.skip4, memory.sensory, chunk, rows
        )
        return aggregate(logits.float().sigmoid()), replace(
            memory,
            key_sum=key_sum,
            sensory=sensory,
            given_key_sum=memory.given_key_sum * self.key_decay(features),
        )

    @staticmethod
    def key_decay(features: Features) -> Tensor:
        """How the key sum of given masks fades, (B, 1, 1, 1, 1).

        As a key sum does where the normaliser is gated; where it is not, what is left of the state
        of given masks still has to be measured by what is left of their keys.
        """
        return features.gate.mean(dim=1)[:, None, None, None, None]

    def write(
        self,
        features: Features,
        memory: Memory,
        masks_BNHW: Tensor,
        *,
        chunk: int = 0,
        rows: int = 0,
        between: Callable[[], None] = nothing,
    ) -> Memory:
        """Remember a frame with its masks.

        Args:
            features: of the frame.
            memory: from `read`, or `add_objects`.
            masks_BNHW: soft masks in [0, 1], float, as many as `memory` has objects.
            chunk: objects encoded at a time, 0 for all.
            rows: of the 1/16 grid, encoded at a time, 0 for all.
            between: as for `read`.
        """
        chunk = self._at_once(chunk, memory.sensory)
        value, sensory = self.mask_encoder(
            lambda strip: self.normalise(features.image, strip),
            features.pixel,
            memory.sensory,
            masks_BNHW,
            chunk,
            rows,
        )
        between()
        small = area_average(masks_BNHW, STRIDE).float()
        if chunk >= small.shape[1]:
            summary = self.object_summarizer(value, small)
        else:
            some = zip(value.split(chunk, 1), small.split(chunk, 1), strict=True)
            summary = torch.cat([self.object_summarizer(*both) for both in some], dim=1)
        return replace(
            memory,
            state=self.update_memory(features, memory, value),
            sensory=sensory,
            objects=memory.objects + summary,
            masks=small,
            given_state=memory.given_state * features.gate.float()[:, None, None, :],
        )

    def lay_out(self, map_BNCHW: Tensor) -> Tensor:
        """A map in the layout of the weights: channels-last, or as it is."""
        weight = self.key_projector.layer2.weight
        if not weight.is_contiguous(memory_format=torch.channels_last):
            return map_BNCHW
        return map_BNCHW.movedim(2, 4).contiguous().movedim(4, 2)

    def add_objects(self, features: Features, memory: Memory | None, count: int) -> Memory:
        """Make room for `count` objects that enter at this frame, after it has been read.

        Their memories are empty but for the key sum, which starts with this frame's key; `write`
        fills the rest. New objects come last.
        """
        fresh = self._fresh(features, count)
        return fresh if memory is None else memory.and_then(fresh)

    def restart(self, features: Features, memory: Memory, rows: list[int]) -> Memory:
        """Begin objects again that a mask is given for, after the frame has been read.

        What their own predictions have left is forgotten: sensory and object memory are empty,
        as of objects that enter; state and key sum are those of the masks given before, and
        `write` adds this one. The other objects are as they were.

        Args:
            features: of the frame.
            memory: from `read`.
            rows: of the objects.
        """
        again = memory.only(rows)
        fresh = self._fresh(features, len(rows))
        key_sum = again.given_key_sum + fresh.key_sum
        again = replace(
            fresh,
            state=again.given_state,
            key_sum=key_sum,
            group=again.group,
            given_state=again.given_state,
            given_key_sum=key_sum,
        )
        others = [row for row in range(memory.state.shape[1]) if row not in rows]
        if not others:
            moved, order = again, rows
        else:
            moved, order = memory.only(others).and_then(again), [*others, *rows]
        moved = moved.only([order.index(row) for row in range(len(order))])
        return replace(moved, sensory=self.lay_out(moved.sensory))

    def _fresh(self, features: Features, count: int) -> Memory:
        """The memory of objects that enter with this frame, before it is written."""
        config, key = self.config, features.key
        batch, _, height, width = key.shape
        key_sum = key.float().unsqueeze(1)
        state = key.new_zeros(batch, count, config.key, config.value, dtype=torch.float32)
        return Memory(
            state=state,
            key_sum=key_sum,
            group=torch.zeros(count, dtype=torch.int64, device=key.device),
            sensory=self.lay_out(
                features.pixel.new_zeros(batch, count, config.sensory, height, width)
            ),
            objects=key.new_zeros(
                batch, count, config.queries, config.embed + 1, dtype=torch.float32
            ),
            masks=key.new_zeros(batch, count, height, width, dtype=torch.float32),
            given_state=state,
            given_key_sum=key_sum,
        )
