"""How likely it is that an object's mask is right, frame by frame, from what the network knows.

A network that loses an object mostly shows it: its probabilities grow vague, or the colours under
the mask are no longer those of the mask that was given. Each sign is a number an object and frame;
a calibration, stored with the weights, makes a probability of them. Nothing here changes a mask.

Letters as in `livos_kernels`; D is the width of a description.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from livos_cli.network.calibration import TERMS, Calibration

__all__ = ["COLOURS", "Certainty", "describe"]

SAMPLES = 1 << 14  # points of a frame that are looked at, about
LEVELS = 8  # of each of red, green and blue
COLOURS = LEVELS**3
FINE = 255  # steps of a pixel's probability where it counts towards a colour
NUMBERS = 3  # of a description, before its colours
RECENT = 30  # frames over which a mean reaches, about
CLIP = 1e-3  # nearest to 0 and 1 that a share counts as


def describe(image_13HW: Tensor, soft_1NHW: Tensor) -> Tensor:
    """What is to be known of a frame, of constant size; on the frame's device, without waiting.

    Args:
        image_13HW: the frame as the network saw it, uint8, or float in [0, 1].
        soft_1NHW: probability of each object there.

    Returns:
        (N, D) float32: intersection and union of the mask with the object, as the probabilities
        have them expected; points that are on; then how much of each colour is the object's, and
        how much is not.
    """
    height, width = soft_1NHW.shape[-2:]
    step = max(1, round((height * width / SAMPLES) ** 0.5))
    rows, columns = height // step, width // step
    soft = soft_1NHW[0, :, step // 2 :: step, step // 2 :: step][:, :rows, :columns].float()
    on = soft > 0.5
    sure = (soft * on).flatten(1).sum(1)
    count = on.flatten(1).sum(1)
    union = count + (soft * ~on).flatten(1).sum(1)
    share = (soft * FINE).round().int().flatten(1)
    bins = _colours(image_13HW, step, soft.shape[-2:])
    # Whole numbers, whose sum does not depend on the order in which a GPU adds them up.
    mine = share.new_zeros(share.shape[0], COLOURS).index_add_(1, bins, share)
    all_of_it = share.new_zeros(COLOURS).index_add_(
        0, bins, torch.full_like(bins, FINE, dtype=torch.int32)
    )
    numbers = torch.stack([sure, union, count.float()], dim=1)
    return torch.cat([numbers, mine.float(), (all_of_it - mine).float()], dim=1)


def _colours(image_13HW: Tensor, step: int, size: Sequence[int]) -> Tensor:
    """Which colour each sampled point has, (h' w',) int64; of four pixels each, against noise."""
    places = (step // 4, step - 1 - step // 4)
    total: Tensor | None = None
    for y in places:
        for x in places:
            some = image_13HW[0, :, y::step, x::step][:, : size[0], : size[1]]
            some = some.int() if some.dtype == torch.uint8 else (some * 255).round().int()
            total = some if total is None else total + some
    assert total is not None
    red, green, blue = (total * LEVELS // 1024).clamp_(max=LEVELS - 1).long()
    return ((red * LEVELS + green) * LEVELS + blue).flatten()


class Certainty:
    """Follows each object's signs through a video; constant memory.

    What is kept of an object: the colours under the mask that was last given for it, and a mean
    over the frames since. A given mask starts it anew.

    Args:
        calibration: of the weights.
    """

    def __init__(self, calibration: Calibration) -> None:
        self._bias = calibration.bias
        self._weights = np.array([calibration.weights.get(name, 0.0) for name in TERMS])
        self._colours = np.zeros((0, COLOURS), np.float32)
        self._means = np.zeros((0, 2))  # frames, and the mean of their blur
        self.signs = np.zeros((0, len(TERMS)))  # of the frame seen last, of each object

    def see(self, description_ND: Tensor, given: Collection[int] = ()) -> list[float]:
        """Take a frame.

        Args:
            description_ND: from `describe`; objects that are new come last.
            given: rows of the objects whose mask was given in this frame.

        Returns:
            How likely each object's mask is right; 1 for given ones, and NaN for objects that have
            no pixel, of which nothing can be said.
        """
        self.signs = self.terms(description_ND, given)
        odds = np.clip(self._bias + self.signs @ self._weights, -30, 30)
        likely = (1 / (1 + np.exp(-odds))).astype(np.float32)  # as results are kept on disk
        likely[list(given)] = 1
        return [float(value) for value in likely]

    def terms(self, description_ND: Tensor, given: Collection[int] = ()) -> np.ndarray:
        """The terms of `TERMS`, (N, T); arguments as of `see`. NaN for objects without a pixel.

        blur: log-odds that a pixel of mask or object is not in both, by the probabilities;
        blur_so_far: its mean over the frames since the given mask, of many the last ones most;
        colour: distance (Hellinger) of the mask's colours from those of the given mask;
        likeness: how much alike (Bhattacharyya) the colours in the mask and outside of it are.
        """
        seen = description_ND.cpu().numpy().astype(np.float64)
        sure, union, count = seen[:, :NUMBERS].T
        mine, others = np.split(seen[:, NUMBERS:], 2, axis=1)
        mine = mine / np.maximum(mine.sum(1, keepdims=True), 1)
        others = others / np.maximum(others.sum(1, keepdims=True), 1)
        self._make_room(len(seen))
        rows = list(given)
        self._colours[rows], self._means[rows] = mine[rows], 0
        there = count > 0
        right = np.clip(sure / np.maximum(union, CLIP), CLIP, 1 - CLIP)
        blur = np.log((1 - right) / right)
        frames, mean = self._means.T  # views
        frames[there] += 1
        mean[there] += (blur - mean)[there] / np.minimum(frames[there], RECENT)
        colour = np.sqrt(np.clip(1 - np.sqrt(mine * self._colours).sum(1), 0, 1))
        likeness = np.sqrt(mine * others).sum(1)
        terms = np.stack([blur, mean, colour, likeness], axis=1)
        terms[~there] = np.nan
        return terms

    def _make_room(self, objects: int) -> None:
        more = objects - len(self._means)
        if more > 0:
            self._colours = np.pad(self._colours, ((0, more), (0, 0)))
            self._means = np.pad(self._means, ((0, more), (0, 0)))

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all objects but these."""
        self._colours, self._means = self._colours[list(rows)], self._means[list(rows)]
        self.signs = self.signs[list(rows)] if len(self.signs) else self.signs

    def state_dict(self) -> dict[str, Tensor]:
        """All that is needed to go on later, exactly."""
        return {
            "colours": torch.from_numpy(self._colours.copy()),
            "means": torch.from_numpy(self._means.copy()),
        }

    def load_state_dict(self, state: dict[str, Tensor], objects: int) -> None:
        """Go on where `state_dict` was taken, with so many objects.

        A state without it says nothing of these objects until a mask is given for them. Shapes are
        checked by `livos_cli.tracker.saved_state`, of the whole state at once.
        """
        self._colours = np.full((objects, COLOURS), np.nan, np.float32)
        self._means, self.signs = np.zeros((objects, 2)), np.zeros((0, len(TERMS)))
        colours, means = state.get("colours"), state.get("means")
        if colours is None or means is None:
            return
        self._colours = colours.numpy().astype(np.float32)
        self._means = means.numpy().astype(np.float64)
