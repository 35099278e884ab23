"""From a video without a mask to the next command: what a newcomer types, and is told."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import EXAMPLES
from media import decode, scene, write_png, write_video

from livos_cli.errors import InputError, UsageError
from livos_cli.evaluation.score import jaccard
from livos_cli.masks.checks import check_meant
from livos_cli.masks.palette import decode_index_png
from livos_cli.masks.single_mask import frame_of_single
from livos_cli.options import Position, SegmentOptions
from livos_cli.pipeline.positions import resolve_positions

FRAMES = 10
CHEAP = ["--device", "cpu", "--max-size", 64]


def box_of(mask: np.ndarray) -> str:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return f"{columns[0]},{rows[0]},{columns[-1] + 1},{rows[-1] + 1}"


@pytest.fixture(scope="module")
def made() -> list[Any]:
    return scene(120, 160, FRAMES, objects=2, seed=12)


@pytest.fixture
def place(made: list[Any], tmp_path: Path) -> Path:
    """A folder with a video whose name a shell would take apart."""
    write_video(tmp_path / "my clip.mp4", [rgb for rgb, _ in made], options={"crf": "8"})
    return tmp_path


def next_command(stderr: str) -> list[str]:
    """The command that was printed, as a shell takes it; without the program's name."""
    (line,) = [line for line in stderr.splitlines() if "next: " in line]
    words = shlex.split(line.partition("next: ")[2])
    assert words[0] == "livos"
    return words[1:]


# 1. the frame number in a mask's name


@pytest.mark.parametrize(
    ("name", "video", "frame"),
    [
        ("clip.00100.png", "clip", 100),
        ("clip.00000.png", "clip", 0),
        ("clip.1234567.png", "clip", 1234567),
        ("a.b.00007.png", "a.b", 7),
        ("cafe\u0301.00007.png", "caf\u00e9", 7),
        ("clip.first.png", "clip", None),
        ("first1.png", "clip", None),
        ("photo2.png", "photo", None),
        ("clip.2.png", "clip", None),
        ("clip.2034.png", "clip", None),
        ("IMG_2034.png", "clip", None),
        ("IMG_20341.png", "IMG", None),
        ("00100.png", "clip", None),
        ("other.00100.png", "clip", None),
        ("clip.00100.png", "clip.00100", None),
        ("clip.\u0661\u0662\u0663\u0664\u0665.png", "clip", None),
    ],
)
def test_only_a_name_that_livos_mask_writes_says_a_frame(
    name: str, video: str, frame: int | None
) -> None:
    assert frame_of_single(Path(name), video) == frame


def test_names_of_image_folders() -> None:
    images = ("a_001", "a_002", "00007")
    assert frame_of_single(Path("shot.a_002.png"), "shot", images) == 1
    assert frame_of_single(Path("a_002.png"), "shot", images) == 1
    assert frame_of_single(Path("shot.00007.png"), "shot", images) == 2
    assert frame_of_single(Path("shot.00002.png"), "shot", images) is None
    assert frame_of_single(Path("shot.first.png"), "shot", images) is None


def test_a_name_begins_there(place: Path, made: list[Any], livos: Any) -> None:
    """As was seen: the mask of a later frame was taken for frame 0, and floor was tracked."""
    mask = write_png(place / "my clip.00004.png", made[4][1], "gray")
    out = place / "out.mkv"
    done = livos("segment", "my clip.mp4", "-m", mask.name, "-o", out.name, *CHEAP, cwd=place)
    assert done.returncode == 0, done.stderr
    assert "says frame 4" in done.stderr
    assert "--direction both" in done.stderr
    assert done.stderr.count("says frame 4") == 1
    got = decode(out)
    assert len(got) == FRAMES - 4
    assert np.array_equal(got[0], made[4][1])
    both = livos(
        "segment", "my clip.mp4", "-m", mask.name, "--direction", "both", "-o", out.name, "-y",
        *CHEAP, cwd=place,
    )  # fmt: skip
    assert both.returncode == 0, both.stderr
    assert all("doubtful" in x for x in both.stderr.splitlines() if x.startswith("warning"))
    got = decode(out)
    assert len(got) == FRAMES
    assert np.array_equal(got[4], made[4][1])


