"""Help of a command with many options: grouped, the daily ones first, and examples."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

__all__ = ["PANELS", "PanelCommand"]

# heading -> options; what is in none of them comes last. `-h` shows the first alone.
DAILY = "Every day"
PANELS: dict[str, tuple[str, ...]] = {
    DAILY: (
        "mask", "output", "save", "overwrite", "from_", "direction", "drop", "preview", "weights",
        "help",
    ),
    "Which part of the video, which objects": (
        "start", "end", "refine", "trust_mask",
        "allow_truncated", "latency_first", "size", "pix_fmt", "fps",
    ),
    "What is written": (
        "alpha_codec", "matte_codec", "background", "contours", "opacity", "outline", "labels",
        "palette", "as_json", "quiet",
    ),
    "Weights, device, memory": (
        "device", "precision", "backend", "max_size", "memory_budget", "chunk_objects",
        "cuda_graphs", "checkpoint",
    ),
    "Many videos, many devices": (
        "listed", "recursive", "dry_run", "fail_fast", "report", "engine", "address",
        "gpus_per_task", "devices", "split_at_masks",
    ),
}  # fmt: skip


class PanelCommand(TyperCommand):
    """A command whose help has its options under headings: `-h` the daily ones, `--help` all."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta["livos.daily"] = "-h" in args and "--help" not in args
        rest: list[str] = super().parse_args(ctx, args)
        return rest

    def format_options(self, ctx: Any, formatter: Any) -> None:
        left = {
            str(parameter.name): record
            for parameter in self.get_params(ctx)
            if (record := parameter.get_help_record(ctx)) is not None
        }
        arguments = [p.name for p in self.get_params(ctx) if p.param_type_name == "argument"]
        panels = {DAILY: PANELS[DAILY]} if ctx.meta.get("livos.daily") else PANELS
        sections = {"Arguments": tuple(map(str, arguments)), **panels}
        for heading, names in sections.items():
            rows = [left.pop(name) for name in names if name in left]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)
        if panels is not PANELS:
            formatter.write_paragraph()
            formatter.write_text(f"All {len(left)} others: {ctx.command_path} --help")
        elif left:
            with formatter.section("More"):
                formatter.write_dl(list(left.values()))
