"""Training: clips, losses, and runs that stop, go on, are killed, and share their work."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import EXAMPLES, ROOT, reference_weights
from media import decode
from safetensors.torch import load_file
from sequences import write_sequence

from livos_cli.errors import InputError, LivosError, UsageError
from livos_cli.files.atomic import temporary_of
from livos_cli.masks.palette import encode_index_png
from livos_cli.network import BASE, TINY, LiVOS
from livos_cli.training import checkpoint
from livos_cli.training.clips import Batches, ClipSource, batches
from livos_cli.training.loop import train
from livos_cli.training.loss import low_resolution_loss, mask_loss, uncertain_points
from livos_cli.training.options import RECIPES, TrainOptions, resolve
from livos_cli.training.procedural import render
from livos_cli.training.sources import Budget, SourceSpec, load_stills
from livos_cli.weights.load import load_checked, load_model

SMALL = ["clips=1", "length=3", "unroll=2", "size=64", "save_every=2", "precision=fp32"]
OPTIONS = resolve("tiny", SMALL, steps=4)
GIB = 1 << 30


def source_of(*texts: str, memory: int = GIB, height: int = 400) -> ClipSource:
    return ClipSource([SourceSpec.parse(text) for text in texts], memory=memory, height=height)


@pytest.fixture(scope="module")
def generated() -> ClipSource:
    """A source without files."""
    return source_of("procedural")


def fresh() -> LiVOS:
    torch.manual_seed(0)
    return LiVOS(TINY)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def log_of(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


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
def test_ten_steps_stop_and_ten_more_are_twenty_to_the_bit(
    generated: ClipSource, tmp_path: Path
) -> None:
    """The stop is asked for during the tenth step; the paper's losses, all of them."""
    options = replace(OPTIONS, steps=20, loss="points", points=512, sensory_weight=0.01)
    whole = train(fresh(), generated, tmp_path / "whole", options)

    done: list[int] = []
    first = train(
        fresh(), generated, tmp_path / "parts", options,
        on_step=lambda stepped: done.append(stepped.step), stop=lambda: len(done) == 10,
    )  # fmt: skip
    assert (first.step, first.interrupted) == (10, True)
    second = train(fresh(), generated, tmp_path / "parts", options)
    assert (second.step, second.interrupted) == (20, False)
    states = [checkpoint.load(tmp_path / name / "checkpoint") for name in ("whole", "parts")]
    assert states[0] is not None
    assert states[1] is not None
    assert same(states[0]["module"], states[1]["module"])
    assert same(states[0]["average"], states[1]["average"])
    moments = [s["optimiser"]["state"] for s in states]
    assert all(same(moments[0][i], moments[1][i]) for i in moments[0])
    assert same(load_file(whole.weights), load_file(second.weights))
    losses = [[row["loss"] for row in log_of(tmp_path / name)] for name in ("whole", "parts")]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 20


ARGUMENTS = ["--data", "procedural", "--recipe", "tiny", "--set", "length=3", "--set", "unroll=1",
             "--set", "size=64", "--set", "precision=fp32", "--device", "cpu"]  # fmt: skip


