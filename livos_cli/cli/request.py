"""What `livos segment` is asked for, once the command line is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from livos_cli.options import RunOptions, SegmentOptions

if TYPE_CHECKING:
    from livos_cli.batch.ray_cluster import Cluster

__all__ = ["ManyVideos", "OnRay", "SegmentRequest", "Where"]


@dataclass(frozen=True)
class Where:
    """Which network, and where it runs."""

    weights: str  # name, file or Hub address
    device: str  # auto, cpu, cuda, cuda:N or mps
    precision: str  # one of PRECISIONS
    backend: str = "auto"  # one of BACKENDS


@dataclass(frozen=True)
class ManyVideos:
    """Settings for many videos only."""

    listed: str | None = None  # file of more names, or - for stdin
    recursive: bool = False
    dry_run: bool = False
    fail_fast: bool = False
    report: Path | None = None


@dataclass(frozen=True)
class OnRay:
    """How the work is spread over devices and machines."""

    engine: str = "plain"  # or ray
    address: str | None = None  # of a cluster that runs; None: one on this machine alone
    gpus_per_task: float = 1.0
    devices: tuple[str, ...] = ()  # of this machine
    split_at_masks: bool = False  # one video, in stretches side by side


@dataclass(frozen=True)
class SegmentRequest:
    """Everything that was asked for.

    `as_batch` says whether it is run and reported as many videos are.
    """

    videos: tuple[str, ...]
    mask: str
    options: SegmentOptions
    output: RunOptions
    where: Where
    many: ManyVideos
    ray: OnRay
    checkpoint: float  # seconds between two; 0 for none
    as_json: bool
    quiet: bool
    as_batch: bool = False

    @property
    def video(self) -> str:
        """The video, where it is one alone."""
        return self.videos[0]

    def cluster(self) -> Cluster:
        """Where and how Ray runs the tasks."""
        from livos_cli.batch.ray_cluster import Cluster
        from livos_cli.weights.load import backend_of

        where, ray = self.where, self.ray
        # Other runtimes compute on the CPU: their tasks need no GPU.
        torch = backend_of(where.backend, where.device, where.precision) == "torch"
        device = where.device if torch else "cpu"
        return Cluster(
            ray.address, where.weights, device, where.precision, ray.gpus_per_task,
            ray.devices, where.backend,
        )  # fmt: skip
