"""Small files that ask for all memory, all disk or all time."""

from __future__ import annotations

import json
import os
import pickle
import resource
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import TINY_WEIGHTS
from media import decode, scene, write_png, write_video

from livos_cli.batch import remote
from livos_cli.errors import InputError, WeightsError
from livos_cli.masks.polygons import MOST_CORNERS, keyhole, parts_of, within
from livos_cli.masks.reference_masks import ReferenceMasks
from livos_cli.network import SMALL, TINY, LiVOS
from livos_cli.network.config import LiVOSConfig
from livos_cli.options import RunOptions
from livos_cli.video.image_size import declared_size
from livos_cli.video.images import ImageFolderSource
from livos_cli.weights.convert import METADATA_KEY, read_checkpoint
from livos_cli.weights.load import load_checked

BUILTIN = TINY_WEIGHTS


def peak() -> int:
    """Bytes resident at most, so far, of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# Weights.


def small_safetensors(path: Path, config: str) -> Path:
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, {METADATA_KEY: config})
    return path


def with_config(**settings: object) -> str:
    return json.dumps({**json.loads(TINY.to_json()), **settings})


@pytest.mark.parametrize(
    "settings",
    [
        {"stages": [8192, 8192, 8192], "stem": 8192, "embed": 8192, "feed_forward": 8192},
        {"image_depths": [100, 100, 100], "transformer_blocks": 100},
    ],
    ids=["wide", "deep"],
)
def test_a_few_bytes_ask_for_a_giant_network(settings: dict[str, Any], tmp_path: Path) -> None:
    path = small_safetensors(tmp_path / "bomb.safetensors", with_config(**settings))
    assert path.stat().st_size < 2000
    before, started = peak(), time.monotonic()
    with pytest.raises(WeightsError, match="does not fit its own configuration"):
        load_checked(path)
    assert peak() - before < 300 << 20
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (with_config(stem=True), "stem is True"),
        (with_config(stages=[32, True, 64]), "stages is"),
        (with_config(mean=[0.5, 0.5, False]), "mean is"),
        (with_config(std=[0.2, 0.2, 0]), "mean and std are"),
        (with_config(mean=[float("nan"), 0.5, 0.5]), "mean and std are"),
        (with_config(image_depths=[8192, 1, 1]), "a depth of 8192 is more than 100"),
        (with_config(stem=10**400), "stem is 1000"),
        (with_config(stem="x" * 10**6), "stem is 'xxx"),
        (with_config(heads=3), "must be a multiple"),
        (with_config(queries=7), "even"),
        (with_config(**{"y" * 10**6: 1}), "unknown settings"),
        ("[" * 200_000 + "]" * 200_000, "nested too deeply"),
        ('{"stem":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
        (with_config(stem=1).replace("1,", "9" * 5000 + ",", 1), "cannot be read"),
        ("[]", "no table of settings"),
        ("null", "no table of settings"),
        ('"stem"', "no table of settings"),
        ("{", "cannot be read"),
    ],
    ids=lambda v: v[:24] if isinstance(v, str) else str(v),
)
def test_a_configuration_that_is_none(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=said) as caught:
        LiVOSConfig.from_json(text)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)
    with pytest.raises(WeightsError, match=said):
        read_checkpoint(small_safetensors(tmp_path / "w.safetensors", text))


def test_configurations_of_ours_are_still_read() -> None:
    for config in (TINY, SMALL, replace(TINY, size=240, mean=(0.0, 0.0, 0.0))):
        assert LiVOSConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    "content",
    [
        {1: torch.zeros(2)},
        {"a": torch.zeros(2), 2.5: torch.zeros(2)},
        {("a", 1): torch.zeros(2)},
        {"model": {3: torch.zeros(2)}},
        {"a": torch.zeros(2, dtype=torch.complex64)},
        {"a": torch.eye(2).to_sparse()},
        {"a": torch.zeros(2), "b": None},
        [torch.zeros(2)],
        5,
    ],
    ids=str,
)
def test_a_pickle_that_is_no_table_of_names(content: object, tmp_path: Path) -> None:
    for new in (True, False):
        path = tmp_path / f"w{new}.pth"
        torch.save(content, path, _use_new_zipfile_serialization=new)
        with pytest.raises(WeightsError, match="not a table of named tensors"):
            read_checkpoint(path)


@pytest.mark.slow
def test_a_deeply_nested_pickle(tmp_path: Path, livos: Any) -> None:
    deep = b"\x80\x02" + b"(" * 100_000 + b"K\x01" + b"l" * 100_000 + b"."
    (tmp_path / "deep.pth").write_bytes(deep)
    nested = b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    with zipfile.ZipFile(tmp_path / "nested.pth", "w") as archive:
        archive.writestr("archive/data.pkl", nested)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    for name in ("deep.pth", "nested.pth"):
        done = livos("weights", "convert", tmp_path / name, tmp_path / "out.safetensors")
        assert done.returncode == 1, done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr[-500:]


def test_a_pickle_that_is_packed_small(tmp_path: Path) -> None:
    """Zeros without end: torch packs without compression, so nothing is lost by refusing this."""
    whole, packed = tmp_path / "whole.pth", tmp_path / "packed.pth"
    torch.save({"a": torch.zeros(20_000_000)}, whole)
    with (
        zipfile.ZipFile(whole) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert packed.stat().st_size < 200_000
    before = peak()
    with pytest.raises(WeightsError, match="would unpack to 80,"):
        read_checkpoint(packed)
    assert peak() - before < 40 << 20


def test_damaged_pickles_are_one_line_whatever_the_damage(tmp_path: Path) -> None:
    """Two hundred of them; nothing in them is run, so whatever is raised, it is the file."""
    rng = np.random.default_rng(3)
    torch.save({"a": torch.arange(6.0), "b": {"c": [1, "x"]}}, tmp_path / "zip.pth")
    torch.save({"a": torch.arange(6.0)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    counts: dict[str, int] = {}
    for number in range(200):
        data = bytearray((tmp_path / ("zip.pth", "old.pth")[number % 2]).read_bytes())
        for at in rng.integers(0, len(data), int(rng.integers(1, 8))):
            data[at] = int(rng.integers(0, 256))
        path = tmp_path / "damaged.pth"
        path.write_bytes(data)
        with pytest.raises(WeightsError) as caught:  # no table of LiVOS's, at best
            read_checkpoint(path)
        assert "\n" not in caught.value.message
        kind = caught.value.message.replace(str(path), "").split("(")[0].strip()
        counts[kind] = counts.get(kind, 0) + 1
    print(counts)


def test_a_file_of_another_network_is_not_read_whole(tmp_path: Path) -> None:
    """A hole of 20 GB: a header that fits its size, and shapes that are not ours."""
    header = json.dumps({"a": {"dtype": "U8", "shape": [20 << 30], "data_offsets": [0, 20 << 30]}})
    path = tmp_path / "hole.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header.encode())
        file.truncate(file.tell() + (20 << 30))
    before = peak()
    with pytest.raises(WeightsError, match="can be recognised"):
        load_checked(path)
    assert peak() - before < 1 << 30
    path.unlink()


def test_a_network_is_still_read() -> None:
    tensors, config = load_checked(BUILTIN)
    assert config == TINY
    assert set(tensors) == set(LiVOS(TINY).state_dict())


# Images.


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def giant_png(path: Path, width: int, height: int) -> Path:
    """Zeros, packed: a kilobyte a megapixel."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(b"\0" * (width + 1)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    png = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(png))
    return path


