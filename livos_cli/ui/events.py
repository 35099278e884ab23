"""News for the pages that are open, from any thread."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

__all__ = ["Events"]

WAITING = 1000  # news that a page may be behind; of one that is further behind, all are forgotten
BEAT = 15.0  # seconds of silence after which a page hears that the server is there


class Events:
    """Hands news to every page that listens."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pages: set[asyncio.Queue[str | None]] = set()
        self._closed = False

    def tell(self, kind: str, **news: Any) -> None:
        """Tell all pages; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            text = json.dumps({"kind": kind, **news})
            self._loop.call_soon_threadsafe(self._put, text)

    def _put(self, text: str | None) -> None:
        for page in self._pages:
            if page.qsize() >= WAITING:
                while not page.empty():
                    page.get_nowait()
                page.put_nowait(json.dumps({"kind": "reload"}))
            page.put_nowait(text)

    def close(self) -> None:
        """Let all pages go; from any thread."""
        self._closed = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, None)

    async def listen(self) -> AsyncIterator[str]:
        """What a page hears, as server-sent events."""
        self._loop = asyncio.get_running_loop()
        page: asyncio.Queue[str | None] = asyncio.Queue()
        self._pages.add(page)
        try:
            yield ": here\n\n"
            while not self._closed:
                try:
                    text = await asyncio.wait_for(page.get(), BEAT)
                except asyncio.TimeoutError:
                    yield ": here\n\n"
                    continue
                if text is None:
                    return
                yield f"data: {text}\n\n"
        finally:
            self._pages.discard(page)
