"""Time and memory against length and size, as the paper's figures 1 and 2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from livos_cli.bench.settings import Measured
from livos_cli.errors import UsageError
from livos_cli.extras import install_hint

__all__ = ["plot"]


def plot(results: Sequence[Measured], path: Path) -> None:
    """Draw what was measured.

    Raises:
        UsageError: matplotlib is missing, or nothing was measured.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError(
            "--plot needs the extra 'plot' (matplotlib)", install_hint("plot")
        ) from None
    good = [r for r in results if not r.problem]
    if not good:
        raise UsageError("there is nothing to plot: no setting ran", "see the table")
    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    for result in good:
        frames = [frame for frame, _, _ in result.samples]
        label = f"{result.setting.mode}, {result.setting.network}, {result.setting.height}p"
        if result.setting.objects > 1:
            label += f", {result.setting.objects} objects"
        label += f", {result.dtype}"
        axes[0, 0].plot(frames, [s * 1e3 for _, s, _ in result.samples], label=label)
        axes[0, 1].plot(frames, [b / 2**30 for _, _, b in result.samples], label=label)
    lines: dict[tuple[str, str, int, str], list[Measured]] = {}
    for result in good:
        setting = result.setting
        key = (setting.mode, setting.network, setting.objects, result.dtype)
        lines.setdefault(key, []).append(result)
    for (mode, network, _, dtype), members in lines.items():
        members.sort(key=lambda r: r.setting.height)
        rows = [r.setting.height for r in members]
        label = f"{mode}, {network}, {dtype}"
        axes[1, 0].plot(rows, [1e3 / r.model_fps for r in members], "o-", label=label)
        axes[1, 1].plot(rows, [r.peak / 2**30 for r in members], "o-", label=label)
    titles = [
        ("frame", "milliseconds a frame"),
        ("frame", "memory held, GiB"),
        ("rows of a frame", "milliseconds a frame"),
        ("rows of a frame", "peak memory, GiB"),
    ]
    for axis, (x, y) in zip(axes.flat, titles, strict=True):
        axis.set(xlabel=x, ylabel=y)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.suptitle(f"{good[0].device}")
    figure.savefig(path, dpi=110)