@pytest.fixture
def clip(tmp_path: Path) -> dict[str, Path]:
    video = write_video(tmp_path / "clip.mp4", [f for f, _ in scene(96, 128, 3)])
    mask = np.zeros((96, 128), np.uint8)
    mask[20:60, 20:70] = 255
    return {"video": video, "mask": write_png(tmp_path / "first.png", mask, "gray")}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
@pytest.mark.parametrize("size", [(1, 1), (37, 21), (640, 360)])
@pytest.mark.parametrize("channels", [1, 3])
def test_sizes_are_read_from_headers(
    suffix: str, size: tuple[int, int], channels: int, tmp_path: Path
) -> None:
    width, height = size
    path = tmp_path / f"a{suffix}"
    shape = (height, width) if channels == 1 else (height, width, 3)
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert cv2.imwrite(str(path), image)
    assert declared_size(path) == (width, height)
    whole = path.read_bytes()
    for cut in range(0, 60, 3):  # never an error
        path.write_bytes(whole[:cut])
        assert declared_size(path) in (None, (width, height))


def test_sizes_of_other_forms(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for quality in (50, 101):  # with loss and without
        cv2.imwrite(f"{path}.webp", np.zeros((9, 7, 3), np.uint8), [64, quality])
        assert declared_size(Path(f"{path}.webp")) == (7, 9)
    vp8x = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\x4f\x46\0" + b"\xbb\x34\0"
    (tmp_path / "x.webp").write_bytes(vp8x)
    assert declared_size(tmp_path / "x.webp") == (0x464F + 1, 0x34BB + 1)
    (tmp_path / "loop.jpg").write_bytes(b"\xff\xd8" + b"\xff\xe0\0\0" * 9)
    assert declared_size(tmp_path / "loop.jpg") is None
    (tmp_path / "text.png").write_text("no picture")
    assert declared_size(tmp_path / "text.png") is None
    assert declared_size(tmp_path / "nothing.png") is None


def as_one(mask: Path, _: Path) -> Path:
    return mask


def in_a_folder(mask: Path, folder: Path) -> Path:
    (folder / "masks").mkdir()
    os.link(mask, folder / "masks" / "00000.png")
    small = np.full((96, 128), 255, np.uint8)
    small[:50] = 0
    write_png(folder / "masks" / "00001.png", small, "gray")
    return folder / "masks"


def an_object(mask: Path, folder: Path) -> Path:
    (folder / "objects" / "cat").mkdir(parents=True)
    os.link(mask, folder / "objects" / "cat" / "00000.png")
    return folder / "objects"


@pytest.mark.parametrize("arrange", [as_one, in_a_folder, an_object])
def test_a_giant_mask(arrange: Callable[[Path, Path], Path], tmp_path: Path) -> None:
    """As the first attack was: 18,000 x 13,500 in 270 KB, for a video of 128x96."""
    giant = giant_png(tmp_path / "giant.png", 18_000, 13_500)
    assert giant.stat().st_size < 300_000
    before, started = peak(), time.monotonic()
    with pytest.raises(InputError, match="18000x13500, the video 128x96: more than 4 times"):
        ReferenceMasks(arrange(giant, tmp_path)).scan(128, 96)
    assert peak() - before < 20 << 20
    assert time.monotonic() - started < 5


@pytest.mark.slow
def test_a_mask_four_times_as_large_is_still_resized(
    clip: dict[str, Path], tmp_path: Path, livos: Any
) -> None:
    mask = cv2.imread(str(clip["mask"]), cv2.IMREAD_GRAYSCALE)
    for times, code in ((4, 0), (5, 1)):
        large = np.kron(mask, np.ones((times, times), np.uint8))
        path = write_png(tmp_path / f"{times}.png", large, "gray")
        out = tmp_path / f"out{times}"
        done = livos("segment", clip["video"], "-m", path, "-o", out)
        assert done.returncode == code, done.stderr
        assert ("resized to fit" if code == 0 else "more than 4 times") in done.stderr
        assert out.exists() == (code == 0)


def test_a_giant_image_in_a_folder_of_frames(tmp_path: Path) -> None:
    write_png(tmp_path / "f" / "00.png", np.zeros((96, 128), np.uint8), "gray")
    giant_png(tmp_path / "f" / "01.png", 18_000, 13_500)
    before = peak()
    with ImageFolderSource(tmp_path / "f", None, None) as source:
        frames = iter(source)
        next(frames)
        with pytest.raises(InputError, match=r"01.png is 18000x13500, the first image 128x96"):
            next(frames)
    assert peak() - before < 20 << 20


def test_frames_that_no_machine_has_memory_for(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 2_000_000, 2_000_000, 8, 0, 0, 0, 0)
    (tmp_path / "f").mkdir()
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")
    (tmp_path / "f" / "00.png").write_bytes(png)
    with pytest.raises(InputError, match=r"needs \d+\.\d GiB at least, and .* are free"):
        ImageFolderSource(tmp_path / "f", None, None)
    # One that fits, but is larger than OpenCV takes: said, not a fault.
    wide = struct.pack(">IIBBBBB", 1 << 21, 16, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", wide) + chunk(b"IEND", b"")
    (tmp_path / "f" / "00.png").write_bytes(png)
    with pytest.raises(InputError, match="not an image that can be read"):
        ImageFolderSource(tmp_path / "f", None, None)


# Outlines.


def noise(height: int, width: int, share: float) -> np.ndarray:
    return np.random.default_rng(0).random((height, width)) < share


def corners(parts: list[Any]) -> int:
    return sum(len(outline) + sum(map(len, holes)) for outline, holes in parts)


def filled(parts: list[Any], shape: tuple[int, int]) -> np.ndarray:
    image = np.zeros(shape, np.uint8)
    for outline, holes in parts:
        cv2.fillPoly(image, [outline], 1)
        for hole in holes:
            inner = np.zeros(shape, np.uint8)
            cv2.fillPoly(inner, [hole], 1)
            cv2.polylines(inner, [hole], True, 0)  # a hole's line lies on the object
            image[inner > 0] = 0
    return image > 0


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_outlines_of_noise_are_bounded(share: float) -> None:
    parts = parts_of(noise(360, 640, share))
    assert corners(parts) > MOST_CORNERS
    started = time.monotonic()
    kept, lost = within(parts)
    assert 0 < corners(kept) <= MOST_CORNERS
    assert lost > 0
    for part in kept:
        keyhole(part)
    assert time.monotonic() - started < 20


def test_outlines_of_real_masks_are_kept_whole() -> None:
    mask = np.zeros((400, 600), np.uint8)
    cv2.circle(mask, (300, 200), 150, 1, -1)
    cv2.circle(mask, (300, 200), 50, 0, -1)
    mask[10:20, 10:20] = 1
    parts = parts_of(mask)
    kept, lost = within(parts)
    assert lost == 0
    assert [len(o) for o, _ in kept] == [len(o) for o, _ in parts]
    assert (filled(kept, mask.shape) == (mask > 0)).all()


def test_what_is_left_out_is_the_smallest() -> None:
    mask = np.zeros((300, 300), np.uint8)
    mask[10:200, 10:200] = 1
    mask[50:100, 50:100] = 0  # a large hole and many small
    mask[120:180:4, 120:180:4] = 0
    mask[220:240, 220:240] = 1
    kept, lost = within(parts_of(mask), 4 + 8 + 4)
    assert corners(kept) <= 16
    assert lost > 200
    area = filled(kept, mask.shape)
    assert not area[60:90, 60:90].any()
    assert area[30:40, 30:150].all()
    assert area[225:235, 225:235].all()
    # Not even its outline fits.
    comb = np.zeros((100, 4000), np.uint8)
    comb[:50] = 1
    comb[50:, ::4] = 1
    (outline, _), *_ = within(parts_of(comb), 50)[0]
    assert 3 <= len(outline) <= 50


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "more"), [("yolo", []), ("contours", []), ("contours", ["--contours", "json"])]
)
def test_a_mask_of_noise_ends(
    kind: str, more: list[str], tmp_path: Path, livos: Any, clip: dict[str, Path]
) -> None:
    """The first frame's result is its mask, which is noise of 200,000 corners."""
    video = write_video(tmp_path / "large.mp4", [f for f, _ in scene(480, 640, 1)])
    mask = write_png(tmp_path / "noise.png", noise(480, 640, 0.6).astype(np.uint8) * 2, "gray")
    out = tmp_path / "out"
    done = livos(
        "segment",
        video,
        "-m",
        mask,
        "-o",
        out,
        "--save",
        kind,
        "--max-size",
        32,
        *more,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "corners" in line]
    assert len(said) == 1
    assert "1 times, first of object 2 in frame 0" in said[0]
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    assert 1000 < size < 2_000_000
    # A mask like others: not a word.
    done = livos("segment", clip["video"], "-m", clip["mask"], "-o", out, "--save", kind, *more)
    assert done.returncode == 0, done.stderr
    assert "corners" not in done.stderr


