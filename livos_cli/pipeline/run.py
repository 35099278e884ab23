"""The one loop: frames -> tracker -> sinks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from livos_cli.device import peak_memory
from livos_cli.errors import InputError, InterruptionError, LivosError, UsageError
from livos_cli.masks.reference_masks import KeyMasks
from livos_cli.memory import out_of_memory, too_little_memory
from livos_cli.network.livos import LiVOS
from livos_cli.options import Keep, Position, RunOptions, SegmentOptions
from livos_cli.outputs.formats import KINDS, Decided, Job
from livos_cli.outputs.preview import Preview
from livos_cli.outputs.writers import Writers, plan_outputs
from livos_cli.pipeline.doubts import Doubt, Watch
from livos_cli.pipeline.fingerprint import stamp_of
from livos_cli.pipeline.positions import settle
from livos_cli.pipeline.propagate import find, make_tracker
from livos_cli.pipeline.resume import (
    changed_meanwhile,
    closing_journal,
    open_journal,
    resume,
    save_progress,
)
from livos_cli.tracker.resize import working_size
from livos_cli.video.container import is_url
from livos_cli.video.reader import open_source
from livos_cli.video.source import FrameSource, SourceInfo

__all__ = ["Begin", "Progress", "Report", "Result", "open_video", "run"]


@dataclass(frozen=True)
class Result:
    """One frame's mask, from `livos_cli.segment`."""

    index: int  # of the frame in the source, from 0
    pts: int  # its timestamp in the source's time base
    time_base: Fraction  # seconds a tick
    mask: np.ndarray  # (H, W) uint8 object ids, 0 for background
    certainty: Mapping[int, float] = field(default_factory=dict)  # by id: `Tracker.certainty`


@dataclass(frozen=True)
class Begin:
    """What is known once the inputs have been opened and checked."""

    info: SourceInfo
    ids: tuple[int, ...]  # all ids in the masks
    names: dict[int, str]  # of ids that came from object folders
    network_size: tuple[int, int]  # height, width at which the network runs
    frames: int | None  # expected, if known
    back: int  # of these, how many are done twice: backward first
    resumed: int | None  # frames known from an interrupted run; None if it cannot be resumed
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Progress:
    """After each frame."""

    done: int
    back: int  # frames that the way back has done
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
    outputs: dict[str, Path]  # kind or "preview" -> path; not what went to stdout
    size: tuple[int, int]  # height, width of the video
    network_size: tuple[int, int]
    peak_memory: int | None  # bytes
    warnings: tuple[str, ...]
    begins: int = 0  # the frame that a single mask belongs to
    doubts: tuple[Doubt, ...] = ()  # where to look, by object and frame


