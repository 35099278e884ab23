"""Train a network from clips; stop and resume at any step."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from livos_cli.device import fast_bfloat16, memory_errors
from livos_cli.errors import InputError, LivosError, OutputError, UsageError
from livos_cli.network.config import LiVOSConfig
from livos_cli.network.inference import lay_out_channels_last
from livos_cli.network.livos import LiVOS
from livos_cli.training import checkpoint
from livos_cli.training.clips import Batch, Batches, ClipSource, batches
from livos_cli.training.log import Log
from livos_cli.training.options import MAY_CHANGE, TrainOptions
from livos_cli.training.step import ClipLoss
from livos_cli.weights.convert import write_safetensors

__all__ = ["Stepped", "Trained", "World", "join_world", "train"]

COLUMNS = ("step", "loss", "wrong", "objects", "free", "rate", "seconds", "wait")


@dataclass(frozen=True)
class World:
    """The processes that train together; `torchrun` sets their environment."""

    device: torch.device
    rank: int = 0
    size: int = 1


@dataclass(frozen=True)
class Stepped:
    """After each step, on the first process."""

    step: int  # counted from 1
    loss: float
    seconds: float  # since this process began
    wait: float  # of this step, for data


@dataclass(frozen=True)
class Trained:
    """How a run ended."""

    step: int
    weights: Path
    seconds: float
    wait: float  # seconds in all that steps waited for data
    interrupted: bool


def join_world(device: torch.device) -> World:
    """Meet the other processes, if `torchrun` started this one.

    Args:
        device: of this kind; with CUDA each process takes the GPU of its local rank.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return World(device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return World(device, dist.get_rank(), dist.get_world_size())


def train(
    model: LiVOS,
    source: ClipSource,
    out: Path,
    options: TrainOptions,
    *,
    world: World | None = None,
    workers: int = 0,
    on_step: Callable[[Stepped], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train until `options.steps`, `options.minutes` or `stop`; resume if `out` has a run.

    Writes `out/checkpoint/` (weights, average, optimiser, step), `out/log.csv`, and, whenever it
    stops, `out/weights.safetensors`: the averaged weights in float16.

    Args:
        model: where to start; float32. A checkpoint in `out` takes its place.
        source: of the clips.
        out: the run's folder.
        options: of the run.
        world: from `join_world`; None: this process alone, on the CPU.
        workers: processes that draw clips ahead.
        on_step: called after every step.
        stop: asked before every step: whether to end the run there, with a checkpoint.

    Raises:
        UsageError: `out` holds a run of other settings.
        LivosError: a checkpoint that cannot be read or written.
    """
    world = world or World(torch.device("cpu"))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {out} ({error.strerror})", "choose another -o") from None
    run = _Run(model, out, options, world, source.identity)
    log = Log(out / "log.csv", COLUMNS, run.step) if world.rank == 0 else None
    stream = batches(
        Batches(source, options, world.rank, world.size),
        run.step,
        workers=workers,
        pin=world.device.type == "cuda",
    )
    started, waited_in_all = time.monotonic(), 0.0
    while run.step < options.steps and not run.agree(
        stop() or time.monotonic() - started >= options.minutes * 60
    ):
        asked = time.monotonic()
        batch = next(stream)
        wait = time.monotonic() - asked
        waited_in_all += wait
        rate = options.rate_at(run.step)
        with memory_errors(world.device, "lower clips, size or unroll with --set"):
            loss, wrong = run.advance(batch)
        seconds = time.monotonic() - started
        if log is not None:
            log.write(
                run.step, f"{loss:.6f}", f"{wrong:.5f}", batch.objects, batch.free,
                f"{rate:.3e}", f"{seconds:.1f}", f"{wait:.2f}",
            )  # fmt: skip
            on_step(Stepped(run.step, loss, seconds, wait))
        if run.step % options.save_every == 0:
            run.save()
    run.save()
    stopped = stop()
    target = out / "weights.safetensors"
    if world.rank == 0:
        write_safetensors(run.averaged(), model.config, target, half=True, overwrite=True)
    return Trained(run.step, target, time.monotonic() - started, waited_in_all, stopped)


class _Run:
    """Everything that a checkpoint holds, and one step of it."""

    def __init__(
        self, model: LiVOS, out: Path, options: TrainOptions, world: World, data: list[str]
    ) -> None:
        self.options, self._world = options, world
        self._folder = out / "checkpoint"
        self._config = model.config
        torch.manual_seed(options.seed)
        self._module = ClipLoss(model, options).to(world.device).train()
        if world.device.type in ("cpu", "cuda"):
            lay_out_channels_last(self._module)
        if not options.backbone_rate:
            model.image_encoder.requires_grad_(False)
        backbone: list[Tensor] = []
        rest: list[Tensor] = []
        for name, parameter in self._module.named_parameters():
            if not parameter.requires_grad:
                continue
            (backbone if name.startswith("model.image_encoder.") else rest).append(parameter)
        groups = [{"params": rest, "share": 1.0}]
        if backbone:
            groups.append({"params": backbone, "share": options.backbone_rate})
        self._optimiser = torch.optim.AdamW(
            groups,
            lr=options.rate,
            weight_decay=options.weight_decay,
        )
        self._autocast = options.precision == "bf16" or (
            options.precision == "auto" and (world.device.type == "cuda" or fast_bfloat16())
        )
        # Beside its options, what makes a run what it is.
        self._context = {"data": data, "processes": world.size, "bf16": self._autocast}
        self._average = {k: v.detach().clone().float() for k, v in model.state_dict().items()}
        self.step = 0
        if (saved := checkpoint.load(self._folder)) is not None:
            try:
                self._restore(saved)
            # Whole, but not of what is written here: by another program, or another version.
            except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
                raise InputError(
                    f"the checkpoint {self._folder} cannot be used ({type(error).__name__}: "
                    f"{' '.join(str(error).split())[:120]})",
                    "copy it again, or use another output folder",
                ) from None
        # Weights and statistics, whose places in memory do not change.
        now = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
        self._averaging = [self._average[name] for name in now], list(now.values())
        self._parallel: Any = self._module
        if world.size > 1:
            self._parallel = DistributedDataParallel(
                self._module, device_ids=[world.device] if world.device.type == "cuda" else None
            )

    def _restore(self, saved: dict[str, Any]) -> None:
        now = _plain(self.options) | self._context
        then = saved["options"] | saved["context"]
        changed = [k for k in sorted({*now, *then} - MAY_CHANGE) if now.get(k) != then.get(k)]
        if LiVOSConfig.from_json(saved["config"]) != self._config:
            changed.append("the network")
        if changed:
            raise UsageError(
                f"{self._folder} is of a run with other settings ({', '.join(changed)})",
                "use the same ones, or another output folder",
            )
        self._module.load_state_dict(saved["module"])
        self._optimiser.load_state_dict(saved["optimiser"])
        self._average = {k: v.to(self._world.device) for k, v in saved["average"].items()}
        self.step = saved["step"]

    def advance(self, batch: Batch) -> tuple[float, float]:
        """One step of the optimiser; loss and share of wrong pixels, means of all processes.

        Raises:
            LivosError: the gradient is not finite; the weights are as they were.
        """
        options, device = self.options, self._world.device
        for group in self._optimiser.param_groups:
            group["lr"] = options.rate_at(self.step) * group["share"]
        batch = batch.to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self._autocast):
            loss, wrong = self._parallel(
                batch.frames, batch.ids, batch.objects, batch.free, batch.seeds, self.step
            )
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self._module.parameters(), options.clip_norm)
        if not norm.isfinite():
            raise LivosError(
                f"the gradient of step {self.step + 1} is not finite (loss {loss.item():.4g})",
                "lower rate with --set, in a new run that starts from this one's weights",
            )
        self._optimiser.step()
        # Early steps count less of the past, or the average would keep the starting point.
        decay = min(options.ema, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(*self._averaging, 1 - decay)
        self.step += 1
        both = torch.stack([loss.detach().float(), wrong])
        if self._world.size > 1:
            dist.all_reduce(both)
            both /= self._world.size
        return float(both[0]), float(both[1])

    def agree(self, stop: bool) -> bool:
        """Whether any process wants to stop: all must do so after the same step."""
        if self._world.size == 1:
            return stop
        flag = torch.tensor(float(stop), device=self._world.device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag)

    def averaged(self) -> dict[str, Tensor]:
        """The averaged weights, under the network's names; integers as they are."""
        state = self._module.model.state_dict()
        return {
            name: (self._average[name] if value.is_floating_point() else value).cpu()
            for name, value in state.items()
        }

    def save(self) -> None:
        """Write the checkpoint; the others wait for the first process to have done it."""
        if self._world.rank == 0:
            content = {
                "step": self.step,
                "options": _plain(self.options),
                "context": self._context,
                "config": self._config.to_json(),
                "module": self._module.state_dict(),
                "average": self._average,
                "optimiser": self._optimiser.state_dict(),
            }
            checkpoint.save(self._folder, content)
        if self._world.size > 1:
            dist.barrier()


def _plain(options: TrainOptions) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(options).items()}
