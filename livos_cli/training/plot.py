"""A run's log as a picture."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from livos_cli.errors import UsageError
from livos_cli.extras import install_hint

__all__ = ["plot_log"]

WINDOW = 25  # steps that the thick line averages


def plot_log(log: Path, picture: Path) -> None:
    """Draw loss, share of wrong pixels and learning rate over the steps.

    Args:
        log: the run's log.csv.
        picture: the PNG to write.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("plots need the extra 'plot' (matplotlib)", install_hint("plot")) from None
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    step = np.array([int(row["step"]) for row in rows])
    figure = Figure(figsize=(9, 7), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    for axis, name, label in zip(
        axes,
        ("loss", "wrong", "rate"),
        ("loss", "pixels decided wrongly", "learning rate"),
        strict=True,
    ):
        value = np.array([float(row[name]) for row in rows])
        thin = name != "rate"
        axis.plot(step, value, color="tab:blue", alpha=0.3 if thin else 1, linewidth=1)
        if thin and len(value) >= 2 * WINDOW:
            mean = np.convolve(value, np.full(WINDOW, 1 / WINDOW), "valid")
            axis.plot(step[WINDOW - 1 :], mean, color="tab:blue", label=f"mean of {WINDOW} steps")
            axis.legend(loc="upper right", frameon=False)
        if thin:
            axis.set_ylim(bottom=0)
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("step")
    figure.savefig(picture, dpi=110)
