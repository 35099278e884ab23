"""livos eval: layouts of the benchmarks, scores equal to vos-benchmark's, resuming, long runs."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from sequences import FRAMES, IDS, LATE, assert_equal_to_vos_benchmark, scene, write_sequence

from livos_cli.datasets import first_seen, open_dataset, read_ids
from livos_cli.errors import InputError
from livos_cli.masks.palette import encode_index_png

LAYOUTS = {
    # kind: (split asked for, folder of the frames, folder of the annotations)
    "davis16": ("val", "JPEGImages/480p", "Annotations/480p"),
    "davis17": ("val", "JPEGImages/480p", "Annotations/480p"),
    "ytvos": ("train", "train/JPEGImages", "train/Annotations"),
    "mose": ("train", "train/JPEGImages", "train/Annotations"),
    "lvos": ("valid", "valid/JPEGImages", "valid/Annotations"),
    "folder": (None, "JPEGImages", "Annotations"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LAYOUTS)
def test_scores_equal_vos_benchmark(kind: str, tmp_path: Path, livos: Any) -> None:
    """Three objects with ids 3, 17 and 200, the last of which enters at frame 4."""
    split, images, annotations = LAYOUTS[kind]
    root, out = tmp_path / "data", tmp_path / "out"
    for name, seed in (("one", 1), ("two", 2)):
        write_sequence(root / images, root / annotations, name, seed, binary=kind == "davis16")
    if kind == "davis16":
        lines = [f"/{images}/{n}/00000.jpg /{annotations}/{n}/00000.png" for n in ("one", "two")]
        (root / "ImageSets" / "480p").mkdir(parents=True)
        (root / "ImageSets" / "480p" / "val.txt").write_text("\n".join(lines))
    if kind == "davis17":
        (root / "ImageSets" / "2017").mkdir(parents=True)
        (root / "ImageSets" / "2017" / "val.txt").write_text("one\ntwo\n")
    chosen = ["--split", split] if split else []
    done = livos("eval", root, "-d", kind, *chosen, "-o", out, "--max-size", 64)
    assert done.returncode == 0, done.stderr
    results = json.loads((out / "results.json").read_text())
    assert_equal_to_vos_benchmark(results, root / annotations, out / "predictions")
    ids = {"255"} if kind == "davis16" else {"3", "17", "200"}
    assert set(results["sequences"]["one"]["objects"]) == ids
    assert f"{results['overall']['J&F']:.3f}" in done.stdout
    rows = (out / "results.csv").read_text().splitlines()
    assert len(rows) == 2 + 2 * len(ids)
    # Before its first annotation nothing is known of an object.
    if kind != "davis16":
        early = [cv2.imread(str(p)) for p in sorted((out / "predictions/one").iterdir())[:LATE]]
        late_colour = cv2.imread(str(out / "predictions/one/00004.png"))
        where = np.argwhere(scene(1)[LATE][1] == 200)[0]
        colour = late_colour[tuple(where)]
        assert all((image != colour).any(axis=-1).all() for image in early)


@pytest.mark.slow
def test_hidden_truth_gives_what_the_server_takes(tmp_path: Path, livos: Any) -> None:
    """YouTube-VOS: annotations at entries only, every second frame wanted, all frames seen."""
    root, out = tmp_path / "data", tmp_path / "out"
    write_sequence(root / "valid/JPEGImages", root / "valid/Annotations", "v", 3, only=(0, LATE))
    every = root / "valid_all_frames" / "JPEGImages"
    every.mkdir(parents=True)
    (root / "valid/JPEGImages/v").rename(every / "v")
    (root / "valid/JPEGImages/v").mkdir()
    wanted = [f"{i:05d}" for i in range(0, FRAMES, 2)]
    for stem in wanted:
        (root / f"valid/JPEGImages/v/{stem}.jpg").write_bytes(
            (every / f"v/{stem}.jpg").read_bytes()
        )
    objects = {str(i): {"category": "x", "frames": wanted} for i in IDS[1:]}
    (root / "valid/meta.json").write_text(json.dumps({"videos": {"v": {"objects": objects}}}))
    done = livos("eval", root, "-d", "ytvos", "--all-frames", "-o", out, "--max-size", 64)
    assert done.returncode == 0, done.stderr
    assert "no truth" in done.stderr
    with zipfile.ZipFile(out / "ytvos-valid.zip") as packed:
        assert packed.namelist() == [f"Annotations/v/{stem}.png" for stem in wanted]
    assert json.loads((out / "results.json").read_text())["overall"] is None


@pytest.mark.slow
def test_what_is_done_is_not_done_again(tmp_path: Path, livos: Any) -> None:
    import shutil

    root, out = tmp_path / "data", tmp_path / "out"
    for name, seed in (("a", 1), ("b", 2)):
        write_sequence(root / "JPEGImages", root / "Annotations", name, seed)

    def run(*more: object) -> Any:
        return livos("eval", root, "-o", out, "--max-size", 48, *more)

    assert run().returncode == 0
    before = (out / "results.csv").read_bytes()
    kept = out / "predictions" / "a" / "00003.png"
    stamp = kept.stat().st_mtime_ns
    shutil.rmtree(out / "predictions" / "b")
    done = run("--json")
    assert "a: " in done.stderr
    assert done.stderr.count("done before") == 1
    assert kept.stat().st_mtime_ns == stamp
    assert (out / "results.csv").read_bytes() == before
    assert json.loads(done.stdout)["sequences"]["b"]["frames"] == FRAMES

    other = run("--precision", "fp32", "--normaliser", "cumulative")
    assert other.returncode == 1
    assert "normaliser" in other.stderr
    assert kept.stat().st_mtime_ns == stamp
    assert run("--normaliser", "cumulative", "-y").returncode == 0
    assert kept.stat().st_mtime_ns != stamp
    # -y means it also where nothing but the truth has changed.
    stamp = kept.stat().st_mtime_ns
    assert run("--normaliser", "cumulative", "-y").returncode == 0
    assert kept.stat().st_mtime_ns != stamp

    (out / "settings.json").write_text("[]")
    foreign = run("-y")
    assert foreign.returncode == 1
    assert kept.exists()


@pytest.mark.slow
def test_inputs_that_do_not_fit_are_one_line(tmp_path: Path, livos: Any) -> None:
    root = tmp_path / "data"
    write_sequence(root / "JPEGImages", root / "Annotations", "a", 1)

    def complaint(*more: object, code: int = 1) -> str:
        done = livos("eval", root, "--max-size", 48, "-o", tmp_path / "out", *more, "-y")
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return str(done.stderr.strip().splitlines()[-1])

    assert "ImageSets" not in complaint("-d", "mose")
    assert "unknown dataset" in complaint("-d", "coco", code=2)
    assert "no sequence 'b'" in complaint("--sequences", "b")
    assert "--all-frames" in complaint("--all-frames", code=2)
    assert "max_size" in complaint("--max-size", 8, code=2)
    assert "no object was followed" in complaint("--long", 1)
    assert "unknown normaliser" in complaint("--normaliser", "none", code=2)
    annotation = root / "Annotations/a/00002.png"
    good = annotation.read_bytes()
    annotation.write_bytes(good[:40])
    assert "00002.png cannot be read" in complaint()
    cv2.imwrite(str(annotation), np.zeros((64, 96, 3), np.uint8))
    assert "not an index image" in complaint()
    annotation.write_bytes(encode_index_png(np.ones((32, 96), np.uint8)))
    assert "32" in complaint()
    annotation.write_bytes(good)
    (root / "JPEGImages/a/00008.jpg").unlink()
    assert "has no frame" in complaint()
    assert not (tmp_path / "out" / "results.json").exists()


def test_without_the_extra_the_error_names_it(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['vos_benchmark'] = None; from livos_cli.cli import main;"
        "sys.argv = ['livos', 'eval', sys.argv[1]]; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "needs the extra 'eval'" in done.stderr
    assert "install" in done.stderr
    assert "vos-benchmark" in done.stderr


@pytest.mark.parametrize(
    ("mode", "bits"), [("P", 1), ("P", 2), ("P", 4), ("P", 8), ("1", 1), ("L", 8)]
)
def test_annotations_are_read_by_their_raw_values(mode: str, bits: int, tmp_path: Path) -> None:
    """As Pillow, which vos-benchmark reads with, whatever the depth."""
    from PIL import Image

    values = np.random.default_rng(bits).integers(0, 2**bits, (13, 21), dtype=np.uint8)
    path = tmp_path / "a.png"
    image = Image.fromarray(values * 255 if mode == "1" else values)
    if mode == "P":
        image = Image.fromarray(values, "P")
        image.putpalette(np.random.default_rng(0).bytes(3 * 2**bits))
        image.save(path, bits=bits)
    else:
        image.convert(mode).save(path)
    with Image.open(path) as stored:
        assert stored.mode == mode
        assert np.array_equal(read_ids(path), np.array(stored).astype(np.uint8))


def test_only_first_annotations_are_given(tmp_path: Path) -> None:
    write_sequence(tmp_path / "JPEGImages", tmp_path / "Annotations", "a", 1)
    (sequence,) = open_dataset(tmp_path, "folder").sequences
    assert first_seen(sequence) == {"00000": frozenset({3, 17}), "00004": frozenset({200})}
    assert first_seen(sequence, merge=True) == {"00000": frozenset({255})}
    for path in (tmp_path / "Annotations/a").iterdir():
        path.write_bytes(encode_index_png(np.zeros((64, 96), np.uint8)))
    with pytest.raises(InputError, match="shows no object"):
        first_seen(sequence)


@pytest.mark.slow
def test_a_long_run_reports_j_by_position_and_resumes(tmp_path: Path, livos: Any) -> None:
    root, out = tmp_path / "data", tmp_path / "out"
    for name, seed in (("a", 1), ("b", 2)):
        write_sequence(root / "JPEGImages", root / "Annotations", name, seed)

    def run() -> list[dict[str, Any]]:
        done = livos("eval", root, "-o", out, "--max-size", 64, "--long", 120, "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    first = run()
    (out / "long" / "b.json").unlink()
    assert run() == first
    one, two, summary = first
    assert len(one["J"]) == 119
    assert len(one["bins"]) == 2
    assert one["bins"][0] == pytest.approx(np.mean(one["J"][:100]))
    means = [np.mean([np.mean(run["J"][part]) for run in (one, two)])
             for part in (slice(None, 100), slice(-100, None))]  # fmt: skip
    assert summary["ratio"] == pytest.approx(means[1] / means[0])
    assert one["J"][0] > 0.3  # it follows something
