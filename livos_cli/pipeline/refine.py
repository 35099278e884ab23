"""Frames between two masks, seen from both: what the way back found, kept on disk, and blended."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO

import numpy as np
import torch
from torch import Tensor

from livos_cli.pipeline.spool import Stack

__all__ = ["Soft", "SoftSpool", "blend"]

SUREST = 1 / 512  # nearer to 0 or 1 no way is sure: half a step of what is kept on disk
_HEAD = struct.Struct("<4I")  # objects, height, width, bytes of probabilities


@dataclass(frozen=True)
class Soft:
    """What one way of tracking found in a frame."""

    prob: Tensor  # (N + 1, h, w) float32, background first
    since: Mapping[int, int]  # object -> frame of the last mask for it, in the order of `prob`


class SoftSpool(Stack[Soft]):
    """A stack of frames on disk; probabilities are kept in steps of 1/255."""

    def write(self, file: IO[bytes], item: Soft) -> int:
        steps = (item.prob[1:] * 255).round_().clamp_(0, 255).to(torch.uint8).cpu().numpy()
        packed = zlib.compress(steps.tobytes(), 1)
        pairs = np.array(list(item.since.items()), np.int64).reshape(-1, 2)
        head = _HEAD.pack(*steps.shape, len(packed))
        return sum(file.write(data) for data in (head, pairs.tobytes(), packed))

    def read(self, file: IO[bytes]) -> Soft:
        objects, height, width, size = _HEAD.unpack(file.read(_HEAD.size))
        pairs = np.frombuffer(file.read(16 * objects), np.int64).reshape(-1, 2)
        steps = np.frombuffer(zlib.decompress(file.read(size)), np.uint8)
        found = torch.from_numpy(steps.reshape(objects, height, width).copy()).float() / 255
        prob = torch.cat([1 - found.sum(dim=0, keepdim=True).clamp(max=1), found])
        return Soft(prob, {int(object_id): int(frame) for object_id, frame in pairs})


def blend(forth: Soft, back: Soft, index: int) -> Tensor:
    """What both ways say of a frame; where they agree, that.

    Each object's log-odds are weighed by how near the masks are that the two ways come from:
    wholly the way forth at its mask, wholly the way back at the next one, half and half between.
    So the nearer way has more say, and the surer one. An object that only the way forth follows
    is taken from there; one that only the way back knows enters at its mask, later.

    Args:
        forth: of the frame, from the masks before.
        back: of the frame, from the masks after.
        index: its number.

    Returns:
        (N + 1, h, w) float32 probabilities of the objects of `forth`.
    """
    prob = forth.prob.clone()
    channels = {object_id: channel for channel, object_id in enumerate(back.since, start=1)}
    for channel, (object_id, before) in enumerate(forth.since.items(), start=1):
        after = back.since.get(object_id, index)
        if after <= index:
            continue
        other = torch.logit(back.prob[channels[object_id]].to(prob.device), SUREST)
        weight = (index - before) / (after - before)
        prob[channel] = torch.logit(prob[channel], SUREST).lerp(other, weight).sigmoid()
    # The weights differ from object to object, so that the sum may be above 1.
    prob[0] = (1 - prob[1:].sum(dim=0)).clamp(min=0)
    return prob / prob.sum(dim=0)
