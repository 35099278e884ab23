"""Training: clips, losses, and a run that stops and goes on to the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from livos_cli.network import TINY, LiVOS
from livos_cli.training.data import ClipSource, batches
from livos_cli.training.loop import TrainOptions, train
from livos_cli.training.losses import mask_loss, query_loss
from livos_cli.training.procedural import render

OPTIONS = TrainOptions(
    steps=4, clips=1, length=2, unroll=1, size=64, warmup=1, cooldown=1, save_every=2
)


@pytest.fixture(scope="module")
def procedural_only() -> ClipSource:
    """A source without files: the generator alone."""
    source = ClipSource.__new__(ClipSource)
    source.sequences, source.stills = [], []
    source.shares = np.array([0.0, 0.0, 1.0])
    return source


def test_a_scene_depends_on_its_seed_alone() -> None:
    def frames(seed: int) -> np.ndarray:
        scene = render(np.random.default_rng(seed), 48, 64, 3, 2)
        return np.stack([rgb for rgb, _ in scene])

    assert np.array_equal(frames(1), frames(1))
    assert not np.array_equal(frames(1), frames(2))


def test_the_committed_example_is_what_its_generator_draws() -> None:
    import sys

    from conftest import EXAMPLES
    from media import decode

    sys.path.insert(0, str(EXAMPLES))
    import make_example

    truth = decode(EXAMPLES / "truth.mkv")
    drawn = [ids for _, ids in make_example.scene()]
    assert len(truth) == len(drawn) == make_example.FRAMES
    assert make_example.FRAMES / make_example.RATE >= 5
    same = np.mean([(a == b).mean() for a, b in zip(truth, drawn, strict=True)])
    assert same > 0.999  # OpenCV's versions may round an outline differently


def test_batches_do_not_depend_on_where_they_start(procedural_only: ClipSource) -> None:
    def take(first: int, count: int) -> list[np.ndarray]:
        stream = batches(procedural_only, 3, first, clips=1, length=2, size=64, max_skip=1)
        taken = [next(stream)[0] for _ in range(count)]
        stream.close()
        return taken

    whole = take(0, 4)
    for a, b in zip(whole[2:], take(2, 2), strict=True):
        assert np.array_equal(a, b)


def test_losses_are_least_at_the_truth() -> None:
    ids = torch.zeros(1, 32, 32, dtype=torch.int64)
    ids[:, 8:24, 8:24] = 1
    ids[:, 24:, :] = 2
    one_hot = F.one_hot(ids, 3).movedim(-1, 1).float()
    good, bad = one_hot * 20 - 10, torch.zeros(1, 3, 32, 32)
    wrong = one_hot[:, [1, 0, 2]] * 20 - 10
    assert mask_loss(good, ids) < 0.01 < mask_loss(bad, ids) < mask_loss(wrong, ids)
    small = F.avg_pool2d(one_hot[:, 1:], 16) * 2 - 1
    assert query_loss([small * 9], ids, 2) < query_loss([-small * 9], ids, 2)


@pytest.mark.slow
def test_stopping_and_going_on_gives_the_same_bits(
    procedural_only: ClipSource, tmp_path: Path
) -> None:
    def fresh() -> LiVOS:
        torch.manual_seed(0)
        return LiVOS(TINY)

    whole = train(fresh(), procedural_only, tmp_path / "whole", OPTIONS)
    # The second run is stopped after two steps, as by --minutes, and its process forgets all.
    stopped = replace(OPTIONS, minutes=0.0)
    train(fresh(), procedural_only, tmp_path / "parts", stopped)
    for _ in range(20):
        checkpoint = tmp_path / "parts" / "checkpoint.pt"
        if torch.load(checkpoint, weights_only=True)["step"] >= OPTIONS.steps:
            break
        parts = train(fresh(), procedural_only, tmp_path / "parts", replace(OPTIONS, minutes=1e-4))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name


@pytest.mark.slow
def test_a_few_steps_lower_the_loss(procedural_only: ClipSource, tmp_path: Path) -> None:
    """On one clip over and over, from nothing."""
    import csv

    torch.manual_seed(0)
    options = replace(OPTIONS, steps=30, unroll=0, rate=1e-3, cooldown=10)

    class OneClip(ClipSource):
        def __init__(self) -> None: ...

        def draw(self, rng: np.random.Generator, objects: int, *rest: int):  # type: ignore[no-untyped-def]
            return procedural_only.draw(np.random.default_rng(objects), objects, *rest)

    train(LiVOS(TINY), OneClip(), tmp_path, options)
    with (tmp_path / "log.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 30
    assert np.mean(losses[-6:]) < 0.8 * np.mean(losses[:6])


def test_real_data_draws_clips_with_every_object(shared: Path) -> None:
    source = ClipSource(shared / "data", height=96)
    rng = np.random.default_rng(0)
    for objects in (1, 2, 3):
        for _ in range(6):
            clip = source.draw(rng, objects, 4, 96, 5)
            assert clip.frames.shape == (4, 96, 96, 3)
            assert set(np.unique(clip.ids[0])) >= set(range(1, objects + 1))
            assert clip.ids.max() <= objects
