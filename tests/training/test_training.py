"""Training: clips, losses, and runs that stop, go on, are killed, and share their work."""

from __future__ import annotations

import json
import sys
from dataclasses import fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import EXAMPLES, ROOT
from media import decode
from sequences import write_sequence
from training_runs import GIB, OPTIONS, SMALL, fresh, source_of

from livos_cli.errors import InputError, LivosError, UsageError
from livos_cli.files.atomic import temporary_of
from livos_cli.masks.palette import encode_index_png
from livos_cli.training import checkpoint
from livos_cli.training.clips import Batches, ClipSource, batches
from livos_cli.training.loop import train
from livos_cli.training.loss import low_resolution_loss, mask_loss, uncertain_points
from livos_cli.training.options import RECIPES, TrainOptions, resolve
from livos_cli.training.procedural import render
from livos_cli.training.sources import Budget, SourceSpec, load_stills


@pytest.fixture(scope="module")
def generated() -> ClipSource:
    """A source without files."""
    return source_of("procedural")


# Clips


def test_a_scene_depends_on_its_seed_alone() -> None:
    def frames(seed: int) -> np.ndarray:
        scene = render(np.random.default_rng(seed), 48, 64, 3, 2)
        return np.stack([rgb for rgb, _ in scene])

    assert np.array_equal(frames(1), frames(1))
    assert not np.array_equal(frames(1), frames(2))


def test_the_committed_example_is_what_its_generator_draws() -> None:
    sys.path.insert(0, str(EXAMPLES))
    import make_example

    truth = decode(EXAMPLES / "truth.mkv")
    drawn = [ids for _, ids in make_example.scene()]
    assert len(truth) == len(drawn) == make_example.FRAMES
    assert make_example.FRAMES / make_example.RATE >= 5
    agree = np.mean([(a == b).mean() for a, b in zip(truth, drawn, strict=True)])
    assert agree > 0.999  # OpenCV's versions may round an outline differently


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_depends_on_its_number_alone(generated: ClipSource, workers: int) -> None:
    dataset = Batches(generated, OPTIONS)
    drawn = list(batches(dataset, 1, workers=workers))
    assert len(drawn) == OPTIONS.steps - 1
    for number, batch in enumerate(drawn, start=1):
        again = dataset[number]
        assert torch.equal(batch.frames, again.frames)
        assert torch.equal(batch.ids, again.ids)
        assert (batch.objects, batch.free) == (again.objects, again.free)
        assert batch.frames.shape[1] == batch.free + OPTIONS.length


def test_processes_share_a_batch(generated: ClipSource) -> None:
    whole = Batches(generated, replace(OPTIONS, clips=2))[3]
    halves = [Batches(generated, OPTIONS, rank, 2)[3] for rank in range(2)]
    assert torch.equal(whole.frames, torch.cat([half.frames for half in halves]))
    assert whole.seeds == (*halves[0].seeds, *halves[1].seeds)


@pytest.mark.slow
def test_real_data_draws_clips_with_every_object(shared: Path) -> None:
    data = shared / "data"
    source = source_of(
        f"pairs:{data / 'davis-train'}@3", f"images:{data / 'static-objects.zip'}", height=96
    )
    dev = json.loads((data / "splits.json").read_text())["dev"]
    names = {video.name for video in source._videos}
    assert len(names) == 25
    assert not names & set(dev)  # what is measured on is never trained on
    rng = np.random.default_rng(0)
    for objects in (1, 2, 3):
        for _ in range(6):
            clip = source.draw(rng, objects, 4, 96, 5)
            assert clip.frames.shape == (4, 96, 96, 3)
            assert set(np.unique(clip.ids[0])) >= set(range(1, objects + 1))
            assert clip.ids.max() <= objects


def test_a_benchmark_is_a_source_and_what_does_not_fit_stays_on_disk(tmp_path: Path) -> None:
    write_sequence(tmp_path / "JPEGImages", tmp_path / "Annotations", "a", 1)
    roomy, tight = (source_of(f"folder:{tmp_path}", memory=m) for m in (GIB, 50_000))
    for seed in range(4):
        a, b = (s.draw(np.random.default_rng(seed), 2, 4, 64, 2) for s in (roomy, tight))
        assert np.array_equal(a.frames, b.frames)
        assert np.array_equal(a.ids, b.ids)
        assert set(np.unique(a.ids)) == {0, 1, 2}  # of the ids 3 and 17, or pasted


