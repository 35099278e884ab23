"""One video, whole or in stretches: run, show how it goes, say what is doubtful."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from livos_cli.cli.next_command import correction
from livos_cli.cli.progress import Display
from livos_cli.cli.request import SegmentRequest
from livos_cli.cli.signals import Stop
from livos_cli.errors import UsageError
from livos_cli.options import Checkpointing
from livos_cli.redact import redact

if TYPE_CHECKING:
    from livos_cli.pipeline.report import Report

__all__ = ["as_told", "in_one", "in_stretches"]


def in_one(request: SegmentRequest) -> Report:
    """Segment a video from its first frame to its last, or what is asked for of it."""
    # What can be known to fail is found before torch and the weights are loaded.
    from livos_cli.masks.names import check_mask_exists
    from livos_cli.outputs.paths import plan_outputs
    from livos_cli.pipeline.positions import resolve_positions
    from livos_cli.video.container import check_exists

    video, mask, where = request.video, Path(request.mask), request.where
    check_exists(video)
    check_mask_exists(mask)
    if str(request.output.output) == "-" and request.as_json:
        raise UsageError("-o - and --json both write to stdout", "remove one of them")
    plan_outputs(video, mask, request.output)
    options, said = resolve_positions(request.options, mask, video)

    from livos_cli.pipeline.report import Begin, Observer
    from livos_cli.pipeline.run import run
    from livos_cli.weights.load import load_located
    from livos_cli.weights.locate import sha256_of
    from livos_cli.weights.terms import terms_of

    model, path = load_located(
        where.weights, device=where.device, precision=where.precision, backend=where.backend
    )
    display = Display(
        quiet=request.quiet, weights=where.weights, precision=model.precision,
        terms=terms_of(where.weights, path),
    )  # fmt: skip
    with Stop(quiet=request.quiet) as stop, display:
        keep = None
        if request.checkpoint:
            keep = Checkpointing(sha256_of(path), request.checkpoint, stop=stop)

        def begin(begun: Begin) -> None:
            stop.armed = begun.resumed is not None
            display.warn(*said)
            display.begin(begun, options)

        report = run(
            video,
            mask,
            model,
            options,
            request.output,
            keep=keep,
            # Here, not below: where a kind is lost, the others are there, with their doubts.
            observer=Observer(begin, display.frame, display.finish),
        )
    if options.raw is None:  # which `livos mask` does not read
        for line in correction(video, mask, report, where.weights):
            display.note(line)
    return report


def in_stretches(request: SegmentRequest) -> Report:
    """Segment a video in stretches between its masks, side by side, with Ray."""
    from livos_cli.batch.ray_cluster import stretches_on_ray
    from livos_cli.batch.split import plan_stretches, remove, results_of
    from livos_cli.masks.names import check_mask_exists
    from livos_cli.pipeline.report import Observer
    from livos_cli.pipeline.run import run
    from livos_cli.video.address import Address
    from livos_cli.video.container import check_exists
    from livos_cli.weights.load import load_located
    from livos_cli.weights.locate import sha256_of
    from livos_cli.weights.terms import terms_of

    video, mask, where = request.video, Path(request.mask), request.where
    check_exists(video)
    if not Address.of(video).repeatable:
        raise UsageError(
            f"--split-at-masks: {video} cannot be read twice", "save it to a file first"
        )
    check_mask_exists(mask)
    # On the CPU: here the results are only written.
    model, path = load_located(where.weights, device="cpu", precision="fp32")
    network = f"{sha256_of(path)} {where.device} {where.precision}"
    if where.backend != "auto":
        network += f" {where.backend}"
    stretches, warnings = plan_stretches(
        Path(video), mask, request.options, request.output, network
    )
    display = Display(
        quiet=request.quiet, weights=where.weights, precision=where.precision,
        terms=terms_of(where.weights, path),
    )  # fmt: skip
    display.warn(*warnings)
    todo = [stretch for stretch in stretches if not stretch.results.exists()]
    done = len(stretches) - len(todo)
    with Stop(quiet=request.quiet) as stop, display:
        stop.armed = True
        for _ in stretches_on_ray(todo, request.cluster(), stop=stop):
            done += 1
            display.note(f"{done} of {len(stretches)} stretches are tracked")
        stop.armed = False
        report = run(
            video,
            mask,
            model,
            request.options,
            request.output,
            past=results_of(stretches),
            observer=Observer(display.begin, display.frame, display.finish),
        )
    remove(stretches)
    for line in correction(video, mask, report, where.weights):
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