def test_the_library_heeds_the_name_too(place: Path, made: list[Any], tiny: Any) -> None:
    import livos_cli

    mask = write_png(place / "my clip.00004.png", made[4][1], "gray")
    options = SegmentOptions(max_size=64)
    results = list(livos_cli.segment(place / "my clip.mp4", mask, model=tiny, options=options))
    assert [result.index for result in results] == list(range(4, FRAMES))


def test_what_is_said_and_the_name_contradict(place: Path, made: list[Any]) -> None:
    video = place / "my clip.mp4"
    mask = write_png(place / "my clip.00004.png", made[4][1], "gray")

    with pytest.raises(UsageError, match=r"of frame 4 by its name, and --start is frame 2") as not_:
        resolve_positions(SegmentOptions(start=Position(frame=2)), mask, video)
    assert "--from 4f --direction both" in not_.value.hint
    # The same place, said in time: 4 of 25 frames a second.
    settled, warnings = resolve_positions(SegmentOptions(start=Position(seconds=0.16)), mask, video)
    assert settled.start == Position(seconds=0.16)
    assert not warnings
    # Who says --from knows better, but is told.
    settled, warnings = resolve_positions(SegmentOptions(origin=6), mask, video)
    assert settled.origin == 6
    assert "says frame 4" in warnings[0]
    # With --start before it, both ways.
    both = SegmentOptions(start=Position(frame=2), direction="both")
    assert resolve_positions(both, mask, video)[0].origin == 4


def test_a_number_that_may_be_a_frame_is_asked_about(place: Path, made: list[Any]) -> None:
    video = place / "my clip.mp4"
    for name in ("00004.png", "other.00004.png"):
        mask = write_png(place / name, made[4][1], "gray")
        options, warnings = resolve_positions(SegmentOptions(), mask, video)
        assert options.origin is None
        assert "add --from 4f" in warnings[0]
        assert not resolve_positions(SegmentOptions(origin=4), mask, video)[1]
    for name in ("photo2.png", "00000.png", "IMG_2034.png"):
        mask = write_png(place / name, made[0][1], "gray")
        assert resolve_positions(SegmentOptions(), mask, video) == (SegmentOptions(), [])


def test_a_mask_of_a_folder_of_images_begins_there(
    place: Path, made: list[Any], livos: Any
) -> None:
    for n, (rgb, _) in enumerate(made):
        write_png(place / "shot" / f"a_{n + 1:03d}.png", rgb, "rgb24")
    box = box_of(made[3][1] == 1)
    done = livos("mask", "shot", "--frame", "3f", "--box", box, cwd=place)
    assert done.returncode == 0, done.stderr
    assert (place / "shot.a_004.png").is_file()
    done = livos("segment", "shot", "-m", "shot.a_004.png", "-o", "o.mkv", *CHEAP, cwd=place)
    assert done.returncode == 0, done.stderr
    assert len(decode(place / "o.mkv")) == FRAMES - 3


# the next command


@pytest.mark.slow
@pytest.mark.parametrize("frame", [0, 4])
@pytest.mark.parametrize("output", [None, "mine.png", "masks"])
def test_the_printed_command_is_the_next_one(
    frame: int, output: str | None, place: Path, made: list[Any], livos: Any
) -> None:
    box = box_of(made[frame][1] == 1)
    more = ["-o", output] if output else []
    done = livos("mask", "my clip.mp4", "--frame", f"{frame}f", "--box", box, *more, cwd=place)
    assert done.returncode == 0, done.stderr
    words = next_command(done.stderr)
    done = livos(*words, *CHEAP, cwd=place)
    assert done.returncode == 0, done.stderr
    warned = [line for line in done.stderr.splitlines() if line.startswith("warning")]
    assert all("doubtful" in line for line in warned), warned  # at 64 pixels: not of the mask
    got = decode(place / "my clip.mask.mkv")
    assert len(got) == FRAMES
    assert jaccard(got[frame] > 0, made[frame][1] == 1) > 0.9
    # Now there are results: the command that is printed is not refused for them.
    done = livos(
        "mask", "my clip.mp4", "--frame", f"{frame}f", "--box", box, *more, "-y", cwd=place
    )
    assert next_command(done.stderr) == [*words, "-y"]


