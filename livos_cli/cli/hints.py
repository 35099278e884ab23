"""Boxes, points and polygons on the command line of `livos mask`: which object each belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from livos_cli.errors import UsageError

if TYPE_CHECKING:
    from livos_cli.masks.hints import Hints

__all__ = ["GivenHints", "OrderedCommand"]


class OrderedCommand(TyperCommand):
    """Remembers in which order options were given: an id belongs to the hints beside it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        ctx.meta["order"] = [parameter.name for parameter in order]
        rest: list[str] = super().parse_args(ctx, args)
        return rest


@dataclass(frozen=True)
class GivenHints:
    """The hints as they were given."""

    values: dict[str, list[Any] | None]  # of box, point, polygon and object_id
    order: list[str]  # these names, as they stand on the command line

    def by_object(self, height: int = 100, width: int = 100) -> dict[int, Hints]:
        """The hints of each object, by the order in which they stand on the command line.

        Args:
            height: pixels of the frame, of which hints may be percentages.
            width: likewise.

        Raises:
            UsageError: a hint cannot be read, or it is open which object it belongs to.
        """
        from livos_cli.masks.hints import (
            Hints,
            in_pixels,
            parse_box,
            parse_point,
            parse_polygon,
        )

        left = {name: list(values or ()) for name, values in self.values.items()}
        steps = [(name, left[name].pop(0)) for name in self.order if left.get(name)]
        ids_lead = bool(steps) and steps[0][0] == "object_id"
        ids_trail = not ids_lead and any(name == "object_id" for name, _ in steps)
        groups: dict[int, Hints] = {}
        current, hints = 0, Hints()

        def close(object_id: int) -> None:
            if object_id in groups:
                raise UsageError(f"--id {object_id} is given twice", "give one --id per object")
            if hints == Hints():
                raise UsageError(
                    f"--id {object_id} has no hints", "give --box, --polygon or --point"
                )
            groups[object_id] = hints

        for name, value in steps:
            if name == "object_id":
                if ids_trail:
                    close(value)
                    hints = Hints()
                else:
                    if current:
                        close(current)
                    current, hints = value, Hints()
                continue
            opens = name in ("box", "polygon") and (hints.box is not None or hints.polygon)
            if opens and (ids_lead or ids_trail):
                raise UsageError("two boxes or polygons for one --id", "give one --id per object")
            if opens:
                close(len(groups) + 1)
                hints = Hints()
            new = dict(hints.__dict__)
            if name == "box":
                new["box"] = parse_box(in_pixels(value, width, height))
            elif name == "polygon":
                new["polygon"] = parse_polygon(in_pixels(value, width, height))
            else:
                at, on = parse_point(in_pixels(value, width, height))
                side = "inside" if on else "outside"
                new[side] = (*new[side], at)
            hints = Hints(**new)
        if ids_trail and hints != Hints():
            raise UsageError("the last hints have no --id", "give one --id per object")
        if not ids_trail and (current or hints != Hints()):
            close(current or len(groups) + 1)
        return groups
