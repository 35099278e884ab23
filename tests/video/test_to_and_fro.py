"""Frames played forward and backward."""

from __future__ import annotations

from livos_cli.video.to_and_fro import to_and_fro


def test_each_end_comes_once() -> None:
    assert [to_and_fro(n, 4) for n in range(10)] == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3]
    assert [to_and_fro(n, 2) for n in range(4)] == [0, 1, 0, 1]
    assert [to_and_fro(n, 1) for n in range(3)] == [0, 0, 0]
