"""Every kind of --save, decoded again: frames, times, size, values, alpha, sound."""

from __future__ import annotations

import contextlib
import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from media import decode, scene, times, write_png, write_video
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from livos_cli.errors import UsageError
from livos_cli.masks.polygons import keyhole, parts_of
from livos_cli.network import LiVOS
from livos_cli.options import Look, RunOptions, SegmentOptions
from livos_cli.outputs.formats import KINDS, FrameResult, Job
from livos_cli.outputs.picture_video import composite
from livos_cli.pipeline.report import Report
from livos_cli.pipeline.run import run
from livos_cli.tracker.tracker import Tracker
from livos_cli.video.colour import planar, planes_of, rgb_of
from livos_cli.video.reader import open_source
from livos_cli.video.source import Frame, SourceInfo

FRAMES = 8
ALL = tuple(KINDS)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Three objects, with sound, at an uneven rate."""
    folder = tmp_path_factory.mktemp("clip")
    made = scene(96, 128, FRAMES, objects=3, seed=8)
    ids = [frame_ids for _, frame_ids in made]
    assert set(np.unique(ids[0])) == {0, 1, 2, 3}
    pts = [0, 40, 80, 125, 160, 210, 240, 280]
    video = write_video(
        folder / "clip.mp4",
        [rgb for rgb, _ in made],
        pts=pts,
        time_base=Fraction(1, 1000),
        options={"crf": "8"},
        tone=True,
        matrix=1,
    )
    # Ids with gaps, as people have them.
    names = np.array([0, 2, 5, 200], np.uint8)
    mask = write_png(folder / "first.png", names[ids[0]], "pal8")
    return {"video": video, "mask": mask, "times": [Fraction(p, 1000) for p in pts]}


def segment(
    model: LiVOS, clip: dict[str, Any], out: Path, save: tuple[str, ...], **output: Any
) -> Report:
    options = RunOptions(save=save, output=out, **output)
    return run(clip["video"], clip["mask"], model, SegmentOptions(), options)


@pytest.fixture(scope="module")
def everything(
    clip: dict[str, Any], tiny: LiVOS, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """One run that writes every kind."""
    out = tmp_path_factory.mktemp("out")
    report = segment(tiny, clip, out, ALL, preview=out / "sheet.png")
    assert report.frames == FRAMES
    assert report.ids == (2, 5, 200)
    assert not list(out.rglob(".*"))
    return report.outputs


@pytest.fixture(scope="module")
def truth(clip: dict[str, Any], tiny: LiVOS) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Frame, ids and matte, from the tracker itself."""
    tracker = Tracker(tiny)
    rows = []
    with open_source(clip["video"]) as source:
        for frame in source:
            with av.open(str(clip["mask"])) as container:
                first = next(container.decode(video=0)).to_ndarray(format="pal8")[0]
            ids, matte = tracker.step_alpha(frame.rgb, first if frame.index == 0 else None)
            rows.append((frame.rgb, ids, matte))
    return rows


def close_in_time(got: list[Fraction], want: list[Fraction], tolerance: Fraction) -> bool:
    return len(got) == len(want) and all(
        abs(a - b) <= tolerance for a, b in zip(got, want, strict=True)
    )


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(audio=0) if p.size]


def pictures(path: Path) -> list[np.ndarray]:
    """Every frame in RGB, by the file's own tags."""
    with open_source(path) as source:
        return [frame.rgb for frame in source]


def psnr(a: np.ndarray, b: np.ndarray, top: float = 255) -> float:
    error = float(((a.astype(float) - b.astype(float)) ** 2).mean())
    return 10 * float(np.log10(top**2 / max(error, 1e-12)))