def test_the_next_command_is_in_json(place: Path, made: list[Any], livos: Any) -> None:
    box = box_of(made[4][1] == 1)
    done = livos("mask", "my clip.mp4", "--frame", "4f", "--box", box, "--json", cwd=place)
    told = json.loads(done.stdout)
    assert told["frame"] == 4
    assert shlex.split(told["next"])[1:] == [
        "segment", "my clip.mp4", "-m", "my clip.00004.png", "--from", "4f", "--direction", "both",
    ]  # fmt: skip


def test_show_writes_the_frame_with_its_coordinates(
    place: Path, made: list[Any], livos: Any
) -> None:
    done = livos("mask", "my clip.mp4", "--show", cwd=place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "my clip.grid.jpg"
    picture = cv2.imread(str(place / "my clip.grid.jpg"))
    factor = picture.shape[0] // 120
    assert picture.shape == (120 * factor, 160 * factor, 3)
    assert factor > 1  # of so small a frame nothing could be read
    # Between the lines it is the frame.
    small = cv2.resize(picture[..., ::-1], (160, 120), interpolation=cv2.INTER_AREA)
    assert np.median(np.abs(small.astype(int) - made[0][0])) < 12
    # Lines are where they say: every 20 pixels here.
    dark = (picture.max(axis=2) < 60).mean(axis=0)
    for x in range(20, 160, 20):
        assert dark[x * factor - 2 : x * factor + 3].max() > 0.8, x
    assert np.median(dark) < 0.5
    # And what is printed can be typed, with a box of one's own.
    words = next_command(done.stderr.partition("  with your")[0])
    assert words[:3] == ["mask", "my clip.mp4", "--box"]
    done = livos(*words[:3], box_of(made[0][1] == 1), cwd=place)
    assert done.returncode == 0, done.stderr
    again = livos("mask", "my clip.mp4", "--show", "--frame", "4f", "--json", cwd=place)
    assert Path(json.loads(again.stdout)["picture"]).name == "my clip.00004.grid.jpg"
    assert livos("mask", "my clip.mp4", "--show", "--box", "1,1,9,9", cwd=place).returncode == 2


def test_percentages(place: Path, livos: Any) -> None:
    pixels = livos("mask", "my clip.mp4", "--box", "16,12,144,108", "-o", "a.png", cwd=place)
    share = livos("mask", "my clip.mp4", "--box", "10%,10%,90%,90%", "-o", "b.png", cwd=place)
    assert pixels.returncode == share.returncode == 0, share.stderr
    assert np.array_equal(decode_index_png(place / "a.png"), decode_index_png(place / "b.png"))


def test_the_whole_journey_in_four_commands(place: Path, made: list[Any], livos: Any) -> None:
    """README's: a mask, the video, a correction, the video again; none is refused."""
    video = "my clip.mp4"
    one, other = box_of(made[0][1] == 1), box_of(made[6][1] == 1)
    first = livos("mask", video, "--box", one, "-o", "masks", cwd=place)
    assert first.returncode == 0, first.stderr
    second = livos(*next_command(first.stderr), *CHEAP, cwd=place)
    assert second.returncode == 0, second.stderr
    third = livos("mask", video, "--frame", "6f", "--box", other, "-o", "masks", cwd=place)
    assert third.returncode == 0, third.stderr
    fourth = livos(*next_command(third.stderr), *CHEAP, cwd=place)
    assert fourth.returncode == 0, fourth.stderr
    assert sorted(p.name for p in (place / "masks").iterdir()) == ["00000.png", "00006.png"]
    got = decode(place / "my clip.mask.mkv")
    assert jaccard(got[6] > 0, made[6][1] == 1) > 0.9
    assert len(decode(place / "my clip.overlay.mp4", "rgb24")) == FRAMES


# 5. what is written where nothing is said


def test_an_overlay_to_look_at_by_default(place: Path, made: list[Any], livos: Any) -> None:
    mask = write_png(place / "first.png", made[0][1], "gray")
    done = livos("segment", "my clip.mp4", "-m", mask.name, *CHEAP, cwd=place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["my clip.mask.mkv", "my clip.overlay.mp4"]
    assert set(np.unique(decode(place / "my clip.mask.mkv"))) == {0, 1, 2}  # black to the eye
    shown = decode(place / "my clip.overlay.mp4", "rgb24")[0]
    plain = made[0][0]
    on = made[0][1] > 0
    assert np.abs(shown.astype(int) - plain)[on].mean() > 30
    assert np.abs(shown.astype(int) - plain)[~on].mean() < 12


@pytest.mark.parametrize(("name", "kind"), [("o.mp4", "overlay"), ("o.mkv", "mask")])
def test_a_file_says_which_kind(
    name: str, kind: str, place: Path, made: list[Any], livos: Any
) -> None:
    mask = write_png(place / "first.png", made[0][1], "gray")
    done = livos("segment", "my clip.mp4", "-m", mask.name, "-o", name, "--json", *CHEAP, cwd=place)
    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout)["outputs"]) == [kind]
    assert (place / name).is_file()


