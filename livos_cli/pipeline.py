"""The one loop: frames -> tracker -> sinks."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from livos_cli.device import out_of_memory, peak_memory
from livos_cli.errors import InputError, OutputError, UsageError
from livos_cli.framing import working_size
from livos_cli.network.model import LiVOS
from livos_cli.options import RunOptions, SegmentOptions
from livos_cli.tracker import Tracker
from livos_cli.upload import upload_ahead
from livos_cli.video.masks import KeyMasks
from livos_cli.video.palette import is_index_png
from livos_cli.video.reader import open_source
from livos_cli.video.source import Frame, FrameSource, SourceInfo
from livos_cli.video.writer import KINDS, Sink

__all__ = [
    "Begin",
    "Masks",
    "Progress",
    "Report",
    "Result",
    "SinkThread",
    "make_tracker",
    "open_video",
    "plan_outputs",
    "run",
    "track",
]

FILE_SUFFIXES = frozenset({".avi", ".mkv", ".mov", ".mp4", ".png", ".webm"})  # never of folders
SINK_QUEUE = 4  # frames waiting for a sink, at most


class Masks(Protocol):
    """The masks that are given for a video, by frame; `KeyMasks` are those that a user names."""

    @property
    def frames(self) -> list[int] | None:
        """Frame numbers that have a mask; None if one mask is for the first frame read."""

    def at(self, frame: int, *, first: bool, width: int, height: int) -> np.ndarray | None:
        """The mask of a frame, (H, W) integers at the video's size, or None."""


@dataclass(frozen=True)
class Result:
    """One frame's mask, from `livos_cli.segment`."""

    index: int  # of the frame in the source, from 0
    pts: int  # its timestamp in the source's time base
    time_base: Fraction  # seconds a tick
    mask: np.ndarray  # (H, W) uint8 object ids, 0 for background


@dataclass(frozen=True)
class Begin:
    """What is known once the inputs have been opened and checked."""

    info: SourceInfo
    ids: tuple[int, ...]  # all ids in the masks
    names: dict[int, str]  # of ids that came from object folders
    network_size: tuple[int, int]  # height, width at which the network runs
    frames: int | None  # expected, if known
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Progress:
    """After each frame."""

    done: int
    seconds: float
    objects: int
    peak_memory: int | None  # bytes


@dataclass(frozen=True)
class Report:
    """How a run ended."""

    frames: int
    seconds: float
    ids: tuple[int, ...]
    names: dict[int, str]  # of ids that came from object folders
    outputs: dict[str, Path]  # kind -> path
    size: tuple[int, int]  # height, width of the video
    network_size: tuple[int, int]
    peak_memory: int | None  # bytes
    warnings: tuple[str, ...]


def run(
    video: str | Path,
    mask: Path,
    model: LiVOS,
    options: SegmentOptions,
    output: RunOptions,
    *,
    on_begin: Callable[[Begin], None] = lambda _: None,
    on_frame: Callable[[Progress], None] = lambda _: None,
) -> Report:
    """Segment a video and write what is asked for.

    Outputs get their names once all of them are complete; on any error, or interruption, none
    does.

    Raises:
        LivosError: an input that cannot be used or an output that cannot be written.
    """
    paths = plan_outputs(video, mask, output)
    started = time.monotonic()
    keep_audio = any(KINDS[kind].needs_audio for kind in paths)
    with ExitStack() as stack:
        source = stack.enter_context(open_video(video, options, keep_audio=keep_audio))
        info = source.info
        keys = KeyMasks(mask, info.image_names)
        ids, warnings = keys.scan(info.width, info.height)
        tracker = make_tracker(model, options)
        network_size = working_size(info.height, info.width, tracker.max_size)
        expected = _expected_frames(info, options)
        on_begin(
            Begin(info, tuple(ids), keys.object_names, network_size, expected, tuple(warnings))
        )
        device = model.device
        sinks: list[SinkThread] = []
        stack.callback(_abort_all, sinks)
        for kind, path in paths.items():
            sinks.append(SinkThread(KINDS[kind].open(path, info, len(ids) == 1)))
        frames = 0
        try:
            results = stack.enter_context(closing(track(source, keys, tracker)))
            for frame, decided in results:
                for sink in sinks:
                    sink.write(frame, decided)
                frames += 1
                objects = len(tracker.object_ids)
                seconds = time.monotonic() - started
                on_frame(Progress(frames, seconds, objects, peak_memory(device)))
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise InputError(
                f"{device} has too little memory at frame {frames}",
                "use a smaller --memory-budget or --max-size, or --chunk-objects 1",
            ) from None
        for sink in sinks:
            sink.drain(source.trailing_audio)
        for sink in sinks:
            sink.publish(output.overwrite)
        warnings += source.warnings
        for sink in sinks:
            warnings += sink.warnings
    return Report(
        frames=frames,
        seconds=time.monotonic() - started,
        ids=tuple(ids),
        names=keys.object_names,
        outputs=paths,
        size=(info.height, info.width),
        network_size=network_size,
        peak_memory=peak_memory(device),
        warnings=tuple(warnings),
    )