def test_matte_is_what_step_gives(tiny: LiVOS) -> None:
    made = scene(96, 128, 4, objects=2, seed=8)
    one, other, plain = Tracker(tiny), Tracker(tiny), Tracker(tiny)
    smaller = Tracker(tiny, max_size=48), Tracker(tiny, max_size=48)
    for index, (rgb, ids) in enumerate(made):
        given = ids if index in (0, 2) else None  # a mask, and a correction
        decided, matte = one.step_alpha(rgb, given)
        prob = other.step(rgb, given)
        assert np.abs(matte / 65535 - (1 - prob[0].numpy())).max() <= 1 / 65535
        assert np.array_equal(decided, plain.step_ids(rgb, given))
        downsampled = smaller[0].step_alpha(rgb, given)[1]
        want = 1 - smaller[1].step(rgb, given)[0].numpy()
        assert np.abs(downsampled / 65535 - want).max() <= 2 / 65535


@pytest.mark.parametrize("kind", ["mask", "overlay", "alpha", "matte", "cutout"])
def test_video_kinds_have_the_sources_frames_and_times(
    kind: str, everything: dict[str, Path], clip: dict[str, Any]
) -> None:
    exact = everything[kind].suffix in (".mp4", ".mov")
    tolerance = Fraction(0) if exact else Fraction(1, 2000)
    assert close_in_time(times(everything[kind]), clip["times"], tolerance)
    assert decode(everything[kind], "rgb24")[0].shape == (96, 128, 3)
    if KINDS[kind].audio:
        want = packets(clip["video"])
        assert len(want) > 5
        assert packets(everything[kind]) == want


def alpha_of(path: Path, decoder: str) -> list[np.ndarray]:
    """The alpha plane of every frame, 0 to 1."""
    context: Any = av.CodecContext.create(decoder, "r")
    planes = []
    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]
        context.extradata = stream.codec_context.extradata
        context.codec_tag = stream.codec_context.codec_tag
        context.width, context.height = stream.width, stream.height
        for packet in container.demux(video=0):
            for frame in context.decode(packet if packet.size else None):
                assert frame.format.name.startswith("yuva")
                top = (1 << frame.format.components[3].bits) - 1
                planes.append(planes_of(frame)[3] / top)
    return planes


def luma_of(path: Path) -> list[np.ndarray]:
    """The luma plane of every frame, as a share of the top value."""
    with av.open(str(path)) as container:
        return [
            planes_of(frame)[0] / (1 << frame.format.components[0].bits)
            for frame in container.decode(video=0)
        ]


def test_alpha_prores(everything: dict[str, Path], clip: dict[str, Any], truth: Any) -> None:
    path = everything["alpha"]
    assert path.name == "clip.alpha.mov"
    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]
        assert stream.codec_context.name == "prores"
        assert stream.codec_context.format.name.startswith("yuva444p1")
        assert int(stream.codec_context.colorspace) == 1
    alpha = alpha_of(path, "prores")
    assert len(alpha) == FRAMES
    for got, rgb, (frame, _, matte) in zip(alpha, pictures(path), truth, strict=True):
        # Alpha is lossless at ten bits.
        want = np.rint(matte / 65535 * 1023)
        assert np.array_equal(np.rint(got * 1023), want)
        # Straight colour: the whole picture, away from objects too. RGB of eight bits repeats
        # the halved chroma, where ten bits interpolate it.
        assert psnr(rgb, frame) > 30
    for got, want in zip(luma_of(path), luma_of(clip["video"]), strict=True):
        assert psnr(got, want, top=1) > 45


def test_alpha_vp9(clip: dict[str, Any], tiny: LiVOS, truth: Any, tmp_path: Path) -> None:
    report = segment(tiny, clip, tmp_path, ("alpha",), alpha_codec="vp9")
    path = report.outputs["alpha"]
    assert path.name == "clip.alpha.webm"
    assert any("aac" in warning and "left out" in warning for warning in report.warnings)
    assert close_in_time(times(path), clip["times"], Fraction(1, 2000))
    with av.open(str(path)) as container:
        assert container.streams.video[0].metadata.get("alpha_mode") == "1"
    alpha = alpha_of(path, "libvpx-vp9")
    for got, rgb, (frame, _, matte) in zip(alpha, pictures(path), truth, strict=True):
        assert psnr(got, matte / 65535, top=1) > 30
        assert psnr(rgb, frame) > 30


