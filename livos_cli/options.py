"""Resolved settings, as frozen dataclasses. Nothing here imports torch or reads a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from livos_cli.errors import UsageError

__all__ = [
    "ALPHA_CODECS",
    "CONTOURS",
    "DEVICES",
    "DIRECTIONS",
    "MATTE_CODECS",
    "BACKENDS",
    "PRECISIONS",
    "Drop",
    "Checkpointing",
    "Look",
    "Position",
    "RawVideo",
    "RunOptions",
    "SegmentOptions",
    "Times",
    "clock",
    "parse_bytes",
    "parse_colour",
    "parse_drops",
]

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "fp16", "bf16", "int8")
BACKENDS = ("auto", "torch", "onnxruntime", "openvino")
DIRECTIONS = ("forward", "backward", "both")
ALPHA_CODECS = ("prores", "vp9", "png")
MATTE_CODECS = ("ffv1", "ffv1-16", "prores")
CONTOURS = ("svg", "json")
COLOURS = {
    "green": "00ff00",
    "blue": "0000ff",
    "black": "000000",
    "white": "ffffff",
    "grey": "808080",
}


@dataclass(frozen=True)
class Position:
    """A place in a video: a time in seconds, or a frame number."""

    seconds: float | None = None
    frame: int | None = None

    @classmethod
    def parse(cls, text: str, option: str = "", *, was_frame: bool = False) -> Position:
        """Read `12.5` or `12s` (seconds), `1:02:03.5` (h:m:s) or `123f` (frame number, from 0).

        Args:
            text: what the user gave.
            option: where, for the error.
            was_frame: a whole number alone was a frame here until version 0.2; it would be seconds
                now, as everywhere, and is refused for one version so that no run means another.

        Raises:
            UsageError: the text is none of these, or a whole number where that was a frame.
        """
        if match := re.fullmatch(r"(\d+)f", text, re.ASCII):
            return cls(frame=int(match[1]))
        if was_frame and re.fullmatch(r"\d+", text, re.ASCII):
            raise UsageError(
                f"{option} {text} meant frame {text} in earlier versions, and now means seconds",
                f"type {text}f for the frame, or {text}s for the time",
            )
        if re.fullmatch(r"(\d+:){0,2}\d+(\.\d*)?|\d+(\.\d*)?s", text, re.ASCII):
            seconds = 0.0
            for part in text.rstrip("s").split(":"):
                seconds = seconds * 60 + float(part)
            return cls(seconds=seconds)
        raise UsageError(
            f"{option} '{text}' is not a position in a video".lstrip(),
            "give seconds (12.5), h:m:s (1:02:03.5) or a frame number (123f)",
        )

    def __str__(self) -> str:
        """As it can be given again."""
        return f"{self.seconds:g}s" if self.frame is None else f"{self.frame}f"

    def before(self, other: Position) -> bool:
        """Whether this is earlier; True where a time and a number cannot be compared."""
        if self.frame is not None and other.frame is not None:
            return self.frame < other.frame
        if self.seconds is not None and other.seconds is not None:
            return self.seconds < other.seconds
        return other.frame != 0 and other.seconds != 0.0

    def reached(self, index: int, time: float) -> bool:
        """Whether a frame is at this position or after it."""
        if self.frame is not None:
            return index >= self.frame
        # Half a microsecond, so that 0.04 means the frame at 1/25 s.
        return time >= (self.seconds or 0.0) - 5e-7


def clock(seconds: float) -> str:
    """A time for people, like 0:00.6 or 1:02:03.5, as `Position.parse` reads it."""
    tenths = round(max(0.0, seconds) * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    text = f"{minutes}:{rest // 10:02d}.{rest % 10}"
    return f"{hours}:{text:0>7}" if hours else text


def parse_bytes(text: str) -> int:
    """Read an amount of memory: `3GiB`, `1.5GB`, `800MiB`, `800MB` or bytes.

    Raises:
        UsageError: the text is none of these.
    """
    units = {"": 1, "MB": 10**6, "GB": 10**9, "MIB": 2**20, "GIB": 2**30}
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if match is None or match[2].upper() not in units:
        raise UsageError(f"'{text}' is not an amount of memory", "give it like 3GiB or 800MB")
    return int(float(match[1]) * units[match[2].upper()])


def parse_colour(text: str) -> tuple[int, int, int]:
    """Read a colour: `green`, `blue`, `black`, `white`, `grey`, or `#00ff00`; RGB, 0 to 255.

    Raises:
        UsageError: the text is none of these.
    """
    code = COLOURS.get(text.lower(), text).removeprefix("#")
    if not re.fullmatch(r"[0-9a-fA-F]{6}", code):
        raise UsageError(f"'{text}' is not a colour", f"give {', '.join(COLOURS)} or like #00ff00")
    red, green, blue = bytes.fromhex(code)
    return red, green, blue


@dataclass(frozen=True)
class Drop:
    """From where on an object is not followed any more."""

    object_id: int
    frame: int  # the first without it


@dataclass(frozen=True)
class Times:
    """What is given in seconds, but counted in frames; `video.positions.settle` finds them."""

    origin: float | None = None  # where tracking begins
    drop: tuple[tuple[int, float], ...] = ()  # object, from when on it is not followed


def parse_drops(texts: Iterable[str]) -> tuple[tuple[Drop, ...], tuple[tuple[int, float], ...]]:
    """Read `ID@POS` of each: those by frame number, and those by time.

    Raises:
        UsageError: a text is no such thing.
    """
    by_frame, by_time = [], []
    for text in texts:
        object_id, _, place = text.partition("@")
        if not (object_id.isascii() and object_id.isdecimal() and place):
            raise UsageError(
                f"--drop '{text}' is not ID@POS",
                "give it like 2@120f: frame 120 is the first without object 2; or like 2@0:05",
            )
        position = Position.parse(place, "--drop", was_frame=True)
        if position.frame is not None:
            by_frame.append(Drop(int(object_id), position.frame))
        else:
            by_time.append((int(object_id), position.seconds or 0.0))
    return tuple(by_frame), tuple(by_time)


@dataclass(frozen=True)
class RawVideo:
    """What a stream of bare pictures does not say of itself."""

    width: int  # pixels
    height: int
    pix_fmt: str = "rgb24"  # FFmpeg's name
    fps: str = "25"  # frames a second, also like 30000/1001

    @classmethod
    def parse(cls, size: str | None, pix_fmt: str | None, fps: str | None) -> RawVideo | None:
        """Read `1920x1080`, and check the rate; None if nothing is given.

        Raises:
            UsageError: the text is no size or rate, or the size is missing.
        """
        if size is None:
            if pix_fmt is not None or fps is not None:
                raise UsageError("--pix-fmt and --fps are for raw video", "add --size WxH")
            return None
        pix_fmt, fps = pix_fmt or cls.pix_fmt, fps or cls.fps
        match = re.fullmatch(r"([1-9]\d*)[xX]([1-9]\d*)", size)
        if match is None:
            raise UsageError(f"'{size}' is not a size", "give it like 1920x1080")
        if not re.fullmatch(r"\d+(\.\d+)?|\d+/[1-9]\d*", fps) or not re.search("[1-9]", fps):
            raise UsageError(f"'{fps}' is not a rate", "give it like 25, 29.97 or 30000/1001")
        return cls(int(match[1]), int(match[2]), pix_fmt, fps)


@dataclass(frozen=True)
class SegmentOptions:
    """How a video is segmented, whatever is made of the result.

    Attributes:
        max_size: shorter side for the network, in pixels; None: the weights', -1: native.
        chunk_objects: objects at a time, 0 for all.
        memory_budget: bytes for the network, its weights counted; None: a share of what is free.
        cuda_graphs: on CUDA, replay a frame's work as one graph where there is memory for it.
        start: first frame.
        end: first frame not wanted.
        allow_truncated: keep what decodes of a damaged file.
        origin: frame where tracking begins; None: the first that is read.
        direction: from the origin: forward, backward or both.
        drop: objects to stop following, and from which frame on.
        refine: track frames between two masks from both.
        raw: size, format and rate where the input is bare pictures.
        latency_first: of a live source, leave frames out rather than fall behind.
        trust_mask: take a mask that looks as if it cannot be meant.
        times: origin and drops that are given in time.

    Raises:
        UsageError: options that contradict each other.

    Examples:
        >>> from livos_cli import SegmentOptions
        >>> from livos_cli.options import Position
        >>> SegmentOptions(start=Position.parse("0:30"), end=Position.parse("900f")).end
        Position(seconds=None, frame=900)
    """

    max_size: int | None = None
    chunk_objects: int = 0
    memory_budget: int | None = None
    cuda_graphs: bool = True
    start: Position | None = None
    end: Position | None = None
    allow_truncated: bool = False
    origin: int | None = None
    direction: str = "forward"  # one of DIRECTIONS
    drop: tuple[Drop, ...] = ()
    refine: bool = False
    raw: RawVideo | None = None
    latency_first: bool = False
    trust_mask: bool = False
    times: Times = Times()

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise UsageError(
                f"unknown direction '{self.direction}'", f"it is one of {', '.join(DIRECTIONS)}"
            )
        start, end, origin = self.start, self.end, self.origin
        if origin is not None and start and start.frame is not None and start.frame > origin:
            raise UsageError(
                f"--from {origin}f is before --start {start.frame}f", "widen the range"
            )
        if origin is not None and end and end.frame is not None and end.frame <= origin:
            raise UsageError(
                f"--from {origin}f is not before --end {end.frame}f", "widen the range"
            )
        if end is not None and self.direction == "backward":
            raise UsageError("--direction backward ends at --from", "remove --end")
        begun = origin is not None or self.times.origin is not None
        if begun and start is not None and self.direction == "forward":
            raise UsageError("--start and --from both say where to begin", "remove --start")
        if self.refine and self.direction != "forward":
            raise UsageError("--refine goes forward, and back between masks", "remove --direction")
        if (self.direction != "forward" or self.refine) and self.latency_first:
            raise UsageError("a live source has no way back", "remove --latency-first")

    def range(self) -> tuple[Position | None, Position | None]:
        """First frame that has a result, and first that has none; None for the video's own."""
        if self.origin is None:
            return self.start, self.end
        if self.direction == "forward":
            return Position(frame=self.origin), self.end
        after = Position(frame=self.origin + 1)
        return self.start, after if self.direction == "backward" else self.end


