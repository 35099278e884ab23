"""docs/notes/gpu.md from the newest results of gpu_check, so that its figures have one source.

python kernels/gpu_page.py > docs/notes/gpu.md
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
GIB = 2**30
Row = dict[str, Any]
SPEEDS = ("reference", "budgets", "expandable segments")  # parts beside those that say so


def table(*columns: str) -> Iterator[str]:
    """The head of one."""
    yield ""
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"


def cells(*values: object) -> str:
    """A row of one; what was not measured stays empty."""
    texts = ("" if v is None else f"{v:.3g}" if isinstance(v, float) else str(v) for v in values)
    return f"| {' | '.join(texts)} |"


def speeds(parts: dict[str, Row]) -> Iterator[str]:
    """Frames a second and memory."""
    named = [name for name in parts if name.startswith("speed") or name in SPEEDS]
    rows = [row for name in named for row in parts[name]["rows"] if not row.get("problem")]
    if not rows:
        return
    yield from ("", "## Speed and memory")
    yield from table("run", "frames/s", "file to file", "GiB allocated", "reserved", "first two, s")
    for row in rows:
        held = (row["peak"] / GIB, (row.get("reserved") or 0) / GIB or None)
        fps = (row["model_fps"], row["end_to_end_fps"])
        yield cells(row["name"], *fps, *held, row.get("first_frames"))
    for part in ("long", "softmax"):
        for row in parts.get(part, {}).get("rows", ()):
            held = ", ".join(
                f"{frame}: {bytes_ / 2**20:.0f}" for frame, bytes_ in row["at"].items()
            )
            yield from ("", f"{row['name']}: MiB held after frame {held}.")


def operations(part: Row) -> Iterator[str]:
    """The kernels' times and errors."""
    rate = next((row["GB_s"] for row in part["rows"] if row["name"] == "copy"), None)
    timed = [row for row in part["rows"] if "operation" in row]
    worst: dict[str, float] = {}
    for row in part["rows"]:
        for name, error in row.get("errors", {}).items():
            kind = f"{name}, {row['name'].split()[0]}"
            worst[kind] = max(worst.get(kind, 0.0), error)
    yield from ("", "## Kernels")
    if timed:
        yield from ("", f"Beside a copy of 1 GiB: {rate:.0f} GB/s, read and written. What fits the")
        yield "device's cache can be faster than that."
        yield from table("operation", "ms", "plain PyTorch", "as einsum", "share of the copy")
        for row in timed:
            times = (row.get(f"{form}_ms") for form in ("triton", "torch", "einsum"))
            yield cells(row["name"], *times, row["of_copy"])
    yield from ("", "Largest error against plain PyTorch, of the largest value:")
    yield from table("operation", "error")
    yield from (cells(name, f"{error:.1e}") for name, error in worst.items())


def page(result: Row) -> Iterator[str]:
    """All lines."""
    parts = result["parts"]
    yield from ("# On a GPU", "")
    yield f"One {result['device']}, {result['date']}."
    yield "Made by `kernels/gpu_page.py` from the results of `kernels/gpu_check.sh`;"
    yield "what is not here was never measured on a GPU."
    yield ""
    for name in ("command", "commit", "torch", "triton", "driver, clocks"):
        yield f"- {name}: {result[name]}"
    if result["marks"]:
        yield from table("mark", "measured", "asked for", "met")
        for name, mark in result["marks"].items():
            met = {True: "yes", False: "no", None: "not measured"}[mark["met"]]
            yield cells(name, mark["value"], mark["limit"], met)
    yield from speeds(parts)
    if "kernels" in parts:
        yield from operations(parts["kernels"])
    yield from ("", "## Checks")
    for row in parts.get("same as eager", {}).get("rows", ()):
        shares = ", ".join(f"{form} {share:.4f}" for form, share in row.items() if form != "name")
        yield from (
            "",
            f"Pixels decided as the plain step does, {row['name']}, at worst: {shares}.",
        )
    for row in parts.get("agreement", {}).get("rows", ()):
        yield from ("", f"{row['name']} decides {row['share']:.2%} of pixels as float32 does.")
    for row in parts.get("training", {}).get("rows", ()):
        yield from ("", f"Training, {row['name']}: {row['steps_s']:.2f} steps/s.")
    for row in parts.get("tests", {}).get("rows", ()):
        yield from ("", f"Tests: {row['result']}.")
        if "note" in row:
            yield row["note"]
    for name, part in parts.items():
        if part.get("problem"):
            yield from ("", f"{name}: {part['problem'].strip().splitlines()[-1]}")


def newest() -> Path:
    """The results with the latest date in their name."""
    return max(RESULTS.glob("*.json"), key=lambda path: path.stem[-10:])


if __name__ == "__main__":
    print("\n".join(page(json.loads(newest().read_text()))))
