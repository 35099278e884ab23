"""Masks, names and lists as other tools write them; what cannot be read is said, never guessed."""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path

import cv2
import mask_zoo
import numpy as np
import pytest
from conftest import Livos
from mask_zoo import BRIGHT, CONTENTS, Truth, draw, few, judge, many, odd, soft, tiny, zoo
from media import scene, write_png, write_video
from PIL import Image

from livos_cli.batch.discover import discover, read_list
from livos_cli.errors import InputError, OutputError
from livos_cli.files.names import LONGEST, fitting
from livos_cli.masks.names import frame_number
from livos_cli.masks.object_ids import read_mask
from livos_cli.masks.palette import DAVIS_PALETTE, decode_index_png
from livos_cli.masks.reference_masks import ReferenceMasks
from livos_cli.options import RunOptions


def read(path: Path) -> tuple[np.ndarray, str]:
    """Ids, and the notes in one text."""
    notes: list[str] = []
    ids = read_mask(path, note=notes.append)
    return ids, "\n".join(notes)


def indexed(path: Path, indices: np.ndarray, colours: np.ndarray) -> Path:
    """A palette PNG."""
    image = Image.fromarray(indices).convert("P")
    image.putpalette(colours.astype(np.uint8).ravel().tolist())
    image.save(path)
    return path


@pytest.mark.slow
def test_no_mask_is_wrong_without_a_word(tmp_path: Path) -> None:
    """28 containers times 11 contents: `python tests/mask_zoo.py` prints them."""

    def known(path: Path, notes: list[str]) -> np.ndarray:
        return read_mask(path, note=notes.append)

    cases = list(zoo(tmp_path, known))
    counts = Counter(case.verdict for case in cases)
    print(dict(counts))
    assert not [case for case in cases if case.verdict == "wrong"]
    assert counts["right"] >= 255  # of 308; it was 129, and 77 were wrong
    assert all("\n" not in case.detail for case in cases if case.verdict == "refused")


# Ids


@pytest.mark.parametrize("make", [many, odd])
@pytest.mark.parametrize("kind", ["gray", "gray16be"])
def test_more_than_64_greys_are_ids(make: object, kind: str, tmp_path: Path) -> None:
    ids = make().ids  # type: ignore[operator]
    wide = ids.astype(np.uint16) if kind == "gray16be" else ids
    assert np.array_equal(read(write_png(tmp_path / "m.png", wide, kind))[0], ids)


def test_ids_to_60000_are_the_error_about_ids(tmp_path: Path) -> None:
    path = write_png(tmp_path / "m.png", many().ids.astype(np.uint16) * 400, "gray16be")
    with pytest.raises(InputError, match="ids must be 1 to 255, found 400"):
        ReferenceMasks(path).scan(160, 96)


def test_soft_mattes_of_16_bits_are_still_one_object(tmp_path: Path) -> None:
    one = np.where(few().ids == 1, 65535, 0).astype(np.uint16)
    matte = cv2.GaussianBlur(one, (0, 0), 5)
    got, _ = read(write_png(tmp_path / "m.png", matte, "gray16be"))
    assert np.array_equal(got, matte.astype(int) * 2 > matte.max())


@pytest.mark.parametrize("kind", ["gray", "DAVIS", "others"])
def test_small_objects_beside_large_ones_stay(kind: str, tmp_path: Path) -> None:
    ids = tiny().ids
    colours = {"gray": np.arange(256, dtype=np.uint8), "DAVIS": DAVIS_PALETTE, "others": BRIGHT}
    image = colours[kind][ids]
    got, _ = read(write_png(tmp_path / "m.png", image, "gray" if kind == "gray" else "rgb24"))
    assert judge(Truth(ids), got, exact=kind != "others", lossy=False) == ""


def test_small_hard_objects_stay_beside_soft_edges(tmp_path: Path) -> None:
    truth = soft()
    image = draw(truth, BRIGHT)
    image[4:6, 80:82], image[90:92, 5:7] = (10, 250, 10), (250, 250, 10)
    got, _ = read(write_png(tmp_path / "m.png", image, "rgb24"))
    assert len(np.unique(got)) == 5
    assert (got == got[4, 80]).sum() == 4
    assert (got == got[90, 5]).sum() == 4


def test_ragged_areas_are_not_taken_for_soft_edges(tmp_path: Path) -> None:
    """As networks draw classes: by chance many a pixel lies between its neighbours' values."""
    noise = np.random.default_rng(0).normal(size=(96, 160, 19)).astype(np.float32)
    ids = cv2.GaussianBlur(noise, (0, 0), 3).argmax(-1).astype(np.uint8)
    assert np.array_equal(read(write_png(tmp_path / "m.png", ids, "gray"))[0], ids)


