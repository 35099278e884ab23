"""Compare what two versions of livos write, byte for byte: all kinds, and a resumed run's.

    python tests/same_outputs.py BEFORE AFTER

BEFORE and AFTER are checkouts. Everything that a user sees must be equal, but for times and paths
in reports. A run that BEFORE began and did not end is finished by AFTER, too.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WEIGHTS = Path(__file__).parent / "data" / "tiny.safetensors"
QUICK = ["--device", "cpu", "--precision", "fp32", "--max-size", "96", "--weights", str(WEIGHTS)]
TIMES = re.compile(rb'"(seconds|fps|peak_memory|started|ended|mib|[a-z_]*seconds)": ?[\d.e+-]+')


def command(checkout: Path, *words: object) -> tuple[list[str], dict[str, str]]:
    path = f"{checkout}{os.pathsep}{checkout / 'kernels'}"
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    # Run in the checkout: Python takes what lies in the folder that it is called from.
    program = (
        f"import livos_cli.cli as c; assert c.__file__.startswith({str(checkout)!r}); c.main()"
    )
    return [sys.executable, "-c", program, *map(str, words)], env


def livos(checkout: Path, *words: object, stdin: Path | None = None) -> bytes:
    line, env = command(checkout, *words)
    data = None if stdin is None else stdin.read_bytes()
    done = subprocess.run(line, cwd=checkout, env=env, input=data, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(line)}\n{done.stderr.decode()}")
    return done.stdout


def interrupted(checkout: Path, *words: object) -> None:
    """Start a run and stop it as soon as it has written a checkpoint."""
    line, env = command(checkout, *words)
    out = Path(str(words[words.index("-o") + 1]))
    # In a group of its own, and able to be interrupted where this script is not.
    process = subprocess.Popen(
        line,
        cwd=checkout,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    while process.poll() is None and not list(out.glob(".livos/*.unfinished/state*")):
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    if process.returncode == 0:
        raise SystemExit(f"it ended before it could be interrupted: {said.decode()}")


def everything(checkout: Path, example: Path, root: Path) -> None:
    """One run of every kind, from the example's clip, into `root`."""
    clip, first = example / "clip.mp4", example / "first.png"
    masks = root / "masks"
    masks.mkdir(parents=True)
    shutil.copy(first, masks / "0.png")
    shutil.copy(first, masks / "20.png")
    end = ["--end", "24f", *QUICK]
    kinds = "mask,overlay,png,alpha,matte,cutout,objects,rle,coco,yolo,contours"
    said = livos(
        checkout, "segment", clip, "-m", first, "-o", root / "all", "--save", kinds, *end,
        "--preview", root / "sheet.png", "--json",
    )  # fmt: skip
    (root / "all.jsonl").write_bytes(said)
    livos(
        checkout, "segment", clip, "-m", first, "-o", root / "codecs", *end,
        "--save", "alpha,matte,contours,overlay", "--alpha-codec", "vp9",
        "--matte-codec", "ffv1-16", "--contours", "json", "--labels", "--palette", "okabe-ito",
    )  # fmt: skip
    livos(
        checkout, "segment", clip, "-m", first, "-o", root / "both", *end,
        "--from", "12f", "--direction", "both", "--save", "mask,png,matte",
    )  # fmt: skip
    livos(
        checkout, "segment", clip, "-m", masks, "-o", root / "refine", *end,
        "--refine", "--drop", "1@15f", "--save", "mask,matte,overlay",
    )  # fmt: skip
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", clip, "-c", "copy", root / "stream.mkv"], check=True
    )
    stream = root / "stream.mkv"  # an MP4 file cannot be read from a pipe
    piped = livos(checkout, "segment", "-", "-m", first, "-o", "-", *end, stdin=stream)
    stream.unlink()
    (root / "piped.mkv").write_bytes(piped)
    videos = root / "videos"
    videos.mkdir()
    for name in ("a", "b"):
        shutil.copy(clip, videos / f"{name}.mp4")
        shutil.copy(first, masks.parent / f"{name}.png")
    matched = root / "matched"
    matched.mkdir()
    for name in ("a", "b"):
        shutil.move(root / f"{name}.png", matched / f"{name}.png")
    livos(checkout, "segment", videos, "-m", matched, "-o", root / "batch", *end)
    livos(checkout, "mask", clip, "--box", "100,60,220,180", "-o", root / "drawn.png")


def long_run(example: Path, out: Path) -> list[object]:
    return [
        "segment", example / "clip.mp4", "-m", example / "first.png", "-o", out, *QUICK,
        "--checkpoint", "0.05", "--save", "mask,matte,png,rle",
    ]  # fmt: skip


def digests(root: Path) -> dict[str, str]:
    """What a user sees, by relative name."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and "/." not in f"/{name}":
            data = path.read_bytes()
            if path.suffix in {".json", ".jsonl"}:
                data = TIMES.sub(b"", data).replace(os.fsencode(root), b"")
            found[name] = hashlib.sha256(data).hexdigest()[:16]
    return found


def main() -> None:
    before, after = (Path(word).resolve() for word in sys.argv[1:3])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        example = root / "example"  # the same files for both
        shutil.copytree(before / "examples", example)
        found = []
        for name, checkout in (("before", before), ("after", after)):
            everything(checkout, example, root / name)
            again = long_run(example, root / name / "resumed")
            interrupted(checkout, *again)
            livos(checkout, *again)
            found.append(digests(root / name))
        # What the old version began, the new one finishes.
        mixed = long_run(example, root / "mixed" / "resumed")
        interrupted(before, *mixed)
        livos(after, *mixed)
        old, new = found
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                print(f"differs: {name}: {old.get(name)} {new.get(name)}")
        for name, digest in digests(root / "mixed").items():
            if old.get(name) != digest:
                print(f"begun before, finished after, differs: {name}")
        print(f"{len(old)} files before, {len(new)} after, {old == new}")
        sys.exit(old != new)


if __name__ == "__main__":
    main()
