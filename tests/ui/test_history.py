"""Changes on disk: whole or not at all, undone, done again, and completed after a kill."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from livos_cli.errors import InputError, OutputError, UsageError
from livos_cli.ui import history as module
from livos_cli.ui.history import History


def opened(root: Path) -> History:
    own = root / ".livos" / "page"
    own.mkdir(parents=True, exist_ok=True)
    return History(root, own)


A, B = "masks/a.png", "project.json"


def content(root: Path) -> dict[str, bytes]:
    return {name: path.read_bytes() for name in (A, B) if (path := root / name).exists()}


def test_undo_and_redo_survive_the_end_of_the_process(tmp_path: Path) -> None:
    history = opened(tmp_path)
    history.change("one", 3, {A: b"1"})
    history.change("two", 4, {A: b"2", B: b"x"})
    history.change("three", None, {A: None})
    assert content(tmp_path) == {B: b"x"}
    history = opened(tmp_path)
    assert [history.undo().label for _ in range(3)] == ["three", "two", "one"]  # type: ignore[union-attr]
    assert content(tmp_path) == {}
    assert history.undo() is None
    history = opened(tmp_path)
    assert [history.redo().frame for _ in range(3)] == [3, 4, None]  # type: ignore[union-attr]
    assert content(tmp_path) == {B: b"x"}


def test_a_new_change_ends_what_could_be_done_again(tmp_path: Path) -> None:
    history = opened(tmp_path)
    history.change("one", None, {A: b"1"})
    history.undo()
    history.change("other", None, {A: b"2"})
    assert history.redoable is None
    assert content(tmp_path) == {A: b"2"}


def test_what_changes_nothing_is_no_step(tmp_path: Path) -> None:
    history = opened(tmp_path)
    history.change("one", None, {A: b"1"})
    history.change("again", None, {A: b"1", B: None})
    assert history.undoable is not None
    assert history.undoable.label == "one"


def test_what_others_changed_since_stays(tmp_path: Path) -> None:
    history = opened(tmp_path)
    history.change("one", None, {A: b"1"})
    (tmp_path / A).write_bytes(b"theirs")
    with pytest.raises(UsageError, match="changed by another program"):
        history.undo()
    assert content(tmp_path) == {A: b"theirs"}


def test_a_change_that_was_cut_short_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = opened(tmp_path)
    history.change("one", None, {A: b"1", B: b"1"})
    real = module.write_whole
    written: list[Path] = []

    def killed(path: Path, data: bytes) -> None:
        if path.name == B:
            raise KeyboardInterrupt
        written.append(path)
        real(path, data)

    monkeypatch.setattr(module, "write_whole", killed)
    with pytest.raises(KeyboardInterrupt):
        history.change("two", None, {A: b"2", B: b"2"})
    monkeypatch.setattr(module, "write_whole", real)
    assert content(tmp_path) == {A: b"2", B: b"1"}  # half of it
    history = opened(tmp_path)
    assert content(tmp_path) == {A: b"2", B: b"2"}
    history.undo()
    assert content(tmp_path) == {A: b"1", B: b"1"}


def test_old_steps_go_and_what_they_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 5)
    history = opened(tmp_path)
    for n in range(12):
        history.change(str(n), None, {A: str(n).encode()})
    history = opened(tmp_path)
    assert len(list((tmp_path / ".livos" / "page" / "blobs").iterdir())) == 6
    assert [history.undo() is not None for _ in range(6)] == [True] * 5 + [False]
    assert content(tmp_path) == {A: b"6"}


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"steps": [], "done": -1}'])
def test_a_damaged_journal_is_said(damage: bytes, tmp_path: Path) -> None:
    opened(tmp_path).change("one", None, {A: b"1"})
    (tmp_path / ".livos" / "page" / "history.json").write_bytes(damage)
    with pytest.raises(InputError, match="only undo is lost"):
        opened(tmp_path)


@pytest.mark.parametrize("back", [True, False])
def test_undo_and_redo_that_were_cut_short_are_completed(
    back: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = opened(tmp_path)
    history.change("one", None, {A: b"1", B: b"1"})
    history.change("two", None, {A: b"2", B: b"2"})
    if not back:
        history.undo()
    real = module.write_whole

    def killed(path: Path, data: bytes) -> None:
        if path.name == B:
            raise KeyboardInterrupt
        real(path, data)

    monkeypatch.setattr(module, "write_whole", killed)
    with pytest.raises(KeyboardInterrupt):
        history.undo() if back else history.redo()
    monkeypatch.setattr(module, "write_whole", real)
    history = opened(tmp_path)
    want = b"1" if back else b"2"
    assert content(tmp_path) == {A: want, B: want}
    (tmp_path / A).write_bytes(b"theirs")  # of another program, after that
    opened(tmp_path)
    assert content(tmp_path) == {A: b"theirs", B: want}


def test_what_cannot_be_written_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = opened(tmp_path)
    history.change("one", None, {A: b"1", B: b"1"})
    real, fails = module.write_whole, True

    def full(path: Path, data: bytes) -> None:
        if fails and data == b"2" and path.name == B:
            raise OutputError("the disk is full")
        real(path, data)

    monkeypatch.setattr(module, "write_whole", full)
    with pytest.raises(OutputError):
        history.change("two", None, {A: b"2", B: b"2"})
    assert content(tmp_path) == {A: b"1", B: b"1"}
    assert history.undoable is not None
    assert history.undoable.label == "one"
    fails = False
    history.change("two", None, {A: b"2", B: b"2"})
    history = opened(tmp_path)
    history.undo()
    history.undo()
    assert content(tmp_path) == {}


@pytest.mark.parametrize("fails_at", [B, "history.json"])
def test_undo_that_cannot_be_written_is_not_done(
    fails_at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = opened(tmp_path)
    history.change("one", None, {A: b"1", B: b"1"})
    history.change("two", None, {A: b"2", B: b"2"})
    real, left = module.write_whole, 1

    def full(path: Path, data: bytes) -> None:
        nonlocal left
        if path == tmp_path / B or path.name == fails_at == "history.json":
            left -= 1
            if left == 0:
                raise OutputError("the disk is full")
        real(path, data)

    monkeypatch.setattr(module, "write_whole", full)
    with pytest.raises(OutputError):
        history.undo()
    assert content(tmp_path) == {A: b"2", B: b"2"}
    assert history.undoable is not None
    assert history.undoable.label == "two"
    history.undo()
    assert content(tmp_path) == {A: b"1", B: b"1"}


def test_any_label_can_be_read_back(tmp_path: Path) -> None:
    history = opened(tmp_path)
    history.change("mask Screenshot 9.41\u202fAM.png" + "x" * 500, None, {A: b"1"})
    assert opened(tmp_path).undoable is not None


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/outside", "masks/../../outside.png", "other.txt", "masks/a/b.png"]
)
def test_names_from_a_foreign_journal_do_not_leave_the_project(name: str, tmp_path: Path) -> None:
    root = tmp_path / "project"
    history = opened(root)
    history.change("one", None, {A: b"1"})
    journal = root / ".livos" / "page" / "history.json"
    told = json.loads(journal.read_text())
    told["steps"][0]["files"] = {name: told["steps"][0]["files"][A]}
    told["pending"] = "after"
    journal.write_text(json.dumps(told))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError):
        opened(root)
    assert sorted(tmp_path.rglob("*")) == before


def test_links_in_a_foreign_project_are_not_followed(tmp_path: Path) -> None:
    root, other = tmp_path / "project", tmp_path / "other"
    other.mkdir()
    (other / ("0" * 64)).write_bytes(b"precious")
    history = opened(root)
    history.change("one", None, {A: b"1"})
    blobs = root / ".livos" / "page" / "blobs"
    shutil.move(blobs, tmp_path / "blobs")
    blobs.symlink_to(other)
    with pytest.raises(OSError, match="it is a link"):
        opened(root)
    assert list(other.iterdir())
    blobs.unlink()
    shutil.move(tmp_path / "blobs", blobs)
    shutil.rmtree(root / "masks")
    (root / "masks").symlink_to(other)
    with pytest.raises(OutputError, match="is a link"):
        opened(root).undo()
