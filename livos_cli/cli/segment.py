"""livos segment: the main job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from livos_cli.cli.batch import BatchRequest, run_batch
from livos_cli.cli.common import (
    Device,
    Json,
    MaxSize,
    MemoryBudget,
    Overwrite,
    PrecisionOption,
    Quiet,
    Weights,
    one_of,
    say,
    short,
)
from livos_cli.cli.kinds import KIND_NAMES, asked_for, with_default
from livos_cli.cli.one_video import as_told, in_one, in_stretches
from livos_cli.cli.usage import no_mask
from livos_cli.errors import UsageError
from livos_cli.options import (
    ALPHA_CODECS,
    CONTOURS,
    DIRECTIONS,
    MATTE_CODECS,
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
    videos: Annotated[
        Optional[list[str]],
        typer.Argument(
            metavar="VIDEO...",
            help="Video, folder of images, URL, or - for stdin; or many videos and folders of "
            "them.",
            show_default=False,
        ),
    ] = None,
    mask: Annotated[
        str,
        typer.Option(
            "--mask",
            "-m",
            metavar="PATH",
            help="Mask of the first frame (or of --from); or a folder of masks named by frame "
            "number; or a folder of such folders, one an object. For many videos a folder of "
            "these, named like the videos.",
            show_default=False,
        ),
    ] = "",
    output: Annotated[
        Optional[Path],
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Folder for the results; or a file of one kind, like out.mp4 (overlay) or out.mkv "
            "(mask); - for stdout (mask, rle). "
            "[default: beside the video]",
            show_default=False,
        ),
    ] = None,
    save: Annotated[
        Optional[list[str]],
        typer.Option(
            "--save",
            metavar="KIND",
            autocompletion=one_of(*KIND_NAMES),
            help="mask, overlay, png, alpha, matte, cutout, objects, rle, coco, yolo or contours; "
            "repeatable, or with commas. [default: mask,overlay; what -o's suffix says; mask for "
            "many videos]",
            show_default=False,
        ),
    ] = None,
    weights: Weights = DEFAULT,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    max_size: MaxSize = None,
    start: Annotated[
        Optional[str],
        typer.Option(
            metavar="POS",
            help="First frame: a time (12.5 or 1:02:03.5) or a frame number (123f). "
            "All positions are given so.",
        ),
    ] = None,
    end: Annotated[
        Optional[str],
        typer.Option(
            metavar="POS", help="First frame not wanted. A whole number alone is seconds here."
        ),
    ] = None,
    from_: Annotated[
        Optional[str],
        typer.Option(
            "--from",
            metavar="POS",
            help="Frame where tracking begins, which the mask belongs to; a whole number alone is "
            "a frame number here. [default: what the mask's name says (VIDEO.00123.png), else the "
            "first that is read]",
            show_default=False,
        ),
    ] = None,
    direction: Annotated[
        str,
        typer.Option(
            metavar="WAY",
            help="From there: forward, backward or both.",
            autocompletion=one_of(*DIRECTIONS),
        ),
    ] = "forward",
    drop: Annotated[
        Optional[list[str]],
        typer.Option(
            metavar="ID@POS",
            help="End an object, like 2@1:02 or 2@123f (also 2@123): that frame is the first "
            "without it, until a mask shows it again; repeatable.",
        ),
    ] = None,
    refine: Annotated[
        bool,
        typer.Option(
            "--refine",
            help="With masks of several frames, track the frames between two of them from both: "
            "what leads up to a correction gets better too. Takes up to twice as long; if "
            "interrupted, it begins anew.",
        ),
    ] = False,
    trust_mask: Annotated[
        bool,
        typer.Option(
            "--trust-mask",
            help="Take a mask that covers nearly all of the picture, has its background in the "
            "middle, or very many colours.",
        ),
    ] = False,
    chunk_objects: Annotated[
        int, typer.Option(help="Objects computed at a time, to save memory; 0 for all.", min=0)
    ] = 0,
    memory_budget: MemoryBudget = None,
    allow_truncated: Annotated[
        bool,
        typer.Option(
            "--allow-truncated",
            help="Keep what can be decoded of a damaged or cut file.",
        ),
    ] = False,
    latency_first: Annotated[
        bool,
        typer.Option(
            "--latency-first", help="Of a live source, leave late frames out, and say how many."
        ),
    ] = False,
    size: Annotated[
        Optional[str],
        typer.Option(metavar="WxH", help="The input is raw video, pixels of this size."),
    ] = None,
    pix_fmt: Annotated[
        Optional[str],
        typer.Option(
            metavar="NAME",
            help="Of raw video, FFmpeg's name. [default: rgb24]",
            show_default=False,
        ),
    ] = None,
    fps: Annotated[
        Optional[str],
        typer.Option(
            metavar="RATE", help="Of raw video, also 30000/1001. [default: 25]", show_default=False
        ),
    ] = None,
    alpha_codec: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Of alpha: prores, vp9 or png.",
            autocompletion=one_of(*ALPHA_CODECS),
        ),
    ] = "prores",
    matte_codec: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Of matte: ffv1 (8 bits), ffv1-16 (16) or prores (10).",
            autocompletion=one_of(*MATTE_CODECS),
        ),
    ] = "ffv1",
    background: Annotated[
        str,
        typer.Option(
            metavar="COLOUR", help="Of cutout: green, blue, black, white, grey or #00ff00."
        ),
    ] = "green",
    contours: Annotated[
        str,
        typer.Option(
            metavar="FORMAT", help="Of contours: svg or json.", autocompletion=one_of(*CONTOURS)
        ),
    ] = "svg",
    opacity: Annotated[
        float, typer.Option(help="Of overlay: how much the tint covers.", min=0, max=1)
    ] = 0.5,
    outline: Annotated[
        Optional[int],
        typer.Option(
            metavar="PIXELS",
            help="Of overlay; 0 for none. [default: by the video's size]",
            min=0,
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Of overlay: write names or ids.")
    ] = False,
    palette: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Of overlay: davis, okabe-ito, bright, or ff0000,00ff00,…"
        ),
    ] = "davis",
    preview: Annotated[
        Optional[Path],
        typer.Option(
            metavar="SHEET.png", help="One picture of the run: frames, and areas over time."
        ),
    ] = None,
    checkpoint: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="How often to write what an interrupted run resumes from; 0 for never.",
            min=0,
        ),
    ] = 60.0,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Look for videos in folders in folders, too.")
    ] = False,
    listed: Annotated[
        Optional[str],
        typer.Option(
            "--list",
            metavar="FILE",
            help="More videos, a line each (or ended by a NUL each); - for stdin.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Of many videos, say what would be done.")
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Of many videos, stop at the first that fails.")
    ] = False,
    report: Annotated[
        Optional[Path],
        typer.Option(
            metavar="FILE",
            help="Of many videos, a JSON line each. [default: report.jsonl in the output folder]",
            show_default=False,
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="plain: one after the other; ray: on many devices or machines."
        ),
    ] = "plain",
    address: Annotated[
        Optional[str],
        typer.Option(
            metavar="ADDRESS",
            help="Of the Ray cluster, like auto or ray://host:10001. [default: one on this "
            "machine alone]",
            show_default=False,
        ),
    ] = None,
    gpus_per_task: Annotated[
        float,
        typer.Option(metavar="NUMBER", help="Of Ray: for each video; 0.5 for two on one.", min=0),
    ] = 1.0,
    devices: Annotated[
        Optional[str],
        typer.Option(
            metavar="NAMES",
            help="Several of this machine at once, with Ray: cuda:0,cuda:1.",
            show_default=False,
        ),
    ] = None,
    split_at_masks: Annotated[
        bool,
        typer.Option(
            "--split-at-masks",
            help="Of one long video, with Ray, track the stretches between its masks side by side; "
            "each mask must show all objects.",
        ),
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """From the mask of the first frame to that of every frame."""
    if not videos and listed is None:
        raise UsageError(
            "no video is given", "like `livos segment video.mp4 -m first.png`, or --list FILE"
        )
    if not mask:
        raise no_mask(videos or [])
    videos = videos or []
    origin = Position.parse(from_, "--from", bare="f") if from_ else Position()
    drops, drop_times = parse_drops(drop or ())
    options = SegmentOptions(
        max_size=max_size,
        chunk_objects=chunk_objects,
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

    from livos_cli.batch.discover import is_batch
    from livos_cli.masks.palette import palette_of

    palette_of(palette)
    if options.start and options.end and not options.start.before(options.end):
        raise UsageError("--end is not after --start", "the range holds no frame")
    if engine not in ("plain", "ray"):
        raise UsageError(f"unknown engine '{engine}'", "it is plain or ray")
    many = is_batch(videos, listed, recursive)
    run_options = with_default(run_options, many=many)
    named = tuple(devices.split(",")) if devices else ()
    engine = "ray" if named else engine
    if split_at_masks and many:
        raise UsageError("--split-at-masks takes one video", "leave it out for many")
    if many or (engine == "ray" and not split_at_masks):
        request = BatchRequest(
            videos, listed, recursive, mask, options, run_options, weights, device, precision,
            checkpoint, dry_run, fail_fast, report, engine, address, gpus_per_task, named, as_json,
            quiet,
        )  # fmt: skip
        if code := run_batch(request):
            raise typer.Exit(code)
        return
    if dry_run or fail_fast or report is not None:
        raise UsageError(
            "--dry-run, --fail-fast and --report are for many videos", "give a folder, or --list"
        )
    if split_at_masks:
        found = in_stretches(
            videos[0], Path(mask), options, run_options, weights, device, precision,
            (address, gpus_per_task, named), quiet=quiet,
        )  # fmt: skip
    else:
        found = in_one(
            videos[0], Path(mask), options, run_options, weights, device, precision, checkpoint,
            quiet=quiet, as_json=as_json,
        )  # fmt: skip
    if as_json:
        print(json.dumps(as_told(found, videos[0])))
    elif not quiet and str(output) != "-":
        for path in found.outputs.values():
            say(short(path))
