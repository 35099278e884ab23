"""livos bench, run as a command; the softmax matching it compares with, by its formula."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from livos_cli.bench.frames import Scene
from livos_cli.bench.measure import estimate
from livos_cli.bench.settings import STAGES, Setting, parse_size
from livos_cli.bench.softmax import SoftmaxMatching
from livos_cli.bench.stages import TimedLiVOS, timed
from livos_cli.errors import UsageError
from livos_cli.network import BASE, TINY
from livos_cli.tracker.tracker import Tracker


@pytest.mark.slow
def test_every_mode_is_measured(tmp_path: Path, livos: Any) -> None:
    done = livos(
        *("bench", "--size", "64,96x96", "--objects", "2", "--frames", "12", "--json"),
        *("--compare", "softmax", "--compare", "reference", "--plot", tmp_path / "b.png"),
    )
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert last.endswith("b.png")
    assert (tmp_path / "b.png").read_bytes()[1:4] == b"PNG"
    results = [json.loads(line) for line in lines]
    assert [(r["setting"]["height"], r["setting"]["mode"]) for r in results] == [
        (height, mode) for height in (64, 96) for mode in ("livos", "softmax", "reference")
    ]
    for result in results:
        assert result["problem"] == ""
        assert result["model_fps"] > 0
        assert set(result["at"]) == {"10", "12"}
        assert result["peak"] >= result["at"]["12"] > result["before"] > 0
        assert len(result["samples"]) == 12
        full = result["setting"]["mode"] == "livos"
        assert set(result["stages"]) == set(STAGES if full else STAGES[1:-1])
        assert (result["end_to_end_fps"] is not None) == full


def test_a_clock_times_every_stage_and_leaves_the_network_as_it_was() -> None:
    model = TimedLiVOS(TINY).eval()
    scene = Scene(64, 64, 1)
    tracker = Tracker(model, max_size=-1)
    tracker.step_ids(scene.frame(0), scene.mask)
    with timed(model) as clock:
        tracker.step_ids(scene.frame(1))
        spent = clock.spent
        clock.start()
        assert clock.spent == {}
    assert set(spent) <= set(STAGES)
    assert len(spent) == 5
    assert all(0 < milliseconds < 60_000 for milliseconds in spent.values())
    tracker.step_ids(scene.frame(2))
    assert clock.spent == {}
    assert model.clock is None
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.slow
def test_the_table_fits_a_terminal(livos: Any) -> None:
    done = livos("bench", "--size", "64", "--frames", "3", "--no-files", env={"COLUMNS": "80"})
    assert done.returncode == 0, done.stderr
    assert "livos lite" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.slow
def test_what_does_not_fit_is_said_before(livos: Any) -> None:
    need, available = estimate(Setting("base", 8192, 16384, 255, 2, "fp32", "cpu"))
    assert need > available
    done = livos(
        *("bench", "--network", "base", "--size", "16384x8192", "--objects", "255", "--json"),
        *("--frames", "2", "--precision", "fp32", "--device", "cpu"),
        timeout=60,
    )
    assert done.returncode == 1
    assert "does not fit" in json.loads(done.stdout)["problem"]


def test_a_trace_is_written(tmp_path: Path, livos: Any) -> None:
    path = tmp_path / "trace.json"
    done = livos("bench", "--size", "64", "--profile", path)
    assert done.returncode == 0, done.stderr
    names = {event.get("name") for event in json.loads(path.read_text())["traceEvents"]}
    assert "aten::mkldnn_convolution" in names or "aten::convolution" in names
    again = livos("bench", "--size", "64", "--profile", path)
    assert again.returncode == 1
    assert "-y" in again.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--network", "huge"],
        ["--size", "big"],
        ["--size", "8"],
        ["--objects", "0"],
        ["--frames", ""],
        ["--compare", "sam"],
        ["--precision", "int8"],
        ["--device", "tpu"],
        ["--memory-budget", "lots"],
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], livos: Any) -> None:
    done = livos("bench", *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("livos: ")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_sizes() -> None:
    assert parse_size("480") == (480, 854)
    assert parse_size("2160") == (2160, 3840)
    assert parse_size("4096") == (4096, 7282)
    assert parse_size("90x160") == (160, 90)
    with pytest.raises(UsageError):
        parse_size("1080p")


@torch.inference_mode()
def test_softmax_matching_is_attention_to_every_kth_frame() -> None:
    torch.manual_seed(0)
    model = SoftmaxMatching(TINY, every=2).eval()
    scene = Scene(64, 96, 2)
    keys, values, memory = [], [], None
    for index in range(5):
        frame = torch.from_numpy(np.ascontiguousarray(scene.frame(index)))
        features = model.encode_image(frame.permute(2, 0, 1)[None])
        if memory is None:
            memory = model.add_objects(features, None, 2)
        else:
            readout, _ = model.read_memory(features, memory)
            key, value = torch.cat(keys, dim=1).double(), torch.cat(values, dim=2).double()
            affinity = (key.T @ features.key[0].flatten(1).double() / TINY.key**0.5).softmax(dim=0)
            want = torch.einsum("nvt,tp->nvp", value, affinity)
            same = readout(torch.eye(TINY.value))
            assert torch.allclose(same[0].flatten(2).double(), want, atol=1e-4)
        value = torch.randn(1, 2, TINY.value, 4, 6)
        model.update_memory(features, memory, value)
        if index % 2 == 0:
            keys.append(features.key[0].flatten(1))
            values.append(value[0].flatten(2))


def test_its_memory_grows() -> None:
    scene = Scene(64, 96, 1)
    model = SoftmaxMatching(TINY, every=1).eval()
    tracker = Tracker(model, max_size=-1)
    sizes = []
    for index in range(4):
        tracker.step_ids(scene.frame(index), scene.mask if index == 0 else None)
        assert model._keys is not None
        sizes.append(model._keys.shape[1])
    assert sizes == [24, 48, 72, 96]


def test_strips_make_a_frame_fit_that_would_not(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Setting("base", 2160, 3840, 1, 10, "fp32", "cpu", mode="reference")
    monkeypatch.setattr("livos_cli.bench.measure.memory_to_use", lambda _: 2 << 30)
    need, available = estimate(whole)
    assert need > available
    need, available = estimate(Setting("base", 2160, 3840, 1, 10, "fp32", "cpu"))
    assert need <= available
    assert BASE.queries  # the published network, not a smaller one
