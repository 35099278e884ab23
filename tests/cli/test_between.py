"""What one part makes and another takes: names, printed commands, reasons."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import Livos
from media import scene, write_png, write_video

from livos_cli.batch.discover import discover
from livos_cli.cli.next_command import correction
from livos_cli.errors import InputError
from livos_cli.masks.reference_masks import ReferenceMasks
from livos_cli.options import RunOptions
from livos_cli.pipeline.doubts import Doubt
from livos_cli.pipeline.report import Report
from livos_cli.weights.registry import DEFAULT, OPEN

IDS = scene(64, 96, 1)[0][1]


# Names that `livos mask` gives, in folders.


@pytest.mark.parametrize(
    ("name", "frame"),
    [("clip.first", 0), ("clip7.first", 0), ("clip7.00012", 12), ("00012", 12)],
)
def test_a_mask_keeps_its_frame_in_a_folder(name: str, frame: int, tmp_path: Path) -> None:
    """`clip7.first.png` was taken for frame 7."""
    write_png(tmp_path / f"{name}.png", IDS, "gray")
    assert ReferenceMasks(tmp_path).frames == [frame]


def test_masks_of_image_folders_keep_their_frames_in_a_folder(tmp_path: Path) -> None:
    images = ("a_0005", "a_0006", "a.b", "b")
    for name in ("shot.first", "shot.a_0006", "shot.a.b"):
        write_png(tmp_path / f"{name}.png", IDS, "gray")
    assert ReferenceMasks(tmp_path, images).frames == [0, 1, 2]
    write_png(tmp_path / "shot.a_0007.png", IDS, "gray")
    with pytest.raises(InputError, match="is not one of the images"):
        ReferenceMasks(tmp_path, images)


def test_masks_of_many_videos_as_livos_mask_names_them(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.mp4").touch()
        write_png(tmp_path / f"{name}.first.png", IDS, "gray")
    own = write_png(tmp_path / "b.png", IDS, "gray")  # a name of its own goes first
    items = discover([str(tmp_path)], str(tmp_path), RunOptions())
    assert [item.mask for item in items] == [
        str(tmp_path / "a.first.png"), str(own), str(tmp_path / "c.first.png"),
    ]  # fmt: skip


@pytest.mark.slow
def test_two_masks_of_livos_mask_in_a_folder(livos: Livos, tmp_path: Path) -> None:
    made = scene(96, 128, 8, seed=1)
    write_video(tmp_path / "clip7.mp4", [rgb for rgb, _ in made])
    (tmp_path / "keys").mkdir()
    for number, name in ((0, "clip7.first.png"), (5, "clip7.00005.png")):
        y, x = np.nonzero(made[number][1] == 1)
        box = f"{x.min()},{y.min()},{x.max() + 1},{y.max() + 1}"
        done = livos("mask", "clip7.mp4", "--frame", f"{number}f", "--box", box, "-q", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        (tmp_path / name).rename(tmp_path / "keys" / name)
    done = livos("segment", "clip7.mp4", "-m", "keys", "--save", "png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no mask" not in done.stderr
    assert "no frame" not in done.stderr


# The printed correction, typed as it is.


def steps_of(stderr: str, box: str) -> list[str]:
    """The lines that are to be typed, the box filled in."""
    lines = stderr.splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith("to correct object"))
    steps = [line.strip() for line in lines[begin + 1 :] if line.startswith("  ")]
    return [step.replace("X0,Y0,X1,Y1", box) for step in steps]


def typed_in(steps: list[str], folder: Path) -> list[subprocess.CompletedProcess[str]]:
    return [
        subprocess.run(
            re.sub(r"^livos ", f"{sys.executable} -m livos_cli ", step),
            shell=True, cwd=folder, capture_output=True, text=True,
        )
        for step in steps
    ]  # fmt: skip


@pytest.fixture(scope="module")
def lost() -> list[tuple[np.ndarray, np.ndarray]]:
    """An object, and a cut after which it is lost."""
    return scene(96, 128, 8, seed=1) + scene(96, 128, 8, seed=23)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["-clip 1.mp4", "clip.mp4"])
def test_the_correction_is_typed_as_it_is(
    name: str, lost: list[tuple[np.ndarray, np.ndarray]], livos: Livos, tmp_path: Path
) -> None:
    """Names that look like options, and a folder `masks` with masks of other videos."""
    write_video(tmp_path / name, [rgb for rgb, _ in lost], options={"crf": "10"})
    (tmp_path / "masks").mkdir()
    write_png(tmp_path / "masks" / "-it's.png", lost[0][1], "gray")
    mask = "masks/-it's.png"
    done = livos("segment", f"./{name}", "-m", mask, "--max-size", 96, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    y, x = np.nonzero(lost[8][1])
    box = f"{x.min()},{y.min()},{x.max() + 1},{y.max() + 1}"
    for result in typed_in(steps_of(done.stderr, box), tmp_path):
        assert result.returncode == 0, result.stderr
    folder = tmp_path / f"{Path(name).stem}.masks"
    assert len(list(folder.iterdir())) == 2


def test_a_correction_does_not_take_another_objects_frame(tmp_path: Path) -> None:
    """Two objects that are lost at one frame: the second mask would replace the first."""
    (video := tmp_path / "clip.mp4").touch()
    (masks := tmp_path / "keys").mkdir()
    for name in ("00000", "clip.00008", "00010"):
        write_png(masks / f"{name}.png", IDS, "gray")

    def frame_of(doubt: Doubt) -> str:
        sizes = ((64, 96), (64, 96))
        report = Report(20, 1.0, (1, 2), {}, {}, *sizes, None, (), 5, (doubt,))
        return correction(str(video), masks, report, DEFAULT)[1].split("--frame ")[1].split()[0]

    assert frame_of(Doubt(2, 8, 0.3, 19, True, 0.1)) == "9f"
    assert frame_of(Doubt(2, 10, 0.3, 8, True, 0.1)) == "9f"  # backward
    assert frame_of(Doubt(2, 8, 0.3, 8, True, 0.1)) == "8f"  # no other is doubtful


def test_a_correction_goes_where_masks_are_read(tmp_path: Path) -> None:
    """Of an unpacked export that is one of its folders."""
    (video := tmp_path / "clip.mp4").touch()
    inner = tmp_path / "export" / "SegmentationObject"
    for folder in (inner, tmp_path / "export" / "JPEGImages"):
        folder.mkdir(parents=True)
    write_png(inner / "frame_000000.png", IDS, "gray")
    doubt = Doubt(1, 8, 0.3, 19, True, 0.1)
    report = Report(20, 1.0, (1,), {}, {}, (64, 96), (64, 96), None, (), 0, (doubt,))
    made, again = correction(str(video), tmp_path / "export", report, DEFAULT)[1:]
    assert made.endswith(f"-o {inner}")
    assert again.endswith(f"-m {tmp_path / 'export'} -y")


@pytest.mark.parametrize(("weights", "said"), [(OPEN, f"-w {OPEN} "), (DEFAULT, "")])
def test_a_correction_has_a_mask_of_the_same_terms(weights: str, said: str, tmp_path: Path) -> None:
    (video := tmp_path / "clip.mp4").touch()
    doubt = Doubt(1, 8, 0.3, 19, True, 0.1)
    report = Report(20, 1.0, (1,), {}, {}, (64, 96), (64, 96), None, (), 0, (doubt,))
    lines = correction(str(video), tmp_path / "first.png", report, weights)
    assert f"--id 1 {said}--box" in lines[2]


# A kind that is lost does not take what is known of the others.


@pytest.mark.slow
def test_doubts_are_said_where_a_kind_is_lost(
    lost: list[tuple[np.ndarray, np.ndarray]], livos: Livos, tmp_path: Path
) -> None:
    """The mask is written, and doubtful; MP4 cannot hold how long a frame is shown."""
    (tmp_path / "in").mkdir()
    with av.open(str(tmp_path / "in" / "jump.mkv"), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.time_base = Fraction(1, 1000)
        for index, (rgb, _) in enumerate(lost):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = index * 40 + (index > 2) * 3_600_000_000, stream.time_base
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    write_png(tmp_path / "in" / "jump.png", lost[0][1], "gray")
    saved = ["--save", "mask,overlay"]
    one = livos("segment", "in/jump.mkv", "-m", "in/jump.png", *saved, "-o", "one", cwd=tmp_path)
    many = livos("segment", "in", "-m", "in", *saved, "-o", "many", "--json", cwd=tmp_path)
    for done in (one, many):
        assert done.returncode == 1
        assert "object 1: doubtful from frame" in done.stderr
        assert "cannot write jump.overlay.mp4" in done.stderr
    record = json.loads(many.stdout)
    assert record["status"] == "failed"
    assert list(record["outputs"]) == ["mask"]
    assert record["frames"] == len(lost)
    assert record["doubts"]


# Masks beside others in a folder.


def test_a_second_mask_of_a_frame_is_refused_before_it_is_written(
    livos: Livos, tmp_path: Path
) -> None:
    """It was written, and the folder could not be read any more."""
    rgb, ids = scene(96, 128, 1, seed=1)[0]
    write_video(tmp_path / "clip.mp4", [rgb])
    (tmp_path / "keys").mkdir()
    write_png(tmp_path / "keys" / "clip.first.png", ids, "gray")
    made = ["mask", "clip.mp4", "--box", "10%,10%,90%,90%", "-o"]
    done = livos(*made, "keys", "-y", cwd=tmp_path)
    assert done.returncode == 1
    assert "keys/clip.first.png is already a mask of frame 0" in done.stderr
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["clip.first.png"]


def test_a_mask_beside_other_pictures(livos: Livos, tmp_path: Path) -> None:
    """The folder is none of masks; the command that comes next takes the mask alone."""
    rgb, ids = scene(96, 128, 1, seed=1)[0]
    write_video(tmp_path / "clip.mp4", [rgb])
    write_png(tmp_path / "photo.png", ids, "gray")
    done = livos("mask", "clip.mp4", "--box", "10%,10%,90%,90%", "-o", ".", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "next: livos segment clip.mp4 -m 00000.png" in done.stderr