def test_many_videos_get_masks_alone(place: Path, made: list[Any], livos: Any) -> None:
    write_png(place / "masks" / "my clip.png", made[0][1], "gray")
    done = livos("segment", place, "-m", "masks", "-o", "out", *CHEAP, cwd=place)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (place / "out").glob("*.*") if not p.name.startswith(".")) == [
        "my clip.mask.mkv",
        "report.jsonl",
    ]


# 4. masks that cannot be meant


def full(share: float) -> np.ndarray:
    ids = np.zeros((100, 100), np.int64)
    ids[: round(100 * share)] = 1
    return ids


def inverted() -> np.ndarray:
    ids = np.ones((120, 160), np.int64)
    ids[30:90, 50:110] = 0
    return ids


def test_masks_that_cannot_be_meant() -> None:
    photograph = np.arange(100 * 100).reshape(100, 100) // 300
    cases = [
        (full(0.97), False, "covers 97 % of the picture"),
        (full(1.0), False, "covers 100 % of the picture"),
        (inverted(), False, "looks inverted"),
        (photograph, True, "objects, one a colour"),
    ]
    for ids, coloured, says in cases:
        with pytest.raises(InputError, match=says) as error:
            check_meant(ids, "the mask", coloured=coloured, first=True)
        assert "--trust-mask" in error.value.hint
        (warning,) = check_meant(ids, "the mask", coloured=coloured, first=False)
        assert says in warning
    two = np.where(full(0.5) > 0, 1, 2)
    assert "100 %" in check_meant(two, "the mask", coloured=False, first=True)[0]


def test_a_photograph_is_no_mask(tmp_path: Path) -> None:
    """As was seen: a picture in few colours was read as 231 objects, one a colour."""
    from livos_cli.masks.reference_masks import ReferenceMasks

    tiles = np.arange(64).reshape(8, 8).repeat(10, axis=0).repeat(10, axis=1)
    colours = np.random.default_rng(3).integers(1, 255, (64, 3)).astype(np.uint8)
    mask = write_png(tmp_path / "photo.png", colours[tiles], "rgb24")
    with pytest.raises(InputError, match="has 64 objects, one a colour"):
        ReferenceMasks(mask).scan(80, 80)
    assert len(ReferenceMasks(mask).scan(80, 80, trust=True)[0]) == 64
    # As many in a grey map, or with a palette, are ids.
    grey = write_png(tmp_path / "map.png", tiles.astype(np.uint8), "pal8")
    assert len(ReferenceMasks(grey).scan(80, 80)[0]) == 63


def test_masks_that_can_be_meant(made: list[Any]) -> None:
    stripe = np.zeros((100, 100), np.int64)
    stripe[:, 30:70] = 1  # from edge to edge
    many = np.arange(100 * 100).reshape(100, 100) // 300 * (np.arange(100) > 20)
    for ids, coloured in [
        (made[0][1], False),
        (full(0.9), False),
        (stripe, False),
        (many, False),  # of a grey map or a palette, as many as there are
    ]:
        assert check_meant(ids, "the mask", coloured=coloured, first=True) == []
    empty = np.zeros((9, 9), np.int64)
    assert check_meant(empty, "the mask", coloured=False, first=True) == []


