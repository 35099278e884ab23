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
        "number; or a folder of such folders, one an object. For many videos a folder of "
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
        "repeatable, or with commas. [default: mask,overlay; what -o's suffix says; mask for "
        "many videos]",
        show_default=False,
    ),
]
Start = Annotated[
    Optional[str],
    typer.Option(
        metavar="POS",
        help="First frame: a time (12.5 or 1:02:03.5) or a frame number (123f). "
        "All positions are given so.",
    ),
]
End = Annotated[
    Optional[str],
    typer.Option(
        metavar="POS", help="First frame not wanted. A whole number alone is seconds here."
    ),
]
From = Annotated[
    Optional[str],
    typer.Option(
        "--from",
        metavar="POS",
        help="Frame where tracking begins, which the mask belongs to; a whole number alone is "
        "a frame number here. [default: what the mask's name says (VIDEO.00123.png), else the "
        "first that is read]",
        show_default=False,
    ),
]
Direction = Annotated[
    str,
    typer.Option(
        metavar="WAY",
        help="From there: forward, backward or both.",
        autocompletion=one_of(*DIRECTIONS),
    ),
]
Drop = Annotated[
    Optional[list[str]],
    typer.Option(
        metavar="ID@POS",
        help="End an object, like 2@1:02 or 2@123f (also 2@123): that frame is the first "
        "without it, until a mask shows it again; repeatable.",
    ),
]
Refine = Annotated[
    bool,
    typer.Option(
        "--refine",
        help="With masks of several frames, track the frames between two of them from both: "
        "what leads up to a correction gets better too. Takes up to twice as long; if "
        "interrupted, it begins anew.",
    ),
]
TrustMask = Annotated[
    bool,
    typer.Option(
        "--trust-mask",
        help="Take a mask that covers nearly all of the picture, has its background in the "
        "middle, or very many colours.",
    ),
]
ChunkObjects = Annotated[
    int, typer.Option(help="Objects computed at a time, to save memory; 0 for all.", min=0)
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
        "--latency-first", help="Of a live source, leave late frames out, and say how many."
    ),
]
Size = Annotated[
    Optional[str],
    typer.Option(metavar="WxH", help="The input is raw video, pixels of this size."),
]
PixFmt = Annotated[
    Optional[str],
    typer.Option(
        metavar="NAME",
        help="Of raw video, FFmpeg's name. [default: rgb24]",
        show_default=False,
    ),
]
Fps = Annotated[
    Optional[str],
    typer.Option(
        metavar="RATE", help="Of raw video, also 30000/1001. [default: 25]", show_default=False
    ),
]
AlphaCodec = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Of alpha: prores, vp9 or png.",
        autocompletion=one_of(*ALPHA_CODECS),
    ),
]
MatteCodec = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Of matte: ffv1 (8 bits), ffv1-16 (16) or prores (10).",
        autocompletion=one_of(*MATTE_CODECS),
    ),
]
Background = Annotated[
    str,
    typer.Option(metavar="COLOUR", help="Of cutout: green, blue, black, white, grey or #00ff00."),
]
Contours = Annotated[
    str,
    typer.Option(
        metavar="FORMAT", help="Of contours: svg or json.", autocompletion=one_of(*CONTOURS)
    ),
]
Opacity = Annotated[float, typer.Option(help="Of overlay: how much the tint covers.", min=0, max=1)]
Outline = Annotated[
    Optional[int],
    typer.Option(
        metavar="PIXELS",
        help="Of overlay; 0 for none. [default: by the video's size]",
        min=0,
        show_default=False,
    ),
]
Labels = Annotated[bool, typer.Option("--labels", help="Of overlay: write names or ids.")]
Palette = Annotated[
    str,
    typer.Option(metavar="NAME", help="Of overlay: davis, okabe-ito, bright, or ff0000,00ff00,…"),
]
Preview = Annotated[
    Optional[Path],
    typer.Option(metavar="SHEET.png", help="One picture of the run: frames, and areas over time."),
]
Checkpoint = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        help="How often to write what an interrupted run resumes from; 0 for never.",
        min=0,
    ),
]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="Look for videos in folders in folders, too.")
]
Listed = Annotated[
    Optional[str],
    typer.Option(
        "--list",
        metavar="FILE",
        help="More videos, a line each (or ended by a NUL each); - for stdin.",
        show_default=False,
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", "-n", help="Of many videos, say what would be done.")
]
FailFast = Annotated[
    bool, typer.Option("--fail-fast", help="Of many videos, stop at the first that fails.")
]
Report = Annotated[
    Optional[Path],
    typer.Option(
        metavar="FILE",
        help="Of many videos, a JSON line each. [default: report.jsonl in the output folder]",
        show_default=False,
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="plain: one after the other; ray: on many devices or machines."
    ),
]
Address = Annotated[
    Optional[str],
    typer.Option(
        metavar="ADDRESS",
        help="Of the Ray cluster, like auto or ray://host:10001. [default: one on this "
        "machine alone]",
        show_default=False,
    ),
]
GpusPerTask = Annotated[
    float,
    typer.Option(metavar="NUMBER", help="Of Ray: for each video; 0.5 for two on one.", min=0),
]
Devices = Annotated[
    Optional[str],
    typer.Option(
        metavar="NAMES",
        help="Several of this machine at once, with Ray: cuda:0,cuda:1.",
        show_default=False,
    ),
]
SplitAtMasks = Annotated[
    bool,
    typer.Option(
        "--split-at-masks",
        help="Of one long video, with Ray, track the stretches between its masks side by side; "
        "each mask must show all objects.",
    ),
]
