"""Names that change hands in one step, or not at all; folders that were made go again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from livos_cli.files.atomic import absent, remove_empty, replacing, set_aside, swap_folder


def test_replacing(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_text("old")
    with replacing(path) as temporary:
        assert temporary.parent == tmp_path
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    with pytest.raises(TypeError), replacing(path) as temporary, temporary.open("wb") as file:
        file.write("half")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError), replacing(path):
        pass  # nothing was written
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_swap_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fresh(content: str) -> Path:
        (tmp_path / "fresh").mkdir(exist_ok=True)
        (tmp_path / "fresh" / "x").write_text(content)
        return tmp_path / "fresh"

    folder = tmp_path / "folder"
    assert swap_folder(fresh("1"), folder) is None
    old = swap_folder(fresh("2"), folder)
    assert old is not None
    assert old == set_aside(folder)
    assert [(p / "x").read_text() for p in (old, folder)] == ["1", "2"]
    (old / "x").unlink()
    old.rmdir()
    # The second of two renames fails: what was there is there again.
    rename = os.replace
    asked: list[Path] = []

    def fail(source: Path, target: Path) -> Any:
        asked.append(source)
        if len(asked) == 2:
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        swap_folder(fresh("3"), folder)
    assert (folder / "x").read_text() == "2"
    assert set_aside(folder) is None


def test_folders_that_were_made(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b" / "c"
    (tmp_path / "a").mkdir()
    made = absent(inner)
    assert made == [inner, inner.parent]
    inner.mkdir(parents=True)
    (inner.parent / "theirs").touch()
    remove_empty(made)
    assert not inner.exists()
    assert (inner.parent / "theirs").exists()
    (inner.parent / "theirs").unlink()
    remove_empty(made)  # one that is gone already stops nothing
    assert list((tmp_path / "a").iterdir()) == []