def test_an_inverted_mask_is_refused_unless_it_is_meant(place: Path, livos: Any) -> None:
    mask = write_png(place / "m.png", (inverted() * 255).astype(np.uint8), "gray")
    arguments = ["segment", "my clip.mp4", "-m", mask.name, "-o", "o.mkv", *CHEAP]
    done = livos(*arguments, cwd=place)
    assert done.returncode == 1
    assert "looks inverted" in done.stderr.splitlines()[-1]
    assert "--trust-mask" in done.stderr.splitlines()[-1]
    assert not (place / "o.mkv").exists()
    assert livos(*arguments, "--trust-mask", cwd=place).returncode == 0


def test_a_later_key_mask_may_fill_the_picture(place: Path, made: list[Any], livos: Any) -> None:
    write_png(place / "masks" / "00000.png", np.minimum(made[0][1], 1), "gray")
    write_png(place / "masks" / "00005.png", np.ones((120, 160), np.uint8), "gray")
    done = livos("segment", "my clip.mp4", "-m", "masks", "-o", "o.mkv", *CHEAP, cwd=place)
    assert done.returncode == 0, done.stderr
    assert "of frame 5 covers 100 %" in done.stderr


def test_no_even_backdrop(place: Path, livos: Any) -> None:
    done = livos("mask", "my clip.mp4", "--threshold", "auto", cwd=place)
    assert done.returncode == 1
    assert "no even backdrop" in done.stderr
    assert "--box" in done.stderr
    assert [p.name for p in place.iterdir()] == ["my clip.mp4"]
    done = livos("mask", "my clip.mp4", "--threshold", "20", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "no even backdrop" in done.stderr  # said all the same


def test_a_box_without_an_object(place: Path, livos: Any) -> None:
    rng = np.random.default_rng(1)
    grain = np.clip(rng.normal(128, 12, (120, 160, 3)), 0, 255).astype(np.uint8)
    floor = cv2.GaussianBlur(grain, (3, 3), 0)
    write_video(place / "floor.mp4", [floor] * 3, options={"crf": "8"})
    done = livos("mask", "floor.mp4", "--box", "40,30,120,90", cwd=place)
    assert done.returncode == 1 or "warning: object 1" in done.stderr, done.stderr


@pytest.mark.slow
def test_boxes_of_real_frames_without_an_object(shared: Path) -> None:
    """Of real frames: no box around an object is doubted, most empty ones are said."""
    import av

    from livos_cli.errors import LivosError
    from livos_cli.interactive.clicks import ClickPredictor, doubt_found, find_object
    from livos_cli.masks.hints import Hints
    from livos_cli.weights.clicks import load_clicks
    from livos_cli.weights.load import load_model

    model, net = load_model("lite", device="cpu", precision="fp32"), load_clicks()
    rng = np.random.default_rng(0)
    said, empty, doubted = 0, 0, []
    for name in ("bear", "car-turn", "dance-jump", "horsejump-low", "scooter-gray"):
        folder = shared / "data" / "davis-train"
        with av.open(str(folder / f"{name}.mp4")) as video:
            rgb = next(video.decode(video=0)).to_ndarray(format="rgb24")
        with av.open(str(folder / f"{name}.masks.mkv")) as masks:
            truth = next(masks.decode(video=0)).to_ndarray(format="gray") > 0
        predictor = ClickPredictor(model, net, rgb)
        real = Hints(box=tuple(float(v) for v in box_of(truth).split(",")))  # type: ignore[arg-type]
        if doubt_found(predictor, find_object(predictor, real), real):
            doubted.append(name)
        height, width = truth.shape
        for _ in range(4):
            w, h = int(width * rng.uniform(0.1, 0.3)), int(height * rng.uniform(0.15, 0.4))
            x, y = int(rng.uniform(0, width - w)), int(rng.uniform(0, height - h))
            if truth[y : y + h, x : x + w].any():
                continue
            empty += 1
            hints = Hints(box=(x, y, x + w, y + h))
            try:
                said += doubt_found(predictor, find_object(predictor, hints), hints) is not None
            except LivosError:
                said += 1
    print(f"{said} of {empty} empty boxes are said; doubted though real: {doubted}")
    assert not doubted
    assert said >= 0.6 * empty


def test_the_example_is_not_doubted(livos: Any, tmp_path: Path) -> None:
    done = livos(
        "segment", EXAMPLES / "clip.mp4", "-m", EXAMPLES / "first.png", "-o", tmp_path,
        "--end", "3f", *CHEAP,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
