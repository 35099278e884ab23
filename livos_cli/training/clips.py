"""Clips drawn from the sources, and batches of them: each depends on its number alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from livos_cli.errors import InputError, UsageError
from livos_cli.training.augment import Bend, affine_path, degrade, recolour, warp
from livos_cli.training.options import TrainOptions
from livos_cli.training.procedural import render
from livos_cli.training.sources import (
    Budget,
    SourceSpec,
    Still,
    Video,
    load_stills,
    load_videos,
)
from livos_cli.video.to_and_fro import to_and_fro

__all__ = ["Batch", "Batches", "Clip", "ClipSource", "batches", "default_workers"]

FORTH_AND_BACK = 2  # frames before the counted ones may be this many clip lengths
VISIBLE = 0.002  # share of the frame that an object must have to be followed or pasted
TRIES = 1000  # draws that may fail one after the other before the data are to blame
IN_FLIGHT = 2 << 30  # bytes of batches drawn ahead, at most


@dataclass(frozen=True)
class Clip:
    """Frames (T, S, S, 3) uint8 RGB and ids (T, S, S) uint8 of 0..n."""

    frames: np.ndarray
    ids: np.ndarray


@dataclass(frozen=True)
class Batch:
    """Clips of one number of objects."""

    frames: Tensor  # (B, T, S, S, 3) uint8 RGB
    ids: Tensor  # (B, T, S, S) uint8, 0..objects
    objects: int
    free: int  # frames at the start that are run without gradient and do not count
    seeds: tuple[int, ...]  # of the clips, for whatever else is random in a step

    def to(self, device: torch.device) -> Batch:
        """The same on a device; from page-locked memory without waiting."""
        return replace(
            self,
            frames=self.frames.to(device, non_blocking=True),
            ids=self.ids.to(device, non_blocking=True),
        )

    def pin_memory(self) -> Batch:
        """A copy in page-locked memory; the loader calls this."""
        return replace(self, frames=self.frames.pin_memory(), ids=self.ids.pin_memory())


class ClipSource:
    """Draws random clips from a list of sources, decoded once.

    Args:
        specs: the sources, with their shares.
        height: sequences are kept at this many rows at most.
        memory: bytes that decoded data may take.
        threads: that decode at the start; 0: one a core.

    Raises:
        LivosError: a source that cannot be used.
    """

    def __init__(
        self, specs: Sequence[SourceSpec], *, height: int = 400, memory: int, threads: int = 0
    ) -> None:
        if not specs or sum(spec.share for spec in specs) <= 0:
            raise UsageError("there is no data to train on", "give --data, with a share above 0")
        self._specs, self._height = tuple(specs), height
        budget = Budget(memory)
        self._sources: list[tuple[Video, ...] | list[Still] | None] = []
        for spec in specs:
            if spec.kind == "procedural":
                self._sources.append(None)
            elif spec.kind == "images":
                assert spec.path is not None
                self._sources.append(load_stills(spec.path, budget))
            else:
                threads = threads or os.cpu_count() or 1
                self._sources.append(load_videos(spec, height, budget, threads))
        shares = np.array([spec.share for spec in specs])
        self._shares = shares / shares.sum()
        self._stills = [s for source in self._sources if isinstance(source, list) for s in source]
        self._videos = [v for source in self._sources if isinstance(source, tuple) for v in source]

    @property
    def identity(self) -> list[str]:
        """What a run must not change when it goes on; folders may have moved."""
        names = [f"{s.kind}:{s.path.name if s.path else ''}@{s.share}" for s in self._specs]
        return [*names, f"{self._height} rows"]

    @property
    def summary(self) -> str:
        """What there is, for people."""
        parts = []
        if self._videos:
            frames = sum(len(video) for video in self._videos)
            parts.append(f"{len(self._videos)} sequences of {frames} frames in all")
        if self._stills:
            parts.append(f"{len(self._stills)} stills")
        if None in self._sources:
            parts.append("procedural scenes")
        return ", ".join(parts)

    def draw(
        self, rng: np.random.Generator, objects: int, length: int, size: int, max_skip: int
    ) -> Clip:
        """One clip with exactly `objects` objects, each visible in the first frame.

        Args:
            rng: all randomness comes from here.
            objects: 1 to 255; those that a source lacks are pasted, moving cut-outs.
            length: frames.
            size: side of the square frames, pixels.
            max_skip: source frames between two of the clip, at most.
        """
        for _ in range(TRIES):
            source = self._sources[rng.choice(len(self._sources), p=self._shares)]
            if source is None:
                clip = _procedural(rng, objects, length, size)
            else:
                if isinstance(source, tuple):
                    video = source[rng.integers(len(source))]
                    frames, ids = _sequence(rng, video, objects, length, size, max_skip)
                else:
                    frames, ids = _still(rng, source[rng.integers(len(source))], length, size)
                    if rng.random() < 0.5:
                        ids[:] = 0  # a moving background; every object is pasted
                for number in range(int(ids.max()) + 1, objects + 1):
                    self._paste(rng, frames, ids, number, size)
                if rng.random() < 0.15:
                    self._paste(rng, frames, ids, 0, size)  # hides, and is not followed
                clip = Clip(frames, ids)
            areas = np.bincount(clip.ids[0].ravel(), minlength=objects + 1)[1:]
            if len(areas) == objects and areas.min() >= VISIBLE * size * size:
                return Clip(degrade(rng, recolour(rng, clip.frames)), clip.ids)
        raise InputError(
            f"in {TRIES} draws from {self.summary} none began with {objects} visible objects",
            f"objects must cover {VISIBLE:.1%} of a frame; are the masks right?",
        )

    def _cut_out(self, rng: np.random.Generator) -> Still:
        """Something to paste: from the stills; without any, from a frame of a video."""
        if self._stills:
            return self._stills[rng.integers(len(self._stills))]
        for _ in range(TRIES):
            video = self._videos[rng.integers(len(self._videos))]
            rgb, ids = video.frame(int(rng.integers(len(video))))
            numbers, areas = np.unique(ids[ids != 0], return_counts=True)
            if len(numbers := numbers[areas >= VISIBLE * ids.size]):
                return Still(rgb, (ids == rng.choice(numbers)).astype(np.uint8))
        raise InputError(
            f"{self.summary}: no object is large enough to be pasted",
            f"it must cover {VISIBLE:.1%} of a frame; add images, or look at the masks",
        )

    def _paste(
        self, rng: np.random.Generator, frames: np.ndarray, ids: np.ndarray, number: int, size: int
    ) -> None:
        """Move a cut-out over the clip, in place, as object `number`."""
        still = self._cut_out(rng)
        y, x = np.nonzero(still.mask)
        inside = np.s_[y.min() : y.max() + 1, x.min() : x.max() + 1]
        rgb, mask = still.rgb[inside], still.mask[inside]
        rows, columns = mask.shape
        scale = size * rng.uniform(0.2, 0.6) / max(rows, columns)
        path = affine_path(rng, len(frames), (rows, columns), size, scale, amount=1.0, roam=0.35)
        bend = Bend(rng, size, 0.02) if rng.random() < 0.5 else None
        pasted, area = warp(rgb, mask, path, size, cv2.BORDER_CONSTANT, bend)
        where = area > 0
        gain = rng.uniform(0.7, 1.3)
        frames[where] = np.clip(pasted[where] * gain, 0, 255).astype(np.uint8)
        ids[where] = number


def _sequence(
    rng: np.random.Generator, video: Video, objects: int, length: int, size: int, max_skip: int
) -> tuple[np.ndarray, np.ndarray]:
    """Frames of a video through a window that wanders, or follows its object."""
    skip = int(rng.integers(1, max_skip + 1))
    skip = max(1, min(skip, (len(video) - 1) // max(1, length - 1)))
    first = int(rng.integers(0, max(1, len(video) - skip * (length - 1))))
    index = np.minimum(first + skip * np.arange(length), len(video) - 1)
    if rng.random() < 0.5:
        index = index[::-1]
    opening = video.frame(int(index[0]))[1]
    rows, columns = opening.shape
    # At most so many of the objects that the first frame shows, renumbered from 1.
    there = np.flatnonzero(np.bincount(opening.ravel(), minlength=256))
    chosen = rng.permutation(there[there != 0])[:objects]
    table = np.zeros(256, np.uint8)
    table[chosen] = np.arange(1, len(chosen) + 1)
    window = int(min(rows, columns) * rng.uniform(0.45, 1.0))
    inside = np.argwhere(table[opening])
    anchor = inside[rng.integers(len(inside))] if len(inside) else np.array([rows, columns]) / 2
    corner = anchor - rng.uniform(0.25, 0.75, 2) * window
    drift = rng.normal(0, 0.01 * window, 2)
    # In most clips a camera that follows, more or less: few are worth much without their object.
    follow = rng.uniform(0.5, 1.1) if rng.random() < 0.7 else 0.0
    begin = centre = _centre(table[opening])
    flip = rng.random() < 0.5
    frames, ids = [], []
    area = cv2.INTER_AREA if window > size else cv2.INTER_LINEAR
    for step, number in enumerate(index):
        rgb, mask = video.frame(int(number))
        mask = table[mask]
        centre = _centre(mask, centre)
        place = corner + drift * step
        if begin is not None and centre is not None:
            place = place + follow * (centre - begin)
        y, x = np.clip(place, 0, [rows - window, columns - window]).astype(int)
        seen = np.s_[y : y + window, x : x + window]
        frame = cv2.resize(rgb[seen], (size, size), interpolation=area)
        mask = cv2.resize(mask[seen], (size, size), interpolation=cv2.INTER_NEAREST)
        frames.append(frame[:, ::-1] if flip else frame)
        ids.append(mask[:, ::-1] if flip else mask)
    return np.stack(frames), np.stack(ids)


def _centre(mask: np.ndarray, before: np.ndarray | None = None) -> np.ndarray | None:
    """Row and column of the middle of what is not 0; `before` if all is."""
    moments = cv2.moments(mask, binaryImage=True)
    if not moments["m00"]:
        return before
    return np.array([moments["m01"], moments["m10"]]) / moments["m00"]


def _still(
    rng: np.random.Generator, still: Still, length: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = still.mask.shape
    scale = size / min(rows, columns) * rng.uniform(1.05, 1.5)
    path = affine_path(rng, length, (rows, columns), size, scale, amount=0.5)
    bend = Bend(rng, size, 0.015) if rng.random() < 0.3 else None
    return warp(still.rgb, still.mask, path, size, cv2.BORDER_REFLECT_101, bend)


def _procedural(rng: np.random.Generator, objects: int, length: int, size: int) -> Clip:
    speed = rng.uniform(0.4, 2.0)
    scene = render(rng, size, size, length, objects, speed=speed, radius=(0.1, 0.25))
    frames, ids = zip(*scene, strict=True)
    return Clip(np.stack(frames), np.stack(ids))


class Batches(Dataset[Batch]):
    """Batch i of a run, drawn from the seed and i alone: resuming and sharing change nothing.

    Args:
        source: of the clips.
        options: of the run.
        rank: of this process.
        world: processes; each draws its own `options.clips` clips of the batch.
    """

    def __init__(
        self, source: ClipSource, options: TrainOptions, rank: int = 0, world: int = 1
    ) -> None:
        self._source, self._options, self._rank, self._world = source, options, rank, world

    def __len__(self) -> int:
        return self._options.steps

    @property
    def nbytes(self) -> int:
        """Of a batch, at most."""
        o = self._options
        return o.clips * (o.length + o.unroll) * o.size**2 * 4

    def __getitem__(self, index: int) -> Batch:
        o = self._options
        rng = np.random.default_rng((o.seed, index))
        shares = np.array(o.objects) / sum(o.objects)
        objects = 1 + int(rng.choice(len(shares), p=shares))
        many = o.unroll // o.unroll_step
        free = o.unroll_step * int(rng.integers(0, many + 1)) if rng.random() < 0.7 else 0
        first = self._rank * o.clips
        seeds = tuple(range(first, first + o.clips))
        # What comes before the counted frames goes to and fro over the clip, as long as it takes.
        base = o.length + min(free, (FORTH_AND_BACK - 1) * o.length)
        order = [to_and_fro(position, base) for position in range(free + o.length)]
        clips = [
            self._source.draw(
                np.random.default_rng((o.seed, index, clip)),
                objects,
                base,
                o.size,
                o.skip_at(index),
            )
            for clip in seeds
        ]
        return Batch(
            frames=torch.from_numpy(np.stack([c.frames[order] for c in clips])),
            ids=torch.from_numpy(np.stack([c.ids[order] for c in clips])),
            objects=objects,
            free=free,
            seeds=seeds,
        )


def default_workers(processes: int) -> int:
    """As many as there are cores left, for each of so many training processes."""
    return max(1, min(16, ((os.cpu_count() or 1) - processes) // processes))


def _prepare_worker(_: int) -> None:
    import signal

    # One core each; requests to end go to all, and are the main process's business.
    cv2.setNumThreads(0)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if (number := getattr(signal, name, None)) is not None:
            signal.signal(number, signal.SIG_IGN)


def batches(dataset: Batches, first: int, *, workers: int, pin: bool = False) -> Iterator[Batch]:
    """Batches from number `first` on, drawn ahead by processes that share the decoded data.

    Args:
        dataset: what to draw.
        first: number of the first batch.
        workers: processes; 0 draws in this one, when asked.
        pin: page-locked memory, for a GPU.
    """
    if workers and not sys.platform.startswith("linux"):
        workers = 0  # elsewhere each process would hold a copy of all data
    ahead = max(1, IN_FLIGHT // dataset.nbytes)
    workers = min(workers, ahead)
    loader: DataLoader[Batch] = DataLoader(
        dataset,
        batch_size=None,
        sampler=range(first, len(dataset)),
        num_workers=workers,
        prefetch_factor=min(2, ahead // workers) if workers else None,
        worker_init_fn=_prepare_worker if workers else None,
        multiprocessing_context="fork" if workers else None,
        pin_memory=pin,
    )
    return iter(loader)
