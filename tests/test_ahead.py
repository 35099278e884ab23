"""Frames taken ahead in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from livos_cli.ahead import DEPTH, read_ahead


def reading() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "livos-read"]


def test_order_and_number_are_kept() -> None:
    assert list(read_ahead(range(1000))) == list(range(1000))
    assert list(read_ahead([])) == []
    assert reading() == []


def test_the_source_is_at_most_so_far_ahead() -> None:
    taken = []

    def source() -> Iterator[int]:
        for number in range(1, 101):
            taken.append(number)
            yield number

    items = read_ahead(source())
    for seen in range(1, 51):
        assert next(items) == seen
        time.sleep(0.002)
        assert len(taken) <= seen + DEPTH + 1
    items.close()


def test_an_error_of_the_source_comes_after_what_was_before_it() -> None:
    def source() -> Iterator[int]:
        yield from (1, 2, 3)
        raise OSError("the disk is gone")

    items = read_ahead(source())
    assert [next(items) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(OSError, match="the disk is gone"):
        next(items)
    assert reading() == []


def test_closing_ends_the_thread_also_where_it_waits() -> None:
    def source() -> Iterator[int]:
        n = 0
        while True:
            yield (n := n + 1)

    items = read_ahead(source())
    assert next(items) == 1
    assert len(reading()) == 1
    items.close()
    assert reading() == []
