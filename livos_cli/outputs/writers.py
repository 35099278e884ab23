"""Where results go, and the threads that write them."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from livos_cli.errors import KindError, OutputError, UsageError
from livos_cli.files.livos_folder import checkpoint_folder, unpublished
from livos_cli.files.names import LONGEST
from livos_cli.options import RunOptions
from livos_cli.outputs.formats import KINDS, FrameResult, Kind, Sink, Stdout
from livos_cli.outputs.preview import check_suffix
from livos_cli.video.address import Address
from livos_cli.video.source import Frame

__all__ = [
    "SinkThread",
    "Writers",
    "check_kinds",
    "names_a_file",
    "plan_outputs",
]

FILE_SUFFIXES = frozenset(  # never of folders
    {".avi", ".json", ".jsonl", ".mkv", ".mov", ".mp4", ".png", ".svg", ".webm"}
)
SINK_QUEUE = 4  # frames waiting for a sink, at most


def names_a_file(path: Path) -> bool:
    """Whether a path is no folder, or, where there is nothing yet, is meant for a file."""
    return not path.is_dir() and (path.exists() or path.suffix.lower() in FILE_SUFFIXES)


def check_kinds(kinds: Iterable[str]) -> None:
    """Raises UsageError if one is unknown."""
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UsageError(f"unknown kind '{unknown[0]}'", f"--save takes {', '.join(KINDS)}")


def plan_outputs(
    video: str | Path,
    mask: Path,
    output: RunOptions,
    *,
    stem: str | None = None,
    ours: Callable[[Path], bool] = lambda _: False,
) -> dict[str, Path | Stdout]:
    """Where each kind goes; checked before any work is done.

    Args:
        video: file, folder, URL, or -.
        mask: file or folder.
        output: what is written, and where.
        stem: what outputs are called; `output.output` is then a folder, whatever its name.
        ours: whether something that is there may be replaced, for it was made by livos.

    Raises:
        UsageError: an unknown kind, or a file name that cannot hold what is asked for.
        OutputError: a result exists already and may not be overwritten.
    """
    check_kinds(output.save)
    kinds = list(dict.fromkeys(output.save))
    address = Address.of(video)
    source = address.path
    always_folder = stem is not None
    folder = None
    if stem is None:
        stem, folder = address.stem, source and source.resolve().parent
    target = output.output
    paths: dict[str, Path | Stdout] = {}
    if str(target) == "-":
        paths[_one_stream(kinds, output)] = Stdout()
    elif always_folder:
        for kind in kinds:
            paths[kind] = _place(target or folder or Path.cwd(), stem, KINDS[kind].suffix(output))
    elif target is not None and not target.is_dir() and target.suffix and len(kinds) == 1:
        suffix = KINDS[kinds[0]].suffix(output)
        if not suffix.endswith("/") and target.suffix.lower() == Path(suffix).suffix:
            paths[kinds[0]] = target
        elif target.suffix.lower() in FILE_SUFFIXES:
            raise UsageError(
                f"-o {target}: kind '{kinds[0]}' is written as <stem>{suffix}",
                "give a folder, or a file of that suffix",
            )
        else:
            paths[kinds[0]] = _place(target, stem, suffix)
    elif target is not None and names_a_file(target):
        raise UsageError(f"-o {target} names a file", "give a folder for several kinds")
    else:
        for kind in kinds:
            paths[kind] = _place(target or folder or Path.cwd(), stem, KINDS[kind].suffix(output))
    if output.preview is not None:
        check_suffix(output.preview)
        paths["preview"] = output.preview
    for path in paths.values():
        if isinstance(path, Path) and (size := len(os.fsencode(path.name))) > LONGEST:
            raise OutputError(
                f"the name {path.name[:24]}…{path.name[-12:]} would have {size} bytes, more than "
                f"the {LONGEST} that a name may have",
                f"give a shorter one: -o out{path.suffix}",
            )
    there = [path for path in paths.values() if isinstance(path, Path) and os.path.lexists(path)]
    records = checkpoint_folder(paths) if there else None
    owned = unpublished(records) if records is not None else frozenset()
    for name, path in paths.items():
        if path not in there or isinstance(path, Stdout):
            continue
        for given in [mask, *([] if source is None else [source])]:
            if path.resolve() in [given.resolve(), *given.resolve().parents]:
                raise UsageError(
                    f"{path} is or holds the input itself", "choose another place with -o"
                )
        if not (output.overwrite or path.absolute() in owned or ours(path)):
            raise OutputError(f"{path} exists already", "use -y to overwrite it")
        row = KINDS.get(name)  # the preview has none
        holds = row if row is not None and row.suffix(output).endswith("/") else None
        _check_replaceable(path, holds)
    return paths


def _one_stream(kinds: list[str], output: RunOptions) -> str:
    """The kind that goes to stdout."""
    able = ", ".join(kind for kind, row in KINDS.items() if row.streams)
    if len(kinds) != 1 or not KINDS[kinds[0]].streams:
        raise UsageError(
            f"-o - takes one of {able}, not {', '.join(kinds)}", "give a folder for the others"
        )
    if KINDS[kinds[0]].suffix(output).endswith("/"):
        raise UsageError(f"-o - cannot take a folder of {kinds[0]}", "add --contours json")
    if sys.stdout.isatty():
        raise UsageError("-o - would fill the terminal", "pipe it on, or redirect it to a file")
    return kinds[0]


def _check_replaceable(path: Path, kind: Kind | None) -> None:
    """Raises OutputError where -y would destroy what is no earlier result of a folder's kind."""
    if kind is None and path.is_dir():
        raise OutputError(f"{path} is a folder", "choose another place with -o")
    if kind is not None and path.is_dir():
        other = next((p.name for p in path.iterdir() if not kind.owns(p)), None)
        if other is not None:
            raise OutputError(
                f"{path} holds more than an earlier result ({other}) and will not be replaced",
                "choose another place with -o, or remove it yourself",
            )
    elif kind is not None and path.exists():
        raise OutputError(f"{path} is a file", "choose another place with -o")


