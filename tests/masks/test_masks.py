"""Masks in: every common way of painting one is read as the ids that were meant."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from media import write_png

from livos_cli.errors import InputError
from livos_cli.masks.object_ids import read_mask
from livos_cli.masks.palette import DAVIS_PALETTE
from livos_cli.masks.reference_masks import ReferenceMasks, fit_mask


@pytest.fixture
def ids() -> np.ndarray:
    """Two discs and, inside one of them, a small square."""
    image = np.zeros((90, 120), np.uint8)
    cv2.circle(image, (35, 45), 25, 1, -1)
    cv2.circle(image, (85, 45), 25, 2, -1)
    image[40:50, 80:90] = 5
    return image


def antialiased(on: np.ndarray, colour: tuple[int, ...] | int) -> np.ndarray:
    """A shape as paint programs leave it: edges of intermediate values."""
    big = cv2.resize(on.astype(np.uint8) * 255, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    big = ((cv2.GaussianBlur(big, (0, 0), 4) > 127) * 255).astype(np.uint8)
    share = cv2.resize(big, on.shape[::-1], interpolation=cv2.INTER_AREA).astype(float) / 255
    return np.round(share[..., None] * np.atleast_1d(colour)).astype(np.uint8).squeeze()


def test_palette_indices_are_ids(ids: np.ndarray, tmp_path: Path) -> None:
    assert np.array_equal(read_mask(write_png(tmp_path / "m.png", ids, "pal8")), ids)


def test_grey_values_are_ids(ids: np.ndarray, tmp_path: Path) -> None:
    assert np.array_equal(read_mask(write_png(tmp_path / "m.png", ids, "gray")), ids)
    wide = ids.astype(np.uint16) * 300
    assert np.array_equal(read_mask(write_png(tmp_path / "w.png", wide, "gray16be")), wide)


@pytest.mark.parametrize("value", [1, 7, 255])
def test_black_and_one_value_is_one_object(value: int, ids: np.ndarray, tmp_path: Path) -> None:
    one = (ids > 0).astype(np.uint8)
    got = read_mask(write_png(tmp_path / "m.png", one * value, "gray"))
    assert np.array_equal(got, one * (1 if value == 255 else value))


def test_a_tiny_object_stays(ids: np.ndarray, tmp_path: Path) -> None:
    ids[0, 0] = 9
    assert np.array_equal(read_mask(write_png(tmp_path / "m.png", ids, "gray")), ids)


def test_davis_colours_are_davis_ids(ids: np.ndarray, tmp_path: Path) -> None:
    painted = DAVIS_PALETTE[ids]
    assert np.array_equal(read_mask(write_png(tmp_path / "m.png", painted, "rgb24")), ids)


def test_other_colours_are_numbered(ids: np.ndarray, tmp_path: Path) -> None:
    colours = {1: (255, 0, 0), 2: (0, 255, 0), 5: (255, 255, 255)}
    painted = np.zeros((*ids.shape, 3), np.uint8)
    for i, colour in colours.items():
        painted[ids == i] = colour
    got = read_mask(write_png(tmp_path / "m.png", painted, "rgb24"))
    assert sorted(np.unique(got)) == [0, 1, 2, 3]
    assert len({(int(a), int(b)) for a, b in zip(got.ravel(), ids.ravel(), strict=True)}) == 4


def test_antialiased_grey_edges_are_no_objects(ids: np.ndarray, tmp_path: Path) -> None:
    image = antialiased(ids == 1, 255)
    assert len(np.unique(image)) > 4
    got = read_mask(write_png(tmp_path / "m.png", image, "gray"))
    assert np.array_equal(got, image > 127)


def test_antialiased_colours_are_cleaned(ids: np.ndarray, tmp_path: Path) -> None:
    image = antialiased(ids == 1, (255, 0, 0)) + antialiased(ids == 2, (0, 0, 255))
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 6
    got = read_mask(write_png(tmp_path / "m.png", image, "rgb24"))
    assert len(np.unique(got)) == 3
    # Of colours, neighbours decide: each boundary pixel may fall to either side.
    assert ((got > 0) != ((ids == 1) | (ids == 2))).mean() < 0.03


def test_soft_mattes_are_decided_at_half(ids: np.ndarray, tmp_path: Path) -> None:
    soft = cv2.GaussianBlur((ids == 1).astype(np.uint8) * 255, (0, 0), 8)
    got = read_mask(write_png(tmp_path / "m.png", soft, "gray"))
    assert np.array_equal(got, soft.astype(int) * 2 > soft.max())


def test_cut_outs_are_what_is_not_transparent(ids: np.ndarray, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (*ids.shape, 4), np.uint8)
    picture[..., 3] = (ids == 1) * 255
    got = read_mask(write_png(tmp_path / "m.png", picture, "rgba"))
    assert np.array_equal(got, ids == 1)
    black = np.zeros((*ids.shape, 4), np.uint8)
    black[..., 3] = (ids == 2) * 255
    assert np.array_equal(read_mask(write_png(tmp_path / "b.png", black, "rgba")), ids == 2)


def test_rgba_without_transparency_is_rgb(ids: np.ndarray, tmp_path: Path) -> None:
    painted = np.dstack([DAVIS_PALETTE[ids], np.full(ids.shape, 255, np.uint8)])
    assert np.array_equal(read_mask(write_png(tmp_path / "m.png", painted, "rgba")), ids)


def test_flat_colours_on_transparency_are_objects(ids: np.ndarray, tmp_path: Path) -> None:
    painted = np.dstack([DAVIS_PALETTE[ids], (ids > 0).astype(np.uint8) * 255])
    assert np.array_equal(read_mask(write_png(tmp_path / "m.png", painted, "rgba")), ids)


def test_a_photograph_is_no_mask(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    with pytest.raises(InputError, match="looks like a picture"):
        read_mask(write_png(tmp_path / "m.png", noise, "rgb24"))
    with pytest.raises(InputError, match="looks like a picture"):
        read_mask(write_png(tmp_path / "g.png", noise[..., 0], "gray"))


def test_an_empty_mask_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="empty"):
        read_mask(write_png(tmp_path / "m.png", np.zeros((8, 8), np.uint8), "gray"))


@pytest.mark.parametrize(
    ("mask", "video"),
    [((853, 480), (854, 480)), ((1920, 1080), (1920, 1088)), ((427, 240), (854, 480))],
)
def test_the_same_shape_is_resized_with_a_warning(
    mask: tuple[int, int], video: tuple[int, int]
) -> None:
    ids = np.zeros(mask[::-1], np.int64)
    ids[10:100, 20:200] = 3
    ids[5, 5] = 4  # may not get lost
    fitted, warning = fit_mask(ids, *video, "mask")
    assert fitted.shape == video[::-1]
    assert set(np.unique(fitted)) == {0, 3, 4}
    assert warning is not None
    assert f"{mask[0]}x{mask[1]}" in warning


@pytest.mark.parametrize("mask", [(640, 480), (480, 854), (854, 460)])
def test_another_shape_is_an_error_with_both_sizes(mask: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"{mask[0]}x{mask[1]}.*854x480"):
        fit_mask(np.ones(mask[::-1], np.int64), 854, 480, "mask")


def test_a_folder_of_key_masks(ids: np.ndarray, tmp_path: Path) -> None:
    write_png(tmp_path / "00000.png", np.where(ids == 1, 1, 0).astype(np.uint8), "gray")
    write_png(tmp_path / "12.png", ids, "gray")
    keys = ReferenceMasks(tmp_path)
    assert keys.frames == [0, 12]
    assert keys.scan(120, 90)[0] == [1, 2, 5]
    first = keys.at(0, first=True, width=120, height=90)
    assert first is not None
    assert first.max() == 1
    assert keys.at(5, first=False, width=120, height=90) is None
    later = keys.at(12, first=False, width=120, height=90)
    assert later is not None
    assert np.array_equal(later, ids)


def test_key_masks_keep_the_id_of_a_colour(ids: np.ndarray, tmp_path: Path) -> None:
    red, green = (250, 10, 10), (10, 250, 10)
    first, second = (np.zeros((*ids.shape, 3), np.uint8) for _ in range(2))
    first[ids == 1] = red
    second[ids == 1], second[ids == 2] = red, green
    write_png(tmp_path / "0.png", first, "rgb24")
    write_png(tmp_path / "1.png", second, "rgb24")
    keys = ReferenceMasks(tmp_path)
    assert keys.scan(120, 90)[0] == [1, 2]
    later = keys.at(1, first=False, width=120, height=90)
    assert later is not None
    assert np.array_equal(later, np.where(ids == 5, 0, ids))


def test_masks_of_an_image_folder_have_its_names(ids: np.ndarray, tmp_path: Path) -> None:
    write_png(tmp_path / "shot_b.png", ids, "gray")
    keys = ReferenceMasks(tmp_path, image_names=("shot_a", "shot_b"))
    assert keys.frames == [1]
    with pytest.raises(InputError, match="not one of the images"):
        ReferenceMasks(tmp_path, image_names=("other",))


def test_a_folder_an_object(ids: np.ndarray, tmp_path: Path) -> None:
    write_png(tmp_path / "3" / "0.png", (ids == 1).astype(np.uint8) * 255, "gray")
    write_png(tmp_path / "dog" / "0.png", (ids == 2).astype(np.uint8) * 255, "gray")
    keys = ReferenceMasks(tmp_path)
    found, warnings = keys.scan(120, 90)
    assert found == [1, 3]
    assert keys.object_names == {3: "3", 1: "dog"}
    assert not warnings
    mask = keys.at(0, first=True, width=120, height=90)
    assert mask is not None
    assert np.array_equal(mask == 3, ids == 1)


def test_overlapping_objects_are_said(ids: np.ndarray, tmp_path: Path) -> None:
    write_png(tmp_path / "1" / "0.png", (ids == 1).astype(np.uint8) * 255, "gray")
    write_png(tmp_path / "2" / "0.png", np.full(ids.shape, 255, np.uint8), "gray")
    assert "in another object's mask" in ReferenceMasks(tmp_path).scan(120, 90, trust=True)[1][0]


def test_names_that_are_no_frame_numbers(ids: np.ndarray, tmp_path: Path) -> None:
    write_png(tmp_path / "first.png", ids, "gray")
    with pytest.raises(InputError, match="not a frame number"):
        ReferenceMasks(tmp_path)


def test_ids_beyond_255_are_refused_by_the_outputs(ids: np.ndarray, tmp_path: Path) -> None:
    path = write_png(tmp_path / "m.png", ids.astype(np.uint16) * 300, "gray16be")
    with pytest.raises(InputError, match="1 to 255"):
        ReferenceMasks(path).scan(120, 90)


def test_white_is_one_id_in_all_masks_of_a_folder(ids: np.ndarray, tmp_path: Path) -> None:
    """Alone, black and white is one object; beside other values or colours it is one of them."""
    white = np.where(ids == 1, 255, 0).astype(np.uint8)
    write_png(tmp_path / "grey" / "0.png", white, "gray")
    both = np.select([ids == 1, ids == 2], [255, 128], 0).astype(np.uint8)
    write_png(tmp_path / "grey" / "1.png", both, "gray")
    grey = ReferenceMasks(tmp_path / "grey")
    assert grey.scan(120, 90)[0] == [128, 255]

    write_png(tmp_path / "rgb" / "0.png", np.dstack([white] * 3), "rgb24")
    painted = np.dstack([white] * 3)
    painted[ids == 2] = (255, 0, 0)
    write_png(tmp_path / "rgb" / "1.png", painted, "rgb24")
    rgb = ReferenceMasks(tmp_path / "rgb")
    assert rgb.scan(120, 90)[0] == [1, 2]
    first, later = (rgb.at(n, first=n == 0, width=120, height=90) for n in (0, 1))
    assert first is not None
    assert later is not None
    assert np.array_equal(first > 0, ids == 1)
    assert np.array_equal(later == first.max(), ids == 1)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp"])
def test_black_and_white_in_other_formats(suffix: str, ids: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / f"m{suffix}"
    cv2.imwrite(str(path), np.where(ids == 1, 255, 0).astype(np.uint8))
    got = read_mask(path)
    assert set(np.unique(got)) == {0, 1}
    assert ((got == 1) != (ids == 1)).mean() < 0.01


def test_ids_in_a_lossy_image_are_refused(ids: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "m.jpg"
    cv2.imwrite(str(path), ids * 40)
    with pytest.raises(InputError, match="compressed with loss"):
        read_mask(path)


def test_a_folder_of_both_kinds_is_refused(ids: np.ndarray, tmp_path: Path) -> None:
    write_png(tmp_path / "dog" / "0.png", ids, "gray")
    write_png(tmp_path / "1.png", ids, "gray")
    with pytest.raises(InputError, match="both folders and images"):
        ReferenceMasks(tmp_path)


def test_an_empty_object_folder_is_refused(ids: np.ndarray, tmp_path: Path) -> None:
    write_png(tmp_path / "dog" / "0.png", ids, "gray")
    (tmp_path / "cat").mkdir()
    with pytest.raises(InputError, match="cat holds no masks"):
        ReferenceMasks(tmp_path)
