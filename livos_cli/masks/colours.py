"""Which id each colour of a mask has."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from livos_cli.masks.palette import DAVIS_PALETTE

__all__ = ["ColourTable", "early_colours"]

NOISE = 12  # levels by which JPEG changes an area's colour


@dataclass
class ColourTable:
    """Which id each colour of RGB masks has; shared by all masks of one video."""

    ids: dict[int, int] = field(default_factory=dict)

    def id_of(self, colour: int) -> int:
        """The id of 0xRRGGBB: its place in the DAVIS palette, or the first id that is free."""
        if colour == 0:
            return 0
        if colour not in self.ids:
            wanted = early_colours().get(colour)
            taken = set(self.ids.values())
            if wanted is None or wanted in taken:
                wanted = next(i for i in range(1, 1 << 24) if i not in taken)
            self.ids[colour] = wanted
        return self.ids[colour]

    def near(self, colour: int) -> int:
        """What noise has changed into this colour: black, one known here or early; or itself."""
        for other in (0, *self.ids, *early_colours()):
            if all(abs((other >> at & 255) - (colour >> at & 255)) <= NOISE for at in (0, 8, 16)):
                return other
        return colour


@cache
def early_colours() -> dict[int, int]:
    """Ids of 0xRRGGBB."""
    # The palette's first colours are those that masks are drawn with; the later ones are so many
    # that any colour might meet one by chance.
    return {
        int(r) << 16 | int(g) << 8 | int(b): i
        for i, (r, g, b) in enumerate(DAVIS_PALETTE[:32])
        if i
    }
