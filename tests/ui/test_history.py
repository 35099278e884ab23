"""Changes on disk: whole or not at all, undone, done again, and completed after a kill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from livos_cli.errors import InputError, UsageError
from livos_cli.ui import history as module
from livos_cli.ui.history import History


def opened(root: Path) -> History:
    own = root / ".livos" / "page"
    own.mkdir(parents=True, exist_ok=True)
    return History(root, own)


def content(root: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in root.iterdir() if p.is_file()}


def test_undo_and_redo_survive_the_end_of_the_process(tmp_path: Path) -> None:
    history = opened(tmp_path)
    history.change("one", 3, {"a": b"1"})
    history.change("two", 4, {"a": b"2", "b": b"x"})
    history.change("three", None, {"a": None})
    assert content(tmp_path) == {"b": b"x"}
    history = opened(tmp_path)
    assert [history.undo().label for _ in range(3)] == ["three", "two", "one"]  # type: ignore[union-attr]
    assert content(tmp_path) == {}
    assert history.undo() is None
    history = opened(tmp_path)
    assert [history.redo().frame for _ in range(3)] == [3, 4, None]  # type: ignore[union-attr]
    assert content(tmp_path) == {"b": b"x"}


def test_a_new_change_ends_what_could_be_done_again(tmp_path: Path) -> None:
    history = opened(tmp_path)
    history.change("one", None, {"a": b"1"})
    history.undo()
    history.change("other", None, {"a": b"2"})
    assert history.redoable is None
    assert content(tmp_path) == {"a": b"2"}


def test_what_changes_nothing_is_no_step(tmp_path: Path) -> None:
    history = opened(tmp_path)
    history.change("one", None, {"a": b"1"})
    history.change("again", None, {"a": b"1", "b": None})
    assert history.undoable is not None
    assert history.undoable.label == "one"


def test_what_others_changed_since_stays(tmp_path: Path) -> None:
    history = opened(tmp_path)
    history.change("one", None, {"a": b"1"})
    (tmp_path / "a").write_bytes(b"theirs")
    with pytest.raises(UsageError, match="changed by another program"):
        history.undo()
    assert content(tmp_path) == {"a": b"theirs"}


def test_a_change_that_was_cut_short_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = opened(tmp_path)
    history.change("one", None, {"a": b"1", "b": b"1"})
    real = module.write_whole
    written: list[Path] = []

    def killed(path: Path, data: bytes) -> None:
        if path.name == "b":
            raise KeyboardInterrupt
        written.append(path)
        real(path, data)

    monkeypatch.setattr(module, "write_whole", killed)
    with pytest.raises(KeyboardInterrupt):
        history.change("two", None, {"a": b"2", "b": b"2"})
    monkeypatch.setattr(module, "write_whole", real)
    assert content(tmp_path) == {"a": b"2", "b": b"1"}  # half of it
    history = opened(tmp_path)
    assert content(tmp_path) == {"a": b"2", "b": b"2"}
    history.undo()
    assert content(tmp_path) == {"a": b"1", "b": b"1"}


def test_old_steps_go_and_what_they_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 5)
    history = opened(tmp_path)
    for n in range(12):
        history.change(str(n), None, {"a": str(n).encode()})
    history = opened(tmp_path)
    assert len(list((tmp_path / ".livos" / "page" / "blobs").iterdir())) == 6
    assert [history.undo() is not None for _ in range(6)] == [True] * 5 + [False]
    assert content(tmp_path) == {"a": b"6"}


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"steps": [], "done": -1, "pending": false}'])
def test_a_damaged_journal_is_said(damage: bytes, tmp_path: Path) -> None:
    opened(tmp_path).change("one", None, {"a": b"1"})
    (tmp_path / ".livos" / "page" / "history.json").write_bytes(damage)
    with pytest.raises(InputError, match="only undo is lost"):
        opened(tmp_path)


def test_names_from_a_foreign_journal_do_not_leave_the_project(tmp_path: Path) -> None:
    root = tmp_path / "project"
    history = opened(root)
    history.change("one", None, {"a": b"1"})
    journal = root / ".livos" / "page" / "history.json"
    told = json.loads(journal.read_text())
    told["steps"][0]["files"] = {"../outside": told["steps"][0]["files"]["a"]}
    told["pending"] = True
    journal.write_text(json.dumps(told))
    with pytest.raises(InputError):
        opened(root)
    assert not (tmp_path / "outside").exists()
