"""Small runs of training, for the tests."""

from __future__ import annotations

import csv
from pathlib import Path

import torch

from livos_cli.network import TINY, LiVOS
from livos_cli.training.clips import ClipSource
from livos_cli.training.options import resolve
from livos_cli.training.sources import SourceSpec

SMALL = ["clips=1", "length=3", "unroll=2", "size=64", "save_every=2", "precision=fp32"]


OPTIONS = resolve("tiny", SMALL, steps=4)


GIB = 1 << 30


def source_of(*texts: str, memory: int = GIB, height: int = 400) -> ClipSource:
    return ClipSource([SourceSpec.parse(text) for text in texts], memory=memory, height=height)


def fresh() -> LiVOS:
    torch.manual_seed(0)
    return LiVOS(TINY)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def log_of(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))