@pytest.mark.slow
def test_killed_runs_go_on_from_their_checkpoint(tmp_path: Path, livos: Any) -> None:
    arguments = ["train", *ARGUMENTS, "--steps", 8, "--set", "clips=1", "--set", "save_every=2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert livos(*arguments, "-o", whole).returncode == 0
    command = [sys.executable, "-m", "livos_cli", *map(str, arguments), "-o", str(killed)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        for _ in range(600):
            # The third step is logged, and lost with the process.
            if (killed / "log.csv").is_file() and len(log_of(killed)) >= 3:
                break
            time.sleep(0.1)
        process.kill()
    assert 3 <= len(log_of(killed)) < 8
    done = livos(*arguments, "-o", killed)
    assert done.returncode == 0, done.stderr
    assert "after step 8" in done.stderr
    assert same(load_file(killed / "weights.safetensors"), load_file(whole / "weights.safetensors"))
    assert [row["step"] for row in log_of(killed)] == [str(i) for i in range(1, 9)]
    assert (killed / "log.png").read_bytes().startswith(b"\x89PNG")
    other = livos(*arguments, "-o", killed, "--set", "rate=1e-5")
    assert other.returncode == 2
    assert "other settings (rate)" in other.stderr
    # What it wrote is what `segment` reads.
    model = load_model(whole / "weights.safetensors", device="cpu", precision="fp32")
    assert model.config == TINY


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_clips(tmp_path: Path, livos: Any) -> None:
    """DistributedDataParallel over gloo, started by torchrun."""
    arguments = [*ARGUMENTS, "--steps", "4", "--set", "loss=points", "--set", "points=512"]
    both, alone = tmp_path / "both", tmp_path / "alone"
    torchrun = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "livos_cli"]
    command = [sys.executable, "-m", *torchrun, "train", *arguments, "--set=clips=1", "-o", both]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    done = livos("train", *arguments, "--set", "clips=2", "-o", alone)
    assert done.returncode == 0, done.stderr
    losses = [[float(row["loss"]) for row in log_of(run)] for run in (both, alone)]
    assert len(losses[0]) == 4
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    models = [load_model(run / "weights.safetensors", device="cpu") for run in (both, alone)]
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert float((a - b).abs().max()) < 1e-3


@pytest.mark.slow
def test_base_is_fine_tuned(tmp_path: Path, livos: Any) -> None:
    """From a .pth of the published names, by the paper's recipe."""
    model = reference_weights(LiVOS(BASE))
    published = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    published["module.aux_computer.sensory_aux.projection.bias"] = torch.zeros(257)
    torch.save(published, tmp_path / "base.pth")
    small = ["--set=clips=1", "--set=length=3", "--set=size=64", "--device=cpu"]
    start = ["--data", "procedural", "--init", tmp_path / "base.pth", "-o", tmp_path / "run"]
    done = livos("train", *start, "--steps", 2, *small, timeout=900)
    assert done.returncode == 0, done.stderr
    assert [row["step"] for row in log_of(tmp_path / "run")] == ["1", "2"]
    assert all(np.isfinite(float(row["loss"])) for row in log_of(tmp_path / "run"))
    after, config = load_checked(tmp_path / "run" / "weights.safetensors")
    assert config == BASE
    before = model.state_dict()
    after = {name: tensor.float() for name, tensor in after.items()}
    moved = [name for name in before if not torch.equal(after[name], before[name].half().float())]
    assert "object_transformer.blocks.2.ffn.linear1.weight" in moved
    assert not any("running" in name for name in moved)  # batch norm is frozen
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    parts = list((tmp_path / "run" / "checkpoint").glob("*.part"))
    assert len(parts) > 10
    assert max(part.stat().st_size for part in parts) <= 16_000_000


@pytest.mark.slow
def test_a_few_steps_lower_the_loss(generated: ClipSource, tmp_path: Path) -> None:
    """On one clip over and over, from nothing."""

    class OneClip(ClipSource):
        def __init__(self) -> None: ...

        identity = property(lambda _: ["one clip"])  # type: ignore[assignment]

        def draw(self, rng: np.random.Generator, objects: int, *rest: int):  # type: ignore[no-untyped-def]
            return generated.draw(np.random.default_rng(objects), objects, *rest)

    options = replace(OPTIONS, steps=30, unroll=0, rate=1e-3, warmup=1, cooldown=10)
    train(fresh(), OneClip(), tmp_path, options)
    losses = [float(row["loss"]) for row in log_of(tmp_path)]
    assert len(losses) == 30
    assert np.mean(losses[-6:]) < 0.8 * np.mean(losses[:6])


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


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are forked on Linux only")
def test_a_request_to_end_reaches_all_processes_and_is_orderly(tmp_path: Path) -> None:
    """As `timeout` and batch systems do: SIGTERM to the whole group, workers included."""
    start = [sys.executable, "-m", "livos_cli", "train", *ARGUMENTS, "--steps=500"]
    process = subprocess.Popen(
        [*start, "--set=clips=1", "--workers=2", "-o", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for _ in range(600):
        if (tmp_path / "log.csv").is_file() and log_of(tmp_path):
            break
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "interrupted after step" in errors
    assert "removed" not in errors
    saved = checkpoint.load(tmp_path / "checkpoint")
    assert saved is not None
    assert saved["step"] == len(log_of(tmp_path))


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

    lines = (ROOT / "docs" / "training.md").read_text()
    for name in (field.name for field in fields(TrainOptions)):
        values = [text(getattr(RECIPES[recipe], name)) for recipe in ("paper", "tiny")]
        assert f"| `{name}` | {values[0]} | {values[1]} | " in lines