def open_video(video: str | Path, options: SegmentOptions, *, keep_audio: bool) -> FrameSource:
    """The source of frames that the options ask for."""
    return open_source(
        video,
        start=options.start,
        end=options.end,
        keep_audio=keep_audio,
        allow_truncated=options.allow_truncated,
    )


def make_tracker(model: LiVOS, options: SegmentOptions) -> Tracker:
    """A fresh tracker with the options' sizes.

    Raises:
        UsageError: sizes that make no sense.
    """
    try:
        return Tracker(
            model,
            max_size=options.max_size,
            chunk_objects=options.chunk_objects,
            memory_budget=options.memory_budget,
            graphs=options.cuda_graphs,
        )
    except ValueError as error:
        raise UsageError(str(error), "see `livos segment --help`") from None


def track(
    source: FrameSource, keys: Masks, tracker: Tracker
) -> Generator[tuple[Frame, np.ndarray]]:
    """Each frame with its ids (H, W) uint8; key masks enter when their frame comes.

    Raises:
        InputError: none of the masks belonged to a frame.
    """
    width, height = source.info.width, source.info.height
    unused = set(keys.frames or ())
    first = True
    with closing(upload_ahead(source, tracker.model.device)) as frames:
        for frame, picture in frames:
            mask = keys.at(frame.index, first=first, width=width, height=height)
            unused.discard(frame.index)
            if first and mask is None:
                later = [n for n in keys.frames or () if n > frame.index]
                source.warnings.append(
                    f"frame {frame.index}, the first one read, has no mask: all is background "
                    f"until the mask of frame {later[0] if later else '?'}"
                )
            first = False
            yield frame, tracker.step_ids(picture, mask)
    if not tracker.object_ids:
        raise InputError(
            f"no mask belongs to a frame that was read: masks are for frames {_some(unused)}",
            "names of key masks are frame numbers from 0; check --start and --end",
        )
    if unused:
        source.warnings.append(f"no frame was read for the masks of frames {_some(unused)}")


def _some(numbers: Iterable[int]) -> str:
    ordered = sorted(numbers)
    return ", ".join(map(str, ordered[:5])) + (" …" if len(ordered) > 5 else "")


def _expected_frames(info: SourceInfo, options: SegmentOptions) -> int | None:
    """How many frames to expect, for the progress bar; an estimate."""
    if info.frames is None:
        return None
    bounds = []
    for position, default in ((options.start, 0), (options.end, info.frames)):
        if position is None:
            bounds.append(default)
        elif position.frame is not None:
            bounds.append(position.frame)
        else:
            bounds.append(round((position.seconds or 0.0) * float(info.rate)))
    return max(0, min(bounds[1], info.frames) - bounds[0])


