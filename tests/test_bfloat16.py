"""bfloat16 where the CPU is faster with it: measured once, and remembered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from livos_cli import bfloat16
from livos_cli.device import resolve_precision

CPU = torch.device("cpu")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where gains are remembered, of nobody yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bfloat16.gain.cache_clear()
    yield tmp_path / "livos" / "bf16.json"
    bfloat16.gain.cache_clear()


def test_it_is_measured_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    found = bfloat16.gain("a processor")
    assert torch.get_num_threads() == threads
    assert 0.01 < found < 100
    assert list(json.loads(place.read_text()).values()) == [found]

    def again() -> float:
        raise AssertionError("measured twice")

    monkeypatch.setattr(bfloat16, "_measure", again)
    bfloat16.gain.cache_clear()  # as in another process
    assert bfloat16.gain("a processor") == found
    with pytest.raises(AssertionError, match="measured twice"):
        bfloat16.gain("another")


def test_only_so_many_are_remembered(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bfloat16, "_measure", lambda: 2.5)
    for number in range(bfloat16.MOST + 3):
        bfloat16.gain(f"processor {number}")
    known = list(json.loads(place.read_text()))
    assert len(known) == bfloat16.MOST
    assert f"processor {bfloat16.MOST + 2}," in known[-1]
    assert "processor 3," in known[0]


@pytest.mark.parametrize("content", ["", "[]", '{"a": "x"}', "{", '{"a": null}'])
def test_a_damaged_memory_is_made_anew(
    content: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.parent.mkdir()
    place.write_text(content)
    monkeypatch.setattr(bfloat16, "_measure", lambda: 2.5)
    assert bfloat16.gain("b") == 2.5
    assert 2.5 in json.loads(place.read_text()).values()


def test_where_nothing_can_be_remembered(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.parent.write_text("a file where the folder should be")
    monkeypatch.setattr(bfloat16, "_measure", lambda: 2.5)
    assert bfloat16.gain("c") == 2.5


def test_where_the_file_cannot_be_written(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "in the way").mkdir(parents=True)
    monkeypatch.setattr(bfloat16, "_measure", lambda: 2.5)
    assert bfloat16.gain("e") == 2.5


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", none)
    monkeypatch.setattr(bfloat16, "_measure", lambda: 2.5)
    bfloat16.gain.cache_clear()
    assert bfloat16.gain("d") == 2.5


@pytest.mark.parametrize(
    ("gain", "dtype"), [(0.17, torch.float32), (1.2, torch.float32), (1.9, torch.bfloat16)]
)
def test_auto_takes_what_is_faster(
    gain: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("livos_cli.device.gain", lambda _: gain)
    assert resolve_precision("auto", CPU) == dtype
    assert resolve_precision("fp32", CPU) == torch.float32
    assert resolve_precision("bf16", CPU) == torch.bfloat16
