"""Exported graphs compute what the network computes: at any size, over a thousand frames."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import EXAMPLES, ROOT, TINY_WEIGHTS
from media import scene

from livos_cli import Tracker
from livos_cli.network import LiVOS
from livos_cli.runtimes.engines import ENGINES
from livos_cli.runtimes.export import export
from livos_cli.runtimes.steps import STEPS, examples
from livos_cli.weights.graphs import load_graphs

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnxruntime", "openvino", "onnx")),
    reason="needs livos[onnxruntime,openvino]",
)
SIZES = [(96, 160, 2, 2), (128, 96, 1, 1), (64, 64, 5, 3)]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of its own, where graphs are made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(kept))


def close(name: str, got: np.ndarray, want: torch.Tensor) -> None:
    if name == "log_odds":  # of probabilities that saturate, whose last bits they magnify
        got, want = 1 / (1 + np.exp(-got)), want.sigmoid()
    assert got.shape == tuple(want.shape), name
    error = np.abs(got - want.numpy()).max() / max(1e-6, float(want.abs().max()))
    assert error < 1e-4, (name, error)


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize(("height", "width", "objects", "groups"), SIZES)
def test_every_size_and_number_of_objects(
    tiny: LiVOS, backend: str, height: int, width: int, objects: int, groups: int
) -> None:
    model, _ = load_graphs(TINY_WEIGHTS, "fp32", backend)
    engine = model._engine
    assert engine is not None
    given = examples(tiny, height=height, width=width, objects=objects, groups=groups)
    for step, kind in STEPS:
        with torch.inference_mode():
            want = kind(tiny)(*given[step.name])
        inputs = dict(zip(step.inputs, (one.numpy() for one in given[step.name]), strict=True))
        for name, got, right in zip(step.outputs, engine.run(step.name, inputs), want, strict=True):
            close(name, got, right)


def test_a_thousand_frames(tiny: LiVOS) -> None:
    plain = Tracker(tiny, max_size=-1)
    graphs = {name: load_graphs(TINY_WEIGHTS, "fp32", name)[0] for name in ENGINES}
    others = {name: Tracker(model, max_size=-1) for name, model in graphs.items()}
    clip = scene(64, 96, 50, objects=2)
    order = [*range(50), *range(48, 0, -1)]
    worst = dict.fromkeys(others, 0.0)
    for index in range(1000):
        rgb, ids = clip[order[index % len(order)]]
        given = ids if index == 0 else None
        want = plain.step(rgb, given)
        for name, other in others.items():
            worst[name] = max(worst[name], float((want - other.step(rgb, given)).abs().mean()))
    print("mean difference of probabilities, at worst in 1,000 frames:", worst)
    assert max(worst.values()) < 1e-4


def test_pytorchs_own_format(tiny: LiVOS, tmp_path: Path) -> None:
    export(tiny, tmp_path, "torch")
    given = examples(tiny, height=128, width=96, objects=3, groups=1)
    for step, kind in STEPS:
        program = torch.export.load(tmp_path / f"{step.name}.pt2").module()
        with torch.inference_mode():
            found, want = program(*given[step.name]), kind(tiny)(*given[step.name])
        for name, got, right in zip(step.outputs, found, want, strict=True):
            close(name, got.numpy(), right)


def test_the_command_and_the_example(livos, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """What is written runs without livos, and finds the example's objects."""
    done = livos("export", "lite", tmp_path / "graphs")
    assert done.returncode == 0, done.stderr
    (said,) = done.stderr.splitlines()
    assert said.startswith("weights lite: not for commercial use (")
    about = json.loads((tmp_path / "graphs" / "livos.json").read_text())
    assert list(about["steps"]) == ["encode", "read", "write"]
    again = livos("export", "lite", tmp_path / "graphs")
    assert again.returncode != 0
    assert "exists already" in again.stderr
    paths = (tmp_path / "graphs", EXAMPLES / "clip.mp4", EXAMPLES / "first.png", tmp_path / "out")
    script = ROOT / "examples" / "run_exported.py"
    subprocess.run([sys.executable, script, *paths, "--side", "192"], check=True, timeout=300)
    assert len(list((tmp_path / "out").glob("*.png"))) == 150