def _place(folder: Path, stem: str, suffix: str) -> Path:
    return folder / f"{stem}{suffix}".rstrip("/")


class SinkThread:
    """A sink in a thread of its own, behind a bounded queue; its exceptions come back here."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._queue: queue.Queue[tuple[Frame, FrameResult] | None] = queue.Queue(SINK_QUEUE)
        self._error: BaseException | None = None
        self._published = False
        self._thread = threading.Thread(target=self._work, name="livos-sink", daemon=True)
        self._thread.start()

    @property
    def warnings(self) -> list[str]:
        return self._sink.warnings

    @property
    def unnamed(self) -> Path | None:
        return self._sink.unnamed

    def _work(self) -> None:
        # After an error the queue is still emptied, so that the writer of it never blocks.
        while (item := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._sink.write(*item)
                except BaseException as error:  # raised again by the main thread
                    self._error = error
            self._queue.task_done()

    def write(self, frame: Frame, decided: FrameResult) -> None:
        if self._error is not None:
            raise self._error
        self._queue.put((frame, decided))

    def settle(self) -> None:
        """Wait until all that was handed over is written."""
        self._queue.join()
        if self._error is not None:
            raise self._error

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


class Writers:
    """The sinks of a run. One whose format cannot hold the video does not end the others.

    Args:
        paths: where each kind goes.
        open_sink: makes the sink of a kind.

    Raises:
        KindError: none of the kinds can hold it.
    """

    def __init__(
        self,
        paths: dict[str, Path | Stdout],
        open_sink: Callable[[str, Path | Stdout], Sink],
    ) -> None:
        self.paths = dict(paths)  # of those that are written
        self.lost: list[KindError] = []
        self.warnings: list[str] = []
        self._sinks: dict[str, SinkThread] = {}
        try:
            for name, path in paths.items():
                self._or_lose(name, partial(self._open, open_sink, name, path))
        except BaseException:
            self.abort()
            raise

    def _open(
        self, open_sink: Callable[[str, Path | Stdout], Sink], name: str, path: Path | Stdout
    ) -> None:
        self._sinks[name] = SinkThread(open_sink(name, path))

    def _or_lose(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except KindError as error:
            self.lost.append(error)
            del self.paths[name]
            if (sink := self._sinks.pop(name, None)) is not None:
                sink.abort()
            if not self.paths:
                raise

    def write(self, frame: Frame, decided: FrameResult) -> None:
        for name, sink in list(self._sinks.items()):
            self._or_lose(name, partial(sink.write, frame, decided))

    def drain(self, trailing_audio: tuple[Any, ...]) -> None:
        """Wait for all frames, then complete the results; they still have no names."""
        for name, sink in list(self._sinks.items()):
            self._or_lose(name, partial(sink.drain, trailing_audio))

    def unnamed(self) -> Iterator[tuple[Path, Path]]:
        """Each result that is complete, where it lies and the name it will get."""
        for name, sink in self._sinks.items():
            path = self.paths[name]
            if sink.unnamed is not None and isinstance(path, Path):
                yield sink.unnamed, path

    def publish(self, may_replace: Callable[[Path], bool]) -> None:
        """Give the results their names."""
        for name, sink in self._sinks.items():
            path = self.paths[name]
            sink.publish(isinstance(path, Path) and may_replace(path))
            self.warnings += sink.warnings

    def abort(self) -> None:
        """Leave nothing behind, but what has its name already."""
        # Last in, first out: the first made the folder, and removes it when it is empty.
        for sink in reversed(self._sinks.values()):
            sink.abort()

    def tell_lost(self) -> None:
        """Raises OutputError if a kind was lost, once the others have their names."""
        if self.lost:
            kept = ", ".join(str(path) for path in self.paths.values() if isinstance(path, Path))
            rest = f"; written: {kept}" if kept else ""
            said = "; ".join(error.message for error in self.lost)
            raise OutputError(f"{said}{rest}", self.lost[0].hint)
