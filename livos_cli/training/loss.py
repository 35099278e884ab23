"""What training minimises."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from livos_cli.network.config import LiVOSConfig
from livos_cli.network.layers import area_average
from livos_cli.network.livos import STRIDE

__all__ = ["SensoryMasks", "low_resolution_loss", "mask_loss", "uncertain_points"]

OVERSAMPLE = 3  # candidates for each point
BY_UNCERTAINTY = 0.75  # share of points that are the least decided candidates; the rest is random


def _dice(prob: Tensor, target: Tensor) -> Tensor:
    """1 - dice over the last dimension, mean over all others."""
    overlap = 2 * (prob * target).sum(-1)
    total = prob.sum(-1) + target.sum(-1)
    return (1 - (overlap + 1) / (total + 1)).mean()


def mask_loss(log_odds: Tensor, ids_BHW: Tensor, points_BP2: Tensor | None = None) -> Tensor:
    """Cross-entropy over background and objects, plus dice of the objects.

    Args:
        log_odds: (B, N + 1, H, W) float32, as `LiVOS.read` gives them.
        ids_BHW: int64, 0..N.
        points_BP2: where to look, as `uncertain_points` gives them; None: at every pixel.
    """
    if points_BP2 is None:
        values, ids = log_odds.flatten(2), ids_BHW.flatten(1)
    else:
        values = _at(log_odds, points_BP2)
        ids = _at(ids_BHW.unsqueeze(1).to(log_odds.dtype), points_BP2, "nearest")[:, 0].long()
    target = F.one_hot(ids, log_odds.shape[1]).movedim(-1, 1).to(log_odds.dtype)
    return F.cross_entropy(values, ids) + _dice(values.softmax(dim=1)[:, 1:], target[:, 1:])


def _at(maps_BCHW: Tensor, points_BP2: Tensor, mode: str = "bilinear") -> Tensor:
    """Values at points, x then y in 0..1: (B, C, P)."""
    grid = points_BP2.unsqueeze(1) * 2 - 1
    return F.grid_sample(maps_BCHW, grid, mode=mode, align_corners=False)[:, :, 0]


@torch.no_grad()
def uncertain_points(log_odds: Tensor, count: int, generators: list[torch.Generator]) -> Tensor:
    """Points to train on: mostly where the network is least sure (A. Kirillov et al., PointRend,
    CVPR 2020, section 3.1).

    Args:
        log_odds: (B, N + 1, H, W).
        count: of points in each clip.
        generators: one a clip, on the CPU, so that a clip's points do not depend on the others.

    Returns:
        (B, count, 2), x then y, 0..1.
    """
    device, sure = log_odds.device, round(count * BY_UNCERTAINTY)
    drawn = [torch.rand(count * OVERSAMPLE + count - sure, 2, generator=g) for g in generators]
    candidates, rest = torch.stack(drawn).to(device).split([count * OVERSAMPLE, count - sure], 1)
    best = _at(log_odds, candidates).topk(2, dim=1).values
    least = (best[:, 0] - best[:, 1]).topk(sure, dim=1, largest=False).indices
    return torch.cat([candidates.gather(1, least.unsqueeze(-1).expand(-1, -1, 2)), rest], dim=1)


def low_resolution_loss(logits_BNHW: Tensor, ids_BHW: Tensor) -> Tensor:
    """Binary cross-entropy and dice of each object's logits at 1/16.

    Args:
        logits_BNHW: (B, N, h, w), of any precision.
        ids_BHW: int64 at full size, 0..N.
    """
    objects = logits_BNHW.shape[1]
    target = F.one_hot(ids_BHW, objects + 1).movedim(-1, 1)[:, 1:].float()
    target = area_average(target, STRIDE).flatten(2)
    logits = logits_BNHW.float().flatten(2)
    return F.binary_cross_entropy_with_logits(logits, target) + _dice(logits.sigmoid(), target)


class SensoryMasks(nn.Module):
    """Tells an object's mask from its sensory memory and the new frame; used in training only.

    The memory is projected to a filter of the pixel feature, and a bias, at every pixel.
    """

    def __init__(self, config: LiVOSConfig) -> None:
        super().__init__()
        self.projection = nn.Conv2d(config.sensory, config.pixel + 1, 1)

    def forward(self, pixel_BCHW: Tensor, sensory_BNSHW: Tensor) -> Tensor:
        """-> logits (B, N, h, w)."""
        filters = self.projection(sensory_BNSHW.flatten(0, 1))
        filters = filters.unflatten(0, sensory_BNSHW.shape[:2])
        return (filters[:, :, :-1] * pixel_BCHW.unsqueeze(1)).sum(2) + filters[:, :, -1]
