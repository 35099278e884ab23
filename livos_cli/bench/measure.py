"""One run: frames through a tracker, with what they took."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch

from livos_cli.bench.frames import Scene, write_clip
from livos_cli.bench.settings import BACKENDS, MARKS, Measured, Setting
from livos_cli.bench.softmax import softmax_memory
from livos_cli.bench.stages import TimedGraphs, TimedLiVOS, TimedSoftmax, timed
from livos_cli.device import (
    device_name,
    give_back_memory,
    held_memory,
    memory_errors,
    memory_to_use,
    peak_memory,
    resolve_device,
    resolve_precision,
)
from livos_cli.errors import LivosError, ShortMemoryError
from livos_cli.network import PRESETS, LiVOS
from livos_cli.network.budget import working_memory
from livos_cli.network.inference import to_device
from livos_cli.network.strips import STRIDE
from livos_cli.runtimes.engines import ENGINES, precision_for
from livos_cli.runtimes.export import export
from livos_cli.tracker.tracker import Tracker

__all__ = ["estimate", "measure", "trace"]

WARM_UP = 2  # frames after the first that are not counted
STAGE_FRAMES = 3  # frames whose stages are timed
SAMPLES = 200  # frames noted at most, for plots
CLIP_FRAMES = 50  # of the video file, at most
UNLIMITED = 1 << 60


def estimate(setting: Setting) -> tuple[int, int]:
    """Bytes that a run needs, the program's own not counted, and bytes that there are."""
    device = resolve_device(setting.device)
    dtype = torch.float32
    if setting.mode in ("livos", "softmax"):
        dtype = resolve_precision(setting.precision, device)
    config = PRESETS[setting.network]
    # Not on the meta device, which would load 150 MB of PyTorch that a run does not need.
    weights = sum(p.numel() for p in LiVOS(config).parameters()) * dtype.itemsize
    height, width = -(-setting.height // STRIDE), -(-setting.width // STRIDE)
    frame = (config, height, width, setting.objects, dtype.itemsize)
    available = memory_to_use(device)
    need = weights + working_memory(*frame)
    if setting.mode == "livos":
        limit = available + weights if setting.budget is None else setting.budget
        # Strips make it fit, down to the lowest.
        need = max(min(need, limit), weights + working_memory(*frame, rows=4))
    elif setting.mode == "softmax":
        need += softmax_memory(
            config, height * width, setting.objects, setting.frames + 1, setting.every, 4
        )
    return need, available + weights


def measure(setting: Setting) -> Measured:
    """Run a setting in this process; peaks are those of the process."""
    need, available = estimate(setting)
    result = Measured(setting, estimate=need)
    if need > available:
        result.problem = (
            f"does not fit: needs about {need / 2**30:.1f} GiB of {available / 2**30:.1f}"
        )
        return result
    if setting.threads:
        torch.set_num_threads(setting.threads)
    try:
        with memory_errors(resolve_device(setting.device), ""):
            _measure(setting, result)
    except ShortMemoryError:
        result.problem = "out of memory"
    except LivosError as error:
        result.problem = error.message
    return result


def _build(setting: Setting) -> TimedLiVOS | TimedGraphs:
    torch.manual_seed(0)
    config = PRESETS[setting.network]
    device = resolve_device(setting.device)
    if setting.mode in BACKENDS:
        return _graphs(setting)
    if setting.mode == "reference":  # channels first, nothing folded
        return TimedLiVOS(config).eval().requires_grad_(False).to(device)
    softmax = setting.mode == "softmax"
    model = TimedSoftmax(config, setting.every) if softmax else TimedLiVOS(config)
    to_device(model, device, resolve_precision(setting.precision, device))
    return model


def _graphs(setting: Setting) -> TimedGraphs:
    """A network that another program computes; making its graphs takes half a minute."""
    precision = precision_for(setting.mode, setting.precision)
    model = TimedGraphs(PRESETS[setting.network])
    to_device(model, torch.device("cpu"), torch.float32)
    with tempfile.TemporaryDirectory(prefix="livos-bench-") as folder:
        export(model, Path(folder), "onnx")
        engine = ENGINES[setting.mode](Path(folder), precision, torch.get_num_threads())
    model.attach(engine, f"{precision}, {setting.mode}")
    return model


def _tracker(model: LiVOS, setting: Setting) -> Tracker:
    budget = setting.budget if setting.mode == "livos" else UNLIMITED
    graphs = None if setting.graphs and setting.mode == "livos" else False
    return Tracker(model, max_size=-1, memory_budget=budget, graphs=graphs)


def _measure(setting: Setting, result: Measured) -> None:
    model = _build(setting)
    device = model.device
    result.dtype, result.device = model.precision, device_name(device)
    scene = Scene(setting.height, setting.width, setting.objects)
    give_back_memory(device)  # of the copies on the way to the network
    tracker = _tracker(model, setting)
    result.before = held_memory(device)
    times: list[float] = []
    every = max(1, setting.frames // SAMPLES)
    for index in range(setting.frames + 1):
        frame = np.ascontiguousarray(scene.frame(index))  # as a decoder gives it
        started = time.perf_counter()
        tracker.step_ids(frame, scene.mask if index == 0 else None)
        seconds = time.perf_counter() - started  # the result is on the CPU: all has been done
        held = held_memory(device)
        if index > min(WARM_UP, setting.frames - 1):
            times.append(seconds)
        if index < 2:
            result.first_frames += seconds
        if index in MARKS or index == setting.frames:
            result.at[index] = held
        if index and index % every == 0:
            result.samples.append((index, seconds, held))
    result.model_fps = 1 / median(times)
    # The system's own note of the peak lags behind by some pages.
    result.peak = max(peak_memory(device) or 0, *result.at.values())
    if device.type == "cuda":
        result.reserved = torch.cuda.max_memory_reserved(device)
    result.rows = tracker.strip_rows
    del tracker
    if setting.frames >= STAGE_FRAMES:  # fewer are for peaks alone, of frames that take minutes
        # Without graphs, whose parts cannot be told apart; after the peaks have been noted.
        result.stages = _stages(model, _tracker(model, replace(setting, graphs=False)), scene)
    if (
        setting.files
        and setting.frames >= STAGE_FRAMES
        and setting.mode in ("livos", *BACKENDS)
        and importlib.util.find_spec("av")
    ):
        _files(setting, model, scene, result)


def _stages(model: TimedLiVOS | TimedGraphs, tracker: Tracker, scene: Scene) -> dict[str, float]:
    """Milliseconds a frame of what the network does, by stage; each is waited for."""
    parts: dict[str, list[float]] = {}
    with timed(model) as clock:
        for index in range(STAGE_FRAMES + 1):
            frame = np.ascontiguousarray(scene.frame(index))
            clock.start()
            tracker.step_ids(frame, scene.mask if index == 0 else None)
            for name, spent in clock.spent.items() if index else ():
                parts.setdefault(name, []).append(spent)
    return {name: median(spent) for name, spent in parts.items()}


def _files(
    setting: Setting, model: TimedLiVOS | TimedGraphs, scene: Scene, result: Measured
) -> None:
    """From an H.264 file to an FFV1 file, as `livos segment` does it."""
    from livos_cli.options import RunOptions, SegmentOptions
    from livos_cli.pipeline.report import Observer, Progress
    from livos_cli.pipeline.run import run
    from livos_cli.video.reader import open_source

    with tempfile.TemporaryDirectory(prefix="livos-bench-") as folder:
        video, mask = Path(folder) / "clip.mp4", Path(folder) / "first.png"
        frames = min(setting.frames, CLIP_FRAMES)
        write_clip(scene, frames, video, mask)
        with open_source(video) as source:
            started = time.perf_counter()
            count = sum(1 for _ in source)
            result.stages["decode"] = 1e3 * (time.perf_counter() - started) / count
        seen: list[Progress] = []
        run(
            video,
            mask,
            model,
            SegmentOptions(max_size=-1, memory_budget=setting.budget, cuda_graphs=setting.graphs),
            RunOptions(output=Path(folder) / "out.mkv"),
            observer=Observer(frame=seen.append),
        )
        # The first frames start threads, and on a GPU kernels; the last wait for the writer.
        warm = min(WARM_UP + 1, len(seen) - 1)
        if len(seen) > warm:
            spent = seen[-1].seconds - seen[warm - 1].seconds
            result.end_to_end_fps = (len(seen) - warm) / spent
        result.stages["write"] = _write_time(Path(folder), video, scene, frames)


def _write_time(folder: Path, video: Path, scene: Scene, frames: int) -> float:
    """Milliseconds a frame to encode and store masks alone."""
    from livos_cli.outputs.formats import KINDS, FrameResult, Job
    from livos_cli.video.reader import open_source

    with open_source(video) as source:
        sink = KINDS["mask"].open(folder / "alone.mkv", Job(source.info, (1,)))
        spent = 0.0
        ids = np.ascontiguousarray(scene.mask[: source.info.height, : source.info.width])
        for frame in source:
            started = time.perf_counter()
            sink.write(frame, FrameResult(ids))
            spent += time.perf_counter() - started
        sink.abort()
    return 1e3 * spent / frames


def trace(setting: Setting, path: Path, frames: int = 3) -> None:
    """Write a trace of some frames, for chrome://tracing or ui.perfetto.dev."""
    from torch.profiler import ProfilerActivity, profile

    model = _build(setting)
    tracker = _tracker(model, setting)
    scene = Scene(setting.height, setting.width, setting.objects)
    for index in range(WARM_UP + 1):
        tracker.step_ids(scene.frame(index), scene.mask if index == 0 else None)
    kinds = [ProfilerActivity.CPU]
    if model.device.type == "cuda":
        kinds.append(ProfilerActivity.CUDA)
    with profile(activities=kinds) as profiler:
        for index in range(frames):
            tracker.step_ids(scene.frame(WARM_UP + 1 + index))
    profiler.export_chrome_trace(str(path))
