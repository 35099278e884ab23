"""What `gpu_check.sh` runs: all that wants a GPU, a part at a time, each in a process of its own.

The JSON is written anew after every part, so whatever kills the script leaves what was finished. A
part that takes too long is stopped, and what it had measured stays.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
GIB = 2**30
Row = dict[str, Any]

MINUTES = 9.5  # for everything, unless --minutes says otherwise
WANTED = {
    "triton": "the kernels",
    "av": "from file to file",
    "cv2": "from file to file",
    "safetensors": "trained weights",
    "pytest": "the tests",
    "livos": "from file to file (`pip install --no-deps -e .` in the checkout)",
}
SIZES = {"480p": (480, 854), "1080p": (1080, 1920), "2160p": (2160, 3840), "4096p": (4096, 7282)}
FRAMES = {"480p": 120, "1080p": 60, "2160p": 24, "4096p": 10}
TESTS = (
    "tests/kernels/test_kernels.py",
    "tests/network/test_parity.py",
    "tests/tracker/test_precision.py",
    "tests/slow/test_half_precision.py",
)


def kernels(dry: bool) -> Iterator[Row]:
    """Largest errors against plain PyTorch, then times and shares of a copy."""
    del dry
    import benchmark  # beside this file

    yield from benchmark.rows()


def same_as_eager(dry: bool) -> Iterator[Row]:
    """Graphs and strips against the plain step: share of pixels decided alike.

    With trained weights: random ones decide by a hair everywhere, and rounding decides for them.
    """
    import livos_cli
    from livos_cli.bench.frames import Scene
    from livos_cli.network.budget import working_memory
    from livos_cli.tracker.tracker import Tracker

    size = (160, 240) if dry else (1080, 1920)
    for name in ("lite", "lite-open"):
        model = livos_cli.load_model(name, device=_device(dry), precision=_half(dry))
        weights = sum(p.numel() * p.itemsize for p in model.parameters())
        cells = (-(-size[0] // 16), -(-size[1] // 16))
        least = working_memory(model.config, *cells, 2, model.dtype.itemsize, rows=8)
        scene = Scene(*size, 2)
        forms = {
            "eager": Tracker(model, max_size=-1, graphs=False),
            "again": Tracker(model, max_size=-1, graphs=False),
            "graphs": Tracker(model, max_size=-1, graphs=True),
            "strips": Tracker(model, max_size=-1, memory_budget=weights + least),
        }
        shares: dict[str, list[float]] = {form: [] for form in forms}
        for index in range(4 if dry else 12):
            mask = scene.mask if index in (0, 3) else None
            decided = {form: t.step_ids(scene.frame(index), mask) for form, t in forms.items()}
            for form, ids in decided.items():
                shares[form].append(float((ids == decided["eager"]).mean()))
        yield {"name": name, **{form: min(values) for form, values in shares.items()}}


def agreement(dry: bool) -> Iterator[Row]:
    """Share of pixels decided as float32 does, with built-in weights on generated frames."""
    import livos_cli
    from livos_cli.bench.frames import Scene

    scene = Scene(*((96, 160) if dry else SIZES["480p"]), 3)
    for precision in ("bf16",) if dry else ("fp16", "bf16"):
        one, other = (
            livos_cli.Tracker(livos_cli.load_model("lite", device=_device(dry), precision=name))
            for name in ("fp32", precision)
        )
        shares = []
        for index in range(4 if dry else 20):
            given = scene.mask if index == 0 else None
            ids = one.step_ids(scene.frame(index), given)
            shares.append(float((ids == other.step_ids(scene.frame(index), given)).mean()))
        yield {"name": precision, "share": sum(shares) / len(shares)}


def speed(network: str, size: str) -> Callable[[bool], Iterator[Row]]:
    """Frames a second and memory, by objects, with CUDA graphs and without."""

    def run(dry: bool) -> Iterator[Row]:
        for objects in (2,) if dry else (1, 3, 10):
            for graphs in (True, False):
                yield _bench(dry, network, size, objects=objects, graphs=graphs)

    return run


def reference(dry: bool) -> Iterator[Row]:
    """Plain PyTorch, float32 without TF32."""
    yield _bench(dry, "base", "480p", mode="reference", precision="fp32", files=False, frames=30)


def budgets(dry: bool) -> Iterator[Row]:
    """Large frames in little memory, in strips."""
    for size, limit in (("2160p", 1.4), ("4096p", 2.2)):
        budget = 200 << 20 if dry else int(limit * GIB)
        yield _bench(dry, "base", size, budget=budget, files=False, frames=12)


def segments(dry: bool) -> Iterator[Row]:
    """Many objects, whose maps of many sizes leave holes, with an allocator that can fill them."""
    os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"
    size = "480p" if dry else "2160p"
    for graphs in (True, False):
        yield _bench(dry, "base", size, objects=10, graphs=graphs, files=False, frames=8)


def softmax(dry: bool) -> Iterator[Row]:
    """The memory that grows, for comparison (figures 1 and 2 of the paper)."""
    for mode in ("livos", "softmax"):
        yield _bench(dry, "base", "480p", mode=mode, files=False, frames=300)


def long(dry: bool) -> Iterator[Row]:
    """Memory at frames 10, 100, 1,000 and 10,000."""
    yield _bench(dry, "base", "480p", graphs=True, files=False, frames=10_000)


def training(dry: bool) -> Iterator[Row]:
    """Steps a second: 8 frames of 480x480, bf16."""
    network, steps, size, length = ("tiny", 2, 64, 3) if dry else ("base", 12, 480, 8)
    precision = "fp32" if dry else "bf16"
    with tempfile.TemporaryDirectory(prefix="livos-check-") as folder:
        command = [
            sys.executable, "-m", "livos_cli", "train",
            "--network", network, "--data", "procedural", "--device", _device(dry),
            "--steps", steps, "--set", f"size={size}", "--set", f"length={length}",
            "--set", f"unroll={length}", "--set", f"precision={precision}",
            "--set", "clips=1", "-o", folder,
        ]  # fmt: skip
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        lines = (Path(folder) / "log.csv").read_text().splitlines()
    columns = lines[0].split(",")
    seconds = [float(line.split(",")[columns.index("seconds")]) for line in lines[1:]]
    half = len(seconds) // 2
    spent = (seconds[-1] - seconds[half - 1]) / (len(seconds) - half)
    yield {"name": f"{network}, {length} frames of {size}x{size}", "steps_s": 1 / spent}


def tests(dry: bool) -> Iterator[Row]:
    """The tests that run on the GPU where there is one."""
    some = TESTS[:1] if dry else TESTS
    more = ["-k", "what_does_not_fit or explicit"] if dry else ["-k", "not compile"]
    command = [sys.executable, "-m", "pytest", "-q", "--maxfail=6", "--no-header", *some, *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    row = {"name": "pytest", "result": lines[-1] if lines else "nothing ran"}
    yield row if done.returncode == 0 else row | {"problem": "\n".join(lines[-40:])}


def _device(dry: bool) -> str:
    return "cpu" if dry else "cuda"


def _half(dry: bool) -> str:
    return "fp32" if dry else "fp16"


def _bench(dry: bool, network: str, size: str, **options: Any) -> Row:
    """One run of `livos bench`'s measuring."""
    from livos_cli.bench.measure import measure
    from livos_cli.bench.settings import Setting
    from livos_cli.device import forget_peak_memory, resolve_device

    height, width = SIZES[size]
    options = {
        "objects": 1,
        "frames": FRAMES[size],
        "precision": _half(dry),
        "graphs": False,
        "files": bool(find_spec("av") and find_spec("cv2")) and _version("livos") != "none",
        **options,
    }
    if dry:
        height, width = max(48, height // 40), max(64, width // 40)
        network, options["frames"], options["files"] = "tiny", 3, size == "1080p"
    forget_peak_memory(resolve_device(_device(dry)))
    found = asdict(measure(Setting(network, height, width, device=_device(dry), **options)))
    del found["samples"]
    form = ["graphs"] if options["graphs"] else []
    form += [str(options[key]) for key in ("mode", "budget") if options.get(key)]
    name = ", ".join([network, size, f"{options['objects']} objects", *form])
    return {"name": name, "size": size, **found}


# Name, seconds that it may take, and what it does; the most telling first, slow proofs last.
PARTS: dict[str, tuple[float, Callable[[bool], Iterable[Row]]]] = {
    "kernels": (60, kernels),
    "same as eager": (60, same_as_eager),
    "speed base 480p": (40, speed("base", "480p")),
    "reference": (40, reference),
    "speed base 2160p": (60, speed("base", "2160p")),
    "agreement": (40, agreement),
    "speed base 4096p": (90, speed("base", "4096p")),
    "budgets": (60, budgets),
    "expandable segments": (40, segments),
    "softmax": (40, softmax),
    "training": (60, training),
    "speed base 1080p": (40, speed("base", "1080p")),
    "speed tiny 480p": (40, speed("tiny", "480p")),
    "speed tiny 1080p": (40, speed("tiny", "1080p")),
    "speed tiny 2160p": (40, speed("tiny", "2160p")),
    "speed tiny 4096p": (60, speed("tiny", "4096p")),
    "long": (90, long),
    "tests": (240, tests),
}


def environment(dry: bool) -> Row:
    """What a figure is worth nothing without."""
    import torch

    def told(*command: str) -> str:
        try:
            return subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, check=True
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return "unknown"

    query = "--query-gpu=driver_version,clocks.max.sm,clocks.sm,clocks.mem,power.limit"
    return {
        "device": "dry run" if dry else torch.cuda.get_device_name(),
        "date": date.today().isoformat(),
        "commit": told("git", "rev-parse", "--short", "HEAD"),
        "driver, clocks": "none" if dry else told("nvidia-smi", query, "--format=csv,noheader"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": _version("triton"),
        "command": " ".join(["kernels/gpu_check.sh", *sys.argv[1:]]),
        "missing": [
            name
            for name in WANTED
            if (_version(name) == "none" if name == "livos" else find_spec(name) is None)
        ],
    }


def _version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def run_part(name: str, dry: bool, seconds: float) -> Row:
    """A part's rows, as far as it came; and what went wrong, its last 40 lines."""
    command = [sys.executable, str(Path(__file__).resolve()), "--part", name]
    command += ["--dry-run"] if dry else []
    began = time.monotonic()
    problem = ""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err)
        try:
            status = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            status, problem = 0, f"stopped after {seconds:.0f} s"
        out.seek(0)
        err.seek(0)
        rows = [json.loads(line[1:]) for line in out if line.startswith("\0") and line[-1] == "\n"]
        if status:
            problem = "".join(err.readlines()[-40:]) or f"exit status {status}"
    found: Row = {"rows": rows, "seconds": round(time.monotonic() - began, 1)}
    return found | {"problem": problem} if problem else found


def marks(parts: dict[str, Row]) -> dict[str, Row]:
    """What is asked for, what was measured, and whether it is met."""

    def of(part: str, name: str, field: str) -> float | None:
        rows = {row["name"]: row for row in parts.get(part, {}).get("rows", ())}
        return rows.get(name, {}).get(field) or None

    graphs, plain = of("speed base 480p", "base, 480p, 1 objects, graphs", "model_fps"), None
    if graphs and (slow := of("reference", "base, 480p, 1 objects, reference", "model_fps")):
        plain = graphs / slow
    at: dict[int, int] = {}
    for row in parts.get("long", {}).get("rows", ()):
        at = {int(frame): held for frame, held in row["at"].items()}
    tight = {
        key: row[key]
        for row in parts.get("budgets", {}).get("rows", ())
        for key in ("model_fps", "peak")
        if row["size"] == "4096p" and not row.get("problem")
    }
    growth = at[10_000] / at[100] if 10_000 in at else None
    shares = [
        row["of_copy"]
        for row in parts.get("kernels", {}).get("rows", ())
        if row.get("operation") == "count_key + update_state" and row["size"] in ("2160p", "4096p")
    ]
    alike = [row["graphs"] for row in parts.get("same as eager", {}).get("rows", ())]
    asked: list[tuple[str, float | None, float, bool]] = [
        ("480p base frames/s, graphs", graphs, 200, True),
        ("480p base: times plain float32", plain, 5, True),
        ("4096p base in a budget, frames/s", tight.get("model_fps"), 6, True),
        ("the same, GiB allocated", tight["peak"] / GIB if tight else None, 3, False),
        ("memory at frame 10,000 over 100", growth, 1.001, False),
        ("matching: least share of a copy", min(shares) if shares else None, 0.6, True),
        ("graphs decide as eager does", min(alike) if alike else None, 1.0, True),
        ("fp16 decides as float32 does", of("agreement", "fp16", "share"), 0.99, True),
    ]  # fmt: skip
    return {
        name: {
            "value": value,
            "limit": limit,
            "met": None if value is None else (value >= limit if least else value <= limit),
        }
        for name, value, limit, least in asked
    }


def main() -> None:
    """Measure what there is time for."""
    parser = argparse.ArgumentParser(description="Measure all that wants a GPU.")
    parser.add_argument("result", type=Path, nargs="?", default=Path("gpu_check.json"))
    parser.add_argument("--dry-run", action="store_true", help="small, on the CPU: try the script")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for everything")
    parser.add_argument("--only", help="parts, by commas")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    dry = options.dry_run
    if options.part:
        for row in PARTS[options.part][1](dry):
            print("\0" + json.dumps(row), flush=True)
        return
    if find_spec("torch") is None:
        sys.exit("gpu_check needs PyTorch: PYTHON=… names a Python that has it")
    import torch

    from livos_cli.files.atomic import write_whole

    if not dry and not torch.cuda.is_available():
        sys.exit("gpu_check needs a CUDA device: torch.cuda.is_available() is False")
    ends = time.monotonic() + options.minutes * 60
    result = {**environment(dry), "parts": {}, "marks": {}}
    for name in result["missing"]:
        print(f"{name} is not installed: without it no figures of {WANTED[name]}")
    for name in options.only.split(",") if options.only else PARTS:
        left = ends - time.monotonic()
        found: Row = {"rows": [], "problem": "no time left"}
        if left > 5:
            found = run_part(name, dry, left if dry else min(left, PARTS[name][0]))
        result["parts"][name] = found
        result["marks"] = marks(result["parts"])
        write_whole(options.result, json.dumps(result, indent=1).encode())
        print(f"{name}: {found.get('seconds', 0)} s, {len(found['rows'])} rows", flush=True)
        if "problem" in found:
            print(found["problem"], flush=True)
    if dry:
        print("a dry run: the script works, its figures mean nothing")
    for name, mark in () if dry else result["marks"].items():
        print(f"{name}: {mark['value']} (mark {mark['limit']}): {mark['met']}")
    parts = result["parts"].values()
    sys.exit(any(one.get("problem") for part in parts for one in (part, *part["rows"])))


if __name__ == "__main__":
    main()