def test_alpha_pngs(clip: dict[str, Any], tiny: LiVOS, truth: Any, tmp_path: Path) -> None:
    report = segment(tiny, clip, tmp_path, ("alpha",), alpha_codec="png")
    files = sorted(report.outputs["alpha"].iterdir())
    assert [p.name for p in files] == [f"{n:05d}.png" for n in range(FRAMES)]
    for path, (frame, _, matte) in zip(files, truth, strict=True):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(image[..., 2::-1], frame)
        assert np.array_equal(image[..., 3], np.rint(matte / 65535 * 255))


@pytest.mark.parametrize(("codec", "bits"), [("ffv1", 8), ("ffv1-16", 16), ("prores", 10)])
def test_matte(
    codec: str, bits: int, clip: dict[str, Any], tiny: LiVOS, truth: Any, tmp_path: Path
) -> None:
    report = segment(tiny, clip, tmp_path, ("matte",), matte_codec=codec)
    path = report.outputs["matte"]
    exact = Fraction(0) if codec == "prores" else Fraction(1, 2000)
    assert close_in_time(times(path), clip["times"], exact)
    formats = {8: "gray", 16: "gray16le", 10: "yuv422p10le"}
    with av.open(str(path)) as container:
        pictures: list[Any] = list(container.decode(video=0))
    assert len(pictures) == FRAMES
    for picture, (_, _, matte) in zip(pictures, truth, strict=True):
        assert picture.format.name == formats[bits]
        plane = planes_of(picture)[0]
        if codec == "prores":
            assert psnr((plane.astype(float) - 64) / 876, matte / 65535, top=1) > 38
        else:
            assert np.array_equal(plane, np.rint(matte / 65535 * ((1 << bits) - 1)))


def test_cutout(everything: dict[str, Path], truth: Any) -> None:
    for got, (frame, _, matte) in zip(pictures(everything["cutout"]), truth, strict=True):
        want = composite(frame, matte, (0, 255, 0))
        # H.264 halves the colour's resolution, which a green screen shows along its edges.
        away = cv2.dilate((matte > 1311).astype(np.uint8), np.ones((9, 9))) == 0
        inside = cv2.erode((matte > 64224).astype(np.uint8), np.ones((9, 9))) > 0
        assert np.abs(got[away].astype(int) - [0, 255, 0]).mean() < 8  # a share of 2 % is left
        assert psnr(got[away], want[away]) > 34
        assert psnr(got[inside], want[inside]) > 30


def test_composite_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (300, 7, 3), dtype=np.uint8)
    matte = rng.integers(0, 65536, (300, 7), dtype=np.uint16)
    matte[0], matte[1] = 0, 65535
    share = matte[..., None] / 65535
    for image, scale in ((rgb, 1), (rgb.astype(np.uint16) * 257, 257)):
        want = image * share + np.array([10, 20, 255]) * scale * (1 - share)
        got = composite(image, matte, (10, 20, 255))
        assert got.dtype == image.dtype
        assert np.abs(got - want).max() <= 0.5 + 1e-6


def ids_of_rle(path: Path) -> list[np.ndarray]:
    frames = []
    for line in path.read_text().splitlines():
        row = json.loads(line)
        ids = np.zeros(row["size"], np.uint8)
        for item in row["objects"]:
            on = coco_mask.decode(item["segmentation"]).astype(bool)
            assert item["area"] == on.sum()
            x, y, w, h = item["bbox"]
            assert on[y : y + h, x : x + w].sum() == on.sum()
            ids[on] = item["id"]
        frames.append(ids)
    return frames


def ids_of_coco(path: Path) -> list[np.ndarray]:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
    frames = []
    for number in sorted(coco.imgs):
        image = coco.imgs[number]
        ids = np.zeros((image["height"], image["width"]), np.uint8)
        for annotation in coco.imgToAnns[number]:
            ids[coco.annToMask(annotation).astype(bool)] = annotation["track_id"]
        frames.append(ids)
    return frames


