"""Between a run and its checkpoint: where it begins, and what stays when it ends too early."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from livos_cli.device import device_name
from livos_cli.errors import InputError, OutputError
from livos_cli.files.livos_folder import checkpoint_folder
from livos_cli.network.livos import LiVOS
from livos_cli.options import Checkpointing, SegmentOptions
from livos_cli.outputs.formats import Stdout
from livos_cli.pipeline.checkpoint import Checkpoint
from livos_cli.pipeline.fingerprint import exactly, of_mask, of_run, of_source
from livos_cli.pipeline.propagate import Masks
from livos_cli.tracker.tracker import Tracker
from livos_cli.video.source import SourceInfo

__all__ = ["changed_meanwhile", "closing_checkpoint", "open_checkpoint", "resume", "save_progress"]


def open_checkpoint(
    video: Path,
    mask: Path,
    model: LiVOS,
    options: SegmentOptions,
    paths: Mapping[str, Path | Stdout],
    keep: Checkpointing,
    *,
    matte: bool,
) -> Checkpoint:
    """The checkpoint of a run, and its lock. Raises OutputError as `Checkpoint` does."""
    folder = checkpoint_folder(dict(paths))
    assert folder is not None
    inputs = keep.inputs or f"{of_source(video)} {of_mask(mask)}"
    fingerprint = of_run(inputs, options, keep.weights, matte=matte, exact=exactly(model))
    files = [path for path in paths.values() if isinstance(path, Path)]
    computed_on = f"{device_name(model.device)}, {model.computed_by}"
    return Checkpoint(folder, fingerprint, keep.every, files, computed_on)


def closing_checkpoint(checkpoint: Checkpoint) -> Callable[..., None]:
    """What is to be done with a checkpoint at the end of a run, by how that ended."""

    def close(kind: type[BaseException] | None, *_: object) -> None:
        checkpoint.close(keep=kind is not None)

    return close


def resume(tracker: Tracker, checkpoint: Checkpoint, info: SourceInfo, ids: list[int]) -> None:
    """Bring a tracker to where a checkpoint was taken; or begin anew, if it does not fit."""
    assert checkpoint.state is not None
    try:
        fresh = tracker.state_dict()
        tracker.load_state_dict(checkpoint.state)
        size = tuple(int(n) for n in checkpoint.state["frame_size"])
        if size != (info.height, info.width) or not set(tracker.object_ids) <= set(ids):
            tracker.load_state_dict(fresh)
            raise ValueError("it is of another video")
    except ValueError as error:
        checkpoint.disregard(str(error))


def save_progress(
    checkpoint: Checkpoint | None,
    tracker: Tracker,
    options: SegmentOptions,
    keys: Masks,
    frame: int,
    said: list[str],
) -> None:
    """At an error: make last what was found until then.

    Not where the tracker may be without an object already that the next frame was to drop, or
    that a black mask there ends.
    """
    if checkpoint is None or any(drop.frame == frame + 1 for drop in options.drop):
        return
    if not keys.ends(frame + 1, range(1, 256)):
        with suppress(OutputError):  # the error itself is what is to be said
            checkpoint.save(tracker.state_dict(), said)


def changed_meanwhile(video: str | Path, error: InputError) -> InputError:
    """An error of an input that is not the one any more that the run began with."""
    return InputError(
        f"{error.message}; {video} was changed while it was read",
        "put it back as it was (the time of change, too) and run the same command again: it "
        "resumes; or start over with what is there",
    )
