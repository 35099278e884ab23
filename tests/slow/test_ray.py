"""Many devices: the same masks as one after the other, and workers that are lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY_WEIGHTS
from media import decode, scene, write_png, write_video

from livos_cli.batch.job import Batch
from livos_cli.batch.ray_cluster import Cluster, work_on_ray
from livos_cli.errors import UsageError
from livos_cli.options import RunOptions, SegmentOptions

pytest.importorskip("ray", reason="the extra `ray` is not installed")
VIDEOS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ray")
    for name in ("videos", "masks"):
        (root / name).mkdir()
    for number in range(VIDEOS):
        made = scene(96, 128, 120, objects=2, seed=number)
        write_video(root / "videos" / f"v{number}.mp4", [rgb for rgb, _ in made])
        write_png(root / "masks" / f"v{number}.png", made[0][1], "pal8")
    (root / "videos" / "text.mp4").write_text("no video")
    write_png(root / "masks" / "text.png", made[0][1], "pal8")
    return root


def command(root: Path, out: Path, *more: object) -> list[str]:
    return [
        sys.executable, "-m", "livos_cli", "segment", str(root / "videos"), "-m",
        str(root / "masks"), "-o", str(out), "--device", "cpu", "--json", *map(str, more),
    ]  # fmt: skip


def workers(mark: str) -> list[int]:
    """Processes that are at a task, of the cluster with this mark in its environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                name = (entry / "cmdline").read_bytes()
                if (
                    name.startswith(b"ray::livos segment")
                    and mark.encode() in (entry / "environ").read_bytes()
                ):
                    found.append(int(entry.name))
            except OSError:
                continue  # it has ended
    return found


@pytest.mark.skipif(not Path("/proc").exists(), reason="workers are found in /proc (Linux)")
def test_two_workers_and_one_that_is_killed(folder: Path, tmp_path: Path) -> None:
    plain = subprocess.run(
        command(folder, tmp_path / "plain"), capture_output=True, text=True, check=False
    )
    assert plain.returncode == 1, plain.stderr
    mark = f"livos-test-{os.getpid()}"
    out = tmp_path / "ray"
    process = subprocess.Popen(
        command(folder, out, "--devices", "cpu,cpu", "--checkpoint", 0.2),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "LIVOS_TEST_MARK": mark},
    )
    deadline = time.monotonic() + 120
    at_it: list[int] = []
    while time.monotonic() < deadline and not (at_it := workers(mark)):
        time.sleep(0.05)
    while time.monotonic() < deadline and not list(out.glob(".livos/*/state-*.safetensors")):
        time.sleep(0.02)
    assert at_it
    os.kill(workers(mark)[0], signal.SIGKILL)
    told, said = process.communicate(timeout=240)
    assert process.returncode == 1, said
    records = [json.loads(line) for line in told.splitlines()]
    assert sorted(r["status"] for r in records) == ["done"] * VIDEOS + ["failed"]
    assert all(Path(r["video"]).parent == folder / "videos" for r in records)
    assert "cannot be read as a video" in next(r["error"] for r in records if r["error"])
    report = (out / "report.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in report] == records
    for number in range(VIDEOS):
        name = f"v{number}.mask.mkv"
        assert (out / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert not list(out.glob(".livos-*"))
    assert not list(out.glob(".livos/*.unfinished"))


def test_each_task_runs_on_the_gpu_that_it_was_given() -> None:
    """A process that has used a GPU cannot change to another: simulated, for want of four."""
    import ray

    from livos_cli.batch import ray_cluster

    def probe(number: int) -> tuple[str, str]:
        import os
        import sys
        import time

        now = os.environ["CUDA_VISIBLE_DEVICES"]
        used = vars(sys).setdefault("livos_used", now)  # as CUDA does at its first use
        time.sleep(0.05 * number)
        return used, now

    ray_cluster._ray()
    try:
        ray.init(num_cpus=4, num_gpus=4, include_dashboard=False, log_to_driver=False)
        task = ray_cluster._remote(ray, probe, 1.0)
        told = []
        for _ in range(6):  # between them, processes and GPUs are free again
            told += ray.get([task.remote(number) for number in range(4)])
            time.sleep(0.3)
    finally:
        ray.shutdown()
    assert [one for one in told if one[0] != one[1]] == []
    assert len({now for _, now in told}) > 1


def test_stretches_between_masks(tmp_path: Path, livos: Any) -> None:
    """Each stretch as it would be alone; together one video with every frame, and its sound."""
    made = scene(96, 128, 60, objects=2, seed=3)
    video = write_video(tmp_path / "long.mp4", [rgb for rgb, _ in made], tone=True)
    for frame in (0, 20, 45):
        ids = made[frame][1] if frame != 45 else np.where(made[45][1] == 1, 1, 0).astype(np.uint8)
        write_png(tmp_path / "masks" / f"{frame:05d}.png", ids, "pal8")
    done = livos(
        "segment", video, "-m", tmp_path / "masks", "-o", tmp_path / "out", "--split-at-masks",
        "--devices", "cpu,cpu", "--save", "mask", "--save", "overlay", "--save", "matte",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "3 of 3 stretches are tracked" in done.stderr
    assert "frame 45 is without object 2" in done.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "long.mask.mkv", "long.matte.mkv", "long.overlay.mp4"
    ]  # fmt: skip
    whole = decode(tmp_path / "out" / "long.mask.mkv")
    assert len(whole) == 60
    for begin, end in ((0, 20), (20, 45), (45, 60)):
        alone = tmp_path / f"{begin}"
        part = livos(
            "segment", video, "-m", tmp_path / "masks" / f"{begin:05d}.png", "-o", alone,
            "--start", f"{begin}f", "--end", f"{end}f", "--save", "png", "--device", "cpu",
        )  # fmt: skip
        assert part.returncode == 0, part.stderr
        from livos_cli.masks.object_ids import read_mask

        for index in range(begin, end):
            ids = read_mask(alone / "long" / f"{index:05d}.png", allow_empty=True)
            assert np.array_equal(whole[index], ids), index


def test_wrong_usage_is_said(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, livos: Any
) -> None:
    batch = Batch(SegmentOptions(), RunOptions(), "w")
    with pytest.raises(UsageError, match="it takes cuda:0,cuda:1"):
        next(
            work_on_ray(
                [], batch, Cluster(None, str(TINY_WEIGHTS), "cpu", "fp32", 1, ("cpu", "tpu"))
            )
        )
    with pytest.raises(UsageError, match="of another"):
        next(work_on_ray([], batch, Cluster("auto", str(TINY_WEIGHTS), "cpu", "fp32", 1, ("cpu",))))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="needs the extra 'ray'"):
        next(work_on_ray([], batch, Cluster(None, str(TINY_WEIGHTS), "cpu", "fp32")))
    video, mask = folder / "videos" / "v0.mp4", folder / "masks" / "v0.png"
    for more, says in (
        (["-m", mask], "fewer than two frames"),
        (["-m", folder / "masks", "--list", "-"], "takes one video"),
        (["-m", mask, "--start", "3f"], "remove --start"),
    ):
        done = livos("segment", video, "--split-at-masks", "-o", tmp_path / "o", *more, stdin=b"")
        assert done.returncode == 2
        assert says in done.stderr
        assert len(done.stderr.splitlines()) == 1
