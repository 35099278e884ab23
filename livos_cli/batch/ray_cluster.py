"""Many devices and machines: a Ray task a video, or a stretch of one; the same work."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

from livos_cli.batch.discover import Item
from livos_cli.batch.job import Batch, Job
from livos_cli.batch.report import Record, failed
from livos_cli.batch.split import Stretch, work_on_stretch
from livos_cli.batch.work import work
from livos_cli.errors import InterruptionError, LivosError, UsageError
from livos_cli.extras import install_hint
from livos_cli.network.livos import LiVOS
from livos_cli.redact import redact_logs
from livos_cli.video.address import Address
from livos_cli.weights.load import load_model

__all__ = ["Cluster", "stretches_on_ray", "work_on_ray"]

RETRIES = 3  # of a video whose worker was lost
TASK = "livos segment"  # as Ray's tools show it
AHEAD = 2  # tasks handed over for each that can run: more would only wait
T = TypeVar("T")


@dataclass(frozen=True)
class Cluster:
    """Where and how tasks run."""

    address: str | None  # of a running cluster; None for one on this machine, for this run
    weights: str
    device: str
    precision: str
    gpus_per_task: float = 1.0
    devices: tuple[str, ...] = ()  # of this machine, for a cluster of our own
    backend: str = "auto"


def work_on_ray(
    items: Iterable[Item],
    batch: Batch,
    cluster: Cluster,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[Record]:
    """Each video's record when it has ended, in any order.

    A video whose worker is lost is begun again, from its last checkpoint, up to three times.

    Raises:
        UsageError: Ray is not installed, its cluster not there, or it has no such devices.
        InterruptionError: `stop` said so.
    """
    for item, result in _each(items, lambda item: (_video, _absolute(item), batch), cluster, stop):
        if isinstance(result, Record):
            yield replace(result, video=item.video, mask=item.mask)
        elif isinstance(result, LivosError):  # weights that cannot be had there
            yield failed(item, result, batch.weights)
        else:
            yield failed(item, LivosError(*_lost(result)), batch.weights)


def stretches_on_ray(
    stretches: Iterable[Stretch],
    cluster: Cluster,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[Stretch]:
    """Each stretch of a video when it is done, in any order.

    Raises:
        LivosError: of a stretch that failed; and as `work_on_ray`.
    """
    for stretch, result in _each(stretches, lambda one: (work_on_stretch, one), cluster, stop):
        if isinstance(result, LivosError):
            raise result
        if isinstance(result, Exception):
            raise LivosError(*_lost(result))
        yield stretch


def _lost(error: Exception) -> tuple[str, str]:
    reason = " ".join(str(error).split())[:200]
    return (
        f"its worker was lost {RETRIES + 1} times ({type(error).__name__}: {reason})",
        "too little memory? fewer tasks at once need less",
    )


def _each(
    things: Iterable[T],
    task_of: Callable[[T], tuple[Any, ...]],
    cluster: Cluster,
    stop: Callable[[], bool],
) -> Generator[tuple[T, Any]]:
    """Run a task for each thing; each with its result, or with Ray's error, when it has ended."""
    ray = _ray()
    with ExitStack() as stack:
        # Ray's own remarks: results alone go to stdout.
        stack.enter_context(redirect_stdout(sys.stderr))
        stack.callback(ray.shutdown)
        gpus, slots = _connect(ray, cluster)
        device = cluster.device if gpus else "cpu"
        if device.startswith("cuda"):
            device = "cuda"  # a task sees its own alone
        remote = _remote(ray, _task, gpus)
        model = cluster.weights, device, cluster.precision, cluster.backend
        running: dict[Any, T] = {}
        waiting = iter(things)
        more = True
        while True:
            while more and len(running) < AHEAD * slots:
                if more := (thing := next(waiting, None)) is not None:
                    running[remote.remote(model, *task_of(thing))] = thing
            if not running:
                return
            ended, _ = ray.wait(list(running), num_returns=1, timeout=0.5)
            for one in ended:
                thing = running.pop(one)
                try:
                    yield thing, ray.get(one)
                except ray.exceptions.RayTaskError:
                    raise  # an error of ours, with its traceback
                except ray.exceptions.RayError as error:
                    yield thing, error
            if stop():
                for one in running:
                    ray.cancel(one)  # an interruption there: the last checkpoint stays
                raise InterruptionError("interrupted", "run the same command again to resume")


