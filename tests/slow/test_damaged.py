"""Two hundred damaged files in one folder: none stops the others, or hangs, or is called done."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import av
import cv2
import numpy as np
from media import decode

SEED = 7
FILES = 200
SLOWEST = 30  # seconds that one file may take


def first_gop(clip: Path, target: Path, container: str, frames: int = 12) -> bytes:
    """The beginning of a clip in another container, its packets as they are."""
    with av.open(str(clip)) as source, av.open(str(target), "w", format=container) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for count, packet in enumerate(source.demux(video=0)):
            if count == frames or not packet.size:
                break
            packet.stream = stream
            out.mux(packet)
    return target.read_bytes()


def damaged(rng: random.Random, sound: dict[str, bytes]) -> tuple[str, bytes, str]:
    """One damaged file: its suffix, its bytes, and what was done to it."""
    suffix = rng.choice(sorted(sound))
    data = bytearray(sound[suffix])
    how = rng.choice(["cut", "flipped", "headless", "misnamed", "empty", "noise", "hole"])
    if how == "cut":
        del data[rng.randrange(1, len(data)) :]
    elif how == "flipped":
        for _ in range(rng.choice([1, 10, 100, 1000])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == "headless":
        data[: rng.choice([16, 256, 4096])] = b""
    elif how == "misnamed":
        suffix = rng.choice([".avi", ".mkv", ".webm", ".ts", ".mpg", ".wmv"])
    elif how == "empty":
        data.clear()
    elif how == "noise":
        data[:] = rng.randbytes(20000)
    else:
        at = rng.randrange(len(data))
        data[at : at + 4000] = bytes(len(data[at : at + 4000]))
    return suffix, bytes(data), how


def test_two_hundred_damaged_files(shared: Path, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    clips = sorted((shared / "data" / "clips").glob("*.mp4"))
    videos, masks = tmp_path / "videos", tmp_path / "masks"
    videos.mkdir()
    masks.mkdir()
    sound = [
        {
            suffix: first_gop(clip, tmp_path / f"sound{suffix}", container)
            for suffix, container in ((".mp4", "mp4"), (".mkv", "matroska"), (".ts", "mpegts"))
        }
        for clip in clips
    ]
    kinds = {}
    for number in range(FILES):
        which = number % len(clips)
        suffix, data, how = damaged(rng, sound[which])
        name = f"{number:03d} {how}"
        kinds[name] = how
        (videos / f"{name}{suffix}").write_bytes(data)
        cv2.imwrite(str(masks / f"{name}.png"), box_mask(clips[which]))

    process = subprocess.Popen(
        [sys.executable, "-m", "livos_cli", "segment", str(videos), "-m", str(masks), "-o",
         str(tmp_path / "out"), "--device", "cpu", "--max-size", "32", "--json"],
        stdout=subprocess.PIPE,
        stderr=(tmp_path / "errors.txt").open("w"),
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    told, slowest, before = [], 0.0, None
    for line in process.stdout:
        now = time.monotonic()
        slowest = max(slowest, now - (before or now))
        before = now
        told.append(json.loads(line))
    process.wait(timeout=60)
    said = (tmp_path / "errors.txt").read_text()
    assert process.returncode == 1, said[-2000:]  # not a signal: nothing crashed
    assert "Traceback" not in said
    assert len(told) == FILES
    assert not [r for r in told if "traceback" in r], next(r for r in told if "traceback" in r)
    assert slowest < SLOWEST

    report = (tmp_path / "out" / "report.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in report] == told
    counts: Counter[tuple[str, str]] = Counter()
    for record in told:
        how = kinds[Path(record["video"]).stem]
        counts[how, record["status"]] += 1
        there = [Path(path).exists() for path in record["outputs"].values()]
        assert there == ([True] if record["status"] == "done" else []), record
        assert (record["error"] is None) == (record["status"] == "done")
        if record["status"] == "done":
            frames = len(decode(Path(record["outputs"]["mask"])))
            assert frames == record["frames"], record
    print(f"slowest {slowest:.1f} s; {dict(sorted(counts.items()))}")
    assert len(list((tmp_path / "out").glob("*.mkv"))) == sum(
        number for (_, status), number in counts.items() if status == "done"
    )
    assert not list((tmp_path / "out").glob(".livos-*"))
    # What was found before the damage stays, for whoever mends the file.
    done = {Path(r["video"]).stem for r in told if r["status"] == "done"}
    kept = list((tmp_path / "out" / ".livos").glob("*.unfinished"))
    assert not done & {path.name.removesuffix(".mask.mkv.unfinished") for path in kept}
    assert all(list(path.glob("state-*.safetensors")) for path in kept)
    # What must fail, fails; a name that does not fit its content does no harm.
    for how in ("empty", "noise"):
        assert not counts[how, "done"]
    assert not counts["misnamed", "failed"]
    assert counts["cut", "failed"] > counts["cut", "done"]


def box_mask(clip: Path) -> np.ndarray:
    """A mask of the clip's size: a box in the middle."""
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        height, width = stream.height, stream.width
    mask = np.zeros((height, width), np.uint8)
    mask[height // 3 : height // 2, width // 3 : width // 2] = 255
    return mask
