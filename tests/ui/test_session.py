"""A project without its page: marks, undo, tracking only what is out of date, the same bytes."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from media import files, scene, write_png, write_video

from livos_cli.errors import InputError, OutputError, UsageError
from livos_cli.masks.palette import encode_index_png
from livos_cli.ui import tracking
from livos_cli.ui.jobs import Jobs
from livos_cli.ui.marks import Stroke
from livos_cli.ui.open_project import Network
from livos_cli.ui.project import video_of
from livos_cli.ui.session import Session

FRAMES = 40
NETWORK = Network("lite", "cpu", "fp32", None)


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    """A video and its true ids."""
    both = scene(96, 128, FRAMES, objects=2, seed=5)
    path = tmp_path_factory.mktemp("shots") / "a.mp4"
    write_video(path, [rgb for rgb, _ in both], options={"g": "12"}, tone=True)
    return path, [ids for _, ids in both]


@pytest.fixture
def opened(shots: tuple[Path, list[np.ndarray]], tmp_path: Path) -> Iterator[Session]:
    session = Session(str(shots[0]), tmp_path / "project", NETWORK)
    yield session
    session.close()


def middle(mask: np.ndarray) -> tuple[float, float]:
    inner = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = divmod(int(inner.argmax()), mask.shape[1])
    return x + 0.5, y + 0.5


def work(jobs: Jobs, what: str, frame: int = 0) -> dict[str, Any]:
    jobs.track(what, frame)
    return ended(jobs)


def ended(jobs: Jobs) -> dict[str, Any]:
    while jobs.running:
        time.sleep(0.01)
    assert jobs.last["state"] == "done", jobs.last
    return jobs.last


def begun(session: Session, truth: list[np.ndarray], frame: int = 0) -> None:
    """Both objects marked in a frame by a click each."""
    for object_id in (1, 2):
        new = session.add_object().id
        session.click(frame, new, *middle(truth[frame] == object_id), True)


def test_points_hold_whatever_is_marked(opened: Session, shots: Any) -> None:
    truth = shots[1]
    begun(opened, truth)
    rng = np.random.default_rng(0)
    points: dict[tuple[int, int], bool] = {}
    for _ in range(12):
        x, y = int(rng.integers(128)), int(rng.integers(96))
        on = bool(rng.integers(2))
        if opened.ids(0)[y, x] == 2 and on:
            continue  # the other object's
        points[x, y] = on
        opened.click(0, 1, x + 0.5, y + 0.5, on)
        ids = opened.ids(0)
        for (u, v), is_on in points.items():
            assert (ids[v, u] == 1) == is_on, (u, v)


def test_brush_and_eraser_stay(opened: Session, shots: Any) -> None:
    begun(opened, shots[1])
    opened.stroke(0, 1, Stroke(True, 4.0, ((5.0, 5.0), (20.0, 5.0))))
    assert opened.ids(0)[5, 12] == 1
    opened.click(0, 1, *middle(shots[1][0] == 1), True)
    assert opened.ids(0)[5, 12] == 1, "what was painted is gone after a click"
    opened.stroke(0, 1, Stroke(False, 4.0, ((12.0, 5.0),)))
    assert opened.ids(0)[5, 12] == 0
    assert opened.ids(0)[5, 5] == 1


def test_an_eraser_over_a_point_takes_it_away(opened: Session, shots: Any) -> None:
    begun(opened, shots[1])
    x, y = middle(shots[1][0] == 1)
    opened.stroke(0, 1, Stroke(False, 6.0, ((x, y),)))
    assert opened.ids(0)[int(y), int(x)] == 0
    assert opened.marks(0)[1].points == ()


def test_marks_beyond_the_edge_are_kept(opened: Session, shots: Any) -> None:
    begun(opened, shots[1])
    opened.stroke(0, 1, Stroke(True, 4.0, ((-9.0, 50.0), (6.0, 50.0))))
    marks = opened.marks(0)
    assert marks[1].strokes[0].path[0] == (-9.0, 50.0)
    assert marks[2].points


def test_points_of_other_objects_hold_too(opened: Session, shots: Any) -> None:
    truth = shots[1]
    begun(opened, truth)
    x, y = middle(truth[0] == 2)
    opened.stroke(0, 1, Stroke(True, 12.0, ((x, y),)))  # a brush takes what is under it
    assert opened.ids(0)[int(y), int(x)] == 1
    assert set(opened.marks(0)) == {1}
    opened.click(0, 2, x, y, True)  # and a click takes it back
    assert opened.ids(0)[int(y), int(x)] == 2
    opened.click(0, 1, *middle(truth[0] == 1), True)
    assert opened.ids(0)[int(y), int(x)] == 2


def test_an_object_that_was_removed_leaves_nothing_to_a_new_one(
    opened: Session, shots: Any
) -> None:
    truth = shots[1]
    begun(opened, truth)
    opened.remove_object(1)
    assert set(np.unique(opened.ids(0))) == {0, 2}
    assert set(opened.marks(0)) == {2}
    assert opened.add_object().id == 3
    opened.undo()
    opened.undo()
    assert set(np.unique(opened.ids(0))) == {0, 1, 2}
    assert set(opened.marks(0)) == {1, 2}


@pytest.mark.slow
def test_the_last_pixels_of_what_is_tracked_are_not_erased(opened: Session, shots: Any) -> None:
    begun(opened, shots[1])
    work(Jobs(opened), "forward")
    with pytest.raises(UsageError, match="nothing of object 1 would be left") as caught:
        opened.stroke(6, 1, Stroke(False, 90.0, ((64.0, 48.0),)))
    assert "press G" in caught.value.hint
    assert 6 not in opened.project.keys
    opened.drop(6, 1)
    work(Jobs(opened), "all")
    assert not (opened.ids(6) == 1).any()
    assert (opened.ids(5) == 1).any()


@pytest.mark.slow
def test_a_mask_of_another_program_is_noticed(opened: Session, shots: Any, tmp_path: Path) -> None:
    truth = shots[1]
    begun(opened, truth)
    jobs = Jobs(opened)
    work(jobs, "forward")
    path = opened.project.masks / "00010.png"
    path.write_bytes(encode_index_png(truth[10]))
    assert work(jobs, "all")["frames"] == FRAMES - 10
    assert 10 in opened.project.keys
    aside = path.rename(tmp_path / "aside.png")
    assert work(jobs, "all")["frames"] == 0, "what was known before that mask is known again"
    aside.rename(path)
    assert work(jobs, "all")["frames"] == 0
    assert 10 in opened.project.keys
    (opened.project.masks / "00011.png").symlink_to(tmp_path / "nothing")
    with pytest.raises(InputError, match="is it a broken link"):
        jobs.track("all", 0)


@pytest.mark.slow
def test_a_range_goes_on_with_what_is_tracked(opened: Session, shots: Any) -> None:
    begun(opened, shots[1])
    jobs = Jobs(opened)
    work(jobs, "forward")
    there = opened.ids(12)
    assert opened.set_range((12, 30)) is None
    assert np.array_equal(opened.project.key(12), there)
    work(jobs, "all")
    assert np.array_equal(opened.ids(12), there)
    with pytest.raises(UsageError, match="frame 35 is outside of the range, 12 to 29"):
        jobs.track("forward", 35)
    opened.undo()
    assert list(opened.project.keys) == [0]
    assert opened.limits == (0, FRAMES)


@pytest.mark.slow
def test_what_is_out_of_date_is_made_no_key_mask(opened: Session, shots: Any) -> None:
    begun(opened, shots[1])
    work(Jobs(opened), "forward")
    opened.drop(10, 2)
    assert opened.set_range((20, 35)) is not None
    assert list(opened.project.keys) == [0]


def test_a_range_without_an_objects_mask_says_so(opened: Session, shots: Any) -> None:
    begun(opened, shots[1])
    assert opened.set_range((5, 30)) == (
        "no mask in this range: object 1, object 2; track to where it begins first"
    )


@pytest.mark.slow
def test_many_key_masks_hold_no_files_open(opened: Session, shots: Any) -> None:
    truth = shots[1]
    for frame in range(FRAMES):
        (opened.project.masks / f"{frame:05d}.png").write_bytes(encode_index_png(truth[frame]))
    before = len(list(Path("/proc/self/fd").iterdir()))
    work(Jobs(opened), "all")
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
    states = list((opened.project.own / "tracked").glob("*/*.state"))
    assert len(states) <= FRAMES // tracking.LEAST


@pytest.mark.slow
def test_a_project_of_another_video_says_so(shots: Any, tmp_path: Path) -> None:
    video, truth = shots
    session = Session(str(video), tmp_path / "p", NETWORK)
    begun(session, truth)
    session.pictures.small(0)
    session.close()
    other = tmp_path / "b.mp4"
    write_video(other, [rgb for rgb, _ in scene(96, 128, FRAMES, seed=8)])
    session = Session(str(other), tmp_path / "p", NETWORK)
    assert session.warnings == [f"this project was of {video}; now it is of {other}"]
    assert len(list((session.project.own / "small").iterdir())) == 1
    session.close()


def test_every_edit_is_on_disk_and_undone_after_opening_again(shots: Any, tmp_path: Path) -> None:
    video, truth = shots
    session = Session(str(video), tmp_path / "p", NETWORK)
    seen = [session.ids(0)]
    begun(session, truth)
    seen.append(session.ids(0))
    session.click(0, 1, 1.5, 1.5, False)
    session.stroke(0, 2, Stroke(True, 3.0, ((100.0, 80.0),)))
    seen.append(session.ids(0))
    session.close()
    assert (tmp_path / "p" / "masks" / "00000.png").is_file()
    session = Session(str(video), tmp_path / "p", NETWORK)
    assert np.array_equal(session.ids(0), seen[2])
    session.undo()
    session.undo()
    assert np.array_equal(session.ids(0), seen[1])
    for _ in range(4):
        session.undo()
    assert np.array_equal(session.ids(0), seen[0])
    with pytest.raises(UsageError, match="nothing to undo"):
        session.undo()
    for _ in range(6):
        session.undo(again=True)
    assert np.array_equal(session.ids(0), seen[2])
    session.close()


@pytest.mark.usefixtures("opened")
def test_only_one_holds_a_project(shots: Any, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is in use by another run"):
        Session(str(shots[0]), tmp_path / "project", NETWORK)


@pytest.mark.slow
def test_a_correction_computes_from_the_state_before_it(opened: Session, shots: Any) -> None:
    truth = shots[1]
    begun(opened, truth)
    jobs = Jobs(opened)
    assert work(jobs, "forward")["frames"] == FRAMES
    assert opened.timeline()["status"] == "2" * FRAMES
    before = [opened.ids(n) for n in range(FRAMES)]
    opened.stroke(30, 1, Stroke(True, 6.0, (middle(truth[30] == 1),)))
    assert opened.timeline()["status"] == "2" * 30 + "1" * 10
    pictures = []
    opened.pictures.take = lambda n, _: pictures.append(n)  # type: ignore[method-assign]
    assert work(jobs, "forward", 30)["frames"] == 10
    assert pictures[0] == 25, "from the state after frame 24"
    assert opened.timeline()["status"] == "2" * FRAMES
    assert all(np.array_equal(opened.ids(n), before[n]) for n in range(30))
    opened.undo()
    assert opened.timeline()["status"] == "2" * FRAMES, "what was known before is known again"
    assert all(np.array_equal(opened.ids(n), before[n]) for n in range(FRAMES))
    assert work(jobs, "all")["frames"] == 0


@pytest.mark.slow
def test_an_update_ends_at_the_next_key_mask_or_where_masks_agree(
    opened: Session, shots: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = shots[1]
    begun(opened, truth)
    jobs = Jobs(opened)
    work(jobs, "forward")
    opened.lock(20)
    work(jobs, "all")
    opened.lock(5)  # the masks are what they were, but the memory begins anew there
    opened.lock(5)
    monkeypatch.setattr(tracking, "ALIKE", 0.5)
    found = work(jobs, "update", 5)
    assert found["alike"] == 5 + tracking.AGREE - 1
    assert found["frames"] == tracking.AGREE
    monkeypatch.setattr(tracking, "ALIKE", 2.0)
    opened.stroke(5, 1, Stroke(True, 6.0, ((110.0, 10.0),)))
    opened.stroke(5, 1, Stroke(False, 40.0, (middle(truth[5] == 1),)))
    assert work(jobs, "update", 5)["frames"] == 15
    assert opened.timeline()["status"][20:] == "1" * 20


@pytest.mark.slow
def test_a_locked_frame_never_changes(opened: Session, shots: Any) -> None:
    truth = shots[1]
    begun(opened, truth)
    jobs = Jobs(opened)
    work(jobs, "forward")
    opened.lock(25)
    locked = opened.ids(25)
    opened.stroke(10, 1, Stroke(True, 5.0, ((5.0, 5.0),)))
    opened.stroke(10, 1, Stroke(False, 60.0, ((64.0, 48.0),)))
    work(jobs, "all")
    assert np.array_equal(opened.ids(25), locked)
    for change in (
        lambda: opened.click(25, 1, 3.0, 3.0, True),
        lambda: opened.stroke(25, 1, Stroke(True, 5.0, ((5.0, 5.0),))),
        lambda: opened.remove_key(25),
        lambda: opened.drop(25, 1),
        lambda: opened.load_mask(25, "a.png", b""),
        lambda: opened.remove_object(1),
    ):
        with pytest.raises(UsageError, match="locked"):
            change()
    opened.lock(25)
    opened.click(25, 1, 3.0, 3.0, True)


def test_a_locked_object_keeps_its_pixels(opened: Session, shots: Any) -> None:
    begun(opened, shots[1])
    opened.edit_object(2, locked=True)
    kept = opened.ids(0) == 2
    opened.stroke(0, 1, Stroke(True, 60.0, ((64.0, 48.0),)))
    assert np.array_equal(opened.ids(0) == 2, kept)
    with pytest.raises(UsageError, match="is locked"):
        opened.click(0, 2, 5.0, 5.0, True)
    with pytest.raises(UsageError, match="that is object 2, which is locked"):
        opened.click(0, 1, *middle(kept), True)


def test_a_locked_object_stays_whatever_comes(opened: Session, shots: Any) -> None:
    begun(opened, shots[1])
    opened.edit_object(2, locked=True)
    kept = opened.ids(0) == 2
    said = opened.load_mask(0, "new.png", encode_index_png(np.full((96, 128), 1, np.uint8)))
    assert any("object 2 is locked and stays" in text for text in said)
    assert np.array_equal(opened.ids(0) == 2, kept)
    assert (opened.ids(0)[~kept] == 1).all()
    for change in (lambda: opened.remove_key(0), lambda: opened.remove_object(2)):
        with pytest.raises(UsageError, match="object 2 is locked"):
            change()


def test_what_was_painted_stays_under_clicks_on_others(opened: Session, shots: Any) -> None:
    begun(opened, shots[1])
    there = middle(shots[1][0] == 1)
    spot = Stroke(True, 6.0, (there,))
    opened.stroke(0, 1, Stroke(True, 12.0, (there,)))
    opened.stroke(0, 2, spot)
    painted = opened.ids(0) == 2
    assert painted[int(there[1]), int(there[0])]
    own = np.argwhere((opened.ids(0) == 1) & (shots[1][0] == 1))
    row, column = own[np.argmax(np.abs(own - [there[1], there[0]]).sum(1))]
    opened.click(0, 1, float(column), float(row), True)
    assert opened.ids(0)[int(there[1]), int(there[0])] == 2
    opened.click(0, 1, *there, True)  # but a point holds
    assert opened.ids(0)[int(there[1]), int(there[0])] == 1


def test_a_mask_of_another_program_stays_under_the_next_edit(opened: Session, shots: Any) -> None:
    begun(opened, shots[1])
    given = np.zeros((96, 128), np.uint8)
    given[70:80, 10:20] = 2
    (opened.project.masks / "00012.png").write_bytes(encode_index_png(given))
    opened.stroke(12, 1, Stroke(True, 5.0, ((100.0, 20.0),)))
    assert (opened.ids(12)[70:80, 10:20] == 2).all()


def test_nothing_to_undo_stops_nothing(opened: Session) -> None:
    opened.before_change = lambda: pytest.fail("tracking would be stopped")
    with pytest.raises(UsageError, match="nothing to redo"):
        opened.undo(again=True)


def test_a_project_is_one_from_the_start(opened: Session, tmp_path: Path) -> None:
    assert video_of(tmp_path / "project") == opened.video_path


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", ["from the first frame", "from the middle, in a range, with an end"]
)
def test_the_export_has_the_bytes_of_the_command_that_is_shown(
    case: str, shots: Any, tmp_path: Path, livos: Any
) -> None:
    video, truth = shots
    session = Session(str(video), tmp_path / "page", NETWORK)
    jobs = Jobs(session)
    if case == "from the first frame":
        begun(session, truth)
        work(jobs, "forward")
        session.click(20, 2, *middle(truth[20] == 2), True)
    else:
        begun(session, truth, 15)
        work(jobs, "backward", 15)
        session.lock(25) if session.ids(25).any() else None
        session.click(28, 1, *middle(truth[28] == 1), True)
        session.drop(32, 2)
        session.set_range((4, 36))
    kinds = ("mask", "overlay", "png", "alpha", "rle")
    jobs.export(kinds, overwrite=False)
    told = ended(jobs)
    masks = files(session.project.masks)
    session.close()
    words = shlex.split(told["command"])[1:]
    words[words.index("-o") + 1] = str(tmp_path / "shell")
    done = livos(*words)
    assert done.returncode == 0, done.stderr
    assert files(tmp_path / "page" / "masks") == masks
    page, shell = tmp_path / "page", tmp_path / "shell"
    shutil.rmtree(page / "masks")
    (page / "project.json").unlink()
    shutil.rmtree(page / ".livos")
    assert files(page) == files(shell)
    assert len(files(shell)) > 5


@pytest.mark.slow
def test_an_export_replaces_nothing_unless_told(opened: Session, shots: Any) -> None:
    begun(opened, shots[1])
    jobs = Jobs(opened)
    jobs.export(("mask",), overwrite=False)
    ended(jobs)
    with pytest.raises(OutputError, match="exists already"):
        jobs.export(("mask",), overwrite=False)
    jobs.export(("mask",), overwrite=True)
    ended(jobs)


@pytest.mark.slow
def test_a_change_of_a_mask_stops_tracking_and_what_is_known_stays(
    opened: Session, shots: Any
) -> None:
    truth = shots[1]
    begun(opened, truth)
    jobs = Jobs(opened)
    jobs.track("forward", 0)
    while "22222" not in opened.timeline()["status"]:
        time.sleep(0.01)
    opened.click(0, 1, 1.5, 1.5, False)
    assert jobs.running is None
    assert jobs.last["state"] == "stopped"
    assert "2" not in opened.timeline()["status"]
    work(jobs, "all")
    assert opened.timeline()["status"] == "2" * FRAMES


def test_masks_of_another_tool(shots: Any, tmp_path: Path) -> None:
    video, truth = shots
    folder = tmp_path / "masks"
    folder.mkdir()
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
    for frame in (0, 12):
        write_png(folder / f"frame_{frame:04d}.png", colours[truth[frame]], "rgb24")
    session = Session(str(video), tmp_path / "p", NETWORK, folder)
    assert list(session.project.keys) == [0, 12]
    assert [one.id for one in session.project.settings.objects] == [1, 2]
    for frame in (0, 12):
        assert np.array_equal(session.ids(frame) > 0, truth[frame] > 0)
    said = session.load_mask(20, "x.png", (folder / "frame_0000.png").read_bytes())
    assert said == ["the mask x.png: of its colours #00ff00 is 1, #ff0000 is 2"]
    assert (session.ids(20) > 0).any()
    with pytest.raises(InputError, match=r"^the mask x\.png cannot be read"):
        session.load_mask(21, "x.png", b"no image")
    session.close()


def test_a_folder_that_livos_mask_has_written_is_shown(shots: Any, tmp_path: Path) -> None:
    video, truth = shots
    (tmp_path / "p" / "masks").mkdir(parents=True)
    (tmp_path / "p" / "masks" / "00007.png").write_bytes(encode_index_png(truth[7]))
    session = Session(str(video), tmp_path / "p", NETWORK)
    assert np.array_equal(session.ids(7), truth[7])
    assert [one.id for one in session.project.settings.objects] == [1, 2]
    session.close()


def test_a_folder_of_other_masks_is_refused(shots: Any, tmp_path: Path) -> None:
    (tmp_path / "p" / "masks").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "p" / "masks" / "mask_7.png"), np.zeros((96, 128, 3), np.uint8))
    with pytest.raises(InputError, match="is not a key mask as the page writes them") as caught:
        Session(str(shots[0]), tmp_path / "p", NETWORK)
    assert "-m" in caught.value.hint


def test_a_linked_folder_of_masks_is_refused(shots: Any, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "p" / "masks").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="it is a link"):
        Session(str(shots[0]), tmp_path / "p", NETWORK)


def test_images_have_key_masks_by_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    both = scene(64, 96, 4, seed=2)
    for n, (rgb, _) in enumerate(both):
        cv2.imwrite(str(folder / f"shot_{n}.png"), rgb[..., ::-1])
    session = Session(str(folder), tmp_path / "p", NETWORK)
    new = session.add_object().id
    session.click(1, new, *middle(both[1][1] > 0), True)
    assert (tmp_path / "p" / "masks" / "shot_1.png").is_file()
    jobs = Jobs(session)
    assert work(jobs, "all")["frames"] == 4
    session.close()


def test_what_nobody_can_mean_is_said(opened: Session) -> None:
    new = opened.add_object().id
    with pytest.raises(UsageError, match="there is no frame 40"):
        opened.click(40, new, 1, 1, True)
    with pytest.raises(UsageError, match="there is no object 7"):
        opened.click(0, 7, 1, 1, True)
    with pytest.raises(UsageError, match="lies outside"):
        opened.click(0, new, 500, 1, True)
    with pytest.raises(UsageError, match="nothing says where the object is"):
        opened.click(0, new, 5, 5, False)
    with pytest.raises(UsageError, match="no mask to track"):
        Jobs(opened).track("all", 0)
    with pytest.raises(UsageError, match="no mask to lock"):
        opened.lock(3)
    assert opened.project.keys == {}
