"""The addresses of the page, and what each does. All that is asked for is a number or a name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from livos_cli.errors import LivosError, OutputError, UsageError
from livos_cli.outputs.formats import KINDS
from livos_cli.ui.jobs import Jobs
from livos_cli.ui.marks import Stroke
from livos_cli.ui.pictures import encode, shrink
from livos_cli.ui.runs import run_lengths
from livos_cli.ui.session import Session

__all__ = ["make_app"]

PAGE = Path(__file__).parent / "page"
TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
LARGEST = 1 << 28  # bytes of a request
FRESH = {"cache-control": "no-store"}


Answer = dict[str, Any] | Response | None
Action = Callable[[dict[str, Any]], Answer]


class _Wanted:
    """What a request brings, each of its kind."""

    def __init__(self, body: dict[str, Any]) -> None:
        self._body = body

    def whole(self, name: str) -> int:
        value = self._body.get(name)
        if type(value) is not int:
            raise UsageError(f"{name} is no whole number", "")
        return value

    def number(self, name: str) -> float:
        value = self._body.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UsageError(f"{name} is not a number", "")
        if not math.isfinite(value):
            raise UsageError(f"{name} is not a number", "")
        return float(value)

    def flag(self, name: str) -> bool:
        value = self._body.get(name)
        if type(value) is not bool:
            raise UsageError(f"{name} is not true or false", "")
        return value

    def text(self, name: str, most: int = 200) -> str:
        value = self._body.get(name, "")
        if not isinstance(value, str) or len(value) > most or not value.isprintable():
            raise UsageError(f"{name} is no such text", f"use at most {most} plain letters")
        return value


class _Page:
    """What each address does."""

    def __init__(self, session: Session, jobs: Jobs) -> None:
        self._session, self._jobs = session, jobs

    # What is shown

    def project(self, request: Request) -> Answer:
        told = self._session.told() | {"job": self._jobs.last, "kinds": list(KINDS)}
        told["warnings"] = list(self._session.warnings)
        return told

    def times(self, request: Request) -> Answer:
        session = self._session
        seconds = np.array([session.video.seconds(n) for n in range(session.count)], "<f4")
        return Response(seconds.tobytes(), media_type="application/octet-stream", headers=FRESH)

    def timeline(self, request: Request) -> Answer:
        return self._session.timeline()

    def frame(self, request: Request) -> Answer:
        number, width = self._frame(request), self._width(request)
        data = encode(shrink(self._session.pictures.exact(number), width))
        return Response(data, media_type="image/jpeg", headers=FRESH)

    def small(self, request: Request) -> Answer:
        return _picture(self._session.pictures.small(self._frame(request)))

    def thumb(self, request: Request) -> Answer:
        return _picture(self._session.pictures.thumb(self._frame(request)))

    def mask(self, request: Request) -> Answer:
        number, width = self._frame(request), self._width(request)
        ids = shrink(self._session.ids(number), width, exact=True)
        return Response(run_lengths(ids), media_type="application/octet-stream", headers=FRESH)

    def marks(self, request: Request) -> Answer:
        marks = self._session.marks(self._frame(request))
        return {
            str(object_id): {"points": own.points, "box": own.box}
            for object_id, own in marks.items()
        }

    def _frame(self, request: Request) -> int:
        number = int(request.path_params["frame"])
        self._session.check_frame(number)
        return number

    @staticmethod
    def _width(request: Request) -> int | None:
        text = request.query_params.get("w", "")
        return max(16, int(text)) if text.isascii() and text.isdecimal() and len(text) < 6 else None

    # What is done

    def click(self, body: dict[str, Any]) -> Answer:
        get, session = _Wanted(body), self._session
        said = session.click(
            get.whole("frame"),
            get.whole("object"),
            get.number("x"),
            get.number("y"),
            get.flag("on"),
        )
        return {"said": said}

    def box(self, body: dict[str, Any]) -> Answer:
        get, session = _Wanted(body), self._session
        corners = tuple(get.number(name) for name in ("x0", "y0", "x1", "y1"))
        x0, y0, x1, y1 = corners
        if not (x0 < x1 and y0 < y1):
            raise UsageError("the box is empty", "drag from one corner to the other")
        said = session.box(get.whole("frame"), get.whole("object"), (x0, y0, x1, y1))
        return {"said": said}

    def stroke(self, body: dict[str, Any]) -> Answer:
        get, session = _Wanted(body), self._session
        path = body.get("path")
        if not isinstance(path, list) or not 1 <= len(path) <= 20_000:
            raise UsageError("a stroke without a way", "")
        if not all(isinstance(pair, list) and len(pair) == 2 for pair in path):
            raise UsageError("a stroke's way is x and y of its points", "")
        ways = (_Wanted({"x": x, "y": y}) for x, y in path)
        points = tuple((one.number("x"), one.number("y")) for one in ways)
        stroke = Stroke(get.flag("on"), get.number("radius"), points)
        return {"said": session.stroke(get.whole("frame"), get.whole("object"), stroke)}

    def prepare(self, body: dict[str, Any]) -> Answer:
        self._session.prepare(_Wanted(body).whole("frame"))
        return None

    def undo(self, body: dict[str, Any]) -> Answer:
        return {"frame": self._session.undo()}

    def redo(self, body: dict[str, Any]) -> Answer:
        return {"frame": self._session.undo(again=True)}

    def add_object(self, body: dict[str, Any]) -> Answer:
        return {"object": self._session.add_object(_Wanted(body).text("name")).id}

    def edit_object(self, body: dict[str, Any]) -> Answer:
        get, session = _Wanted(body), self._session
        object_id = get.whole("object")
        if body.get("remove"):
            session.remove_object(object_id)
            return None
        for name in ("name", "colour"):
            if name in body:
                session.edit_object(
                    object_id, **{name: get.text(name, 7 if name == "colour" else 80)}
                )
        for name in ("visible", "locked"):
            if name in body:
                session.edit_object(object_id, **{name: get.flag(name)})
        return None

    def drop(self, body: dict[str, Any]) -> Answer:
        get = _Wanted(body)
        return {"said": self._session.drop(get.whole("frame"), get.whole("object"))}

    def lock(self, body: dict[str, Any]) -> Answer:
        return {"said": self._session.lock(_Wanted(body).whole("frame"))}

    def remove_key(self, body: dict[str, Any]) -> Answer:
        self._session.remove_key(_Wanted(body).whole("frame"))
        return None

    def set_range(self, body: dict[str, Any]) -> Answer:
        get = _Wanted(body)
        return {"said": self._session.set_range((get.whole("first"), get.whole("end")))}

    def track(self, body: dict[str, Any]) -> Answer:
        get = _Wanted(body)
        self._jobs.track(get.text("what"), get.whole("frame"))
        return None

    def stop(self, body: dict[str, Any]) -> Answer:
        self._jobs.stop()
        return None

    def export(self, body: dict[str, Any]) -> Answer:
        kinds = body.get("kinds")
        if not isinstance(kinds, list) or not all(kind in KINDS for kind in kinds):
            raise UsageError("kinds to export", f"any of {', '.join(KINDS)}")
        chosen = tuple(kind for kind in KINDS if kind in kinds)
        self._jobs.export(chosen, overwrite=_Wanted(body).flag("overwrite"))
        return None

    def load_mask(self, number: int, name: str, data: bytes) -> Answer:
        return {"said": "; ".join(self._session.load_mask(number, name, data)) or None}


class _Json(JSONResponse):
    """JSON in ASCII: a file's name may hold what no UTF-8 can."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def _picture(data: bytes | None) -> Response:
    """A picture that may not be there yet."""
    if data is None:
        return Response(status_code=204, headers=FRESH)
    return Response(data, media_type="image/jpeg", headers=FRESH)


