"""What training minimises."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from livos_cli.network.layers import area_average
from livos_cli.network.model import STRIDE

__all__ = ["mask_loss", "query_loss"]


def _dice(prob: Tensor, target: Tensor) -> Tensor:
    """1 - dice of maps (..., H, W), mean over all others."""
    overlap = 2 * (prob * target).flatten(-2).sum(-1)
    total = prob.flatten(-2).sum(-1) + target.flatten(-2).sum(-1)
    return (1 - (overlap + 1) / (total + 1)).mean()


def mask_loss(log_odds: Tensor, ids_BHW: Tensor) -> Tensor:
    """Cross-entropy over background and objects, plus dice of the objects.

    Args:
        log_odds: (B, N + 1, H, W) float32, as `LiVOS.read` gives them.
        ids_BHW: int64, 0..N.
    """
    target = F.one_hot(ids_BHW, log_odds.shape[1]).movedim(-1, 1).to(log_odds.dtype)
    cross_entropy = F.cross_entropy(log_odds, ids_BHW)
    return cross_entropy + _dice(log_odds.softmax(dim=1)[:, 1:], target[:, 1:])


def query_loss(collected: list[Tensor], ids_BHW: Tensor, objects: int) -> Tensor:
    """Binary cross-entropy and dice of the transformer's own mask logits (B, N, h, w)."""
    target = F.one_hot(ids_BHW, objects + 1).movedim(-1, 1)[:, 1:].float()
    target = area_average(target, STRIDE)
    losses = [
        F.binary_cross_entropy_with_logits(logits.float(), target)
        + _dice(logits.float().sigmoid(), target)
        for logits in collected
    ]
    return torch.stack(losses).sum()