def test_masks_resized_with_smoothing(tmp_path: Path) -> None:
    """Colours, and black and white, are cleaned; of close ids what is between is said."""
    ids = few().ids
    size = (200, 120)
    want = cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST)
    for method in (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4):
        image = cv2.resize(DAVIS_PALETTE[ids], size, interpolation=method)
        got, _ = read(write_png(tmp_path / f"{method}.png", image, "rgb24"))
        assert judge(Truth(want, soft=True), got, exact=False, lossy=False) == ""
    got, said = read(
        write_png(
            tmp_path / "ids.png", cv2.resize(ids, size, interpolation=cv2.INTER_LINEAR), "gray"
        )
    )
    assert "value 3 is" in said or "value 4 is" in said


# Palettes


def test_a_palette_in_another_order_is_read_by_its_colours(tmp_path: Path) -> None:
    ids = few().ids
    path = indexed(tmp_path / "m.png", 255 - ids, DAVIS_PALETTE[::-1])
    got, said = read(path)
    assert np.array_equal(got, ids)
    assert "black is index 255, not 0" in said


def test_white_before_black_in_a_palette(tmp_path: Path) -> None:
    one = few().ids == 1
    path = indexed(tmp_path / "m.png", (~one).astype(np.uint8), np.array([[255] * 3, [0] * 3]))
    assert np.array_equal(read(path)[0], one)


def test_a_palette_of_soft_edges_is_read_by_its_colours(tmp_path: Path) -> None:
    truth = soft()
    picture = Image.fromarray(draw(truth, BRIGHT))
    picture.quantize(30).save(tmp_path / "m.png")
    assert len(np.unique(decode_index_png(tmp_path / "m.png"))) > 12
    got, _ = read(tmp_path / "m.png")
    assert judge(truth, got, exact=False, lossy=False) == ""


def test_dithered_palettes_are_refused(tmp_path: Path) -> None:
    colours = np.array([[0, 0, 0], [30, 144, 255], [220, 20, 60]] + [[90, 120, 40]] * 253, np.uint8)
    Image.fromarray(colours[few().ids]).convert("P").save(tmp_path / "m.png")
    with pytest.raises(InputError, match=r"is dithered: \d+ of its \d+ colours"):
        read(tmp_path / "m.png")


def test_a_web_palette_without_dithering_is_read_by_its_colours(tmp_path: Path) -> None:
    ids = np.where(few().ids > 2, 2, few().ids)
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
    Image.fromarray(colours[ids]).convert("P").save(tmp_path / "m.png")
    got, said = read(tmp_path / "m.png")
    assert set(np.unique(got)) == {0, 1, 2}
    assert "web" in said


def test_a_palette_whose_ground_is_not_black(tmp_path: Path) -> None:
    """Index 0 is the ground, as its makers mean it, and that is said."""
    ids = few().ids
    got, said = read(indexed(tmp_path / "m.png", ids, np.roll(BRIGHT, -1, axis=0)))
    assert np.array_equal(got, ids)
    assert "index 0 of its palette is #" in said


def test_the_noise_of_jpeg_in_a_png(tmp_path: Path) -> None:
    ids = np.where(few().ids > 2, 2, few().ids)
    for kind, colours in (
        ("bgr", DAVIS_PALETTE[:, ::-1]),
        ("bw", np.where(np.arange(256), 255, 0)),
    ):
        painted = colours.astype(np.uint8)[ids]
        smeared = cv2.imdecode(cv2.imencode(".jpg", painted)[1], cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(tmp_path / f"{kind}.png"), smeared)
    got, said = read(tmp_path / "bgr.png")
    assert judge(Truth(ids, soft=True), got, exact=False, lossy=True) == ""
    assert set(np.unique(got)) == {0, 1, 2}  # as the DAVIS palette numbers them
    assert "colours, as after JPEG or dithering: they are read as 3" in said
    got, _ = read(tmp_path / "bw.png")
    assert ((got == 1) != (ids > 0)).mean() < 0.01


def test_ids_after_jpeg_are_refused(tmp_path: Path) -> None:
    grey = draw(soft(), np.minimum(np.arange(256) * 100, 255).astype(np.uint8))
    smeared = cv2.imdecode(cv2.imencode(".jpg", grey)[1], cv2.IMREAD_UNCHANGED)
    path = write_png(tmp_path / "m.png", smeared, "gray")
    with pytest.raises(InputError, match="specks as JPEG leaves them"):
        read(path)
    cv2.imwrite(str(tmp_path / "dark.jpg"), few().ids)
    with pytest.raises(InputError, match="compressed with loss"):
        read(tmp_path / "dark.jpg")


