"""What a video can be opened from: a file, standard input, a URL; bare pictures too."""

from __future__ import annotations

import os
import re
import select
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av

from livos_cli.errors import InputError
from livos_cli.memory import out_of_memory, too_little_memory
from livos_cli.options import RawVideo
from livos_cli.redact import HIDDEN, redact

__all__ = [
    "PATIENCE",
    "Stdin",
    "check_exists",
    "interruptible",
    "is_url",
    "open_container",
    "reason_of",
    "stem_of",
]

PATIENCE = 20  # seconds without a byte from the network until it counts as gone


def is_url(source: str | Path) -> bool:
    """Whether it is a network stream rather than a file: `rtsp://…`, `tcp://…`, `https://…`."""
    # Of a batch, thousands are asked about: most are told apart without an expression.
    return (
        isinstance(source, str)
        and "://" in source
        and re.match(r"[a-z][a-z0-9+.-]+://", source) is not None
    )


def check_exists(source: str | Path) -> None:
    """Raises InputError if there is nothing to open at all."""
    path = Path(source)
    if str(source) == "-" or is_url(source):
        return
    if not path.exists():
        raise InputError(f"{path} does not exist", "check the path of the video")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes)", "was it copied or downloaded completely?")


def stem_of(label: str) -> str:
    """What outputs of a stream are called: its URL's last part, or stdin."""
    # Without who signs in: that must not become a name.
    place = redact(label).split("://", 1)[-1].split("?")[0].removeprefix(f"{HIDDEN}@")
    tail = place.rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^\w.-]", "_", tail).rsplit(".", 1)[0] or "stream"


def open_container(place: Any, label: str, raw: RawVideo | None, *, live: bool) -> Any:
    """The container, or an InputError that says what is wrong."""
    how: dict[str, Any] = {}
    if raw is not None:
        how["format"] = "rawvideo"
        how["options"] = {
            "video_size": f"{raw.width}x{raw.height}",
            "pixel_format": raw.pix_fmt,
            "framerate": raw.fps,
        }
    if "://" in label and live:
        how["timeout"] = (PATIENCE, PATIENCE)  # to open, and for each read
    try:
        return av.open(place, **how)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if out_of_memory(error):
            raise too_little_memory(f"to open {label}") from None
        if isinstance(error, PermissionError):
            raise InputError(f"{label} may not be read", "check its permissions") from None
        hint = "is it a video file, and complete? `ffprobe` shows what it is"
        if raw is not None:
            hint = "check --size, --pix-fmt (FFmpeg's names) and --fps"
        elif live:
            hint = "pipe a streamable container (Matroska, MPEG-TS, fragmented MP4)"
            if "://" in label:
                hint = "is it running, and can this machine reach it?"
        raise InputError(f"{label} cannot be read as a video ({reason_of(error)})", hint) from None


def interruptible(work: Callable[[], None], cancel: Callable[[], None]) -> None:
    """Do what may wait for input in a thread of its own, and raise here what it raises.

    An interruption inside of a read that FFmpeg asked for would be taken for the input's end.

    Args:
        work: what to do.
        cancel: called on an interruption, to make the read return.
    """
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # raised again below
            errors.append(error)

    thread = threading.Thread(target=run, name="livos-open", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.1)
    except BaseException:
        cancel()
        thread.join(2)
        raise
    if errors:
        raise errors[0]


class Stdin:
    """Standard input as a file object whose reading can be stopped from another thread."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        if sys.stdin is None:
            raise InputError("stdin is closed", "pipe a video into it")
        self._fd = sys.stdin.fileno()

    def read(self, size: int) -> bytes:
        # Windows cannot wait for pipes; there a closed run waits for the other end.
        while os.name != "nt" and not select.select([self._fd], [], [], 0.2)[0]:
            if self.stop.is_set():
                return b""
        return os.read(self._fd, size)


def reason_of(error: BaseException) -> str:
    """A library's error in few words, without paths and numbers of its own."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0][:120]
