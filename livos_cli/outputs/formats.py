"""Results out: the table of kinds, one sink each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from livos_cli.masks.palette import is_index_png
from livos_cli.options import RunOptions
from livos_cli.outputs.mask_video import MaskVideo, ObjectVideos, PngFolder
from livos_cli.outputs.picture_video import (
    AlphaPngs,
    AlphaVideo,
    Cutout,
    MatteVideo,
    OverlayVideo,
)
from livos_cli.outputs.preview import Preview
from livos_cli.outputs.sink import FrameResult, Job, Kind, Sink, Stdout

__all__ = ["KINDS", "SINKS", "FrameResult", "Job", "Kind", "Sink", "Stdout"]


def _always(suffix: str) -> Callable[[RunOptions], str]:
    return lambda _: suffix


def _only(*suffixes: str) -> Callable[[Path], bool]:
    return lambda path: path.is_file() and path.suffix in suffixes


def _alpha_suffix(options: RunOptions) -> str:
    return {"prores": ".alpha.mov", "vp9": ".alpha.webm", "png": ".alpha/"}[options.alpha_codec]


def _alpha(path: Path | Stdout, job: Job) -> Sink:
    return (AlphaPngs if job.options.alpha_codec == "png" else AlphaVideo)(path, job)


def _matte_suffix(options: RunOptions) -> str:
    return ".matte.mov" if options.matte_codec == "prores" else ".matte.mkv"


def _contours_suffix(options: RunOptions) -> str:
    return ".contours/" if options.contours == "svg" else ".contours.jsonl"


def _labels(name: str) -> Callable[[Path | Stdout, Job], Sink]:
    """Opens a sink of a module that is imported when it is used: few runs do."""

    def open_(path: Path | Stdout, job: Job) -> Sink:
        from livos_cli.outputs import labels

        if name == "contours":
            svg = job.options.contours == "svg"
            return (labels.ContourSvgs if svg else labels.ContourLines)(path, job)
        kinds: dict[str, Callable[[Path | Stdout, Job], Sink]] = {
            "rle": labels.RleLines,
            "coco": labels.CocoFile,
            "yolo": labels.YoloFolder,
        }
        return kinds[name](path, job)

    return open_


# What --save takes.
KINDS: dict[str, Kind] = {
    # object ids, lossless (FFV1)
    "mask": Kind(_always(".mask.mkv"), MaskVideo, streams=True),
    # colours over the video, with audio (H.264)
    "overlay": Kind(
        _always(".overlay.mp4"),
        OverlayVideo,
        audio=True,
        picture=True,
    ),
    # an index PNG a frame
    "png": Kind(_always("/"), PngFolder, owns=is_index_png),
    # the picture with its objects' alpha, for editors (ProRes 4444, VP9, PNG)
    "alpha": Kind(
        _alpha_suffix,
        _alpha,
        audio=True,
        matte=True,
        picture=True,
        owns=_only(".png"),
    ),
    # the probability, grey (FFV1 of 8 or 16 bits, ProRes)
    "matte": Kind(
        _matte_suffix,
        MatteVideo,
        matte=True,
    ),
    # the objects on one colour, with audio (H.264)
    "cutout": Kind(
        _always(".cutout.mp4"),
        Cutout,
        audio=True,
        matte=True,
        picture=True,
    ),
    # a 0/255 mask video an object (FFV1)
    "objects": Kind(
        _always(".objects/"),
        ObjectVideos,
        owns=_only(".mkv"),
    ),
    # COCO run lengths, a JSON line a frame
    "rle": Kind(
        _always(".rle.jsonl"),
        _labels("rle"),
        streams=True,
    ),
    # COCO annotations with tracks
    "coco": Kind(_always(".coco.json"), _labels("coco")),
    # YOLO polygons, a text a frame
    "yolo": Kind(
        _always(".yolo/"),
        _labels("yolo"),
        owns=_only(".txt", ".yaml"),
    ),
    # outlines, an SVG a frame or JSON lines
    "contours": Kind(
        _contours_suffix,
        _labels("contours"),
        streams=True,
        owns=_only(".svg"),
    ),
}
# All that a run can write: the preview has an option of its own.
SINKS: dict[str, Kind] = {
    **KINDS,
    # one picture of the run
    "preview": Kind(lambda o: Path(o.preview or "").suffix, Preview),
}