# Containers


@pytest.mark.parametrize("colours", [np.arange(256, dtype=np.uint8), DAVIS_PALETTE])
def test_webp_without_loss(colours: np.ndarray, tmp_path: Path) -> None:
    ids = few().ids
    picture = Image.fromarray(colours[ids]).convert("RGB")
    picture.save(tmp_path / "m.webp", lossless=True)
    assert np.array_equal(read(tmp_path / "m.webp")[0], ids)
    Image.fromarray(DAVIS_PALETTE[ids]).save(tmp_path / "l.webp", quality=80)
    with pytest.raises(InputError, match="compressed with loss"):
        read(tmp_path / "l.webp")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.uint32, np.float32, np.float64])
@pytest.mark.parametrize("tiled", [False, True])
def test_tiff_of_any_number_and_tiled(kind: type, tiled: bool, tmp_path: Path) -> None:
    import tifffile

    how: dict[str, object] = {"tile": (32, 32), "compression": "zlib"} if tiled else {}
    tifffile.imwrite(tmp_path / "m.tif", few().ids.astype(kind), **how)  # type: ignore[arg-type]
    assert np.array_equal(read(tmp_path / "m.tif")[0], few().ids)


def test_tiff_that_holds_no_ids(tmp_path: Path) -> None:
    import tifffile

    ids = few().ids
    for name, values, why in (
        ("fractions", ids * np.float32(1.5), "fractions up to 7.5"),
        ("negative", ids.astype(np.int32) - 1, "the value -1"),
        ("nan", np.where(ids, ids, np.nan).astype(np.float32), "no numbers"),
        ("half", ids.astype(np.float16), r"16 bits \(float\)"),
    ):
        tifffile.imwrite(tmp_path / f"{name}.tif", values)
        with pytest.raises(InputError, match=why):
            read(tmp_path / f"{name}.tif")
    whole = (tmp_path / "negative.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read as an image"):
        read(tmp_path / "cut.tif")
    matte = cv2.GaussianBlur((ids == 1).astype(np.float32), (0, 0), 3)
    tifffile.imwrite(tmp_path / "matte.tif", matte)
    assert np.array_equal(read(tmp_path / "matte.tif")[0], np.round(matte * 255) * 2 > 255)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_are_turned_as_frames_are(suffix: str, orientation: int, tmp_path: Path) -> None:
    from livos_cli.video.images import read_image

    exif = Image.Exif()
    exif[274] = orientation
    one = (few().ids == 1).astype(np.uint8) * 255
    path = tmp_path / f"m{suffix}"
    how: dict[str, bool] = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(np.dstack([one] * 3)).save(path, exif=exif, **how)
    assert np.array_equal(read(path)[0] > 0, read_image(path)[..., 0] > 127)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_of_several_pictures_the_first_is_taken(suffix: str, tmp_path: Path) -> None:
    first, second = few().ids, many().ids
    pictures = [Image.fromarray(np.dstack([ids] * 3)) for ids in (first, second)]
    path = tmp_path / f"m{suffix}"
    how: dict[str, bool] = {"lossless": True} if suffix == ".webp" else {}
    pictures[0].save(path, save_all=True, append_images=pictures[1:], **how)
    got, said = read(path)
    assert np.array_equal(got, first)
    assert "holds 2 pictures: the first is taken" in said


@pytest.mark.parametrize("strength", [20, 127, 255])
def test_brushes_of_any_strength_show(strength: int, tmp_path: Path) -> None:
    ids = few().ids
    alpha = np.select([ids == 1, ids == 2], [strength, 255], 0).astype(np.uint8)
    got, _ = read(write_png(tmp_path / "two.png", np.dstack([BRIGHT[ids], alpha]), "rgba"))
    want = np.where(ids > 2, 0, ids)
    assert judge(Truth(want), got, exact=False, lossy=False) == ""
    alone = np.dstack([BRIGHT[ids], np.where(ids == 1, strength, 0).astype(np.uint8)])
    assert np.array_equal(read(write_png(tmp_path / "one.png", alone, "rgba"))[0], ids == 1)


def test_a_file_that_is_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(b"GIF89a" + bytes(40))
    with pytest.raises(InputError, match="it is a GIF"):
        read(tmp_path / "m.png")


# What became of values


