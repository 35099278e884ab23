"""Listening: the server's socket, its life, and the address that opens the page."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from urllib.parse import quote

import uvicorn
from anyio.to_thread import current_default_thread_limiter

from livos_cli.errors import OutputError
from livos_cli.ui.guard import Guard
from livos_cli.ui.jobs import Jobs
from livos_cli.ui.server import make_app
from livos_cli.ui.session import Session

__all__ = ["bind", "serve"]

THREADS = 6  # that answer requests


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        OutputError: the port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named: else asyncio lets small answers wait for an acknowledgment, 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise OutputError(
            f"cannot listen on {host}, port {port} ({error.strerror})", "give another --port, or 0"
        ) from None
    return listening


class _Server(uvicorn.Server):
    """Lets pages go that wait for news, or it would wait for them."""

    def __init__(self, config: uvicorn.Config, session: Session, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._session, self._ready = session, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # Each thread has its own pool of memory, which large frames would fill.
        current_default_thread_limiter().total_tokens = THREADS
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._session.events.close()
        await super().shutdown(sockets)


def serve(
    session: Session,
    listening: socket.socket,
    host: str,
    token: str,
    ready: Callable[[str], None],
) -> None:
    """Serve a project until a signal ends it; tracking is stopped then.

    Args:
        session: what is served.
        listening: from `bind`.
        host: as it was given.
        token: for the first address.
        ready: called with that address once the server listens.
    """
    port = int(listening.getsockname()[1])
    name = f"[{host}]" if ":" in host else host
    hosts = {f"{name}:{port}"} | ({f"localhost:{port}"} if host == "127.0.0.1" else set())
    if host in ("0.0.0.0", "::"):  # by any name of this machine
        hosts |= {f"{socket.gethostname()}:{port}", f"127.0.0.1:{port}", f"localhost:{port}"}
        hosts |= {f"{one}:{port}" for one in _addresses()}
        name = socket.gethostname()
    if port == 80:  # browsers leave it out
        hosts |= {host.removesuffix(":80") for host in hosts}
    jobs = Jobs(session)
    guard = Guard(make_app(session, jobs), hosts, port, token)
    config = uvicorn.Config(
        guard, log_level="warning", access_log=False, server_header=False, lifespan="off",
        timeout_graceful_shutdown=2,
    )  # fmt: skip
    address = f"http://{name}:{port}/?token={quote(token)}"
    try:
        _Server(config, session, lambda: ready(address)).run(sockets=[listening])
    finally:
        jobs.stop()


def _addresses() -> set[str]:
    """This machine's own, as far as it knows them."""
    found = set()
    with contextlib.suppress(OSError):
        found |= set(socket.gethostbyname_ex(socket.gethostname())[2])
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.connect(("192.0.2.1", 9))  # sends nothing; tells by which address others see it
        found.add(other.getsockname()[0])
    return found
