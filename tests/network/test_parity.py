"""The network computes what the authors' network computes (reference data of the authors' runs)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import reference_weights

from livos_cli.network import BASE, SMALL, LiVOS
from livos_cli.network.inference import to_device
from livos_cli.tracker.tracker import Tracker
from livos_cli.weights.load import load_model

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
RUNS = {
    "one_object": "base",
    "three_objects_padded": "base",
    "object_added_midway": "base",
    "small_model": "small",
}


@pytest.fixture(scope="module")
def models(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, LiVOS]:
    """`base` by way of a .pth of the published names, training-only tensors included."""
    names = json.loads((shared / "parity" / "state_dict.json").read_text())["tensors"]["base"]
    state = reference_weights(LiVOS(BASE)).state_dict()
    published = {
        name: state[name] if name in state else torch.zeros(*shape) for name, shape in names.items()
    }
    assert {k: list(v.shape) for k, v in published.items()} == names
    path = tmp_path_factory.mktemp("weights") / "base.pth"
    torch.save(published, path)
    return {
        "base": load_model(path, device=DEVICE, precision="fp32"),
        "small": to_device(reference_weights(LiVOS(SMALL)), torch.device(DEVICE), torch.float32),
    }


def relative(got: torch.Tensor, want: np.ndarray) -> float:
    return float((got.cpu() - torch.from_numpy(want)).norm() / np.linalg.norm(want))


@pytest.mark.parametrize("run", RUNS)
def test_probabilities_and_final_state(run: str, shared: Path, models: dict[str, LiVOS]) -> None:
    data = np.load(shared / "parity" / f"{run}.npz")
    tracker = Tracker(models[RUNS[run]], max_size=-1)
    for t, frame in enumerate(data["frames"]):
        mask = data[f"mask.{t}"] if f"mask.{t}" in data.files else None
        got = tracker.step(frame, mask).cpu()
        if t == 0:
            assert tracker.object_ids == data["ids.0"].tolist()
            continue
        want = torch.from_numpy(data[f"prob.{t}"])
        assert got.shape == want.shape
        assert float((got - want).abs().mean()) < 5e-5
        assert float((got.argmax(0) == want.argmax(0)).float().mean()) >= 0.9995
    state = tracker.state_dict()
    assert relative(state["memory.state"], data["final.state"]) < 1e-4
    assert relative(state["memory.key_sum"][:, 0], data["final.key_sum"]) < 1e-4
    assert relative(state["memory.objects"], data["final.object_memory"]) < 1e-4
    assert relative(state["memory.sensory"], data["final.sensory"]) < 1e-2


def test_intermediate_results(shared: Path, models: dict[str, LiVOS]) -> None:
    data = np.load(shared / "parity" / "one_object.npz")
    model = models["base"]
    calls: dict[str, int] = {}
    checked = []
    frame_index = 0

    def hook(name: str) -> object:
        def compare(_module: object, _args: object, output: object) -> None:
            outputs = output if isinstance(output, tuple) else (output,)
            calls[name] = calls.get(name, 0) + 1
            for i, got in enumerate(outputs):
                key = f"frame{frame_index}.{name}.{i}"
                if key in data.files:
                    assert isinstance(got, torch.Tensor)
                    if name == "gate_projector":  # gives means of rows, for strips of them
                        got = got.mean(dim=(2, 3))
                    limit = 1e-5 if name == "image_encoder" else 2e-3
                    assert relative(got, data[key]) < limit, key
                    checked.append(key)

        return compare

    def handles() -> Iterator[object]:
        for name, module in model.named_children():
            yield module.register_forward_hook(hook(name))

    registered = list(handles())
    try:
        tracker = Tracker(model, max_size=-1, graphs=False)  # in a graph nothing can be looked at
        for frame_index in range(3):
            tracker.step(data["frames"][frame_index], data["mask.0"] if not frame_index else None)
    finally:
        for handle in registered:
            handle.remove()
    assert sorted(checked) == sorted(k for k in data.files if k.startswith("frame") and "." in k)


def test_parameter_counts(shared: Path) -> None:
    counts = json.loads((shared / "parity" / "state_dict.json").read_text())["parameters"]
    training_only = 257 * 256 + 257  # the auxiliary projection, which no inference uses
    for name, config in {"base": BASE, "small": SMALL}.items():
        own = sum(p.numel() for p in LiVOS(config).parameters())
        assert own + training_only == counts[name]
