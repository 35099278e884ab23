"""Train the click network on a frozen image encoder's features; stop and resume at any step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from livos_cli.errors import LivosError, UsageError
from livos_cli.network.clicks import ClickConfig, ClickNet, trunk_features
from livos_cli.network.inference import lay_out_channels_last
from livos_cli.network.livos import LiVOS
from livos_cli.training import checkpoint
from livos_cli.training.clicks import Session, begin, draw_sample
from livos_cli.training.log import Log
from livos_cli.training.sources import Still

__all__ = ["ClickOptions", "click_loss", "train_clicks"]

COLUMNS = ("step", "loss", "iou", "rate", "seconds")
MAY_CHANGE = {"steps", "minutes", "cooldown", "save_every"}


@dataclass(frozen=True)
class ClickOptions:
    """Settings of a run."""

    steps: int = 6000  # at most
    minutes: float = 1e9  # at most, all starts together
    batch: int = 8  # pictures whose clicks are answered together
    rounds: int = 8  # masks a picture, at most
    size: int = 320  # side of a crop, pixels
    rate: float = 1e-3
    warmup: int = 50
    cooldown: float = 0.6  # last part of the steps or minutes: the rate falls as a cosine to 1 %
    weight_decay: float = 1e-2
    clip_norm: float = 3.0
    ema: float = 0.998
    bf16: bool = False
    seed: int = 0
    save_every: int = 100

    def rate_at(self, step: int, minutes: float) -> float:
        """Learning rate of a step, counted from 0, after so many minutes."""
        done = min(1.0, max(step / self.steps, minutes / self.minutes))
        left = min(1.0, (1 - done) / self.cooldown)
        fall = 0.01 + 0.99 * (0.5 - 0.5 * math.cos(math.pi * left))
        return self.rate * min(1.0, (step + 1) / self.warmup) * fall


def click_loss(log_odds_BHW: Tensor, target_BHW: Tensor) -> Tensor:
    """Normalised focal loss and dice (K. Sofiiuk et al., ICIP 2022, of the former).

    Args:
        log_odds_BHW: float32.
        target_BHW: share of each pixel that is the object's, 0 to 1.
    """
    log_odds, target = log_odds_BHW.flatten(1), target_BHW.flatten(1)
    entropy = F.binary_cross_entropy_with_logits(log_odds, target, reduction="none")
    prob = log_odds.sigmoid()
    hard = (prob - target).abs().square()
    share = hard.sum(1, keepdim=True).detach().clamp(min=1.0) / hard.shape[1]
    focal = (hard * entropy / share.clamp(min=0.02)).mean()
    overlap = 2 * (prob * target).sum(1)
    dice = 1 - (overlap + 1) / (prob.sum(1) + target.sum(1) + 1)
    return focal + dice.mean()


def train_clicks(
    model: LiVOS,
    config: ClickConfig,
    sources: Sequence[tuple[Sequence[Still], float]],
    out: Path,
    options: ClickOptions,
    on_step: Callable[[int, float, float], None] = lambda *_: None,
) -> dict[str, Tensor]:
    """Train until `options.steps` or `options.minutes`; resume if `out` has a run.

    Writes `out/checkpoint/` and `out/log.csv`. A resumed run begins with fresh pictures.

    Args:
        model: gives the features; is not changed.
        config: of the click network.
        sources: stills, and how often each source is drawn from.
        out: the run's folder.
        options: of the run.
        on_step: called with step, loss and mean IoU after every step.

    Returns:
        The averaged weights.

    Raises:
        UsageError: `out` holds a run of other settings.
        LivosError: a checkpoint that cannot be read or written, or a gradient that is not finite.
    """
    out.mkdir(parents=True, exist_ok=True)
    run = _Run(config, out / "checkpoint", options)
    table = _Pictures(model, sources, options, run.step)
    log = Log(out / "log.csv", COLUMNS, run.step)
    started = time.monotonic() - run.seconds
    while run.step < options.steps and run.seconds < options.minutes * 60:
        rate = options.rate_at(run.step, run.seconds / 60)
        loss, found = run.advance(table.sessions, rate)
        iou = table.answer(found)
        run.seconds = time.monotonic() - started
        log.write(run.step, f"{loss:.5f}", f"{iou:.4f}", f"{rate:.2e}", f"{run.seconds:.1f}")
        on_step(run.step, loss, iou)
        if run.step % options.save_every == 0:
            run.save()
    run.save()
    table.close()
    return run.average


class _Pictures:
    """The pictures that are being clicked on; each that is done makes room for a fresh one."""

    def __init__(
        self,
        model: LiVOS,
        sources: Sequence[tuple[Sequence[Still], float]],
        options: ClickOptions,
        step: int,
    ) -> None:
        self._model, self._sources, self._options = model, sources, options
        shares = np.array([share for _, share in sources])
        self._shares = shares / shares.sum()
        self._rng = np.random.default_rng((options.seed, step))
        self._pool = ThreadPoolExecutor(1)
        self._ahead: Future[list[Session]] = self._pool.submit(self._draw, options.batch)
        self.sessions = self._ahead.result()

    def close(self) -> None:
        self._pool.shutdown()

    @torch.inference_mode()
    def _draw(self, count: int) -> list[Session]:
        samples = []
        for _ in range(count):
            source = int(self._rng.choice(len(self._sources), p=self._shares))
            samples.append(draw_sample(self._rng, self._sources[source][0], self._options.size))
        rgb = torch.from_numpy(np.stack([s.rgb for s in samples])).permute(0, 3, 1, 2)
        features = trunk_features(self._model, rgb)
        return [
            begin(self._rng, sample, tuple(f[i : i + 1].clone() for f in features),
                  self._options.rounds)
            for i, sample in enumerate(samples)
        ]  # fmt: skip

    def answer(self, found_BHW: np.ndarray) -> float:
        """Click on what is wrong; the mean IoU before that."""
        scores, over = [], []
        for index, (session, found) in enumerate(zip(self.sessions, found_BHW, strict=True)):
            both = (session.truth & found).sum()
            scores.append(both / max(1, (session.truth | found).sum()))
            if not session.answer(self._rng, found):
                over.append(index)
        if over:
            for index, session in zip(over, self._draw(len(over)), strict=True):
                self.sessions[index] = session
        return float(np.mean(scores))


class _Run:
    """Everything that a checkpoint holds, and one step of it."""

    def __init__(self, config: ClickConfig, folder: Path, options: ClickOptions) -> None:
        self._folder, self._options, self._config = folder, options, config
        torch.manual_seed(options.seed)
        self.net = ClickNet(config).train()
        lay_out_channels_last(self.net)
        self._optimiser = torch.optim.AdamW(
            self.net.parameters(), lr=options.rate, weight_decay=options.weight_decay
        )
        self.average = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.step, self.seconds = 0, 0.0
        saved = checkpoint.load(folder)
        if saved is not None:
            now, then = asdict(options), saved["options"]
            changed = [k for k in sorted(set(now) - MAY_CHANGE) if now[k] != then.get(k)]
            if changed or saved["config"] != config.to_json():
                raise UsageError(
                    f"{folder} is of a run with other settings ({', '.join(changed) or 'network'})",
                    "use the same ones, or another output folder",
                )
            self.net.load_state_dict(saved["net"])
            self._optimiser.load_state_dict(saved["optimiser"])
            self.average, self.step = saved["average"], saved["step"]
            self.seconds = saved["seconds"]

    def advance(self, sessions: list[Session], rate: float) -> tuple[float, np.ndarray]:
        """One step of the optimiser; its loss, and the masks (B, H/2, W/2) bool it was for."""
        options = self._options
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        guides = torch.stack([session.guides() for session in sessions])
        target = torch.stack([session.target for session in sessions])
        count = len(sessions[0].features)
        raw = tuple(torch.cat([s.features[i] for s in sessions]) for i in range(count))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=options.bf16):
            log_odds = self.net(self.net.project(raw), guides)
        loss = click_loss(log_odds.float(), target)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), options.clip_norm)
        if not norm.isfinite():
            raise LivosError(
                f"the gradient of step {self.step + 1} is not finite", "lower the rate"
            )
        self._optimiser.step()
        decay = min(options.ema, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for name, value in self.net.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)
        self.step += 1
        return float(loss.detach()), (log_odds.detach() > 0).numpy()

    def save(self) -> None:
        content: dict[str, Any] = {
            "step": self.step,
            "seconds": self.seconds,
            "options": asdict(self._options),
            "config": self._config.to_json(),
            "net": self.net.state_dict(),
            "average": self.average,
            "optimiser": self._optimiser.state_dict(),
        }
        checkpoint.save(self._folder, content)
