"""Who may talk to the server: the page that was opened with the token, and nobody else.

A page of another site can send requests to this machine, too. So every request must name this
server as its host, come from no other origin, and carry the cookie that the token was changed for.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

__all__ = ["POLICY", "Guard"]

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]


class Guard:
    """Refuses what does not come from the page.

    Args:
        app: what is guarded.
        hosts: names under which the server may be called, with the port.
        port: of the server; cookies do not tell ports apart.
        token: for the first address.
    """

    def __init__(self, app: App, hosts: Iterable[str], port: int, token: str) -> None:
        self._app, self._token = app, token
        self._hosts = frozenset(host.lower() for host in hosts)
        self._name, self._session = f"livos_{port}", secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there is no socket here
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]}
        if (refusal := self._refusal(scope, headers)) is not None:
            await _answer(send, 403, refusal)
            return
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and given:
            await self._exchange(send, given)
            return
        if not self._known(headers.get("cookie", "")):
            await _answer(send, 403, "open the address that `livos ui` printed")
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> str | None:
        """Why a request is none of the page's."""
        host, origin = headers.get("host", "").lower(), headers.get("origin")
        if host not in self._hosts:
            return "this server is not called that"
        if origin is not None and origin.lower() != f"http://{host}":
            return "another site may not ask this server"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return "another site may not ask this server"
        if origin is None and scope["method"] not in ("GET", "HEAD"):
            return "a change must say where it comes from"
        return None

    async def _exchange(self, send: Send, given: str) -> None:
        """The token of the first address for a cookie, so that it stays in no history."""
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            await _answer(send, 403, "wrong token: open the address that `livos ui` printed")
            return
        cookie = f"{self._name}={self._session}; HttpOnly; SameSite=Strict; Path=/"
        await _answer(
            send, 303, "", [(b"location", b"/"), (b"set-cookie", cookie.encode("latin-1"))]
        )

    def _known(self, text: str) -> bool:
        # By hand: cookies of other servers on this machine come too, in any form.
        want = f"{self._name}={self._session}".encode()
        return any(hmac.compare_digest(one.strip().encode(), want) for one in text.split(";"))


async def _answer(
    send: Send, status: int, text: str, more: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *HEADERS, *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
