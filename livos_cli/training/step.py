"""The loss of one batch of clips: a video's frames in a row, as when it is segmented."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from livos_cli.network.layers import enlarge
from livos_cli.network.livos import Features, LiVOS
from livos_cli.training.loss import (
    SensoryMasks,
    low_resolution_loss,
    mask_loss,
    uncertain_points,
)
from livos_cli.training.options import TrainOptions

__all__ = ["ClipLoss"]


class ClipLoss(nn.Module):
    """The network, what is trained beside it, and the loss of both.

    Args:
        model: the network.
        options: of the run.
    """

    def __init__(self, model: LiVOS, options: TrainOptions) -> None:
        super().__init__()
        self.model, self.options = model, options
        self.sensory_masks = SensoryMasks(model.config) if options.sensory_weight else None

    def train(self, mode: bool = True) -> ClipLoss:
        """As of any module, but frozen batch norm keeps its statistics.

        Batches of a few clips are too few to measure by; frozen, what is trained is exactly the
        network that will run.
        """
        super().train(mode)
        if self.options.batch_norm == "frozen":
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(
        self,
        frames: Tensor,
        ids: Tensor,
        objects: int,
        free: int,
        seeds: tuple[int, ...],
        step: int,
    ) -> tuple[Tensor, Tensor]:
        """Run the clips frame after frame; the first is given.

        Args:
            frames: (B, T, S, S, 3) uint8.
            ids: (B, T, S, S) uint8, 0..objects.
            objects: N.
            free: frames at the start that are run without gradient and do not count: what comes
                after starts from the network's own drift, as it does late in a real video.
            seeds: of the clips.
            step: of the run; with a clip's seed it decides where its loss is sampled.

        Returns:
            The loss, and the share of pixels decided wrongly; means over the clips.
        """
        batch, length = ids.shape[:2]
        truth = ids.long()
        rgb = frames.movedim(-1, 2).float() / 255
        generators = []
        for seed in seeds:
            state = np.random.SeedSequence((self.options.seed, step, seed)).generate_state(1)
            generators.append(torch.Generator().manual_seed(int(state[0])))
        with torch.no_grad():
            early = self.model.encode_image(rgb[:, :free].flatten(0, 1)) if free else None
        # Under autocast, weights cast without gradient must not serve where there is one.
        torch.clear_autocast_cache()
        late = self.model.encode_image(rgb[:, free:].flatten(0, 1))
        memory, losses, wrong = None, [], []
        for t in range(length):
            counts = t >= free
            if t == free:
                torch.clear_autocast_cache()
            source, index = (late, t - free) if counts or early is None else (early, t)
            with torch.set_grad_enabled(counts):
                features = _frame(source, index, batch)
                if memory is None:
                    one_hot = nn.functional.one_hot(truth[:, 0], objects + 1)
                    masks = one_hot.movedim(-1, 1)[:, 1:].float()
                    memory = self.model.enter(features, None, objects)
                else:
                    collected: list[Tensor] = []
                    before = memory.sensory
                    log_odds, memory = self.model.read(features, memory, collect=collected)
                    log_odds = enlarge(log_odds)
                    masks = log_odds.softmax(dim=1)[:, 1:]
                    if counts:
                        loss = self._loss(log_odds, truth[:, t], generators)
                        for logits in collected:
                            part = low_resolution_loss(logits, truth[:, t])
                            loss = loss + self.options.query_weight * part
                        if self.sensory_masks is not None:
                            logits = self.sensory_masks(features.pixel, before)
                            part = low_resolution_loss(logits, truth[:, t])
                            loss = loss + self.options.sensory_weight * part
                        losses.append(loss)
                        wrong.append((log_odds.argmax(dim=1) != truth[:, t]).float().mean())
                if t + 1 < length:  # nobody reads what the last frame would write
                    memory = self.model.write(features, memory, masks)
        return torch.stack(losses).mean(), torch.stack(wrong).mean().detach()

    def _loss(self, log_odds: Tensor, ids: Tensor, generators: list[torch.Generator]) -> Tensor:
        if self.options.loss == "full":
            return mask_loss(log_odds, ids)
        points = uncertain_points(log_odds, self.options.points, generators)
        return mask_loss(log_odds, ids, points)


def _frame(features: Features, index: int, batch: int) -> Features:
    """One time step of features encoded for all frames of all clips at once."""
    return Features(
        **{
            name: getattr(features, name).unflatten(0, (batch, -1))[:, index]
            for name in Features.__dataclass_fields__
        }
    )
