"""The threads that write results, and all results of a run together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from livos_cli.errors import KindError, OutputError
from livos_cli.outputs.formats import FrameResult, Sink, Stdout
from livos_cli.video.source import Frame

__all__ = ["SinkThread", "WriterThread", "Writers"]

QUEUE = 4  # frames waiting for a thread, at most


class WriterThread:
    """Calls a function for each frame, in a thread of its own, behind a bounded queue.

    Args:
        write: takes a frame and its result. What it raises is raised by the next call here.
    """

    def __init__(self, write: Callable[[Frame, FrameResult], None]) -> None:
        self._write = write
        self._queue: queue.Queue[tuple[Frame, FrameResult] | None] = queue.Queue(QUEUE)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="livos-sink", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        # After an error the queue is still emptied, so that whoever fills it never blocks.
        while (item := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._write(*item)
                except BaseException as error:  # raised again by the main thread
                    self._error = error
            self._queue.task_done()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def put(self, frame: Frame, decided: FrameResult) -> None:
        """Hand over a frame; waits while the queue is full."""
        self._raise()
        self._queue.put((frame, decided))

    def flush(self) -> None:
        """Wait until all that was handed over is written."""
        self._queue.join()
        self._raise()

    def end(self) -> None:
        """Write what waits, and end the thread."""
        self._queue.put(None)
        self._thread.join()
        self._raise()

    def stop(self) -> None:
        """End the thread; what waits is not written."""
        if self._thread.is_alive():
            self._error = self._error or OutputError("stopped")
            self._queue.put(None)
            self._thread.join()


class SinkThread:
    """A sink in a thread of its own; its exceptions come back here."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._published = False
        self._thread = WriterThread(sink.write)

    @property
    def warnings(self) -> list[str]:
        return self._sink.warnings

    @property
    def unnamed(self) -> Path | None:
        return self._sink.unnamed

    def write(self, frame: Frame, decided: FrameResult) -> None:
        self._thread.put(frame, decided)

    def drain(self, trailing_audio: Iterable[Any]) -> None:
        """Wait for all frames, then flush and check the result; it still has no name."""
        self._thread.end()
        self._sink.finish(trailing_audio)

    def publish(self, overwrite: bool) -> None:
        self._sink.publish(overwrite)
        self._published = True

    def abort(self) -> None:
        """Leave nothing behind, unless the result has its name already."""
        self._thread.stop()
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
        sink = open_sink(name, path)
        try:
            self._sinks[name] = SinkThread(sink)
        except BaseException:  # no memory for a thread
            sink.abort()
            raise

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