def test_stills_have_palettes_grey_levels_or_grey_in_colour(tmp_path: Path) -> None:
    ids = np.zeros((80, 100), np.uint8)
    for number in range(1, 6):
        ids[:30, 20 * number - 20 : 20 * number] = number
    image = np.random.default_rng(0).integers(0, 255, (80, 100, 3), np.uint8)
    salient = np.where(ids != 0, 255, 0).astype(np.uint8)
    (tmp_path / "a.png").write_bytes(encode_index_png(ids))
    cv2.imwrite(str(tmp_path / "b.png"), salient)
    cv2.imwrite(str(tmp_path / "c.png"), np.repeat(salient[..., None], 3, axis=2))
    for name in "abc":
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), image)
    stills = load_stills(tmp_path, Budget(GIB))
    assert [int(still.mask.sum()) for still in stills] == [600] * 5 + [3000] * 2
    cv2.imwrite(str(tmp_path / "b.png"), image)
    with pytest.raises(InputError, match="coloured"):
        load_stills(tmp_path, Budget(GIB))


def test_specks_are_an_error_and_no_endless_search(tmp_path: Path) -> None:
    write_sequence(tmp_path / "JPEGImages", tmp_path / "Annotations", "a", 1)
    for path in (tmp_path / "Annotations/a").iterdir():
        speck = np.zeros((64, 96), np.uint8)
        speck[10:12, 10:12] = 1
        path.write_bytes(encode_index_png(speck))
    for objects in (1, 2):
        with pytest.raises(InputError, match=r"0\.2% of a frame"):
            source_of(f"folder:{tmp_path}").draw(np.random.default_rng(0), objects, 3, 256, 1)


def test_data_that_cannot_be_used_is_told(tmp_path: Path, shared: Path) -> None:
    for text in ("davis", "pairs", "procedural:x", "zip:a"):
        with pytest.raises(UsageError):
            SourceSpec.parse(text)
    assert SourceSpec.parse("images:a@b.zip@0.5") == SourceSpec("images", Path("a@b.zip"), 0.5)
    for text in (f"images:{tmp_path}", f"pairs:{tmp_path}", f"images:{tmp_path}/no.zip"):
        with pytest.raises(InputError):
            source_of(text)
    with pytest.raises(InputError, match="--memory"):
        source_of(f"pairs:{shared / 'data/davis-train'}", memory=1000)
    with pytest.raises(InputError, match="--memory"):
        source_of(f"images:{shared / 'data/static-objects.zip'}", memory=1000)
    write_sequence(tmp_path / "JPEGImages", tmp_path / "Annotations", "a", 1)
    other_size = encode_index_png(np.ones((32, 48), np.uint8))
    (tmp_path / "Annotations/a/00003.png").write_bytes(other_size)
    with pytest.raises(InputError, match="48x32"):
        source_of(f"folder:{tmp_path}")
    (tmp_path / "a.masks.mkv").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read"):
        source_of(f"pairs:{tmp_path}")
    (tmp_path / "splits.json").write_text("{}")
    with pytest.raises(InputError, match="no list `train`"):
        source_of(f"pairs:{tmp_path}")


# Losses


def truth_and_logits() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.zeros(2, 32, 32, dtype=torch.int64)
    ids[:, 8:24, 8:24] = 1
    ids[:, 24:, :] = 2
    return ids, F.one_hot(ids, 3).movedim(-1, 1).float() * 20 - 10


@pytest.mark.parametrize("sampled", [False, True])
def test_losses_are_least_at_the_truth(sampled: bool) -> None:
    ids, good = truth_and_logits()
    points = torch.rand(2, 400, 2, generator=torch.Generator().manual_seed(0)) if sampled else None
    undecided, wrong = torch.zeros_like(good), good[:, [1, 0, 2]]
    values = [float(mask_loss(logits, ids, points)) for logits in (good, undecided, wrong)]
    assert values == sorted(values)
    # Between pixels a sample is a mixture, so only the full loss vanishes.
    assert values[0] < (0.5 if sampled else 0.01)
    small = F.avg_pool2d((good[:, 1:] > 0).float(), 16) * 2 - 1
    assert low_resolution_loss(small * 9, ids) < low_resolution_loss(-small * 9, ids)


def test_sampled_loss_at_every_pixel_is_the_full_loss() -> None:
    ids, good = truth_and_logits()
    logits = good + torch.randn(good.shape, generator=torch.Generator().manual_seed(1))
    y, x = torch.meshgrid(*[(torch.arange(32) + 0.5) / 32] * 2, indexing="ij")
    grid = torch.stack([x, y], dim=-1).view(1, -1, 2).expand(2, -1, 2)
    assert float(mask_loss(logits, ids, grid)) == pytest.approx(float(mask_loss(logits, ids)))


