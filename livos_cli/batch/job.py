"""One video of a batch: where its results go, and whether they are there. Quick: without torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from livos_cli.batch import remote
from livos_cli.batch.discover import Item
from livos_cli.batch.manifest import Manifest
from livos_cli.batch.report import Record, failed
from livos_cli.errors import InputError, OutputError
from livos_cli.files.livos_folder import checkpoint_folder, discard_checkpoint, identity_of
from livos_cli.options import RunOptions, SegmentOptions
from livos_cli.outputs.paths import plan_outputs
from livos_cli.pipeline.fingerprint import of_mask, of_settings, of_source
from livos_cli.video.container import check_exists, is_url

__all__ = ["Batch", "Job"]


@dataclass(frozen=True)
class Batch:
    """What is the same for all videos."""

    options: SegmentOptions
    output: RunOptions
    weights: str  # digest of their file
    checkpoint: float = 60.0  # seconds, 0 for none

    @cached_property
    def settings(self) -> str:
        """Digest of settings and weights."""
        return of_settings(self.options, self.output, self.weights)


class Job:
    """A video to be done, skipped or refused, as its names and its manifest tell.

    Attributes:
        output: what is written, and where; set by `prepare`, like the next two.
        outputs: where each kind goes.
        manifest: what is known of earlier results.
    """

    output: RunOptions
    outputs: dict[str, Path]
    manifest: Manifest

    def __init__(self, item: Item, batch: Batch) -> None:
        self.item, self.batch = item, batch
        self._seen: list[list[int] | None] = []  # of manifest and outputs, when prepared

    def outcome(self, *, tidy: bool = True) -> Record | None:
        """How it ended, if nothing is to be done: finished, or impossible; else None.

        Args:
            tidy: remove what a run left that was killed right after it had finished this video.
        """
        try:
            self.prepare()
            # What has no manifest is to be done: its mask need not be read for that.
            return self.finished(self.inputs(), tidy=tidy) if self.manifest.facts else None
        except Exception as error:  # whatever it is, it is of this video alone
            return failed(self.item, error, self.batch.weights)

    def finished(self, inputs: str, *, tidy: bool = True) -> Record | None:
        """The record of a prepared video whose results are all there; else None.

        Args:
            inputs: digest of video and mask.
            tidy: as of `outcome`.
        """
        if not self.manifest.done(self.outputs, self.made_from(inputs)):
            return None
        checkpoint = checkpoint_folder(self.outputs)
        if tidy and checkpoint is not None and checkpoint.exists():
            discard_checkpoint(checkpoint)
        return Record(
            self.item.video,
            self.item.mask,
            "skipped",
            {kind: str(path) for kind, path in self.outputs.items()},
            self.manifest.frames,
            weights=self.batch.weights,
        )

    def prepare(self) -> None:
        """Find out where results go; again only if what is there has changed since.

        Raises:
            LivosError: the video or its mask is not there, or results cannot go there.
        """
        item, batch = self.item, self.batch
        if item.problem is not None:
            raise item.problem
        if is_url(item.video) and not remote.is_remote(item.video):
            raise InputError(f"{item.video} is a stream", "give it alone")
        check_exists(item.video)
        if self._seen and self._seen == self._there():
            return
        self.manifest = Manifest(item.folder, item.stem)
        output = replace(batch.output, output=item.folder)
        if output.preview is not None:
            output = replace(output, preview=item.folder / f"{item.stem}.{output.preview.name}")
        self.outputs = self._places(output)
        if any(path.exists() for path in self.outputs.values()):
            output = replace(output, overwrite=True)  # all that is there is ours
        self.output = output
        self._seen = self._there()

    def _places(self, output: RunOptions) -> dict[str, Path]:
        """Where each kind goes. Raises LivosError as `plan_outputs`."""
        item = self.item
        assert item.mask is not None
        try:
            paths = plan_outputs(
                item.video, Path(item.mask), output, stem=item.stem, ours=self.manifest.ours
            )
        except OutputError as error:
            if self.manifest.problem is None:
                raise
            raise OutputError(f"{error.message}; {self.manifest.problem}", error.hint) from None
        return {kind: path for kind, path in paths.items() if isinstance(path, Path)}

    def _there(self) -> list[list[int] | None]:
        return [identity_of(path) for path in (self.manifest.path, *self.outputs.values())]

    def inputs(self) -> str:
        """Digest of video and mask as they are now; raises InputError if they cannot be read."""
        assert self.item.mask is not None
        try:
            return " ".join(
                remote.identity(where) if is_url(where) else of(Path(where))
                for where, of in ((self.item.video, of_source), (self.item.mask, of_mask))
            )
        except OSError as error:
            raise InputError(
                f"{error.filename} cannot be read ({error.strerror})", "check the path"
            ) from None

    def made_from(self, inputs: str) -> str:
        """Digests of settings and weights, and of the inputs."""
        return f"{self.batch.settings} {inputs}"