def test_yolo_of_noise_is_made_of_its_corners(tmp_path: Path) -> None:
    from fractions import Fraction

    from livos_cli.outputs.formats import KINDS, FrameResult, Job
    from livos_cli.video.source import Frame, SourceInfo

    ids = noise(300, 400, 0.6).astype(np.uint8)
    info = SourceInfo("n", None, 400, 300, Fraction(1, 25), Fraction(25), 2, None, 1, 1, 1, 1)
    sink = KINDS["yolo"].open(tmp_path / "n.yolo", Job(info, (1,), {}, RunOptions()))
    for index in range(2):
        sink.write(
            Frame(index, index, index / 25, np.zeros((300, 400, 3), np.uint8)), FrameResult(ids)
        )
    sink.finish()
    sink.publish(False)
    assert len(sink.warnings) == 1
    assert "2 times, first of object 1 in frame 0" in sink.warnings[0]
    points = sum(
        len(line.split()) // 2 for line in (tmp_path / "n.yolo/00000.txt").read_text().splitlines()
    )
    assert 1000 < points < 2 * MOST_CORNERS


# Archives.


def test_an_archive_that_unpacks_to_more_than_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    packed = tmp_path / "bomb.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("v/a.mp4", b"\0" * 30_000_000)
        archive.writestr("v/b.mp4", b"\0" * 30_000_000)
    assert packed.stat().st_size < 100_000
    # So that a disk of any size has room for 20 MB.
    share = 20e6 * 100 / shutil.disk_usage(tmp_path).free
    monkeypatch.setattr(remote, "SHARE_OF_DISK", share)
    for name in ("v/a.mp4", "v"):
        target = tmp_path / name.replace("/", "-") / "video"
        target.parent.mkdir()
        with pytest.raises(InputError, match="of what the disk of temporary files has free"):
            remote.fetch(f"zip://{name}::file://{packed}", target)
        assert sum(p.stat().st_size for p in target.rglob("*") if p.is_file()) < 30_000_000
    monkeypatch.undo()
    there = remote.fetch(f"zip://v::file://{packed}", tmp_path / "whole")
    assert sorted(p.name for p in there.iterdir()) == ["a.mp4", "b.mp4"]