def ids_of_yolo(folder: Path, ids: tuple[int, ...]) -> list[np.ndarray]:
    """As Ultralytics does: multiply, cut off, fill."""
    frames = []
    for path in sorted(folder.glob("*.txt")):
        image = np.zeros((96, 128), np.uint8)
        for line in path.read_text().splitlines():
            number, *values = line.split()
            points = np.array(values, np.float32).reshape(-1, 2) * [128, 96]
            cv2.fillPoly(image, [points.astype(np.int32)], ids[int(number)])
        frames.append(image)
    return frames


def ids_of_objects(folder: Path) -> list[np.ndarray]:
    frames = [np.zeros((96, 128), np.uint8) for _ in range(FRAMES)]
    for path in sorted(folder.iterdir()):
        for ids, on in zip(frames, decode(path), strict=True):
            assert set(np.unique(on)) <= {0, 255}
            assert not ids[on > 0].any()
            ids[on > 0] = int(path.stem)
    return frames


def test_index_masks_of_all_kinds_agree(everything: dict[str, Path], truth: Any) -> None:
    from livos_cli.masks.palette import decode_index_png

    want = [ids for _, ids, _ in truth]
    assert all(set(np.unique(ids)) == {0, 2, 5, 200} for ids in want)
    found = {
        "mask": decode(everything["mask"]),
        "png": [decode_index_png(p) for p in sorted(everything["png"].iterdir())],
        "objects": ids_of_objects(everything["objects"]),
        "rle": ids_of_rle(everything["rle"]),
        "coco": ids_of_coco(everything["coco"]),
        "yolo": ids_of_yolo(everything["yolo"], (2, 5, 200)),
        "svg": [ids_of_svg(p) for p in sorted(everything["contours"].iterdir())],
    }
    for kind, frames in found.items():
        assert len(frames) == FRAMES, kind
        for index, (got, ids) in enumerate(zip(frames, want, strict=True)):
            assert np.array_equal(got, ids), (kind, index, int((got != ids).sum()))


def ids_of_svg(path: Path) -> np.ndarray:
    """Fill the paths, whose vertices are centres of pixels, with the even-odd rule."""
    image = np.zeros((96, 128), np.uint8)
    text = path.read_text()
    assert 'viewBox="0 0 128 96"' in text
    for object_id, data in re.findall(r'id="object-(\d+)".*? d="([^"]*)"', text):
        loops = [
            np.array([pair.split(",") for pair in loop.strip(" Z").split()], float) - 0.5
            for loop in data.split("M")
            if loop
        ]
        one = np.zeros_like(image)
        cv2.fillPoly(one, [loop.astype(np.int32) for loop in loops], 1)
        image[one > 0] = int(object_id)
    return image


def test_many_objects_each_have_their_video(tmp_path: Path) -> None:
    """More than encoders are open at once; the others are made in the end, with the same times."""
    info = SourceInfo("x", None, 64, 48, Fraction(1, 90000), Fraction(25), 3, None, 1, 1, 1, 1)
    sink = KINDS["objects"].open(tmp_path / "x.objects", Job(info, tuple(range(1, 31))))
    pictures_of = [np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) // 97 + n for n in range(3)]
    rgb = np.zeros((48, 64, 3), np.uint8)
    for index, ids in enumerate(pictures_of):
        frame = Frame(index, 3600 * index + 777 * (index == 2), index / 25, rgb)
        sink.write(frame, FrameResult(ids.astype(np.uint8)))
    sink.finish()
    sink.publish(overwrite=False)
    files = sorted((tmp_path / "x.objects").iterdir(), key=lambda p: int(p.stem))
    assert [p.name for p in files] == [f"{n}.mkv" for n in range(1, 31)]
    assert len({tuple(times(path)) for path in files}) == 1
    for number, path in enumerate(files, 1):
        for on, ids in zip(decode(path), pictures_of, strict=True):
            assert np.array_equal(on > 0, ids == number)


def test_sinks_that_share_a_deep_picture_do_not_disturb_each_other(tmp_path: Path) -> None:
    """A conversion changes its source's tags while it lasts: HDR would come out as SDR."""
    video, _ = deep_clip(tmp_path)
    with open_source(video, keep_picture=True) as source:
        frame, info = next(iter(source)), source.info
        alone = rgb_of(frame, info)
        with ThreadPoolExecutor(4) as pool:
            for other in pool.map(lambda _: rgb_of(frame, info), range(400)):
                assert np.array_equal(other, alone)
        assert int(frame.picture.color_trc) == 16


