"""Make the int8 graphs of some weights: what `--precision int8` runs.

    python examples/quantize_weights.py lite OUT CLIPS [SEQUENCE ...]

CLIPS holds NAME.mp4 and NAME.masks.mkv; sequences for calibration, which must be none of those that
anything is judged by. Each is tracked in float32 for a few frames, and what went into each graph is
what the ranges of its convolutions are taken from. Convolutions alone become int8, with a scale a
channel, weights in seven bits, and the rectifier behind one with them; matching, sums, norms, the
transformer's products and the sensory memory's gates stay float32, and so do the convolutions named
in `EXACT`. needs the extra 'onnxruntime'.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import av
import numpy as np
import onnx
import torch

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it is sent to Microsoft otherwise
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_static,
)

from livos_cli import Tracker
from livos_cli.files.atomic import write_whole
from livos_cli.runtimes.engines import OnnxRuntime
from livos_cli.runtimes.steps import STEPS
from livos_cli.weights.graphs import kept_graphs, load_graphs

FRAMES, EVERY = 9, 3  # of a sequence, and those that ranges are taken from
# Parts of the names of weights whose convolutions stay float32.
EXACT: dict[str, tuple[str, ...]] = {"encode": (), "read": (), "write": ()}

Feeds = dict[str, list[dict[str, np.ndarray]]]


class Recorder(OnnxRuntime):
    """Notes what goes into the graphs."""

    feeds: Feeds
    noting = False

    def run(self, step: str, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        if self.noting:
            self.feeds[step].append({n: np.array(inputs[n]) for n in self._names[step]})
        return super().run(step, inputs)


class Reader(CalibrationDataReader):
    """One step's feeds."""

    def __init__(self, feeds: list[dict[str, np.ndarray]]) -> None:
        self._left: Iterator[dict[str, np.ndarray]] = iter(feeds)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._left, None)


def record(weights: str, clips: Path, sequences: list[str]) -> tuple[Feeds, Path]:
    """What goes into the float32 graphs on some frames, and where those graphs are."""
    model, path = load_graphs(weights, "fp32", "onnxruntime")
    folder = kept_graphs(model, path)
    recorder = Recorder(folder, "fp32", torch.get_num_threads())
    recorder.feeds = {step.name: [] for step, _ in STEPS}
    model.attach(recorder, "fp32")
    for name in sequences:
        tracker = Tracker(model)
        with (
            av.open(str(clips / f"{name}.mp4")) as video,
            av.open(str(clips / f"{name}.masks.mkv")) as masks,
        ):
            pairs = zip(video.decode(video=0), masks.decode(video=0), strict=True)
            for index, (frame, ids) in enumerate(pairs):
                if index == FRAMES:
                    break
                recorder.noting = index % EVERY == 0
                given = ids.to_ndarray(format="gray") if index == 0 else None
                tracker.step_ids(frame.to_ndarray(format="rgb24"), given)
    return recorder.feeds, folder


def quantize(source: Path, target: Path, step: str, feeds: list[dict[str, np.ndarray]]) -> None:
    """One graph's convolutions in int8."""
    # Joins what belongs together: without it, an activation stays between int8 and float32.
    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    graph = onnx.load(prepared).graph
    exact = [
        node.name
        for node in graph.node
        if node.op_type == "Conv" and any(part in node.input[1] for part in EXACT[step])
    ]
    quantize_static(
        prepared,
        target,
        Reader(feeds),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        # Seven bits: processors without VNNI add two products in sixteen bits.
        reduce_range=True,
        # A rectifier that stays out has its input taken from int8 and its output put back.
        op_types_to_quantize=["Conv", "Clip", "Relu"],
        nodes_to_exclude=exact,
        calibrate_method=CalibrationMethod.MinMax,
    )


def main() -> None:
    """Record, quantise, write."""
    parser = argparse.ArgumentParser(description="Make the int8 graphs of some weights.")
    parser.add_argument("weights")
    parser.add_argument("out", type=Path)
    parser.add_argument("clips", type=Path)
    parser.add_argument("sequences", nargs="+")
    options = parser.parse_args()
    feeds, folder = record(options.weights, options.clips, options.sequences)
    options.out.mkdir(parents=True, exist_ok=True)
    for step, _ in STEPS:
        with tempfile.TemporaryDirectory(prefix="livos-") as there:
            made = Path(there) / f"{step.name}.onnx"
            quantize(folder / made.name, made, step.name, feeds[step.name])
            write_whole(options.out / made.name, made.read_bytes())
        print(made.name, (options.out / made.name).stat().st_size, "bytes")


if __name__ == "__main__":
    main()
