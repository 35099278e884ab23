"""Time that only goes on: of packets where a file's timestamps start again, and of frames."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from livos_cli.video.source import SourceInfo

__all__ = ["TS_DISCONT", "Clock", "Timeline"]

TS_DISCONT = 0x0200  # among the flags of FFmpeg's formats: timestamps may jump
GAP = 10  # seconds ahead that count as a jump, where a format's timestamps may jump: as in ffmpeg
BACK = Fraction(1, 10)  # seconds back, or three frames, that count as a new beginning
LEAST = Fraction(1, 100_000)  # seconds by which a packet of audio is later than the one before


@dataclass
class _Lane:
    """A stream's packets so far. Seconds; `raw` as the file has them, others as given out."""

    video: bool
    start: Fraction  # raw, of the first packet
    part: int = 0  # how often its timestamps have started again
    raw_last: Fraction = Fraction(0)  # time of decoding of the last packet
    raw_next: Fraction = Fraction(0)  # when the next one is due, or all so far has been shown
    last: Fraction = Fraction(0)
    end: Fraction = Fraction(0)  # of what is shown


class Timeline:
    """Moves packets so that time goes on where their timestamps start again.

    So it is in transport streams and other files joined end to end. All streams of a part are
    moved by the same time: the part begins when the one before it has ended, its picture without
    a gap and none of its audio before the audio that is there.

    Args:
        step: seconds a frame lasts.
        jumps: whether a leap ahead, too, is a new part rather than a pause.
    """

    def __init__(self, step: Fraction, *, jumps: bool) -> None:
        self._step = step
        self._back = min(Fraction(1), max(3 * step, BACK))
        self._jumps = jumps
        self._lanes: dict[int, _Lane] = {}
        self._moves = [Fraction(0)]  # of each part
        self.joints: list[Fraction] = []  # where the picture starts again, as given out

    def place(self, packet: Any) -> None:
        """Move one packet, of the picture or of audio, in place."""
        tick = packet.time_base
        stamp = packet.dts if packet.dts is not None else packet.pts
        if not packet.size or stamp is None or not tick:
            return
        raw = stamp * tick
        shown = raw if packet.pts is None else packet.pts * tick
        video = packet.stream.type == "video"
        length = packet.duration * tick if packet.duration else self._step * video
        # Where times of decoding are not known, those of display run to and fro between key frames.
        told = packet.dts is not None or packet.is_keyframe
        lane = self._lanes.get(packet.stream.index)
        if lane is None:
            lane = self._lanes[packet.stream.index] = _Lane(video, shown if video else raw)
        elif told and (lane.raw_last - raw > self._back or self._leaps(lane, raw)):
            self._next_part(lane, shown if video else raw)
        move = self._moves[lane.part]
        if told:
            lane.raw_last = raw
            lane.raw_next = max(lane.raw_next, raw + length, shown + length)
        lane.last, lane.end = raw + move, max(lane.end, shown + length + move)
        if move:
            ticks = round(move / tick)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks

    def _leaps(self, lane: _Lane, raw: Fraction) -> bool:
        """Whether time leaps ahead, of all that is in a stream's part: one alone has paused."""
        if not self._jumps:
            return False
        due = max(other.raw_next for other in self._lanes.values() if other.part == lane.part)
        return raw - due > GAP

    def _next_part(self, lane: _Lane, begins: Fraction) -> None:
        """A stream's timestamps have started again, at `begins`."""
        lane.part += 1
        lane.raw_next = begins
        if lane.part == len(self._moves):
            # The other streams are taken to begin as long before or after this one as at first.
            self._moves.append(
                max(self._free(other) - other.start for other in self._lanes.values())
                - (begins - lane.start)
            )
        # It may not be as it was at first: no stream runs into its own past.
        self._moves[lane.part] = max(self._moves[lane.part], self._free(lane) - begins)
        if lane.video:
            self.joints.append(begins + self._moves[lane.part])

    def said(self, origin: Fraction) -> str:
        """A line about where timestamps start again, in seconds from `origin`; empty if nowhere."""
        if not self.joints:
            return ""
        often = "once" if len(self.joints) == 1 else f"{len(self.joints)} times"
        at = float(self.joints[0] - origin)
        return f"its timestamps start again {often}, first at {at:.3f} s; time goes on from there"

    @staticmethod
    def _free(lane: _Lane) -> Fraction:
        """From when on a stream has room."""
        return lane.end if lane.video else lane.last + LEAST


class Clock:
    """A timestamp for every frame: strictly increasing, never negative."""

    def __init__(self, info: SourceInfo, *, by_dts: bool) -> None:
        self._step = max(1, round(1 / (info.rate * info.time_base)))
        self._by_dts = by_dts
        self._last: int | None = None
        self._known = False  # whether a timestamp was
        self.origin = 0  # first timestamp as given
        self.shift = 0  # added to all, so that none is negative
        self.moved = 0  # frames that were not later than the one before

    def __call__(self, frame: Any) -> int:
        """The frame's timestamp, in the source's time base."""
        # AVI and ASF store no presentation times: FFmpeg's guesses jump where there are B-frames,
        # while the times of decoding, in the order frames come out, are even.
        pts = frame.dts if self._by_dts and frame.dts is not None else frame.pts
        known, self._known = self._known, self._known or pts is not None
        if self._last is None:
            pts = 0 if pts is None else pts
            self.origin, self.shift = pts, max(0, -pts)
        elif pts is None or (self._by_dts and pts <= self._last):
            # Raw streams carry no timestamps, nor do the last frames out of an AVI's decoder:
            # count at the nominal rate.
            pts = self._last + self._step
        elif not known and pts <= self._last:
            # Those before had none, for they are before zero.
            self.shift = self._last + self._step - pts
            self.origin = -self.shift
        elif pts <= self._last:
            self.moved += 1
            pts = self._last + 1
        self._last = pts
        return int(pts) + self.shift