def test_sound_whose_time_runs_back_is_left_out(tmp_path: Path, tiny: LiVOS) -> None:
    """By less than counts as a new beginning; one that is goes on (`test_cases_videos.py`)."""
    made = scene(64, 64, 2, seed=5)
    one = write_video(tmp_path / "one.ts", [rgb for rgb, _ in made], tone=True)
    twice = tmp_path / "twice.ts"
    twice.write_bytes(one.read_bytes() * 2)
    mask = write_png(tmp_path / "m.png", made[0][1], "gray")
    report = segment(tiny, {"video": twice, "mask": mask}, tmp_path / "out", ("overlay",))
    assert any("packets of audio" in warning for warning in report.warnings)
    assert len(decode(report.outputs["overlay"], "rgb24")) == report.frames == 4


def test_files_beside_the_annotations(everything: dict[str, Path], clip: dict[str, Any]) -> None:
    lines = [json.loads(line) for line in everything["rle"].read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(FRAMES))
    assert [line["time"] for line in lines] == [float(t) for t in clip["times"]]
    coco = json.loads(everything["coco"].read_text())
    assert [c["id"] for c in coco["categories"]] == [2, 5, 200]
    assert [i["timestamp"] for i in coco["images"]] == [float(t) for t in clip["times"]]
    assert coco["images"][3]["file_name"] == "frame_000003.PNG"
    assert len({a["id"] for a in coco["annotations"]}) == len(coco["annotations"]) == 3 * FRAMES
    data = (everything["yolo"] / "data.yaml").read_text()
    assert data == 'names:\n  0: "object 2"\n  1: "object 5"\n  2: "object 200"\n'


def test_contours_as_json(clip: dict[str, Any], tiny: LiVOS, truth: Any, tmp_path: Path) -> None:
    path = segment(tiny, clip, tmp_path, ("contours",), contours="json").outputs["contours"]
    for line, (_, ids, _) in zip(path.read_text().splitlines(), truth, strict=True):
        image = np.zeros_like(ids)
        for item in json.loads(line)["objects"]:
            for polygon in item["polygons"]:
                loops = [polygon["outline"], *polygon["holes"]]
                one = np.zeros_like(ids)
                cv2.fillPoly(one, [np.array(loop, np.int32) for loop in loops], 1)
                image[one > 0] = item["id"]
        assert np.array_equal(image, ids)


