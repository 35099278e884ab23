"""livos segment: the main job."""

from __future__ import annotations

import json
from dataclasses import replace

import typer

from livos_cli.cli import segment_options as option
from livos_cli.cli.batch import run_batch
from livos_cli.cli.common import (
    BackendOption,
    Device,
    Json,
    MaxSize,
    MemoryBudget,
    Overwrite,
    PrecisionOption,
    Quiet,
    Weights,
    say,
    short,
)
from livos_cli.cli.kinds import asked_for, with_default
from livos_cli.cli.one_video import as_told, in_one, in_stretches
from livos_cli.cli.request import ManyVideos, OnRay, SegmentRequest, Where
from livos_cli.cli.usage import no_mask
from livos_cli.errors import UsageError
from livos_cli.options import (
    Look,
    Position,
    RawVideo,
    RunOptions,
    SegmentOptions,
    Times,
    parse_bytes,
    parse_colour,
    parse_drops,
)
from livos_cli.weights.registry import DEFAULT

EXAMPLES = """\b
Examples:
  livos segment video.mp4 -m first.png
  livos segment video.mp4 -m video.00200.png --direction both -o out
  livos segment videos/ -m masks/ -o out --save mask,png --dry-run"""


def segment(
    videos: option.Videos = None,
    mask: option.Mask = "",
    output: option.Output = None,
    save: option.Save = None,
    weights: Weights = DEFAULT,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    backend: BackendOption = "auto",
    max_size: MaxSize = None,
    start: option.Start = None,
    end: option.End = None,
    from_: option.From = None,
    direction: option.Direction = "forward",
    drop: option.Drop = None,
    refine: option.Refine = False,
    trust_mask: option.TrustMask = False,
    chunk_objects: option.ChunkObjects = 0,
    cuda_graphs: option.CudaGraphs = True,
    memory_budget: MemoryBudget = None,
    allow_truncated: option.AllowTruncated = False,
    latency_first: option.LatencyFirst = False,
    size: option.Size = None,
    pix_fmt: option.PixFmt = None,
    fps: option.Fps = None,
    alpha_codec: option.AlphaCodec = "prores",
    matte_codec: option.MatteCodec = "ffv1",
    background: option.Background = "green",
    contours: option.Contours = "svg",
    opacity: option.Opacity = 0.5,
    outline: option.Outline = None,
    labels: option.Labels = False,
    palette: option.Palette = "davis",
    preview: option.Preview = None,
    checkpoint: option.Checkpoint = 60.0,
    recursive: option.Recursive = False,
    listed: option.Listed = None,
    dry_run: option.DryRun = False,
    fail_fast: option.FailFast = False,
    report: option.Report = None,
    engine: option.Engine = "plain",
    address: option.Address = None,
    gpus_per_task: option.GpusPerTask = 1.0,
    devices: option.Devices = None,
    split_at_masks: option.SplitAtMasks = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make the mask of every frame from that of the first."""
    _check_named(videos, listed, mask)
    origin = Position.parse(from_, "--from", was_frame=True) if from_ else Position()
    drops, drop_times = parse_drops(drop or ())
    options = SegmentOptions(
        max_size=max_size,
        chunk_objects=chunk_objects,
        cuda_graphs=cuda_graphs,
        memory_budget=parse_bytes(memory_budget) if memory_budget else None,
        start=Position.parse(start, "--start") if start else None,
        end=Position.parse(end, "--end") if end else None,
        allow_truncated=allow_truncated,
        origin=origin.frame,
        direction=direction,
        drop=drops,
        refine=refine,
        raw=RawVideo.parse(size, pix_fmt, fps),
        latency_first=latency_first,
        trust_mask=trust_mask,
        times=Times(origin.seconds, drop_times),
    )
    run_options = RunOptions(
        save=asked_for(save or ()),
        output=output,
        overwrite=overwrite,
        alpha_codec=alpha_codec,
        matte_codec=matte_codec,
        background=parse_colour(background),
        contours=contours,
        look=Look(opacity=opacity, outline=outline, labels=labels, palette=palette),
        preview=preview,
    )
    request = SegmentRequest(
        videos=tuple(videos or ()),
        mask=mask,
        options=options,
        output=run_options,
        where=Where(weights, device, precision, backend),
        many=ManyVideos(
            listed=listed,
            recursive=recursive,
            dry_run=dry_run,
            fail_fast=fail_fast,
            report=report,
        ),
        ray=OnRay(
            engine=engine,
            address=address,
            gpus_per_task=gpus_per_task,
            devices=tuple(devices.split(",")) if devices else (),
            split_at_masks=split_at_masks,
        ),
        checkpoint=checkpoint,
        as_json=as_json,
        quiet=quiet,
    )
    _run(_checked(request))


def _check_named(videos: list[str] | None, listed: str | None, mask: str) -> None:
    if not videos and listed is None:
        raise UsageError(
            "no video is given", "like `livos segment video.mp4 -m first.png`, or --list FILE"
        )
    if not mask:
        raise no_mask(videos or [])


def _checked(request: SegmentRequest) -> SegmentRequest:
    """The request with all that was left open decided.

    Raises:
        UsageError: options contradict one another.
    """
    from livos_cli.batch.discover import is_batch
    from livos_cli.masks.palette import palette_of

    options, many, ray = request.options, request.many, request.ray
    palette_of(request.output.look.palette)
    if options.start and options.end and not options.start.before(options.end):
        raise UsageError("--end is not after --start", "give a later --end")
    if ray.engine not in ("plain", "ray"):
        raise UsageError(f"unknown engine '{ray.engine}'", "use plain or ray")
    several = is_batch(list(request.videos), many.listed, many.recursive)
    output = with_default(request.output, many=several)
    if ray.devices:
        ray = replace(ray, engine="ray")
    if ray.split_at_masks and several:
        raise UsageError(
            "--split-at-masks takes one video", "give one video, or remove --split-at-masks"
        )
    as_batch = several or (ray.engine == "ray" and not ray.split_at_masks)
    if not as_batch and (many.dry_run or many.fail_fast or many.report is not None):
        raise UsageError(
            "--dry-run, --fail-fast and --report are for many videos", "give a folder, or --list"
        )
    return replace(request, output=output, ray=ray, as_batch=as_batch)


def _run(request: SegmentRequest) -> None:
    """Do it, and print what came of it."""
    if request.as_batch:
        if code := run_batch(request):
            raise typer.Exit(code)
        return
    report = in_stretches(request) if request.ray.split_at_masks else in_one(request)
    if request.as_json:
        print(json.dumps(as_told(report, request.video)))
    elif not request.quiet and str(request.output.output) != "-":
        for path in report.outputs.values():
            say(short(path))