def _answered(answer: Answer) -> Response:
    return answer if isinstance(answer, Response) else _Json(answer or {}, headers=FRESH)


def _refused(error: LivosError) -> Response:
    """An error that the user can mend: one line, and what to do."""
    exists = isinstance(error, OutputError) and "exists already" in error.message
    told = {"error": error.message, "hint": error.hint, "exists": exists}
    return _Json(told, 409, headers=FRESH)


def make_app(session: Session, jobs: Jobs) -> Starlette:
    """The server for one open project."""
    page = _Page(session, jobs)

    def shown(function: Callable[[Request], Answer]) -> Any:
        async def answer(request: Request) -> Response:
            try:
                return _answered(await run_in_threadpool(function, request))
            except LivosError as error:
                return _refused(error)

        return answer

    def done(function: Action) -> Any:
        async def answer(request: Request) -> Response:
            try:
                body = json.loads(await _body(request) or b"{}")
            except (ValueError, RecursionError):
                body = None
            if not isinstance(body, dict):
                return Response("no such request", 400)
            try:
                return _answered(await run_in_threadpool(function, body))
            except LivosError as error:
                return _refused(error)

        return answer

    async def load_mask(request: Request) -> Response:
        try:
            number = int(request.path_params["frame"])
            name = Path(request.query_params.get("name", "mask.png")).name
            data = await _body(request)
            return _answered(await run_in_threadpool(page.load_mask, number, name, data))
        except LivosError as error:
            return _refused(error)

    async def events(_: Request) -> Response:
        return StreamingResponse(
            session.events.listen(), media_type="text/event-stream", headers=FRESH
        )

    look = {name: shown(getattr(page, name)) for name in ("project", "times", "timeline")}
    each = ("frame", "small", "thumb", "mask", "marks")
    acts = (
        "click", "box", "stroke", "prepare", "undo", "redo", "add_object", "edit_object", "drop",
        "lock", "remove_key", "set_range", "track", "stop", "export",
    )  # fmt: skip
    return Starlette(
        routes=[
            Route("/", _file("index.html")),
            *(Route(f"/page/{path.name}", _file(path.name)) for path in sorted(PAGE.iterdir())),
            Route("/api/events", events),
            *(Route(f"/api/{name}", answer) for name, answer in look.items()),
            *(Route(f"/api/{n}/{{frame:int}}", shown(getattr(page, n))) for n in each),
            *(Route(f"/api/{n}", done(getattr(page, n)), methods=["POST"]) for n in acts),
            Route("/api/load_mask/{frame:int}", load_mask, methods=["POST"]),
        ]
    )


def _file(name: str) -> Any:
    async def answer(_: Request) -> Response:
        path = PAGE / name
        return FileResponse(
            path, media_type=TYPES[path.suffix], headers={"cache-control": "no-cache"}
        )

    return answer


async def _body(request: Request) -> bytes:
    """What a request brings. Raises UsageError where it is too much."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST:
            raise UsageError("the file is too large", f"at most {LARGEST >> 20} MiB")
        parts.append(part)
    return b"".join(parts)