@pytest.mark.parametrize("seed", range(12))
def test_polygons_give_the_mask_again(seed: int) -> None:
    """Blobs with holes, islands in the holes, single pixels, at the border too."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=(60, 90)), (0, 0), 1 + seed % 4)
    mask = noise > np.quantile(noise, rng.uniform(0.2, 0.9))
    image = np.zeros(mask.shape, np.uint8)
    lines = np.zeros(mask.shape, np.uint8)
    for part in parts_of(mask):
        one = np.zeros(mask.shape, np.uint8)
        cv2.fillPoly(one, [part[0], *part[1]], 1)
        image |= one
        cv2.fillPoly(lines, [keyhole(part)], 1)
    assert np.array_equal(image > 0, mask)
    # A bridge of a keyhole may take a pixel of background where parts touch by corners only.
    assert (lines > 0)[mask].all()
    assert ((lines > 0) & ~mask).sum() <= 0.005 * mask.sum()


def deep_clip(folder: Path) -> tuple[Path, np.ndarray]:
    """Ten bits: a ramp finer than eight can tell, and its mask."""
    height, width = 64, 96
    ramp = np.linspace(300, 340, width)[None].repeat(height, axis=0)
    planes = np.stack([ramp, np.full_like(ramp, 480), np.full_like(ramp, 530)], axis=2)
    path = folder / "deep.mkv"
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = 9, 9, 16
        for index in range(3):
            frame: Any = planar("yuv444p10le", np.rint(planes).astype(np.uint16).transpose(2, 0, 1))
            frame.pts, frame.colorspace, frame.color_range = index, 9, 1
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    mask = np.zeros((height, width), np.uint8)
    mask[10:50, 20:70] = 1
    write_png(folder / "deep.png", mask, "gray")
    return path, np.rint(planes).astype(np.uint16)


def test_ten_bits_and_colour_tags_are_kept(tmp_path: Path, tiny: LiVOS) -> None:
    video, planes = deep_clip(tmp_path)
    deep = {"video": video, "mask": tmp_path / "deep.png"}
    report = segment(tiny, deep, tmp_path / "out", ("alpha", "overlay", "cutout"))
    for kind in ("alpha", "overlay", "cutout"):
        with av.open(str(report.outputs[kind])) as container:
            stream: Any = container.streams.video[0]
            context = stream.codec_context
            tags = context.colorspace, context.color_primaries, context.color_trc
            assert [int(tag) for tag in tags] == [9, 9, 16], kind
            frame: Any = next(container.decode(video=0))
        assert max(c.bits for c in frame.format.components) >= 10
        assert [int(t) for t in (frame.color_primaries, frame.color_trc)] == [9, 16], kind
        if kind == "alpha":
            shift = frame.format.components[0].bits - 10
            luma = planes_of(frame)[0]
            assert np.abs((luma >> shift).astype(int) - planes[..., 0]).mean() < 1
            # Eight bits would leave a quarter of the levels.
            assert len(np.unique(np.rint(luma.mean(axis=0) / (1 << shift)))) > 30
    pngs = segment(tiny, deep, tmp_path / "png", ("alpha",), alpha_codec="png").outputs["alpha"]
    image = cv2.imread(str(pngs / "00000.png"), cv2.IMREAD_UNCHANGED)
    assert image.dtype == np.uint16
    assert len(np.unique(image[..., 1])) > 30
    webm = segment(tiny, deep, tmp_path / "webm", ("alpha",), alpha_codec="vp9")
    assert any("8 bits" in warning for warning in webm.warnings)


@pytest.mark.parametrize("rotation", [90, 180])
def test_turned_videos_come_out_upright(rotation: int, tmp_path: Path, tiny: LiVOS) -> None:
    made = scene(72, 96, 3, seed=5)
    video = write_video(
        tmp_path / "turned.mp4", [rgb for rgb, _ in made], rotation=rotation, options={"crf": "5"}
    )
    ids = np.rot90(made[0][1], rotation // 90)
    mask = write_png(tmp_path / "m.png", np.ascontiguousarray(ids), "gray")
    clip = {"video": video, "mask": mask}
    report = segment(tiny, clip, tmp_path / "out", ("alpha", "cutout"))
    turned = [np.rot90(luma, rotation // 90) for luma in luma_of(video)]
    for want, got in zip(turned, luma_of(report.outputs["alpha"]), strict=True):
        assert psnr(got, want, top=1) > 45
    with open_source(video) as source:
        for frame, got in zip(source, pictures(report.outputs["alpha"]), strict=True):
            assert got.shape == frame.rgb.shape
            assert psnr(got, frame.rgb) > 30


@pytest.mark.parametrize("sound", ["pcm_s16le", "aac"])
def test_sound_in_quicktime(sound: str, tmp_path: Path, tiny: LiVOS) -> None:
    made = scene(64, 64, 12, seed=5)
    name = "loud.mov" if sound == "aac" else "loud.mkv"
    video = write_video(tmp_path / name, [rgb for rgb, _ in made], tone=True, sound="aac")
    if sound != "aac":
        video = write_video(
            tmp_path / name, [rgb for rgb, _ in made], tone=True, sound=sound, tone_format="s16"
        )
    mask = write_png(tmp_path / "m.png", made[0][1], "gray")
    report = segment(tiny, {"video": video, "mask": mask}, tmp_path / "out", ("alpha",))
    assert b"".join(packets(report.outputs["alpha"])) == b"".join(packets(video))


def test_odd_sizes(tmp_path: Path, tiny: LiVOS) -> None:
    made = scene(65, 97, 3, seed=5)
    video = write_video(tmp_path / "odd.mp4", [rgb for rgb, _ in made], pix_fmt="yuv444p")
    mask = write_png(tmp_path / "m.png", made[0][1], "gray")
    clip = {"video": video, "mask": mask}
    report = segment(tiny, clip, tmp_path / "out", ("alpha", "matte", "cutout", "objects"))
    for kind in ("alpha", "matte", "cutout"):
        assert pictures(report.outputs[kind])[0].shape == (65, 97, 3)
    vp9 = segment(tiny, clip, tmp_path / "vp9", ("alpha",), alpha_codec="vp9").outputs["alpha"]
    assert alpha_of(vp9, "libvpx-vp9")[0].shape == (65, 97)
    prores = segment(tiny, clip, tmp_path / "m", ("matte",), matte_codec="prores")
    assert decode(prores.outputs["matte"])[0].shape == (65, 97)


def test_look_of_the_overlay() -> None:
    from livos_cli.outputs.overlay import draw_overlay

    rgb = np.full((120, 160, 3), 100, np.uint8)
    ids = np.zeros((120, 160), np.uint8)
    ids[30:90, 40:100] = 2
    plain = draw_overlay(rgb, ids, Look(opacity=1.0, outline=0, palette="ff0000,00ff00"))
    assert (plain[ids == 2] == [0, 255, 0]).all()
    assert (plain[ids == 0] == 100).all()
    assert np.array_equal(draw_overlay(rgb, ids, Look(opacity=0.0, outline=0)), rgb)
    lined = draw_overlay(rgb, ids, Look(opacity=0.0, outline=3))
    assert np.array_equal((lined != rgb).any(axis=2).sum(), 60 * 60 - 54 * 54)
    labelled = draw_overlay(rgb, ids, Look(labels=True), {2: "dog"})
    assert (labelled[:30] != 100).any()  # above the object
    deep = draw_overlay(rgb.astype(np.uint16) * 257, ids, Look())
    assert np.abs(deep / 257 - draw_overlay(rgb, ids, Look())).max() <= 1
    for bad in ("nonsense", "ff00"):
        with pytest.raises(UsageError, match="not a colour"):
            draw_overlay(rgb, ids, Look(palette=bad))


def test_labels_on_a_picture_of_sixteen_bits() -> None:
    """As on one of eight, where they are; elsewhere every bit stays."""
    from livos_cli.outputs.overlay import draw_overlay

    shallow = np.full((120, 160, 3), 90, np.uint8)
    deep = np.full((120, 160, 3), 90 * 257 + 3, np.uint16)
    ids = np.zeros((120, 160), np.uint8)
    ids[40:90, 30:90] = 2
    look = Look(labels=True)
    small, large = draw_overlay(shallow, ids, look), draw_overlay(deep, ids, look)
    assert large.dtype == np.uint16
    assert np.abs((large >> 8).astype(int) - small).max() <= 1
    plain = draw_overlay(deep, ids, Look())
    written = (draw_overlay(shallow, ids, Look()) != small).any(axis=2)
    assert written.any()
    assert np.array_equal(large[~written], plain[~written])


def test_folders_of_other_kinds_are_not_replaced(
    clip: dict[str, Any], tiny: LiVOS, tmp_path: Path
) -> None:
    from livos_cli.errors import OutputError

    segment(tiny, clip, tmp_path, ("yolo",))
    segment(tiny, clip, tmp_path, ("yolo",), overwrite=True)
    (tmp_path / "clip.yolo" / "notes.md").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.md"):
        segment(tiny, clip, tmp_path, ("yolo",), overwrite=True)


def test_preview_is_a_picture(everything: dict[str, Path]) -> None:
    sheet = cv2.imread(str(everything["preview"]))
    assert sheet.shape[1] == 1600
    # Each object's strip has its colour: 200 in the DAVIS palette is not black.
    from livos_cli.masks.palette import DAVIS_PALETTE

    for object_id in (2, 5, 200):
        colour = DAVIS_PALETTE[object_id][::-1]
        assert (sheet[-400:] == colour).all(axis=2).sum() > 1000
