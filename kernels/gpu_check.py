"""What `gpu_check.sh` runs: kernels, graphs, strips, speed and memory, each against its mark."""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import benchmark  # beside this file
import numpy as np
import torch

MINUTES = 7.5  # nothing is started after, unless --minutes says otherwise
TESTS = (
    "tests/kernels/test_kernels.py",
    "tests/network/test_parity.py",
    "tests/slow/test_half_precision.py",
)
GIB = 2**30


def marks(result: dict[str, Any]) -> dict[str, Any]:
    """What is asked for, what was measured, and whether it is met."""
    runs = {run["name"]: run for run in result["runs"]}
    found: dict[str, Any] = {}

    def mark(name: str, value: float | None, limit: float, *, least: bool) -> None:
        met = None if value is None else (value >= limit if least else value <= limit)
        found[name] = {"value": value, "limit": limit, "met": met}

    def of(run: str, field: str) -> float | None:
        value = runs.get(run, {}).get(field)
        return value or None

    fast, plain = of("480p graphs", "model_fps"), of("480p reference", "model_fps")
    ratio = fast / plain if fast and plain else None
    mark("480p: times the plain float32 network", ratio, 5, least=True)
    mark("480p file to file, frames/s", of("480p graphs", "end_to_end_fps"), 200, least=True)
    mark("2160p frames/s", of("2160p", "model_fps"), 25, least=True)
    mark("4096p frames/s", of("4096p", "model_fps"), 6, least=True)
    for name, limit in (("2160p in a budget", 1.5), ("4096p in a budget", 3.0)):
        peak = of(name, "peak")
        mark(f"{name}: peak GiB", peak / GIB if peak else None, limit, least=False)
    at = runs.get("480p long", {}).get("at", {})
    growth = at[10_000] / at[100] if 10_000 in at else None
    mark("480p: memory at frame 10,000 over that at 100", growth, 1.001, least=False)
    times = result["kernels"].get("times", [])
    shares = [
        row["of_copy"]
        for row in times
        if row["operation"] == "count_key + update_state" and row["size"] in ("2160p", "4096p")
    ]
    mark("matching: share of the copy", min(shares) if shares else None, 0.6, least=True)
    share = result.get("agreement")
    mark("fp16 agrees with float32", share if isinstance(share, float) else None, 0.99, least=True)
    return found


