"""What a correction is worth: ways to take a true mask for an object that is known already.

    python examples/measure_corrections.py DATA [SEQUENCE ...]

DATA holds NAME.mp4 and NAME.masks.mkv (grey, 0 and 255), one object each. The mask of frame 0 is
given, and the true one again at the first frame where J is below 0.6; where there is none, at the
frame of lowest J after frame 10 that has 20 frames after it. Printed for each way: the mean J of
the 20 frames after the correction, and of the rest. J is intersection over union, at the video's
size. All ways start from the same memory and see the same features, so that only the way differs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F

from livos_cli.evaluation.score import jaccard
from livos_cli.network.layers import upsample
from livos_cli.network.livos import Features, LiVOS, Memory
from livos_cli.tracker.resize import (
    decide_ids,
    downsample_ids,
    downsample_image,
    merge_mask,
    padding_of,
    working_size,
)
from livos_cli.weights.load import load_model

DOUBTFUL, NEAR, EARLIEST = 0.6, 20, 10


@dataclass(frozen=True)
class Before:
    """What an uncorrected run has just before the frame that is corrected."""

    frame: int
    memory: Memory
    first: Memory  # right after frame 0


@dataclass(frozen=True)
class Parts:
    """What a corrected object may start again from, before its mask is written."""

    old: Memory  # as if nothing had happened
    fresh: Memory  # as if it entered here
    again: Memory  # as `LiVOS.restart` has it
    first: Memory


def halved(p: Parts) -> Memory:
    return replace(
        p.old, state=p.old.state / 2, key_sum=p.old.key_sum / 2, objects=p.old.objects / 2
    )


def unfaded(p: Parts) -> Memory:
    key_sum = p.first.key_sum + p.fresh.key_sum
    return replace(p.fresh, state=p.first.state, key_sum=key_sum)


WAYS: dict[str, Callable[[Parts], Memory]] = {
    "state goes on (until now)": lambda p: p.old,
    "fresh start": lambda p: p.fresh,
    "old memory halved": halved,
    "old memory, fresh sensory": lambda p: replace(p.old, sensory=p.fresh.sensory),
    "given masks, objects too": lambda p: replace(p.again, objects=p.first.objects),
    "given masks, not faded": unfaded,
    "given masks (livos)": lambda p: p.again,
}


class Follower:
    """The tracker's step, taken apart, for one object and one sequence."""

    def __init__(self, model: LiVOS, height: int, width: int) -> None:
        self.model, self.full = model, (height, width)
        self.size = working_size(height, width, model.config.size)
        self.padding = padding_of(*self.size)

    def features(self, rgb: np.ndarray) -> Features:
        image = downsample_image(torch.from_numpy(rgb), self.size)
        return self.model.encode_image(F.pad(image, self.padding))

    def take(self, features: Features, memory: Memory, truth: np.ndarray) -> Memory:
        """Write a given mask."""
        given = torch.from_numpy(truth.astype(np.int64))
        downsampled = F.pad(downsample_ids(given, self.size), self.padding)
        soft = merge_mask(torch.zeros(1, *downsampled.shape), downsampled, [1])
        return self.model.write(features, memory, soft[None, 1:]).mark_given([0])

    def step(self, features: Features, memory: Memory, truth: np.ndarray) -> tuple[float, Memory]:
        """J, and the memory after the frame."""
        log_odds, memory = self.model.read(features, memory)
        prob = upsample(log_odds)[0].softmax(dim=0)
        memory = self.model.write(features, memory, prob[None, 1:])
        left, _, top, _ = self.padding
        prob = prob[:, top : top + self.size[0], left : left + self.size[1]]
        return jaccard(decide_ids(prob, [1], self.full, None) == 1, truth), memory


def frames(data: Path, name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(H, W, 3) uint8 RGB and (H, W) bool."""
    with (
        av.open(str(data / f"{name}.mp4")) as video,
        av.open(str(data / f"{name}.masks.mkv")) as masks,
    ):
        for picture, mask in zip(video.decode(video=0), masks.decode(video=0), strict=True):
            yield picture.to_ndarray(format="rgb24"), mask.to_ndarray(format="gray") > 127


def uncorrected(model: LiVOS, data: Path, name: str) -> tuple[list[float], Before]:
    """J of every frame, and what there is just before the frame to correct."""
    scores: list[float] = []
    kept: dict[int, Memory] = {}  # before each frame that may be the one
    for index, (rgb, truth) in enumerate(frames(data, name)):
        if index == 0:
            follower = Follower(model, *truth.shape)
            features = follower.features(rgb)
            first = memory = follower.take(features, model.add_objects(features, None, 1), truth)
            scores.append(1.0)
            continue
        kept[index] = memory
        score, memory = follower.step(follower.features(rgb), memory, truth)
        scores.append(score)
    doubtful = [index for index, score in enumerate(scores) if score < DOUBTFUL]
    with_room = range(EARLIEST + 1, len(scores) - NEAR)
    frame = doubtful[0] if doubtful else min(with_room, key=scores.__getitem__)
    return scores, Before(frame, kept[frame], first)


def corrected(model: LiVOS, data: Path, name: str, before: Before) -> dict[str, list[float]]:
    """J of the frames after the correction, for each way."""
    scores: dict[str, list[float]] = {way: [] for way in WAYS}
    memories: dict[str, Memory] = {}
    for index, (rgb, truth) in enumerate(frames(data, name)):
        if index < before.frame:
            continue
        if index == before.frame:
            follower = Follower(model, *truth.shape)
            features = follower.features(rgb)
            _, old = model.read(features, before.memory)
            again = model.restart(features, old, [0])
            parts = Parts(old, model.add_objects(features, None, 1), again, before.first)
            memories = {way: follower.take(features, f(parts), truth) for way, f in WAYS.items()}
            continue
        features = follower.features(rgb)
        for way, memory in memories.items():
            score, memories[way] = follower.step(features, memory, truth)
            scores[way].append(score)
    return scores


@torch.inference_mode()
def main() -> None:
    data, names = Path(sys.argv[1]), sys.argv[2:]
    names = names or sorted(path.stem for path in data.glob("*.mp4"))
    model = load_model("lite", device="cpu", precision="fp32")
    table: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for name in names:
        plain, before = uncorrected(model, data, name)
        print(
            f"{name}: J {np.mean(plain):.3f} without a correction; frame {before.frame} has "
            f"{plain[before.frame]:.3f}",
            flush=True,
        )
        for way, scores in corrected(model, data, name, before).items():
            table[way].append((float(np.mean(scores[:NEAR])), float(np.mean(scores[NEAR:]))))
            print(f"  {way:27s} {table[way][-1][0]:.4f} {table[way][-1][1]:.4f}", flush=True)
    print("mean of all: 20 frames after, rest")
    for way, rows in table.items():
        print(f"  {way:27s} {np.mean(rows, axis=0)[0]:.4f} {np.mean(rows, axis=0)[1]:.4f}")


if __name__ == "__main__":
    main()