def test_void_borders_are_background_and_said(tmp_path: Path) -> None:
    ids = mask_zoo.void().ids
    for name, path in (
        ("grey", write_png(tmp_path / "g.png", ids, "gray")),
        ("palette", write_png(tmp_path / "p.png", ids, "pal8")),
    ):
        got, said = read(path)
        assert np.array_equal(got, np.where(ids == 255, 0, ids)), name
        assert "value 255 is a thin border" in said
    stick = few().ids
    stick[4:8, 10:150] = 255  # thin, but no border of others
    assert np.array_equal(read(write_png(tmp_path / "s.png", stick, "gray"))[0], stick)


def test_a_map_without_background_is_said(tmp_path: Path) -> None:
    ids = few().ids + 1
    got, said = read(write_png(tmp_path / "m.png", ids, "gray"))
    assert np.array_equal(got, ids)
    assert "has no background" in said
    assert "69 % of them of object 1" in said


def test_ids_in_one_channel_are_said(tmp_path: Path) -> None:
    ids = few().ids
    painted = np.dstack([3 * ids, 0 * ids, 0 * ids])
    got, said = read(write_png(tmp_path / "m.png", painted, "rgb24"))
    assert "#030000 is 1, #060000 is 2, #0f0000 is 3" in said
    assert set(np.unique(got)) == {0, 1, 2, 3}
    assert read(write_png(tmp_path / "d.png", DAVIS_PALETTE[ids], "rgb24"))[1] == ""


# Names


def test_a_percent_in_a_masks_name_is_no_pattern(tmp_path: Path) -> None:
    ids = few().ids
    write_png(tmp_path / "m001.png", many().ids, "pal8")
    path = write_png(tmp_path / "m%03d.png", ids, "pal8")
    assert np.array_equal(read(path)[0], ids)
    assert np.array_equal(decode_index_png(path), ids)


def test_a_percent_in_a_videos_name_is_no_pattern(tmp_path: Path) -> None:
    from livos_cli.video.reader import open_source

    images = [rgb for rgb, _ in scene(64, 96, 3)]
    for number, rgb in enumerate(images):
        cv2.imwrite(str(tmp_path / f"f{number:03d}.png"), rgb)
    cv2.imwrite(str(tmp_path / "f%03d.png"), images[1][..., ::-1])
    with open_source(tmp_path / "f%03d.png") as source:
        read_ = [frame.rgb for frame in source]
    assert len(read_) == 1
    assert np.abs(read_[0].astype(int) - images[1]).mean() < 3