def plan_outputs(video: str | Path, mask: Path, output: RunOptions) -> dict[str, Path]:
    """Where each kind goes; checked before any work is done.

    Raises:
        UsageError: an unknown kind, or a file name that cannot hold what is asked for.
        OutputError: a result exists already and may not be overwritten.
    """
    if unknown := [kind for kind in output.save if kind not in KINDS]:
        raise UsageError(f"unknown kind '{unknown[0]}'", f"--save takes {', '.join(KINDS)}")
    kinds = list(dict.fromkeys(output.save))
    source = None if str(video) == "-" else Path(video)
    folder = Path.cwd() if source is None else source.resolve().parent
    stem = "stdin" if source is None else source.resolve().stem
    if source is not None and source.is_dir():
        stem = source.resolve().name
    target = output.output
    if str(target) == "-":
        raise UsageError("-o - is not supported", "give a folder or a file")
    if target is not None and not target.is_dir() and target.suffix and len(kinds) == 1:
        suffix = KINDS[kinds[0]].suffix
        if suffix != "/" and target.suffix.lower() == Path(suffix).suffix:
            paths = {kinds[0]: target}
        elif target.suffix.lower() in FILE_SUFFIXES:
            raise UsageError(
                f"-o {target}: kind '{kinds[0]}' is written as <stem>{suffix}",
                "give a folder, or a file of that suffix",
            )
        else:
            paths = {kinds[0]: _place(target, stem, suffix)}
    elif (
        target is not None
        and not target.is_dir()
        and (target.exists() or target.suffix.lower() in FILE_SUFFIXES)
    ):
        raise UsageError(f"-o {target} names a file", "give a folder for several kinds")
    else:
        paths = {kind: _place(target or folder, stem, KINDS[kind].suffix) for kind in kinds}
    for kind, path in paths.items():
        for given in [mask, *([] if source is None else [source])]:
            if path.resolve() in [given.resolve(), *given.resolve().parents]:
                raise UsageError(
                    f"{path} is or holds the input itself", "choose another place with -o"
                )
        if os.path.lexists(path) and not output.overwrite:
            raise OutputError(f"{path} exists already", "use -y to overwrite it")
        _check_replaceable(path, folder=KINDS[kind].suffix == "/")
    return paths


def _check_replaceable(path: Path, *, folder: bool) -> None:
    """Raises OutputError where -y would destroy what is no earlier result of that kind."""
    if not folder and path.is_dir():
        raise OutputError(f"{path} is a folder", "choose another place with -o")
    if folder and path.is_dir():
        other = next((p.name for p in path.iterdir() if not is_index_png(p)), None)
        if other is not None:
            raise OutputError(
                f"{path} holds more than index PNGs ({other}) and will not be replaced",
                "choose another place with -o, or remove it yourself",
            )
    elif folder and path.exists():
        raise OutputError(f"{path} is a file", "choose another place with -o")


def _place(folder: Path, stem: str, suffix: str) -> Path:
    return folder / stem if suffix == "/" else folder / f"{stem}{suffix}"


def _abort_all(sinks: list[SinkThread]) -> None:
    for sink in sinks:
        sink.abort()


class SinkThread:
    """A sink in a thread of its own, behind a bounded queue; its exceptions come back here."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._queue: queue.Queue[tuple[Frame, np.ndarray] | None] = queue.Queue(SINK_QUEUE)
        self._error: BaseException | None = None
        self._published = False
        self._thread = threading.Thread(target=self._work, name="livos-sink", daemon=True)
        self._thread.start()

    @property
    def warnings(self) -> list[str]:
        return self._sink.warnings

    def _work(self) -> None:
        # After an error the queue is still emptied, so that the writer of it never blocks.
        while (item := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._sink.write(*item)
                except BaseException as error:  # raised again by the main thread
                    self._error = error

    def write(self, frame: Frame, ids: np.ndarray) -> None:
        if self._error is not None:
            raise self._error
        self._queue.put((frame, ids))

    def drain(self, trailing_audio: Iterable[Any]) -> None:
        """Wait for all frames, then flush and check the result; it still has no name."""
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error
        self._sink.finish(trailing_audio)

    def publish(self, overwrite: bool) -> None:
        self._sink.publish(overwrite)
        self._published = True

    def abort(self) -> None:
        """Leave nothing behind, unless the result has its name already."""
        if self._thread.is_alive():
            self._error = self._error or OutputError("stopped")
            self._queue.put(None)
            self._thread.join()
        if not self._published:
            self._sink.abort()
