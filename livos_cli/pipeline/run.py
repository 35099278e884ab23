"""One video to files: open inputs, open outputs, the one loop, publish, report."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from livos_cli.device import peak_memory
from livos_cli.errors import InputError, InterruptionError, LivosError, UsageError
from livos_cli.masks.reference_masks import ReferenceMasks
from livos_cli.memory import out_of_memory, too_little_memory
from livos_cli.network.livos import LiVOS
from livos_cli.options import Checkpointing, Position, RunOptions, SegmentOptions
from livos_cli.outputs.formats import SINKS, FrameResult, Job, Kind, Stdout
from livos_cli.outputs.paths import plan_outputs
from livos_cli.outputs.writers import Writers
from livos_cli.pipeline.checkpoint import Checkpoint
from livos_cli.pipeline.doubts import Watch
from livos_cli.pipeline.fingerprint import stamp_of
from livos_cli.pipeline.positions import resolve_positions
from livos_cli.pipeline.propagate import Propagation, make_tracker
from livos_cli.pipeline.report import Begin, Observer, Progress, Report
from livos_cli.pipeline.resume import (
    changed_meanwhile,
    closing_checkpoint,
    open_checkpoint,
    resume,
    save_progress,
)
from livos_cli.tracker.resize import working_size
from livos_cli.video.address import Address
from livos_cli.video.reader import open_source
from livos_cli.video.source import Frame, FrameSource, SourceInfo

__all__ = ["open_video", "run"]


def run(
    video: str | Path,
    mask: Path,
    model: LiVOS,
    options: SegmentOptions,
    output: RunOptions,
    *,
    stem: str | None = None,
    keep: Checkpointing | None = None,
    past: Iterable[FrameResult] | None = None,
    observer: Observer | None = None,
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
        observer: told how it goes.

    Raises:
        LivosError: an input that cannot be used or an output that cannot be written.
        InterruptionError: `keep.stop` said so; a checkpoint is on disk.
    """
    started = time.monotonic()
    observer = observer or Observer()
    paths = plan_outputs(video, mask, output, stem=stem)
    with ExitStack() as stack:
        options, said = resolve_positions(options, mask, video)
        kinds = [SINKS[name] for name in paths]
        inputs = _Inputs(video, mask, model, options, said, kinds, stamp_of(video))
        keep = keep if past is None else None
        checkpoint = _checkpoint_of(inputs, paths, keep, stack)
        inputs.open(stack)
        if checkpoint is not None:
            inputs.resume(checkpoint)
        observer.begin(inputs.begin(checkpoint))
        job = Job(inputs.info, tuple(inputs.ids), inputs.masks.object_names, output)
        writers = Writers(paths, lambda name, path: SINKS[name].open(path, job))
        stack.callback(writers.abort)
        loop = _Loop(inputs, writers, checkpoint, keep, observer, started)
        loop.run(past)
        writers.drain(inputs.source.trailing_audio)
        inputs.say_if_changed()
        if checkpoint is not None:
            checkpoint.will_publish(writers.unnamed())
        owned = frozenset() if checkpoint is None else checkpoint.owned
        writers.publish(lambda path: output.overwrite or path.absolute() in owned)
        report = loop.report()
        observer.published(report)
    writers.tell_lost()
    return report