@dataclass(frozen=True)
class Checkpointing:
    """How an interrupted run can be resumed."""

    weights: str  # digest of their file: a checkpoint of others does not fit
    every: float = 60.0  # seconds between checkpoints
    inputs: str | None = None  # digest of video and mask, if the caller knows it
    stop: Callable[[], bool] = lambda: False  # asked after each frame: whether to stop there


@dataclass(frozen=True)
class Look:
    """How objects are drawn over the picture."""

    opacity: float = 0.5  # of the tint, 0 to 1
    outline: int | None = None  # pixels, 0 for none; None: by the frame's size
    labels: bool = False  # write names or ids
    palette: str = "davis"  # a name, or colours like ff0000,00ff00

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise UsageError(f"opacity must be 0 to 1, not {self.opacity}", "0.5 is the default")


@dataclass(frozen=True)
class RunOptions:
    """What is written, and where."""

    save: tuple[str, ...] = ("mask",)  # kinds, keys of outputs.formats.KINDS
    output: Path | None = None  # folder, or file for one kind, or -; None: beside the input
    overwrite: bool = False
    alpha_codec: str = "prores"  # one of ALPHA_CODECS
    matte_codec: str = "ffv1"  # one of MATTE_CODECS
    background: tuple[int, int, int] = parse_colour("green")  # of cutouts, RGB
    contours: str = "svg"  # one of CONTOURS
    look: Look = Look()
    preview: Path | None = None  # a contact sheet, PNG or JPEG

    def __post_init__(self) -> None:
        for option, value, known in (
            ("--alpha-codec", self.alpha_codec, ALPHA_CODECS),
            ("--matte-codec", self.matte_codec, MATTE_CODECS),
            ("--contours", self.contours, CONTOURS),
        ):
            if value not in known:
                raise UsageError(f"unknown {option} '{value}'", f"it is one of {', '.join(known)}")
