"""The kernels beside plain PyTorch: first whether they are right, then how fast they are.

    python kernels/benchmark.py [--json FILE]

Needs PyTorch and Triton, and a CUDA device for the times; on a CPU the check runs in Triton's
interpreter and nothing is timed. Bytes a second are those that an operation must move at least
(inputs once, outputs once), beside a measured copy of a large tensor.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
sys.path.insert(0, str(Path(__file__).parent))

from livos_kernels import (
    count_key,
    decide_masks,
    finish_convolution,
    gated_recurrent_update,
    reference,
    update_state,
)

SIZES = {"480p": (30, 54), "1080p": (68, 120), "2160p": (135, 240), "4096p": (256, 456)}
KEY, VALUE = 64, 256


class Case:
    """Inputs of a size, as the network lays them out on a GPU."""

    timed = False

    def __init__(self, size: tuple[int, int], device: str, dtype: torch.dtype, objects: int = 1):
        height, width = size
        generator = torch.Generator().manual_seed(0)

        def maps(channels: int, scale: float = 1.0) -> torch.Tensor:
            map_ = torch.randn(objects, channels, height, width, generator=generator) * scale
            map_ = map_.to(device, dtype).contiguous(memory_format=torch.channels_last)
            return map_.unflatten(0, (1, objects))

        self.dtype = dtype
        self.key = maps(KEY, 3.0)[:, 0].movedim(1, -1).softmax(-1).movedim(-1, 1)
        self.value, self.gates, self.sensory = maps(VALUE), maps(3 * VALUE), maps(VALUE)
        self.state = torch.randn(1, objects, KEY, VALUE, generator=generator).to(device)
        self.key_sum = self.key.float().mul(9)[:, None].contiguous()
        last = self.key_sum.movedim(2, -1).contiguous()
        self.key_sum = last.movedim(-1, 2)
        self.group = torch.zeros(objects, dtype=torch.int64, device=device)
        self.gate = torch.rand(1, VALUE, generator=generator).to(device)
        self.odds = torch.randn(1, objects + 1, height * 4, width * 4, generator=generator).to(
            device
        )

    def count(self, backend: str) -> tuple[torch.Tensor, ...]:
        return count_key(self.key, self.key_sum, backend=backend)  # type: ignore[arg-type]

    def update(self, backend: str) -> tuple[torch.Tensor, ...]:
        done = update_state(
            self.state, self.key, self.value, self.gate,
            backend=backend,  # type: ignore[arg-type]
        )  # fmt: skip
        return (done,)

    def renew(self, backend: str) -> tuple[torch.Tensor, ...]:
        return (gated_recurrent_update(self.gates, self.sensory, backend=backend),)  # type: ignore[arg-type]

    def finish(self, backend: str) -> tuple[torch.Tensor, ...]:
        """Of a copy where results are compared; what is timed works in place."""
        value = self.value.flatten(0, 1)
        done = finish_convolution(
            value if self.timed else value.clone(),
            self.gate[0],
            self.sensory.flatten(0, 1),
            "relu",
            backend=backend,  # type: ignore[arg-type]
        )
        return (done,)

    def decide(self, backend: str) -> tuple[torch.Tensor, ...]:
        return decide_masks(self.odds, dtype=self.dtype, backend=backend)  # type: ignore[arg-type]

    def floor(self) -> dict[str, int]:
        """Bytes that must be moved."""

        def count(*tensors: torch.Tensor) -> int:
            return sum(t.numel() * t.element_size() for t in tensors)

        full = self.odds.numel() // self.odds.shape[1] * 16
        objects = self.odds.shape[1] - 1
        return {
            "count_key": count(self.key, self.key_sum, self.key_sum),
            "update_state": count(self.key, self.value, self.state, self.state),
            "gated_recurrent_update": count(self.gates, self.sensory, self.sensory),
            "finish_convolution": count(self.value, self.value, self.sensory),
            "decide_masks": count(self.odds) + full * (1 + objects * self.dtype.itemsize),
        }


OPERATIONS: dict[str, Callable[[Case, str], tuple[torch.Tensor, ...]]] = {
    "count_key": Case.count,
    "update_state": Case.update,
    "gated_recurrent_update": Case.renew,
    "finish_convolution": Case.finish,
    "decide_masks": Case.decide,
}


def einsum(case: Case) -> dict[str, Callable[[], object]]:
    """As one writes it down: every temporary in memory."""

    def count() -> object:
        key = case.key.float()
        return torch.einsum("bkhw,bgkhw->bg", key, case.key_sum), case.key_sum + key[:, None]

    def update() -> object:
        added = torch.einsum("bkhw,bnvhw->bnkv", case.key.float(), case.value.float())
        return case.state * case.gate[:, None, None] + added

    def decide() -> object:
        large = F.interpolate(case.odds, scale_factor=4, mode="bilinear").softmax(dim=1)
        return large.argmax(dim=1), large[:, 1:].to(case.dtype)

    return {"count_key": count, "update_state": update, "decide_masks": decide}


def check(device: str, dtype: torch.dtype, size: tuple[int, int], objects: int) -> dict[str, float]:
    """Largest error of each operation against plain PyTorch, relative to the largest value.

    Raises:
        AssertionError: one is above what the precision allows.
    """
    case = Case(size, device, dtype, objects)
    errors = {}
    for name, run in OPERATIONS.items():
        worst = 0.0
        for got, want in zip(run(case, "triton"), run(case, "torch"), strict=True):
            if got.dtype == torch.uint8:
                error = float((got != want).float().mean())  # ties that rounding decides
            else:
                scale = want.double().abs().max()
                error = float((got.double() - want.double()).abs().max() / scale)
            worst = max(worst, error)
        assert worst < 2 * max(torch.finfo(dtype).eps, 2e-5), (name, worst)
        errors[name] = worst
    return errors


def milliseconds(run: Callable[[], object], calls: int = 20) -> float:
    """Time on the device of one of many calls, without Python and its launches.

    They are captured as one CUDA graph. What fits the device's cache stays there: of memory, sizes
    from 2160p on tell.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            run()
    times = []
    for _ in range(7):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / calls)
    return sorted(times)[len(times) // 2]


def copy_rate() -> float:
    """Bytes a second, read and written, of a copy of 1 GiB, after half a second of work.

    An idle device's clocks are low, and a slow copy would flatter what is measured beside it.
    """
    ends = time.monotonic() + 0.5
    busy = torch.randn(4096, 4096, device="cuda", dtype=torch.float16)
    while time.monotonic() < ends:
        torch.mm(busy, busy)
        torch.cuda.synchronize()
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / (milliseconds(lambda: target.copy_(source), 3) / 1e3)


def rows() -> Iterator[dict[str, Any]]:
    """Errors by type, size and objects; on a GPU then times by operation, size and objects."""
    native = torch.cuda.is_available()
    device = "cuda" if native else "cpu"
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for size in [(30, 54), (17, 23)] if native else [(5, 7)]:
            for objects in (1, 3):
                name = f"{str(dtype).split('.')[1]} {size[0]}x{size[1]} {objects}"
                yield {"name": name, "errors": check(device, dtype, size, objects)}
    if not native:
        return
    rate = copy_rate()
    yield {"name": "copy", "GB_s": rate / 1e9}
    for label, size in SIZES.items():
        for objects in (1, 3, 10):
            case = Case(size, device, torch.float16, objects)
            yield from _times(case, label, objects, rate)


def _times(case: Case, size: str, objects: int, rate: float) -> Iterator[dict[str, Any]]:
    floors, plain = case.floor(), einsum(case)
    case.timed = True
    both = "count_key + update_state"
    floors[both] = floors["count_key"] + floors["update_state"]
    operations = {**OPERATIONS, both: lambda case, form: (case.count(form), case.update(form))}
    for name, run in operations.items():
        row: dict[str, Any] = {"name": f"{name}, {size}, {objects} objects", "operation": name}
        row |= {"size": size, "objects": objects, "bytes": floors[name]}
        forms: dict[str, Callable[[], object]] = {
            form: lambda run=run, form=form: run(case, form) for form in ("triton", "torch")
        }
        if name in plain:
            forms["einsum"] = plain[name]
        for form, function in forms.items():
            row[f"{form}_ms"] = milliseconds(function)
        row["of_copy"] = floors[name] / (row["triton_ms"] / 1e3) / rate
        yield row


def main() -> None:
    """Print a line a figure."""
    parser = argparse.ArgumentParser(description="Check and time the kernels.")
    parser.add_argument("--json", type=Path, help="where to write everything")
    options = parser.parse_args()
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "Triton's interpreter"
    print(f"{where}, torch {torch.__version__}; reference: {reference.__name__}")
    found = []
    for row in rows():
        found.append(row)
        if "errors" in row:
            print(f"{row['name']:16}", *(f"{name} {e:.1e}" for name, e in row["errors"].items()))
        elif "GB_s" in row:
            print(f"copy: {row['GB_s']:.0f} GB/s")
        else:
            times = " ".join(
                f"{form} {row[f'{form}_ms']:.3f}"
                for form in ("triton", "torch", "einsum")
                if f"{form}_ms" in row
            )
            print(f"{row['name']:44} {times} ms, {row['of_copy']:.0%} of the copy")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
