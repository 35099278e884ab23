"""The options of `livos segment` alone; those that other commands have too are in `common`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from livos_cli.cli.common import one_of
from livos_cli.cli.kinds import KIND_NAMES
from livos_cli.options import ALPHA_CODECS, CONTOURS, DIRECTIONS, MATTE_CODECS

Videos = Annotated[
    Optional[list[str]],
    typer.Argument(
        metavar="VIDEO...",
        help="Video, folder of images, URL, or - for stdin; or many videos and folders of them.",
        show_default=False,
    ),
]
Mask = Annotated[
    str,
    typer.Option(
        "--mask",
        "-m",
        metavar="PATH",
        help="Mask of the first frame (or of --from); or a folder of masks named by frame "
        "number; or a folder of such folders, one per object. For many videos: a folder of "
        "these, named like the videos.",
        show_default=False,
    ),
]
Output = Annotated[
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
]
Save = Annotated[
    Optional[list[str]],
    typer.Option(
        "--save",
        metavar="KIND",
        autocompletion=one_of(*KIND_NAMES),
        help="mask, overlay, png, alpha, matte, cutout, objects, rle, coco, yolo or contours; "
        "repeatable, or separated by commas. [default: mask,overlay; or what the suffix of -o "
        "says; or mask for many videos]",
        show_default=False,
    ),
]
Start = Annotated[
    Optional[str],
    typer.Option(
        metavar="POS",
        help="First frame: seconds (12 or 12.5), 1:02:03.5, or a frame number (123f).",
    ),
]
End = Annotated[
    Optional[str],
    typer.Option(metavar="POS", help="First frame that is not wanted, like --start."),
]
From = Annotated[
    Optional[str],
    typer.Option(
        "--from",
        metavar="POS",
        help="Frame that the mask belongs to, where tracking begins, like --start. [default: what "
        "the mask's name says (VIDEO.00123.png), else the first that is read]",
        show_default=False,
    ),
]
Direction = Annotated[
    str,
    typer.Option(
        metavar="WAY",
        help="Where to track from that frame: forward, backward or both.",
        autocompletion=one_of(*DIRECTIONS),
    ),
]
Drop = Annotated[
    Optional[list[str]],
    typer.Option(
        metavar="ID@POS",
        help="Stop following an object, like 2@1:02 or 2@123f: that frame is the "
        "first without it, until a mask shows it again; repeatable.",
    ),
]
Refine = Annotated[
    bool,
    typer.Option(
        "--refine",
        help="With masks of several frames: track the frames between two masks from both, so that "
        "the frames before a correction get better too. Takes up to twice as long; after an "
        "interruption it starts from the beginning.",
    ),
]
TrustMask = Annotated[
    bool,
    typer.Option(
        "--trust-mask",
        help="Accept a mask that covers nearly all of the picture, has its background in the "
        "middle, or has very many colours.",
    ),
]
CudaGraphs = Annotated[
    bool,
    typer.Option(
        "--cuda-graphs/--no-cuda-graphs",
        help="On CUDA, replay a frame's work as one graph: faster, more memory, the same masks.",
    ),
]
ChunkObjects = Annotated[
    int, typer.Option(help="Compute this many objects at a time, to save memory; 0 for all.", min=0)
]
AllowTruncated = Annotated[
    bool,
    typer.Option(
        "--allow-truncated",
        help="Keep what can be decoded of a damaged or cut file.",
    ),
]
LatencyFirst = Annotated[
    bool,
    typer.Option(
        "--latency-first", help="Live source only: skip frames that come late, and say how many."
    ),
]
Size = Annotated[
    Optional[str],
    typer.Option(metavar="WxH", help="The input is raw video with frames of this size."),
]
PixFmt = Annotated[
    Optional[str],
    typer.Option(
        metavar="NAME",
        help="Raw video only: its pixel format, as FFmpeg names it. [default: rgb24]",
        show_default=False,
    ),
]
Fps = Annotated[
    Optional[str],
    typer.Option(
        metavar="RATE",
        help="Raw video only: frames per second, like 25 or 30000/1001. [default: 25]",
        show_default=False,
    ),
]
AlphaCodec = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="For alpha: prores, vp9 or png.",
        autocompletion=one_of(*ALPHA_CODECS),
    ),
]
MatteCodec = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="For matte: ffv1 (8 bits), ffv1-16 (16) or prores (10).",
        autocompletion=one_of(*MATTE_CODECS),
    ),
]
Background = Annotated[
    str,
    typer.Option(metavar="COLOUR", help="For cutout: green, blue, black, white, grey or #00ff00."),
]
Contours = Annotated[
    str,
    typer.Option(
        metavar="FORMAT", help="For contours: svg or json.", autocompletion=one_of(*CONTOURS)
    ),
]
Opacity = Annotated[
    float, typer.Option(help="For overlay: how much the tint covers.", min=0, max=1)
]
Outline = Annotated[
    Optional[int],
    typer.Option(
        metavar="PIXELS",
        help="For overlay: width of outlines; 0 for none. [default: by the video's size]",
        min=0,
        show_default=False,
    ),
]
Labels = Annotated[
    bool, typer.Option("--labels", help="For overlay: write names or ids on objects.")
]
Palette = Annotated[
    str,
    typer.Option(metavar="NAME", help="For overlay: davis, okabe-ito, bright, or ff0000,00ff00,…"),
]
Preview = Annotated[
    Optional[Path],
    typer.Option(
        metavar="SHEET.png", help="Also write one picture of the run: frames, and areas over time."
    ),
]
Checkpoint = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        help="Time between two checkpoints, from which an interrupted run resumes; 0 for none.",
        min=0,
    ),
]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="Look for videos in subfolders too.")
]
Listed = Annotated[
    Optional[str],
    typer.Option(
        "--list",
        metavar="FILE",
        help="File with more videos, one per line (or each ended by a NUL); - for stdin.",
        show_default=False,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", "-n", help="Many videos only: say what would be done, and do nothing."
    ),
]
FailFast = Annotated[
    bool, typer.Option("--fail-fast", help="Many videos only: stop at the first that fails.")
]
Report = Annotated[
    Optional[Path],
    typer.Option(
        metavar="FILE",
        help="Many videos only: file with a JSON line per video. [default: report.jsonl in the "
        "output folder]",
        show_default=False,
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="plain: one video after the other; ray: on many devices or machines."
    ),
]
Address = Annotated[
    Optional[str],
    typer.Option(
        metavar="ADDRESS",
        help="Ray only: address of the cluster, like auto or ray://host:10001. [default: a "
        "cluster on this machine alone]",
        show_default=False,
    ),
]
GpusPerTask = Annotated[
    float,
    typer.Option(
        metavar="NUMBER", help="Ray only: GPUs per video; 0.5 for two videos on one GPU.", min=0
    ),
]
Devices = Annotated[
    Optional[str],
    typer.Option(
        metavar="NAMES",
        help="Several devices of this machine at once, like cuda:0,cuda:1; uses Ray.",
        show_default=False,
    ),
]
SplitAtMasks = Annotated[
    bool,
    typer.Option(
        "--split-at-masks",
        help="Track the stretches between the masks of one long video side by side; uses Ray. Each "
        "mask must show all objects.",
    ),
]
