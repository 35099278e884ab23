"""Packets of audio on their way from the demuxer to the frames that they go with."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

__all__ = ["AudioPackets"]


class AudioPackets:
    """Packets read so far that no frame has taken."""

    def __init__(self) -> None:
        self._waiting: list[Any] = []

    def put(self, packet: Any) -> None:
        """Keep an av.Packet; demuxing is ahead of decoding."""
        self._waiting.append(packet)

    def take(self, until: float | None, shift: Fraction) -> tuple[Any, ...]:
        """Remove and return the packets that begin before a time.

        Args:
            until: seconds; None for all.
            shift: seconds by which everything written is later than in the file.
        """
        taken: list[Any] = []
        kept: list[Any] = []
        for packet in self._waiting:
            begins = None if packet.pts is None else float(packet.pts * packet.time_base)
            late = until is not None and begins is not None and begins >= until
            (kept if late else taken).append(packet)
        self._waiting = kept
        for packet in taken if shift else ():
            ticks = round(shift / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        return tuple(taken)