def test_patterns_are_explained(livos: Livos, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    write_png(tmp_path / "m.png", few().ids, "gray")
    done = livos("segment", "frames/%05d.png", "-m", "m.png", cwd=tmp_path)
    assert done.returncode == 1
    assert "give their folder: frames" in done.stderr
    write_video(tmp_path / "v.mp4", [rgb for rgb, _ in scene(96, 160, 2)])
    done = livos("segment", "v.mp4", "-m", "frames/%05d.png", cwd=tmp_path)
    assert done.returncode == 1
    assert "give their folder: -m frames" in done.stderr


@pytest.mark.parametrize(
    ("stem", "frame"),
    [("00012", 12), ("frame_000012", 12), ("clip_00086400", 86400), ("2024_cam1_0007_mask", 7)],
)
def test_the_last_run_of_digits_is_the_frame(stem: str, frame: int) -> None:
    assert frame_number(stem) == frame
    assert frame_number("mask") is None


def test_key_masks_named_by_other_tools(tmp_path: Path) -> None:
    ids = few().ids
    write_png(tmp_path / "frame_000003.PNG", ids, "gray")
    write_png(tmp_path / "._frame_000003.PNG", ids, "gray").write_bytes(b"\0\5\26\7 of macOS")
    (tmp_path / "__MACOSX").mkdir()
    assert ReferenceMasks(tmp_path).frames == [3]
    write_png(tmp_path / "other_3.png", ids, "gray")
    with pytest.raises(InputError, match=r"other_3\.png are both for frame 3|both for frame 3"):
        ReferenceMasks(tmp_path)


def test_the_unpacked_export_of_cvat(tmp_path: Path) -> None:
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    for kind in ("SegmentationClass", "SegmentationObject"):
        ids = few().ids if kind == "SegmentationObject" else (few().ids > 0).astype(np.uint8)
        write_png(tmp_path / kind / "frame_000002.png", ids, "pal8")
    keys = ReferenceMasks(tmp_path)
    assert keys.frames == [2]
    found, warnings = keys.scan(160, 96)
    assert found == [1, 2, 5]
    assert "SegmentationObject" in warnings[0]


def test_notes_of_many_masks_are_said_once(tmp_path: Path) -> None:
    for number in range(5):
        write_png(tmp_path / f"{number:05d}.png", few().ids + 1, "gray")
    _, warnings = ReferenceMasks(tmp_path).scan(160, 96)
    assert len(warnings) == 2
    assert "cover 100 %" in warnings[1]  # of the first; the others are no news
    assert "and 4 more like it" in warnings[0]


def test_hidden_images_are_no_frames(tmp_path: Path) -> None:
    from livos_cli.video.reader import open_source

    for number, (rgb, _) in enumerate(scene(64, 96, 2)):
        cv2.imwrite(str(tmp_path / f"{number:05d}.png"), rgb)
        (tmp_path / f"._{number:05d}.png").write_bytes(b"\0\5\26\7 of macOS")
    with open_source(tmp_path) as source:
        assert source.info.image_names == ("00000", "00001")
        assert len(list(source)) == 2


@pytest.mark.parametrize("forms", [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_match_whatever_form_their_accents_have(
    forms: tuple[str, str], tmp_path: Path
) -> None:
    video, mask = (unicodedata.normalize(form, "café") for form in forms)
    for name in ("videos", "masks", "frames"):
        (tmp_path / name).mkdir()
    (tmp_path / "videos" / f"{video}.mp4").touch()
    write_png(tmp_path / "masks" / f"{mask}.png", few().ids, "gray")
    (item,) = discover([str(tmp_path / "videos")], str(tmp_path / "masks"), RunOptions())
    assert item.problem is None
    assert item.mask == str(tmp_path / "masks" / f"{mask}.png")
    assert ReferenceMasks(tmp_path / "masks", (video,)).frames == [0]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_as_windows_writes_them(encoding: str, end: str) -> None:
    names = ["p/s.mp4", "café/ж.mkv", "a"]
    data = "".join(name + end for name in names).encode(encoding)
    assert read_list(data) == names


def test_lists_with_nul_are_still_that() -> None:
    assert read_list(b"a\0b\nc\0d\0") == ["a", "b\nc", "d"]
    with pytest.raises(InputError, match="damaged letters"):
        read_list("\ufeffname\n".encode("utf-16-le") + b"\x00\xd8")


@pytest.mark.slow
def test_long_names_have_short_temporary_ones(livos: Livos, tmp_path: Path) -> None:
    stem = "é" * 120  # 240 bytes, and 9 for .mask.mkv
    write_video(tmp_path / f"{stem}.mp4", [rgb for rgb, _ in scene(96, 160, 3)])
    write_png(tmp_path / "m.png", few().ids, "gray")
    done = livos("segment", f"{stem}.mp4", "-m", "m.png", "--save", "mask", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in tmp_path.iterdir()} == {f"{stem}.mp4", f"{stem}.mask.mkv", "m.png"}
    done = livos("segment", f"{stem}.mp4", "-m", "m.png", "--save", "contours", "--save",
                 "objects", "--save", "overlay", "--save", "cutout", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_name_too_long_for_a_result_names_the_way_out(livos: Livos, tmp_path: Path) -> None:
    stem = "n" * 250
    write_video(tmp_path / f"{stem}.mp4", [rgb for rgb, _ in scene(96, 160, 2)])
    write_png(tmp_path / "m.png", few().ids, "gray")
    done = livos("segment", f"{stem}.mp4", "-m", "m.png", cwd=tmp_path)
    assert done.returncode == OutputError.exit_code
    assert "would have 259 bytes" in done.stderr
    assert "-o out.mkv" in done.stderr
    done = livos("segment", f"{stem}.mp4", "-m", "m.png", "-o", "out.mkv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_fitting_names_are_short_and_differ() -> None:
    long = ["é" * 120 + tail for tail in ("a.mask.mkv", "b.mask.mkv")]
    assert fitting("clip.mask.mkv") == "clip.mask.mkv"
    assert len({fitting(name) for name in long}) == 2
    assert all(len(fitting(name).encode()) + 24 <= LONGEST for name in long)


@pytest.mark.slow
def test_animated_webp_as_a_video_says_what_it_is(livos: Livos, tmp_path: Path) -> None:
    pictures = [Image.fromarray(rgb) for rgb, _ in scene(64, 96, 3)]
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:])
    write_png(tmp_path / "m.png", np.ones((64, 96), np.uint8), "gray")
    done = livos("segment", "a.webp", "-m", "m.png", cwd=tmp_path)
    assert done.returncode == 1
    assert "is an animated WebP" in done.stderr
    assert "convert it" in done.stderr


def test_the_zoo_has_all_contents() -> None:
    assert len(CONTENTS) * len(mask_zoo.CONTAINERS) >= 300
