"""Results that cannot even be begun leave nothing behind."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path

import pytest

from livos_cli.errors import LivosError
from livos_cli.options import RunOptions
from livos_cli.outputs import encoder
from livos_cli.outputs.formats import KINDS, SINKS, Job
from livos_cli.outputs.writers import Writers
from livos_cli.video.source import SourceInfo

INFO = SourceInfo("clip", None, 64, 48, Fraction(1, 25), Fraction(25), 3, None, 1, 1, 1, 1)


def begin(folder: Path, *kinds: str) -> Writers:
    paths = {k: folder / "new" / f"x{KINDS[k].suffix(RunOptions())}" for k in kinds}
    job = Job(INFO, (1, 2), {}, RunOptions())
    return Writers(dict(paths), lambda name, path: SINKS[name].open(path, job))


@pytest.mark.parametrize("kind", KINDS)
def test_no_memory_for_a_thread(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the second result: the first has begun by then."""
    start, started = threading.Thread.start, []

    def second_fails(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", second_fails)
    first = "png" if kind != "png" else "mask"
    with pytest.raises(RuntimeError, match="new thread"):
        begin(tmp_path, first, kind)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["mask", "overlay", "alpha", "matte", "cutout", "objects"])
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("anything")], ids=["memory", "any"])
def test_no_encoder(
    kind: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(encoder.av, "open", fail)
    expected = LivosError if isinstance(error, MemoryError) else RuntimeError
    with pytest.raises(expected, match=r"too little memory|anything"):
        begin(tmp_path, kind)
    assert not list(tmp_path.iterdir())
