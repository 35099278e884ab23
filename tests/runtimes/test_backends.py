"""Frames computed by another program than PyTorch: what is refused, and what is the same."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TINY_WEIGHTS
from media import scene

from livos_cli import Tracker, load_model
from livos_cli.batch.ray_cluster import Cluster
from livos_cli.cli.request import OnRay, SegmentRequest, Where
from livos_cli.errors import OutputError, UsageError
from livos_cli.extras import install_hint
from livos_cli.network import LiVOS
from livos_cli.options import SegmentOptions
from livos_cli.pipeline.fingerprint import of_run
from livos_cli.pipeline.propagate import make_tracker
from livos_cli.runtimes.export import check_format
from livos_cli.runtimes.model import GraphLiVOS
from livos_cli.runtimes.steps import STEPS
from livos_cli.weights.graphs import kept_graphs, load_graphs
from livos_cli.weights.registry import REGISTRY

WEIGHTS = TINY_WEIGHTS
needs_runtime = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None, reason="needs livos[onnxruntime]"
)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"backend": "tensorrt"}, "unknown backend 'tensorrt'"),
        ({"backend": "onnxruntime", "device": "cuda"}, "onnxruntime computes on the CPU"),
        ({"backend": "torch", "precision": "int8"}, "PyTorch does not compute in int8"),
        ({"precision": "int8"}, "tiny.* has no int8 form; lite has"),
    ],
)
def test_what_does_not_go_together_is_said(how: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_model(TINY_WEIGHTS, **how)


@pytest.mark.parametrize(
    ("backend", "extra"), [("onnxruntime", "onnxruntime"), ("openvino", "openvino")]
)
def test_a_missing_runtime_names_its_extra(
    backend: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, backend, None)
    with pytest.raises(UsageError) as caught:
        load_graphs("lite", "int8", backend)
    assert f"the extra '{extra}'" in caught.value.message
    assert caught.value.hint == install_hint(extra)


@pytest.mark.parametrize(
    ("backend", "precision"),
    [("onnxruntime", "bf16"), ("onnxruntime", "fp16"), ("openvino", "fp16")],
)
def test_a_precision_that_it_has_not_is_said_before_any_work(
    backend: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, backend, ModuleType(backend))  # installed or not
    monkeypatch.setattr("livos_cli.weights.graphs.export", None)
    with pytest.raises(UsageError, match=f"computes in fp32.*, not {precision}"):
        load_model(TINY_WEIGHTS, backend=backend, precision=precision)


@pytest.mark.parametrize(("form", "extra"), [("onnx", "export"), ("openvino", "openvino")])
def test_missing_packages_are_said_before_any_work(
    form: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livos_cli.runtimes.export.find_spec", lambda _: None)
    with pytest.raises(UsageError) as caught:
        check_format(form)
    assert f"the extra '{extra}'" in caught.value.message
    assert caught.value.hint == install_hint(extra)
    with pytest.raises(UsageError, match="--format takes onnx, openvino, torch"):
        check_format("tflite")


class InPyTorch:
    """An engine that runs the steps as they are, and counts."""

    def __init__(self, model: LiVOS) -> None:
        self.calls: list[str] = []
        self._steps = {step.name: (step, kind(model)) for step, kind in STEPS}

    def run(self, name: str, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.calls.append(name)
        step, module = self._steps[name]
        with torch.inference_mode():
            found = module(*(torch.from_numpy(inputs[one]) for one in step.inputs))
        return [one.numpy() for one in found]


@pytest.fixture
def graphs(tiny: LiVOS) -> SimpleNamespace:
    model = GraphLiVOS(tiny.config)
    # As it is prepared for use, with its folded convolutions.
    model.__dict__["_modules"] = tiny.__dict__["_modules"]
    model.__dict__["_buffers"] = tiny.__dict__["_buffers"]
    engine = InPyTorch(tiny)
    model.attach(engine, "fp32, test")
    return SimpleNamespace(model=model, engine=engine)


def test_tracker_and_resume_know_nothing_of_it(tiny: LiVOS, graphs: SimpleNamespace) -> None:
    """New objects, corrections, a drop and a resume come through as with PyTorch."""
    clip = scene(96, 128, 8, objects=2)
    one, other = Tracker(tiny, max_size=64), Tracker(graphs.model, max_size=64)
    for t, (rgb, ids) in enumerate(clip):
        given = {0: np.where(ids == 1, 1, 0), 3: np.where(ids == 2, 2, 0), 5: ids}.get(t)
        if t == 6:
            fresh = Tracker(graphs.model, max_size=64)
            fresh.load_state_dict(other.state_dict())
            other = fresh
        if t == 7:
            one.drop([1])
            other.drop([1])
        assert torch.allclose(other.step(rgb, given), one.step(rgb, given), atol=1e-4)
    assert {"encode", "read", "write"} == set(graphs.engine.calls)


def test_strips_and_some_objects_at_a_time_are_left_to_pytorch(
    tiny: LiVOS, graphs: SimpleNamespace
) -> None:
    clip = scene(96, 128, 3, objects=2)
    plain, other = Tracker(tiny, chunk_objects=1), Tracker(graphs.model, chunk_objects=1)
    for t, (rgb, ids) in enumerate(clip):
        given = ids if t == 0 else None
        assert torch.equal(other.step(rgb, given), plain.step(rgb, given))
    assert set(graphs.engine.calls) == {"encode"}


def test_what_pytorch_computes_instead_is_said_once(
    graphs: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    clip = scene(96, 128, 3, objects=2)
    tracker = Tracker(graphs.model, chunk_objects=1)
    for t, (rgb, ids) in enumerate(clip):
        tracker.step(rgb, ids if t == 0 else None)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["fp32, test has no graph for this: PyTorch computes it, in float32"]


def test_a_memory_budget_is_pytorchs_alone(graphs: SimpleNamespace) -> None:
    for options in (SegmentOptions(memory_budget=1 << 30), SegmentOptions(chunk_objects=1)):
        with pytest.raises(UsageError, match="bound what PyTorch takes"):
            make_tracker(graphs.model, options)


def test_tasks_of_other_runtimes_need_no_gpu() -> None:
    def cluster(**where: str) -> Cluster:
        asked = SimpleNamespace(
            where=Where(
                "lite", where.pop("device", "auto"), where.pop("precision", "auto"), **where
            ),
            ray=OnRay(engine="ray"),
        )
        return SegmentRequest.cluster(asked)  # type: ignore[arg-type]

    assert cluster(precision="int8").device == "cpu"
    assert cluster(backend="openvino").device == "cpu"
    assert cluster().device == "auto"
    with pytest.raises(UsageError, match="computes on the CPU"):
        cluster(precision="int8", device="cuda")


def graphs_in(folder: Path) -> None:
    for name in ("encode.onnx", "read.onnx", "write.onnx", "livos.json"):
        (folder / name).write_bytes(b"{}")


def test_graphs_that_cannot_be_kept_are_said(
    graphs: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "livos").mkdir()
    (tmp_path / "livos" / "graphs").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("livos_cli.weights.graphs.check_format", lambda _: None)
    with pytest.raises(OutputError, match="graphs cannot be kept in"):
        kept_graphs(graphs.model, WEIGHTS)


def test_a_broken_folder_of_graphs_is_made_anew(
    graphs: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a killed run or a broken disk left: no description, a folder of parts."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("livos_cli.weights.graphs.check_format", lambda _: None)
    monkeypatch.setattr("livos_cli.weights.graphs.export", lambda _, folder, __: graphs_in(folder))
    folder = kept_graphs(graphs.model, WEIGHTS)
    (folder / "livos.json").unlink()
    (folder / "encode.onnx").write_bytes(b"half")
    old = folder.parent / ".making-old"
    old.mkdir()
    os.utime(old, (0, 0))
    assert kept_graphs(graphs.model, WEIGHTS) == folder
    assert (folder / "encode.onnx").read_bytes() == b"{}"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@needs_runtime
@pytest.mark.slow
def test_nothing_is_sent_to_anybody(tmp_path: Path) -> None:
    """ONNX Runtime's telemetry notes what it will send in the user's cache."""
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    code = "from livos_cli import load_model; load_model('lite', precision='int8')"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)
    assert not [path for path in tmp_path.rglob("*") if "icrosoft" in path.name]


def test_what_computes_is_part_of_a_run(graphs: SimpleNamespace, tiny: LiVOS) -> None:
    """A run that PyTorch began is not resumed by another program."""
    assert tiny.precision == "float32"
    assert graphs.model.precision == "fp32, test"
    digests = {
        of_run("i", SegmentOptions(), "w", matte=False, exact=model.precision)
        for model in (tiny, graphs.model)
    }
    assert len(digests) == 2


@needs_runtime
@pytest.mark.slow
def test_int8_decides_nearly_as_float32() -> None:
    """On generated frames; on real ones: docs/notes/performance.md."""
    clip = scene(192, 256, 10, objects=2)
    trackers = [Tracker(load_model("lite", device="cpu", precision=p)) for p in ("fp32", "int8")]
    same = []
    for t, (rgb, ids) in enumerate(clip):
        decided = [tracker.step_ids(rgb, ids if t == 0 else None) for tracker in trackers]
        same.append(float((decided[0] == decided[1]).mean()))
    assert trackers[1].model.precision == "int8, onnxruntime"
    assert min(same) > 0.97, same
    assert min(same[1:]) < 1, "int8 that is float32"


def test_without_an_engine_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """While graphs are made, PyTorch computes: nobody is to be told that there are none."""
    model = GraphLiVOS(load_model(TINY_WEIGHTS, device="cpu").config).eval()
    with torch.no_grad():
        model.encode_image(torch.zeros(1, 3, 32, 32))
    assert not caplog.records


@needs_runtime
def test_int8_features_are_near_those_of_float32() -> None:
    """Masks may hide it: with features 0.7 off, J&F was what it is in float32."""
    rgb = torch.from_numpy(scene(128, 192, 1, objects=2, seed=5)[0][0]).permute(2, 0, 1)[None]
    want, got = (
        load_model("lite", device="cpu", precision=precision).encode_image(rgb)
        for precision in ("fp32", "int8")
    )
    for name in ("skip8", "skip4", "pixel", "key", "gate"):
        one, two = getattr(want, name), getattr(got, name)
        assert (one - two).norm() < 0.4 * one.norm(), name


def test_int8_weights_overflow_on_no_processor() -> None:
    """Without VNNI two products of a byte and a weight are added in sixteen bits."""
    onnx = pytest.importorskip("onnx", reason="needs livos[export]")
    folder = REGISTRY["lite"].int8
    assert folder is not None
    for step, _ in STEPS:
        found = [
            onnx.numpy_helper.to_array(tensor)
            for tensor in onnx.load(folder / f"{step.name}.onnx").graph.initializer
            if tensor.name.endswith(".weight_quantized")
        ]
        assert len(found) > 5
        assert all(weight.dtype == np.int8 and abs(weight).max() <= 64 for weight in found)
