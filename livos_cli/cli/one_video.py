"""One video, whole or in stretches: run, show how it goes, say what is doubtful."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from livos_cli.cli.corrections import correction
from livos_cli.cli.progress import Display
from livos_cli.cli.signals import Stop
from livos_cli.errors import InterruptionError, UsageError
from livos_cli.options import Checkpointing, RunOptions, SegmentOptions
from livos_cli.redact import redact

if TYPE_CHECKING:
    from livos_cli.pipeline.report import Report

__all__ = ["as_told", "in_one", "in_stretches"]


def in_one(
    video: str,
    mask: Path,
    options: SegmentOptions,
    run_options: RunOptions,
    weights: str,
    device: str,
    precision: str,
    checkpoint: float,
    *,
    as_json: bool,
    quiet: bool,
) -> Report:
    """Segment a video from its first frame to its last, or what is asked for of it."""
    # What can be known to fail is found before torch and the weights are loaded.
    from livos_cli.masks.names import check_mask_exists
    from livos_cli.outputs.paths import plan_outputs
    from livos_cli.pipeline.positions import settle
    from livos_cli.video.container import check_exists

    check_exists(video)
    check_mask_exists(mask)
    streamed = str(run_options.output) == "-"
    if streamed and as_json:
        raise UsageError("-o - and --json both write to stdout", "leave one of them")
    plan_outputs(video, mask, run_options)
    options, said = settle(options, mask, video)

    from livos_cli.pipeline.report import Begin, Observer
    from livos_cli.pipeline.run import run
    from livos_cli.weights.load import load_located
    from livos_cli.weights.locate import sha256_of
    from livos_cli.weights.terms import terms_of

    model, path = load_located(weights, device=device, precision=precision)
    display = Display(
        quiet=quiet, weights=weights, precision=str(model.dtype).split(".")[1],
        terms=terms_of(weights, path),
    )  # fmt: skip
    with Stop(quiet=quiet) as stop, display:

        def begin(begun: Begin) -> None:
            stop.armed = begun.resumed is not None
            display.warn(*said)
            display.begin(begun, options)

        try:
            report = run(
                video,
                mask,
                model,
                options,
                run_options,
                keep=Checkpointing(sha256_of(path), checkpoint, stop=stop) if checkpoint else None,
                # Here, not below: where a kind is lost, the others are there, with their doubts.
                observer=Observer(begin, display.frame, display.finish),
            )
        except InterruptionError as error:
            error.exit_code = stop.exit_code
            raise
    if options.raw is None:  # which `livos mask` does not read
        for line in correction(video, mask, report):
            display.note(line)
    return report


def in_stretches(
    video: str,
    mask: Path,
    options: SegmentOptions,
    run_options: RunOptions,
    weights: str,
    device: str,
    precision: str,
    place: tuple[str | None, float, tuple[str, ...]],
    *,
    quiet: bool,
) -> Report:
    """Segment a video in stretches between its masks, side by side, with Ray."""
    from livos_cli.batch.ray_cluster import Cluster, stretches_on_ray
    from livos_cli.batch.split import plan_stretches, remove, results_of
    from livos_cli.masks.names import check_mask_exists
    from livos_cli.pipeline.report import Observer
    from livos_cli.pipeline.run import is_repeatable, run
    from livos_cli.video.container import check_exists
    from livos_cli.weights.load import load_located
    from livos_cli.weights.locate import sha256_of
    from livos_cli.weights.terms import terms_of

    check_exists(video)
    if not is_repeatable(video):
        raise UsageError(f"--split-at-masks: {video} cannot be read twice", "save it first")
    check_mask_exists(mask)
    address, gpus_per_task, devices = place
    # On the CPU: here the results are only written.
    model, path = load_located(weights, device="cpu", precision="fp32")
    stretches, warnings = plan_stretches(
        Path(video), mask, options, run_options, f"{sha256_of(path)} {device} {precision}"
    )
    terms = terms_of(weights, path)
    display = Display(quiet=quiet, weights=weights, precision=precision, terms=terms)
    for warning in warnings:
        display.warn(warning)
    cluster = Cluster(address, weights, device, precision, gpus_per_task, devices)
    todo = [stretch for stretch in stretches if not stretch.results.exists()]
    done = len(stretches) - len(todo)
    with Stop(quiet=quiet) as stop, display:
        stop.armed = True
        try:
            for _ in stretches_on_ray(todo, cluster, stop=stop):
                done += 1
                display.note(f"{done} of {len(stretches)} stretches are tracked")
        except InterruptionError as error:
            error.exit_code = stop.exit_code
            raise
        stop.armed = False
        report = run(
            video,
            mask,
            model,
            options,
            run_options,
            past=results_of(stretches),
            observer=Observer(display.begin, display.frame, display.finish),
        )
    remove(stretches)
    for line in correction(video, mask, report):
        display.note(line)
    return report


def as_told(report: Report, video: str) -> dict[str, object]:
    """A report for --json."""
    height, width = report.size
    network_height, network_width = report.network_size
    return {
        "video": redact(video),
        "frames": report.frames,
        "seconds": round(report.seconds, 3),
        "objects": list(report.ids),
        "object_names": {str(i): name for i, name in report.names.items()},
        "size": [width, height],
        "network_size": [network_width, network_height],
        "peak_memory": report.peak_memory,
        "outputs": {kind: str(path) for kind, path in report.outputs.items()},
        "warnings": list(report.warnings),
        "doubts": [asdict(doubt) for doubt in report.doubts],
    }
