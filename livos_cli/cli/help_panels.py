"""Help of a command with many options: grouped, the daily ones first, and examples."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

__all__ = ["PANELS", "PanelCommand"]

# heading -> options; what is in none of them comes last.
PANELS: dict[str, tuple[str, ...]] = {
    "Every day": ("mask", "output", "save", "overwrite", "preview", "quiet", "help"),
    "Which part of the video, which objects": (
        "start", "end", "from_", "direction", "drop", "refine", "trust_mask",
        "allow_truncated", "latency_first", "size", "pix_fmt", "fps",
    ),
    "What is written": (
        "alpha_codec", "matte_codec", "background", "contours", "opacity", "outline", "labels",
        "palette", "as_json",
    ),
    "Weights, device, memory": (
        "weights", "device", "precision", "backend", "max_size", "memory_budget", "chunk_objects",
        "cuda_graphs", "checkpoint",
    ),
    "Many videos, many devices": (
        "listed", "recursive", "dry_run", "fail_fast", "report", "engine", "address",
        "gpus_per_task", "devices", "split_at_masks",
    ),
}  # fmt: skip


class PanelCommand(TyperCommand):
    """A command whose help has its options under headings."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        left = {
            str(parameter.name): record
            for parameter in self.get_params(ctx)
            if (record := parameter.get_help_record(ctx)) is not None
        }
        arguments = [p.name for p in self.get_params(ctx) if p.param_type_name == "argument"]
        sections = {"Arguments": tuple(map(str, arguments)), **PANELS}
        for heading, names in sections.items():
            rows = [left.pop(name) for name in names if name in left]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)
        if left:
            with formatter.section("More"):
                formatter.write_dl(list(left.values()))