def test_a_giant_image_in_a_zip_of_training_images(tmp_path: Path) -> None:
    from livos_cli.training.sources import Budget, load_stills

    packed = tmp_path / "stills.zip"
    with (
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.jpg", "w", force_zip64=True) as entry,
    ):
        for _ in range(300):
            entry.write(b"\0" * (1 << 20))
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("a.png", b"")
    before = peak()
    with pytest.raises(InputError, match="unpacks to 314,572,800 bytes"):
        load_stills(packed, Budget(1 << 30))
    assert peak() - before < 50 << 20


# Tests of attacks that never got through.


class Harm:
    """A pickle that would run a command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("form", ["pickle", "zip", "old"])
def test_pickles_that_run_code(form: str, tmp_path: Path) -> None:
    path, harm = tmp_path / "w.pth", tmp_path / "harm"
    if form == "pickle":
        path.write_bytes(pickle.dumps({"a": Harm(harm)}, protocol=2))
    else:
        torch.save({"a": Harm(harm)}, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(WeightsError, match="holds code, not only tensors; it was not run"):
        read_checkpoint(path)
    assert not harm.exists()


@pytest.mark.slow
def test_a_playlist_leads_to_no_network(clip: dict[str, Path], tmp_path: Path, livos: Any) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        place = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        texts = {
            "a.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{place}\n#EXT-X-ENDLIST\n",
            "b.mp4": f"ffconcat version 1.0\nfile '{place}'\n",
            "c.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{place}\n#EXT-X-ENDLIST\n",
        }
        for name, text in texts.items():
            (tmp_path / name).write_text(text)
            done = livos("segment", tmp_path / name, "-m", clip["mask"], "-o", tmp_path / "out")
            assert done.returncode == 1, done.stderr
            assert len(done.stderr.splitlines()) == 1
            with pytest.raises(TimeoutError):
                server.accept()
    assert decode(clip["video"], "gray")  # and a file is read as ever
