"""What the authors of LiVOS state of their weights, measured again.

    python examples/reproduce_published.py --davis DAVIS -o OUT
    python examples/reproduce_published.py --mose MOSE -o OUT

DAVIS and MOSE are the benchmarks' folders. On DAVIS 2017 val `livos-nomose-ft-480p` has J&F 85.1;
on MOSE valid `livos-wmose-480p` has 64.8, which the benchmark's server says of the archive in
OUT/mose: its annotations are not public. The weights come from Google Drive
(the extras `drive` and `eval`), or `--weights FILE` names one. An interrupted run resumes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from livos_cli.weights.registry import REGISTRY

DAVIS, MOSE = "livos-nomose-ft-480p", "livos-wmose-480p"


def evaluate(root: Path, kind: str, weights: str, out: Path, more: list[str]) -> None:
    """`livos eval`, which prints its scores or where the archive for the server is."""
    command = ["eval", str(root), "--dataset", kind, "--weights", weights, "-o", str(out / kind)]
    done = subprocess.run([sys.executable, "-m", "livos_cli", *command, *more], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--davis", type=Path, help="folder of DAVIS 2017")
    parser.add_argument("--mose", type=Path, help="folder of MOSE")
    parser.add_argument("--weights", help="instead of the authors'")
    parser.add_argument("-o", "--output", type=Path, default=Path("reproduced"))
    asked, more = parser.parse_known_args()  # what is left goes to `livos eval`: --device cuda
    if asked.davis is None and asked.mose is None:
        parser.error("give --davis DAVIS, --mose MOSE, or both")
    for root, kind, name in ((asked.davis, "davis17", DAVIS), (asked.mose, "mose", MOSE)):
        if root is not None:
            print(f"{name}: its authors state {REGISTRY[name].stated}", flush=True)
            evaluate(root, kind, asked.weights or name, asked.output, more)


if __name__ == "__main__":
    main()