def run(
    video: str | Path,
    mask: Path,
    model: LiVOS,
    options: SegmentOptions,
    output: RunOptions,
    *,
    stem: str | None = None,
    keep: Keep | None = None,
    past: Iterable[Decided] | None = None,
    on_begin: Callable[[Begin], None] = lambda _: None,
    on_frame: Callable[[Progress], None] = lambda _: None,
    on_published: Callable[[Report], None] = lambda _: None,
) -> Report:
    """Segment a video and write what is asked for.

    Outputs get their names once all of them are complete; on any error, or interruption, none
    does.

    Args:
        video: file, folder of images, URL, or -.
        mask: image, or folder of masks.
        model: the network.
        options: how.
        output: what is written, and where.
        stem: what outputs are called; None: like the video.
        keep: resume an interrupted run of the same inputs and settings, and leave checkpoints
            for the next. Of streams, backward, and with `refine` there are none: those begin anew.
        past: results of all frames, if they are known: nothing is kept then.
        on_begin: told once the inputs have been checked.
        on_frame: told after each frame.
        on_published: told when the outputs have their names, while checkpoints are still there.

    Raises:
        LivosError: an input that cannot be used or an output that cannot be written.
        InterruptionError: `keep.stop` said so; a checkpoint is on disk.
    """
    paths = plan_outputs(video, mask, output, stem=stem)
    kinds = [KINDS[name] for name in paths if name in KINDS]
    files = {name: path for name, path in paths.items() if isinstance(path, Path)}
    started = time.monotonic()
    with ExitStack() as stack:
        options, said = settle(options, mask, video)
        matte = any(kind.matte for kind in kinds)
        before = stamp_of(video)
        journal = None
        forward = options.direction == "forward" and not options.refine
        if keep is not None and past is None and files and is_repeatable(video) and forward:
            journal = open_journal(Path(video), mask, model, options, paths, keep, matte=matte)
            stack.push(closing_journal(journal))
        source = stack.enter_context(
            open_video(
                video,
                options,
                keep_audio=any(kind.audio for kind in kinds),
                keep_picture=any(kind.picture for kind in kinds),
            )
        )
        info = source.info
        keys = KeyMasks(mask, info.image_names)
        ids, warnings = keys.scan(info.width, info.height, trust=options.trust_mask)
        warnings = [*said, *warnings]
        _check_drops(options, ids)
        tracker = make_tracker(model, options)
        if journal is not None and journal.state is not None:
            resume(tracker, journal, info, ids)
            source.warnings += journal.past_warnings
        network_size = working_size(info.height, info.width, tracker.max_size)
        expected = _expected_frames(info, options)
        on_begin(
            Begin(
                info,
                tuple(ids),
                keys.object_names,
                network_size,
                expected,
                _expected_back(info, options, keys.frames or []),
                None if journal is None else journal.resumed,
                tuple(warnings + ([] if journal is None else journal.warnings)),
            )
        )
        device = model.device
        job = Job(info, tuple(ids), keys.object_names, output)
        writers = Writers(
            paths, lambda n, path: KINDS[n].open(path, job) if n in KINDS else Preview(path, job)
        )
        stack.callback(writers.abort)
        watch = Watch(_origin(options))
        begins = options.origin
        frames = back = 0
        last = -1
        taken = True  # by journal and sinks, all that the tracker has seen

        def tell() -> None:
            seconds, objects = time.monotonic() - started, len(tracker.object_ids)
            on_frame(Progress(frames, back, seconds, objects, peak_memory(device)))

        def go_back(done: int) -> None:
            nonlocal back
            back = done
            tell()

        try:
            found = find(
                video,
                source,
                keys,
                tracker,
                options,
                matte=matte,
                past=past or ()
                if journal is None
                else journal.past((info.height, info.width), ids, matte=matte),
                on_back=go_back,
            )
            for frame, decided in stack.enter_context(closing(found)):
                taken = False
                writers.write(frame, decided)
                begins = frame.index if begins is None else begins
                seconds = float(frame.pts * info.time_base)
                watch.see(frame.index, seconds, decided.areas, decided.certainty, decided.given)
                frames += 1
                tell()
                if journal is not None and keep is not None:
                    journal.see(frame, decided)
                    taken, last = True, frame.index
                    stop = keep.stop()
                    # Of a file that has changed meanwhile, nobody could resume.
                    if (stop or journal.due()) and stamp_of(video) == before:
                        journal.checkpoint(tracker.state_dict(), source.warnings)
                    if stop:
                        raise InterruptionError(
                            f"interrupted after frame {frame.index} of {info.name}",
                            "run the same command again to resume",
                        )
        except InputError as error:
            if stamp_of(video) != before:
                raise changed_meanwhile(video, error) from None
            if taken:
                save_progress(journal, tracker, options, keys, last, source.warnings)
            raise
        except Exception as error:
            if not out_of_memory(error):
                raise
            if taken and not options.cuda_graphs:  # whose buffers may be half-written
                save_progress(journal, tracker, options, keys, last, source.warnings)
            if isinstance(error, LivosError):  # a sink's, which says what for
                raise
            raise too_little_memory(f"on {device} at frame {frames + back}") from None
        writers.drain(source.trailing_audio)
        files = {name: path for name, path in writers.paths.items() if isinstance(path, Path)}
        if stamp_of(video) != before:
            source.warnings.append(
                f"{video} was changed, replaced or removed while it was read: the results may be "
                "of both; run it again with -y"
            )
        if journal is not None:
            journal.will_publish(writers.unnamed())
        owned = frozenset() if journal is None else journal.owned
        writers.publish(lambda path: output.overwrite or path.absolute() in owned)
        warnings += source.warnings + writers.warnings
        warnings += watch.warnings()
        report = Report(
            frames=frames,
            seconds=time.monotonic() - started,
            ids=tuple(ids),
            names=keys.object_names,
            outputs=files,
            size=(info.height, info.width),
            network_size=network_size,
            peak_memory=peak_memory(device),
            warnings=tuple(dict.fromkeys(warnings)),  # a resumed run may say some twice
            begins=begins or 0,
            doubts=watch.doubts,
        )
        on_published(report)
    writers.tell_lost()
    return report


def _origin(options: SegmentOptions) -> int:
    """The frame before which tracking goes backward."""
    if options.origin is None or options.direction == "forward":
        return 0
    return options.origin


def is_repeatable(video: str | Path) -> bool:
    """Whether the same frames come again when it is read again: a file or folder, no stream."""
    return (
        str(video) != "-" and not is_url(video) and (Path(video).is_file() or Path(video).is_dir())
    )


def open_video(
    video: str | Path,
    options: SegmentOptions,
    *,
    keep_audio: bool = False,
    keep_picture: bool = False,
) -> FrameSource:
    """The source of frames that the options ask for."""
    start, end = options.range()
    return open_source(
        video,
        start=start,
        end=end,
        keep_audio=keep_audio,
        keep_picture=keep_picture,
        allow_truncated=options.allow_truncated,
        raw=options.raw,
        latest=options.latest,
    )


def _check_drops(options: SegmentOptions, ids: list[int]) -> None:
    for drop in options.drop:
        if drop.object_id not in ids:
            raise UsageError(
                f"--drop {drop.object_id}@{drop.frame}: no mask has an object {drop.object_id}",
                f"there are {', '.join(map(str, ids))}",
            )
        origin, way = options.origin, options.direction
        if origin is not None and (
            (way == "backward" and drop.frame >= origin)
            or (way == "forward" and drop.frame < origin)
        ):
            raise UsageError(
                f"--drop {drop.object_id}@{drop.frame}: tracking goes {way} from frame {origin}",
                "it does not come by that frame",
            )


def _expected_frames(info: SourceInfo, options: SegmentOptions) -> int | None:
    """How many frames to expect, for the progress bar; an estimate."""
    if info.frames is None:
        return None
    bounds = []
    start, end = options.range()
    for position, default in ((start, 0), (end, info.frames)):
        if position is None:
            bounds.append(default)
        elif position.frame is not None:
            bounds.append(position.frame)
        else:
            bounds.append(round((position.seconds or 0.0) * float(info.rate)))
    return max(0, min(bounds[1], info.frames) - bounds[0])


def _expected_back(info: SourceInfo, options: SegmentOptions, masks: list[int]) -> int:
    """How many frames the way back has, for the progress bar; an estimate."""
    if options.refine and len(masks) > 1:
        return masks[-1] - masks[0] - 1
    if options.direction == "forward" or options.origin is None:
        return 0
    start = options.start or Position(frame=0)
    first = start.frame
    if first is None:
        first = round((start.seconds or 0.0) * float(info.rate))
    return max(0, options.origin - first)
