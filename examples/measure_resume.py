"""What resuming costs: a run interrupted before its last frame, against one that was left alone.

python examples/measure_resume.py VIDEO MASK FRAMES
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from livos_cli.errors import InterruptionError
from livos_cli.options import Checkpointing, Position, RunOptions, SegmentOptions
from livos_cli.pipeline.run import run
from livos_cli.weights.load import load_model


def after(frames: int) -> Callable[[], bool]:
    """Says stop when it has been asked so many times."""
    asked = iter(range(1, frames + 1))
    return lambda: next(asked) == frames


def main() -> None:
    video, mask, frames = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    model = load_model("lite")
    options = SegmentOptions(end=Position(frame=frames))

    def seconds(out: Path, kind: str, keep: Checkpointing | None = None) -> float:
        started = time.perf_counter()
        with suppress(InterruptionError):
            run(video, mask, model, options, RunOptions(save=(kind,), output=out), keep=keep)
        return time.perf_counter() - started

    for kind in ("mask", "overlay", "alpha"):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            alone = seconds(root / "alone", kind)
            often = seconds(root / "often", kind, Checkpointing("weights", 10.0))
            seconds(root / "cut", kind, Checkpointing("weights", 1e9, stop=after(frames - 1)))
            again = seconds(root / "cut", kind, Checkpointing("weights", 1e9))
        print(
            f"{kind}: alone {alone:.1f} s; with checkpoints every 10 s {often:.1f} s; "
            f"resumed at the last frame {again:.2f} s, {100 * again / alone:.1f} %"
        )


if __name__ == "__main__":
    main()
