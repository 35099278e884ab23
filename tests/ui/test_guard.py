"""Who may talk to the server, on a real socket: wrong token, foreign Origin and Host, odd paths."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from media import scene, write_video
from page_server import PageServer

TOKEN = "0123456789abcdef-token"


class Server(PageServer):
    """That is asked without a browser."""

    def __init__(self, *words: object) -> None:
        super().__init__(*words)
        found = re.search(r":(\d+)/", self.address)
        assert found, self.end()
        self.port = int(found[1])
        self.host = f"127.0.0.1:{self.port}"

    def ask(
        self, path: str, method: str = "GET", body: str | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Headers by name, `_` for `-`; one that is empty is left out."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest(method, path, skip_host=True)
        sent = {"host": self.host, **headers}
        if body is not None:
            sent["content-length"] = str(len(body))
        for name, value in sent.items():
            if value:
                connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(None if body is None else body.encode())
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        data = answer.read()
        connection.close()
        return answer.status, told, data

    def end(self) -> str:
        self.process.terminate()
        return self.process.communicate(timeout=30)[1]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    return write_video(path, [rgb for rgb, _ in scene(64, 96, 10)])


@pytest.fixture(scope="module")
def server(video: Path) -> Iterator[Server]:
    server = Server(video, "--token", TOKEN)
    yield server
    assert "Traceback" not in server.end()


@pytest.fixture(scope="module")
def cookie(server: Server) -> str:
    status, told, _ = server.ask(f"/?token={TOKEN}")
    assert (status, told["location"]) == (303, "/")
    flags = told["set-cookie"]
    assert "HttpOnly" in flags
    assert "SameSite=Strict" in flags
    return flags.split(";")[0]


def test_the_page_is_given_to_who_has_the_cookie(server: Server, cookie: str) -> None:
    status, told, data = server.ask("/", cookie=cookie)
    assert status == 200
    assert b"<title>livos</title>" in data
    policy = told["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert told["x-content-type-options"] == "nosniff"
    for name in re.findall(rb'(?:src|href)="(/[^"]+)"', data):
        assert server.ask(name.decode(), cookie=cookie)[0] == 200, name


def test_the_page_asks_no_other_host() -> None:
    from livos_cli.ui.server import PAGE

    for path in PAGE.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//[a-z]+\.[a-z]", text), path
        assert "innerHTML" not in text
        assert " style=" not in text


def test_a_wrong_token_and_no_cookie_are_refused(server: Server, cookie: str) -> None:
    for path in ("/?token=wrong", "/?token=", "/", "/api/project", "/page/main.js", "/nothing"):
        status, _, data = server.ask(path)
        assert status == 403, path
        assert b"livos ui" in data
    assert server.ask("/api/project", cookie=cookie[:-1])[0] == 403
    assert server.ask("/api/project", cookie="livos_1=x; " + cookie)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:80"},
        {"host": "127.0.0.1"},
        {"host": ""},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1:1"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
    ids=str,
)
def test_others_may_not_ask(server: Server, cookie: str, headers: dict[str, str]) -> None:
    for path in ("/api/project", "/", f"/?token={TOKEN}"):
        assert server.ask(path, cookie=cookie, **headers)[0] in (400, 403)


def test_a_change_says_where_it_comes_from(server: Server, cookie: str) -> None:
    body = json.dumps({"name": "x"})
    assert server.ask("/api/add_object", "POST", body, cookie=cookie)[0] == 403
    own = {"cookie": cookie, "origin": f"http://{server.host}"}
    assert server.ask("/api/add_object", "POST", body, **own)[0] == 200
    assert server.ask("/api/add_object", **own)[0] == 405
    status, _, data = server.ask("/api/add_object", "POST", "{", **own)
    assert (status, data) == (400, b"no such request")


@pytest.mark.parametrize(
    "path",
    [
        "/page/../server.py", "/page/%2e%2e/server.py", "/page/..%2fserver.py", "/../../etc/passwd",
        "/page//etc/passwd", "/api/frame/../project", "/api/frame/-1", "/api/frame/1%00",
        "/page/main.js%00.css", "/api/frame/99999999999999999999",
    ],
)  # fmt: skip
def test_nothing_but_the_page_is_there(server: Server, cookie: str, path: str) -> None:
    status, _, data = server.ask(path, cookie=cookie)
    assert status in (404, 409), path
    assert b"root:" not in data
    assert b"def " not in data


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("click", {"frame": 0, "object": 1, "x": "1", "y": 2, "on": True}),
        ("click", {"frame": 0, "object": 1, "x": 1e400, "y": 2, "on": True}),
        ("click", {"frame": True, "object": 1, "x": 1, "y": 2, "on": True}),
        ("click", {"frame": 10, "object": 1, "x": 1, "y": 2, "on": True}),
        ("stroke", {"frame": 0, "object": 1, "on": True, "radius": 1e9, "path": [[1, 1]]}),
        ("stroke", {"frame": 0, "object": 1, "on": True, "radius": 3, "path": []}),
        ("stroke", {"frame": 0, "object": 1, "on": True, "radius": 3, "path": [1, [2]]}),
        ("box", {"frame": 0, "object": 1, "x0": 5, "y0": 5, "x1": 5, "y1": 9}),
        ("edit_object", {"object": 1, "colour": "red"}),
        ("edit_object", {"object": 1, "name": "\u0007"}),
        ("track", {"what": "everything", "frame": 0}),
        ("export", {"kinds": ["../x"], "overwrite": False}),
        ("export", {"kinds": [], "overwrite": False}),
        ("set_range", {"first": 5, "end": 5}),
        ("load_mask/0?name=../../x.png", {}),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_one_line(
    server: Server, cookie: str, name: str, body: dict[str, Any]
) -> None:
    own = {"cookie": cookie, "origin": f"http://{server.host}"}
    status, _, data = server.ask(f"/api/{name}", "POST", json.dumps(body), **own)
    assert status == 409, data
    told = json.loads(data)
    assert told["error"]
    assert "\n" not in told["error"]
    assert "Traceback" not in told["error"]


@pytest.mark.usefixtures("server")
def test_a_second_server_on_a_project_is_refused(video: Path, livos: Any) -> None:
    done = livos("ui", video, "--no-browser")
    assert done.returncode == 1
    assert "is in use by another run" in done.stderr


def test_a_port_that_is_taken_is_said(video: Path, tmp_path: Path, livos: Any) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = livos("ui", video, "-o", tmp_path / "p", "--port", port, "--no-browser")
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1, port {port}" in done.stderr
    assert "--port" in done.stderr


def test_another_host_needs_a_token(video: Path, livos: Any) -> None:
    done = livos("ui", video, "--host", "0.0.0.0", "--no-browser")
    assert done.returncode == 2
    assert "--token" in done.stderr
    assert "not encrypted" in done.stderr
    done = livos("ui", video, "--token", "short", "--no-browser")
    assert (done.returncode, "16 letters" in done.stderr) == (2, True)


def test_what_is_no_video_is_said(video: Path, tmp_path: Path, livos: Any) -> None:
    done = livos("ui", tmp_path, "--no-browser")
    assert done.returncode == 1
    assert "holds no images, no video and no project" in done.stderr
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(video, tmp_path / name)
    done = livos("ui", tmp_path, "--no-browser")
    assert (done.returncode, "holds 2 videos" in done.stderr) == (1, True)
    done = livos("ui", "-", "--no-browser")
    assert done.returncode == 2
    done = livos("ui", tmp_path / "no.mp4", "--no-browser")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