def same_as_eager(device: str, precision: str, size: tuple[int, int]) -> dict[str, float]:
    """Graphs and strips against the plain step: share of pixels decided alike.

    With trained weights: random ones decide by a hair everywhere, and rounding decides for them.
    """
    import livos_cli
    from livos_cli.bench.frames import Scene
    from livos_cli.network.budget import working_memory
    from livos_cli.tracker.tracker import Tracker

    model = livos_cli.load_model("tiny", device=device, precision=precision)
    weights = sum(p.numel() * p.itemsize for p in model.parameters())
    cells = (-(-size[0] // 16), -(-size[1] // 16))
    least = working_memory(model.config, *cells, 2, model.dtype.itemsize, rows=8)
    scene = Scene(*size, 2)
    forms = {
        "eager": Tracker(model, max_size=-1),
        "again": Tracker(model, max_size=-1),
        "graphs": Tracker(model, max_size=-1, graphs=True),
        "strips": Tracker(model, max_size=-1, memory_budget=weights + least),
    }
    shares: dict[str, list[float]] = {name: [] for name in forms}
    for index in range(12):
        decided = {
            name: tracker.step_ids(scene.frame(index), scene.mask if index in (0, 6) else None)
            for name, tracker in forms.items()
        }
        for name, ids in decided.items():
            shares[name].append(float((ids == decided["eager"]).mean()))
    return {name: min(values) for name, values in shares.items()}


def agreement(device: str, size: tuple[int, int], precision: str) -> float:
    """Share of pixels decided as float32 does, with the built-in weights on generated frames."""
    import livos_cli
    from livos_cli.bench.frames import Scene

    scene = Scene(*size, 3)
    trackers = [
        livos_cli.Tracker(livos_cli.load_model("tiny", device=device, precision=name))
        for name in ("fp32", precision)
    ]
    shares = []
    for index in range(20):
        given = scene.mask if index == 0 else None
        one, other = (tracker.step_ids(scene.frame(index), given) for tracker in trackers)
        shares.append(float((one == other).mean()))
    return float(np.mean(shares))


def tests() -> dict[str, Any]:
    """The tests that run on the GPU where there is one."""
    root = Path(__file__).parent.parent
    command = [sys.executable, "-m", "pytest", "-q", "--maxfail=6", "--no-header", *TESTS]
    done = subprocess.run(
        [*command, "-k", "not compile"],  # for other GPUs: needs none
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    lines = done.stdout.strip().splitlines()
    found: dict[str, Any] = {"result": lines[-1] if lines else "nothing ran"}
    return found if done.returncode == 0 else found | {"problem": "\n".join(lines[-40:])}


def bench(**options: Any) -> dict[str, Any]:
    """One run of `livos bench`'s measuring, in a process of its own."""
    code = (
        "import json, sys\n"
        "from dataclasses import asdict\n"
        "from livos_cli.bench.measure import measure\n"
        "from livos_cli.bench.settings import Setting\n"
        "print(json.dumps(asdict(measure(Setting(**json.loads(sys.argv[1]))))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(options)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"problem": "\n".join(lines[-40:]) or "killed"}
    found = json.loads(done.stdout.splitlines()[-1])
    found["at"] = {int(frame): held for frame, held in found["at"].items()}
    del found["samples"]
    return found


def settings(dry: bool) -> dict[str, dict[str, Any]]:
    """The runs by name; a dry one is small, and on the CPU."""
    common = {"network": "base", "objects": 1, "device": "cuda", "precision": "fp16"}
    if dry:
        common |= {"network": "tiny", "device": "cpu", "precision": "fp32"}
    part = 10 if dry else 1
    four = {**common, "height": 4096 // part, "width": 7282 // part, "files": False}
    two = {**common, "height": 2160 // part, "width": 3840 // part, "files": False}
    # File to file needs what reads and writes files.
    files = all(importlib.util.find_spec(name) for name in ("av", "cv2"))
    small = {**common, "height": 480 // part, "width": 854 // part, "files": files}
    plain = {"precision": "fp32", "mode": "reference"}
    budgets = [200 << 20, 200 << 20] if dry else [int(1.4 * GIB), int(2.8 * GIB)]
    runs: dict[str, dict[str, Any]] = {
        "480p graphs": {**small, "frames": 300, "graphs": True},
        "480p": {**small, "frames": 100},
        "480p reference": {**small, **plain, "frames": 30},
        "2160p": {**two, "frames": 40},
        "2160p graphs": {**two, "frames": 40, "graphs": True},
        "4096p": {**four, "frames": 20},
        "2160p in a budget": {**two, "frames": 20, "budget": budgets[0]},
        "4096p in a budget": {**four, "frames": 12, "budget": budgets[1]},
        "480p long": {**small, "frames": 10_000, "graphs": True, "files": False},
    }
    if dry:
        runs = {name: {**options, "frames": 3} for name, options in runs.items()}
    return runs


def main() -> None:
    """Measure what there is time for; every part that fails says why in the JSON."""
    parser = argparse.ArgumentParser(description="Measure all that wants a GPU.")
    parser.add_argument("result", type=Path, help="the JSON to write")
    parser.add_argument("--dry-run", action="store_true", help="small, on the CPU: try the script")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="nothing starts after")
    options = parser.parse_args()
    dry = options.dry_run
    if not dry and not torch.cuda.is_available():
        sys.exit("gpu_check needs a CUDA device: torch.cuda.is_available() is False")
    started = time.monotonic()
    result: dict[str, Any] = {
        "device": "dry run" if dry else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "command": " ".join(["kernels/gpu_check.sh", *sys.argv[1:]]),
        "runs": [],
    }

    def part(name: str, function: Callable[[], Any]) -> Any:
        before = time.monotonic()
        if before - started > options.minutes * 60:
            return {"problem": "no time left"}
        # What is finished is kept, whatever becomes of this part.
        options.result.write_text(json.dumps(result, indent=1))
        try:
            return function()
        except Exception:
            return {"problem": traceback.format_exc()}
        finally:
            print(f"{name}: {time.monotonic() - before:.0f} s", flush=True)

    if not dry:
        result["tests"] = part("tests", tests)
    result["kernels"] = part("kernels", benchmark.measure)
    device, precision = ("cpu", "fp32") if dry else ("cuda", "fp16")
    size = (240, 160) if dry else (1080, 1920)
    result["same_as_eager"] = part("same_as_eager", lambda: same_as_eager(device, precision, size))
    for name, setting in settings(dry).items():
        measured = part(name, lambda setting=setting: bench(**setting))
        result["runs"].append({"name": name, **measured})
    small = (96, 160) if dry else (480, 854)
    result["agreement"] = part(
        "agreement", lambda: agreement(device, small, "bf16" if dry else "fp16")
    )
    result["marks"] = marks(result)
    result["seconds"] = time.monotonic() - started
    options.result.write_text(json.dumps(result, indent=1))
    if dry:
        print("a dry run: the script works, its figures mean nothing")
    for name, found in () if dry else result["marks"].items():
        print(f"{name}: {found['value']} (mark {found['limit']}): {found['met']}")
    print(f"{options.result}: {result['seconds']:.0f} s")


if __name__ == "__main__":
    main()