def test_points_seek_doubt_and_each_clip_has_its_own() -> None:
    logits = torch.full((2, 2, 40, 40), 5.0)
    logits[:, 1] = -5
    logits[:, 1, :, 18:22] = 4.9  # the only doubt

    def draw(*seeds: int) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return uncertain_points(logits[: len(seeds)], 200, generators)

    points = draw(1, 2)
    assert points.shape == (2, 200, 2)
    assert points.min() >= 0
    assert points.max() <= 1
    doubtful = ((points[..., 0] - 0.5).abs() < 0.075).float().mean()
    # 600 candidates hold about 75 in doubt; three quarters of the points are the least decided.
    assert doubtful > 0.25
    assert torch.equal(points[1], draw(2)[0])


# Runs


@pytest.mark.slow
def test_a_run_goes_on_with_more_steps_but_not_with_other_data(
    generated: ClipSource, tmp_path: Path
) -> None:
    short = resolve("tiny", SMALL, steps=2)
    train(fresh(), generated, tmp_path, short)
    assert train(fresh(), generated, tmp_path, resolve("tiny", SMALL, steps=3)).step == 3
    with pytest.raises(UsageError, match=r"other settings \(data\)"):
        train(fresh(), source_of("procedural", height=200), tmp_path, short)


def test_a_loss_that_is_not_finite_is_an_error_and_is_not_kept(
    generated: ClipSource, tmp_path: Path
) -> None:
    model = fresh()
    with torch.no_grad():
        model.pix_projector.layer.bias.fill_(float("nan"))
    with pytest.raises(LivosError, match="not finite"):
        train(model, generated, tmp_path, OPTIONS)
    assert not (tmp_path / "checkpoint").exists()


def test_minutes_end_a_run_cleanly(generated: ClipSource, tmp_path: Path) -> None:
    done = train(fresh(), generated, tmp_path, replace(OPTIONS, minutes=1e-6))
    assert not done.interrupted
    saved = checkpoint.load(tmp_path / "checkpoint")
    assert saved is not None
    assert saved["step"] == done.step < OPTIONS.steps
    assert done.weights.is_file()


def test_a_checkpoint_is_complete_or_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkpoint"
    assert checkpoint.load(folder) is None
    monkeypatch.setattr(checkpoint, "PART", 1000)
    for step in (1, 2):
        checkpoint.save(folder, {"step": step, "x": torch.arange(1000)})
    assert len(list(folder.glob("*.part"))) > 8
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]
    loaded = checkpoint.load(folder)
    assert loaded is not None
    assert loaded["step"] == 2
    assert torch.equal(loaded["x"], torch.arange(1000))
    # A process that died between the two renames leaves the old one aside.
    folder.rename(temporary_of(folder, "old"))
    temporary_of(folder).mkdir()
    assert checkpoint.load(folder) is not None
    checkpoint.save(folder, {"step": 3, "x": torch.arange(1000)})
    part = folder / "004.part"
    part.write_bytes(part.read_bytes()[::-1])
    with pytest.raises(InputError, match=r"004\.part has changed"):
        checkpoint.load(folder)
    part.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        checkpoint.load(folder)


def test_settings() -> None:
    options = resolve("paper", ["objects=1,0,0", "rate=2e-5", "loss=full"], steps=50, minutes=3)
    assert options == replace(
        TrainOptions(), objects=(1.0, 0.0, 0.0), rate=2e-5, loss="full", steps=50, minutes=3,
        warmup=5, cooldown=16,
    )  # fmt: skip
    for bad in ("rate", "rate=x", "speed=1", "size=100", "length=2", "loss=none", "objects=0,0"):
        with pytest.raises(UsageError):
            resolve("tiny", [bad])
    with pytest.raises(UsageError):
        resolve("best", [])
    paper = RECIPES["paper"]
    assert paper.rate_at(0) < paper.rate_at(paper.warmup) == paper.rate == 1e-4
    assert paper.rate_at(paper.steps - 1) < 0.01 * paper.rate
    assert paper.skip_at(0) == 1
    assert paper.skip_at(paper.steps) == paper.max_skip


def test_the_documentation_has_every_setting_of_both_recipes() -> None:
    def text(value: object) -> str:
        if isinstance(value, tuple):
            return ",".join(map(str, value))
        return f"{value:g}" if isinstance(value, float) else str(value)

    lines = (ROOT / "docs" / "notes" / "training.md").read_text()
    for name in (field.name for field in fields(TrainOptions)):
        values = [text(getattr(RECIPES[recipe], name)) for recipe in ("paper", "tiny")]
        assert f"| `{name}` | {values[0]} | {values[1]} | " in lines
