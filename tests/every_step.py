"""Kill a batch before each of its changes to the file system in turn, and run it again.

    python tests/every_step.py FOLDER

FOLDER holds videos/ and masks/. Prints how many steps there were, and on which it went wrong.
Each run is a fork of this process, which has imported everything.
"""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import sys
from pathlib import Path

import torch
from media import files, visible

from livos_cli.cli import main

CHANGES = frozenset({"open", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir"})


def run(root: Path, out: Path, kill_at: int) -> int:
    """The command in a process of its own, killed before its n-th change; 0 for not at all.

    Returns:
        What os.waitpid says: 0 if it ended well.
    """
    if pid := os.fork():
        return os.waitpid(pid, 0)[1]
    log = os.open(root / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    changes = 0

    def see(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal changes
        if event not in CHANGES or not str(arguments[0]).startswith(str(out)):
            return
        if event == "open":
            flags = arguments[2]
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR):
                return
        changes += 1
        if changes == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(see)
    sys.argv = [
        "livos", "segment", str(root / "videos"), "-m", str(root / "masks"), "-o", str(out),
        "--device", "cpu", "--max-size", "48", "--checkpoint", "0.0001",
        "--save", "mask", "--save", "png",
    ]  # fmt: skip
    try:
        main()
    except SystemExit as error:
        os._exit(int(error.code or 0))
    os._exit(1)


def results(out: Path) -> dict[str, bytes]:
    """What a user sees, but for the report."""
    return {n: data for n, data in files(out).items() if visible(n) and n != "report.jsonl"}


def check(root: Path) -> None:
    for name in ("livos_cli.batch.work", "livos_cli.weights.load"):
        importlib.import_module(name)  # once, not in every run
    torch.set_num_threads(1)  # threads do not come along into a fork
    assert run(root, root / "whole", 0) == 0
    want = results(root / "whole")
    assert len(want) > 1
    left = sorted(path.name for path in (root / "whole" / ".livos").iterdir())
    out = root / "out"
    step = 1
    while run(root, out, step):
        for name, data in results(out).items() if out.exists() else ():
            if data != want.get(name):
                print(f"step {step}: {name} is half-written")
        if run(root, out, 0):
            print(f"step {step}: the second run failed: {(root / 'log').read_text()}")
        if results(out) != want:
            print(f"step {step}: other results")
        for path in out.rglob(".livos-*"):
            print(f"step {step}: {path} is left")
        if sorted(path.name for path in (out / ".livos").iterdir()) != left:
            print(f"step {step}: {list((out / '.livos').iterdir())}")
        shutil.rmtree(out)
        step += 1
    print(f"{step - 1} steps")


if __name__ == "__main__":
    check(Path(sys.argv[1]).absolute())