@dataclass
class _Inputs:
    """A video, its masks, and the tracker that will see both."""

    video: str | Path
    mask: Path
    model: LiVOS
    options: SegmentOptions
    warnings: list[str]
    kinds: list[Kind]  # that will be written
    stamp: str  # of the video, before anything was read

    @property
    def matte(self) -> bool:
        """Whether probabilities are wanted, not decisions alone."""
        return any(kind.matte for kind in self.kinds)

    def open(self, stack: ExitStack) -> None:
        """Open the video, read the masks, check that they go together."""
        self.source: FrameSource = stack.enter_context(
            open_video(
                self.video,
                self.options,
                keep_audio=any(kind.audio for kind in self.kinds),
                keep_picture=any(kind.picture for kind in self.kinds),
            )
        )
        self.info = self.source.info
        width, height = self.info.width, self.info.height
        self.masks = ReferenceMasks(self.mask, self.info.image_names)
        self.ids, warnings = self.masks.scan(width, height, trust=self.options.trust_mask)
        self.warnings = [*self.warnings, *warnings]
        _check_drops(self.options, self.ids)
        self.tracker = make_tracker(self.model, self.options)
        self.size = (height, width)
        self.network_size = working_size(height, width, self.tracker.max_size)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Bring the tracker to where a checkpoint was taken, if there is one."""
        if checkpoint.state is not None:
            resume(self.tracker, checkpoint, self.info, self.ids)
            self.source.warnings += checkpoint.past_warnings

    def begin(self, checkpoint: Checkpoint | None) -> Begin:
        return Begin(
            info=self.info,
            ids=tuple(self.ids),
            names=self.masks.object_names,
            network_size=self.network_size,
            frames=_expected_frames(self.info, self.options),
            back=_expected_back(self.info, self.options, self.masks.frames or []),
            resumed=None if checkpoint is None else checkpoint.resumed,
            warnings=(*self.warnings, *([] if checkpoint is None else checkpoint.warnings)),
        )

    @property
    def changed(self) -> bool:
        """Whether the video is not any more what it was before it was read."""
        return stamp_of(self.video) != self.stamp

    def say_if_changed(self) -> None:
        if self.changed:
            self.source.warnings.append(
                f"{self.video} was changed, replaced or removed while it was read: the results "
                "may be of both; run it again with -y"
            )


def _checkpoint_of(
    inputs: _Inputs,
    paths: dict[str, Path | Stdout],
    keep: Checkpointing | None,
    stack: ExitStack,
) -> Checkpoint | None:
    """What the run resumes from and leaves; None where it cannot be resumed."""
    options = inputs.options
    forward = options.direction == "forward" and not options.refine
    files = any(isinstance(path, Path) for path in paths.values())
    if keep is None or not (files and forward and Address.of(inputs.video).repeatable):
        return None
    checkpoint = open_checkpoint(
        Path(inputs.video), inputs.mask, inputs.model, options, paths, keep, matte=inputs.matte
    )
    stack.push(closing_checkpoint(checkpoint))
    return checkpoint


class _Loop:
    """The one loop: frames -> tracker -> sinks."""

    def __init__(
        self,
        inputs: _Inputs,
        writers: Writers,
        checkpoint: Checkpoint | None,
        keep: Checkpointing | None,
        observer: Observer,
        started: float,
    ) -> None:
        self._inputs, self._writers = inputs, writers
        self._checkpoint, self._keep = checkpoint, keep
        self._observer, self._started = observer, started
        self._watch = Watch(_origin(inputs.options))
        self._found = Propagation(
            inputs.video,
            inputs.source,
            inputs.masks,
            inputs.tracker,
            inputs.options,
            inputs.matte,
        )
        self._begins = inputs.options.origin
        self._frames = self._back = 0
        self._last = -1
        self._taken = True  # by checkpoint and sinks, all that the tracker has seen

    def run(self, past: Iterable[FrameResult] | None) -> None:
        """All frames; where one fails, what was found until then is kept if it can be."""
        inputs = self._inputs
        known: Iterable[FrameResult] = past or ()
        if self._checkpoint is not None:
            known = self._checkpoint.past(inputs.size, inputs.ids, matte=inputs.matte)
        try:
            with closing(self._found.frames(known, self._went_back)) as found:
                for frame, decided in found:
                    self._take(frame, decided)
        except InputError as error:
            if inputs.changed:
                raise changed_meanwhile(inputs.video, error) from None
            self._save_progress()
            raise
        except Exception as error:
            if not out_of_memory(error):
                raise
            self._save_progress()
            if isinstance(error, LivosError):  # a sink's, which says what for
                raise
            where = f"on {inputs.model.device} at frame {self._frames + self._back}"
            raise too_little_memory(where) from None

    def _take(self, frame: Frame, decided: FrameResult) -> None:
        self._taken = False
        self._writers.write(frame, decided)
        self._begins = frame.index if self._begins is None else self._begins
        seconds = float(frame.pts * self._inputs.info.time_base)
        areas, certainty = decided.areas, decided.certainty
        self._watch.see(frame.index, seconds, areas, certainty, decided.given)
        self._frames += 1
        self._tell()
        if self._checkpoint is not None and self._keep is not None:
            self._checkpoint.see(frame, decided)
            self._taken, self._last = True, frame.index
            self._save_or_stop(self._checkpoint, self._keep.stop())

    def _save_or_stop(self, checkpoint: Checkpoint, stop: bool) -> None:
        inputs = self._inputs
        # Of a file that has changed meanwhile, nobody could resume.
        if (stop or checkpoint.due()) and not inputs.changed:
            checkpoint.save(inputs.tracker.state_dict(), self._said)
        if stop:
            raise InterruptionError(
                f"interrupted after frame {self._last} of {inputs.info.name}",
                "run the same command again to resume",
            )

    def _save_progress(self) -> None:
        if self._taken:
            inputs = self._inputs
            tracker, options, masks = inputs.tracker, inputs.options, inputs.masks
            save_progress(self._checkpoint, tracker, options, masks, self._last, self._said)

    @property
    def _said(self) -> list[str]:
        """What a run that resumes here must say again: the frames do not come by once more."""
        return [*self._inputs.source.warnings, *self._found.warnings]

    def _tell(self) -> None:
        seconds = time.monotonic() - self._started
        objects = len(self._inputs.tracker.object_ids)
        memory = peak_memory(self._inputs.model.device)
        self._observer.frame(Progress(self._frames, self._back, seconds, objects, memory))

    def _went_back(self, done: int) -> None:
        self._back = done
        self._tell()

    def report(self) -> Report:
        inputs, writers = self._inputs, self._writers
        warnings = [
            *inputs.warnings,
            *self._said,
            *writers.warnings,
            *self._watch.warnings(),
        ]
        return Report(
            frames=self._frames,
            seconds=time.monotonic() - self._started,
            ids=tuple(inputs.ids),
            names=inputs.masks.object_names,
            outputs={name: path for name, path in writers.paths.items() if isinstance(path, Path)},
            size=inputs.size,
            network_size=inputs.network_size,
            peak_memory=peak_memory(inputs.model.device),
            warnings=tuple(dict.fromkeys(warnings)),  # a resumed run may say some twice
            begins=self._begins or 0,
            doubts=self._watch.doubts,
        )


def _origin(options: SegmentOptions) -> int:
    """The frame before which tracking goes backward."""
    if options.origin is None or options.direction == "forward":
        return 0
    return options.origin


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
        latency_first=options.latency_first,
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
