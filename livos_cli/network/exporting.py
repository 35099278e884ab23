"""Whether the network is being made into a graph, which knows neither strides nor counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["exporting", "is_exporting"]

_now = ContextVar("exporting", default=False)


def is_exporting() -> bool:
    """Inside `exporting`: what is computed must not depend on how many objects or pixels are."""
    return _now.get()


@contextmanager
def exporting() -> Iterator[None]:
    """A network that is called inside takes the form that suits every size."""
    token = _now.set(True)
    try:
        yield
    finally:
        _now.reset(token)
