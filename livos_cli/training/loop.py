"""Train a network from clips; stop and go on at any step."""

from __future__ import annotations

import csv
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from livos_cli.network.model import Features, LiVOS
from livos_cli.training.data import ClipSource, batches
from livos_cli.training.losses import mask_loss, query_loss

__all__ = ["TrainOptions", "train"]


@dataclass(frozen=True)
class TrainOptions:
    """Settings of one run; all of them are in the checkpoint."""

    steps: int = 3000  # in all, counting those before a resume
    minutes: float = math.inf  # stop cleanly after this long, with a checkpoint
    clips: int = 3  # in a batch
    length: int = 8  # frames of a clip that count
    unroll: int = 8  # at most so many frames before them, run without gradient
    size: int = 192  # side of the square frames, pixels
    max_skip: int = 5  # source frames between two of a clip, at most
    rate: float = 2.5e-4  # learning rate after warm-up
    warmup: int = 100  # steps over which the rate rises
    cooldown: int = 500  # last steps, over which it falls to zero
    weight_decay: float = 1e-3
    clip_norm: float = 3.0
    ema: float = 0.998  # decay of the weight average, which is what a run produces
    query_weight: float = 0.05  # of the transformer's mask logits in the loss
    seed: int = 0
    save_every: int = 100  # steps

    def rate_at(self, step: int) -> float:
        """Trapezoid: up, level, down."""
        return self.rate * min(
            (step + 1) / self.warmup, 1.0, max(0.0, (self.steps - step) / self.cooldown)
        )


def _frame(features: Features, index: int, batch: int) -> Features:
    """One time step of features encoded for all frames of all clips at once."""
    return Features(
        **{
            name: getattr(features, name).unflatten(0, (batch, -1))[:, index]
            for name in Features.__dataclass_fields__
        }
    )


def clip_loss(
    model: LiVOS, frames: Tensor, ids: Tensor, objects: int, free: int, query_weight: float
) -> tuple[Tensor, Tensor]:
    """Play clips through the network.

    Args:
        model: the network.
        frames: (B, T, S, S, 3) uint8.
        ids: (B, T, S, S) int64, 0..objects.
        objects: N.
        free: frames at the start that are run without gradient and do not count: what comes
            after starts from the network's own drift, as it does late in a real video.
        query_weight: weight of the auxiliary loss.

    Returns:
        The loss, and the share of pixels decided wrongly.
    """
    batch, length = ids.shape[:2]
    rgb = frames.movedim(-1, 2).float() / 255

    def encode(part: Tensor) -> Features:
        return model.encode_image(part.flatten(0, 1))

    with torch.no_grad():
        early = encode(rgb[:, :free]) if free else None
    late = encode(rgb[:, free:])
    memory = None
    losses, wrong = [], []
    for t in range(length):
        counts = t >= free
        with torch.set_grad_enabled(counts):
            source, index = (late, t - free) if counts else (early, t)
            assert source is not None
            features = _frame(source, index, batch)
            if memory is None:
                one_hot = torch.nn.functional.one_hot(ids[:, 0], objects + 1)
                masks = one_hot.movedim(-1, 1)[:, 1:].float()
                memory = model.enter(features, None, objects)
            else:
                collected: list[Tensor] = []
                log_odds, memory = model.read(features, memory, collect=collected)
                masks = log_odds.softmax(dim=1)[:, 1:]
                if counts:
                    loss = mask_loss(log_odds, ids[:, t])
                    loss = loss + query_weight * query_loss(collected, ids[:, t], objects)
                    losses.append(loss)
                    wrong.append((log_odds.argmax(dim=1) != ids[:, t]).float().mean())
            memory = model.write(features, memory, masks)
    return torch.stack(losses).mean(), torch.stack(wrong).mean().detach()


def train(
    model: LiVOS, source: ClipSource, out: Path, options: TrainOptions, *, resume: bool = True
) -> LiVOS:
    """Train until `options.steps` or `options.minutes`.

    Writes `out/checkpoint.pt` (weights, average, optimiser, step) and `out/log.csv`. Batch norm
    stays in evaluation mode: batches of a few clips are too few to measure by, and what is trained
    is then exactly the network that will run.

    Returns:
        The averaged weights, as a model in evaluation mode.
    """
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    average = {k: v.detach().clone().float() for k, v in model.state_dict().items()}
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=options.rate, weight_decay=options.weight_decay
    )
    step = 0
    if resume and checkpoint.exists():
        saved: dict[str, Any] = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        average, step = saved["average"], saved["step"]

    def save() -> None:
        temporary = checkpoint.with_suffix(".tmp")
        torch.save(
            {
                "model": model.state_dict(),
                "average": average,
                "optimiser": optimiser.state_dict(),
                "step": step,
                "options": asdict(options),
            },
            temporary,
        )
        os.replace(temporary, checkpoint)

    started = time.monotonic()
    log = out / "log.csv"
    fresh = not log.exists() or step == 0
    stream = batches(
        source,
        options.seed,
        step,
        clips=options.clips,
        length=options.length + options.unroll,
        size=options.size,
        max_skip=options.max_skip,
    )
    with log.open("w" if fresh else "a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(["step", "loss", "wrong", "objects", "free", "rate", "seconds", "wait"])
        while step < options.steps and time.monotonic() - started < options.minutes * 60:
            asked = time.monotonic()
            frames, ids, objects = next(stream)
            waited = time.monotonic() - asked
            rng = np.random.default_rng((options.seed, step, 1))
            free = int(rng.integers(0, options.unroll + 1)) if rng.random() < 0.7 else 0
            used = options.length + free
            for group in optimiser.param_groups:
                group["lr"] = options.rate_at(step)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss, wrong = clip_loss(
                    model,
                    torch.from_numpy(frames[:, :used]),
                    torch.from_numpy(ids[:, :used]).long(),
                    objects,
                    free,
                    options.query_weight,
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip_norm)
            optimiser.step()
            # Early steps count less of the past, or the average would keep the starting point.
            decay = min(options.ema, (step + 1) / (step + 10))
            with torch.no_grad():
                for name, value in model.state_dict().items():
                    average[name].lerp_(value.float(), 1 - decay)
            step += 1
            writer.writerow(
                [
                    step,
                    f"{loss.item():.5f}",
                    f"{wrong.item():.5f}",
                    objects,
                    free,
                    f"{options.rate_at(step - 1):.3e}",
                    f"{time.monotonic() - started:.1f}",
                    f"{waited:.2f}",
                ]
            )
            file.flush()
            if step % options.save_every == 0:
                save()
    save()
    stream.close()
    averaged = LiVOS(model.config)
    integers = {k: v for k, v in model.state_dict().items() if not v.is_floating_point()}
    averaged.load_state_dict({**average, **integers})
    return averaged.eval()
