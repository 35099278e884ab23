"""Runs of training that stop, resume, are killed, and share their work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import reference_weights
from safetensors.torch import load_file
from training_runs import OPTIONS, fresh, log_of, same, source_of

from livos_cli.network import BASE, TINY, LiVOS
from livos_cli.training import checkpoint
from livos_cli.training.clips import ClipSource
from livos_cli.training.loop import train
from livos_cli.weights.load import load_checked, load_model


@pytest.fixture(scope="module")
def generated() -> ClipSource:
    """A source without files."""
    return source_of("procedural")


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