def _remote(ray: Any, function: Callable[..., Any], gpus: float) -> Any:
    """A function as Ray runs it.

    A process that has used a GPU can use no other, so one that was given a GPU ends with its task:
    Ray's own default, but only where `ray.remote` is told of GPUs, not where `options` is.
    """
    decorate = ray.remote(
        num_cpus=1, num_gpus=gpus, max_retries=RETRIES, max_calls=1 if gpus else 0
    )
    return decorate(function).options(name=TASK)


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise UsageError("--engine ray needs the extra 'ray'", install_hint("ray")) from None
    return ray


def _connect(ray: Any, cluster: Cluster) -> tuple[float, int]:
    """Join a cluster or start one; returns GPUs for each task and how many tasks run at once."""
    how: dict[str, Any] = {"include_dashboard": False} if cluster.address is None else {}
    if cluster.devices:
        if cluster.address is not None:
            raise UsageError(
                "--devices are of this machine, --address of another", "remove one of them"
            )
        numbers = [name.partition(":")[2] for name in cluster.devices if name.startswith("cuda:")]
        if numbers and len(numbers) == len(cluster.devices):
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(numbers)
            how["num_gpus"] = len(numbers)
        elif set(cluster.devices) == {"cpu"}:
            how |= {"num_cpus": len(cluster.devices), "num_gpus": 0}
        else:
            raise UsageError(
                f"--devices {','.join(cluster.devices)}: it takes cuda:0,cuda:1 or cpu,cpu",
                "name each device",
            )
    try:
        ray.init(
            address=cluster.address or "local",
            log_to_driver=False,
            logging_level="ERROR",
            **how,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0][:160]
        raise UsageError(
            f"no Ray cluster at {cluster.address or 'this machine'} ({reason})",
            "`ray start --head` begins one; --address says where it is",
        ) from None
    resources = ray.cluster_resources()
    there = resources.get("GPU", 0)
    wanted = cluster.device not in ("cpu", "mps") and there > 0
    if cluster.device.startswith("cuda") and not there:
        raise UsageError("the Ray cluster has no GPU", "use --device cpu, or add machines")
    gpus = cluster.gpus_per_task if wanted else 0.0
    if gpus > there:
        raise UsageError(
            f"--gpus-per-task {gpus:g}: the Ray cluster has {there:g}", "ask for fewer"
        )
    slots = there / gpus if gpus else resources.get("CPU", 1)
    return gpus, max(1, int(slots))


def _absolute(item: Item) -> Item:
    """As other machines see it, which have the same files at the same paths."""
    mask = None if item.mask is None else _anywhere(item.mask)
    return replace(item, video=_anywhere(item.video), mask=mask, folder=item.folder.absolute())


def _anywhere(text: str) -> str:
    path = Address.of(text).path
    return text if path is None else str(path.absolute())


def _task(weights: tuple[str, ...], function: Callable[..., Any], *arguments: Any) -> Any:
    """What a worker does."""
    redact_logs()
    try:
        return function(*arguments, _model(*weights))
    except LivosError as error:
        return error


def _video(item: Item, batch: Batch, model: LiVOS) -> Record:
    return work(Job(item, batch), model)


@lru_cache(maxsize=1)
def _model(weights: str, device: str, precision: str, backend: str) -> LiVOS:
    """A worker loads it for its first task."""
    return load_model(weights, device=device, precision=precision, backend=backend)
