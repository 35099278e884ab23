"""Weights: files, conversion, and the Hub through its real client against a server on loopback."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from conftest import EXAMPLES, TINY_WEIGHTS, reference_weights

from livos_cli.errors import WeightsError
from livos_cli.network import PRESETS, SMALL, TINY, LiVOS
from livos_cli.weights.convert import read_checkpoint, remap_keys, write_safetensors
from livos_cli.weights.hub import _from_drive, drive_cache, parse_hub
from livos_cli.weights.load import load_checked, load_model, read_weights
from livos_cli.weights.registry import DEFAULT, REGISTRY
from livos_cli.weights.terms import read_terms

BUILTIN = TINY_WEIGHTS
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """The few answers of the Hub that a download needs; told what to do wrong."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.files = {"model.safetensors": BUILTIN.read_bytes(), "README.md": b"# weights"}
        self.fault = ""
        self.requests: list[str] = []
        self.bodies = 0  # downloads begun

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None: ...

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.path.split("?")[0]
        self.server.requests.append(f"{self.command} {path}")
        if path.startswith("/api/models/owner/repo/tree/"):
            files = self.server.files.items()
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
                for name, data in files
            ]
            return self.reply(json.dumps(tree))
        if not path.startswith("/owner/repo/resolve/"):
            return self.missing("RepoNotFound")
        revision, _, name = path.removeprefix("/owner/repo/resolve/").partition("/")
        if revision not in ("main", "v1", COMMIT):
            return self.missing("RevisionNotFound")
        if name not in self.server.files:
            return self.missing("EntryNotFound")
        data = self.server.files[name]
        digest = hashlib.sha256(data).hexdigest()
        if body and self.server.fault == "wrong":
            data = data[:-1] + bytes([data[-1] ^ 1])
        start = 0
        if wanted := self.headers.get("Range"):
            start = int(wanted.removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{digest}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if body:
            self.server.bodies += 1
            rest = data[start:]
            if self.server.fault == "cut":
                self.wfile.write(rest[: len(rest) // 2])
                self.wfile.flush()
                self.connection.close()
                self.close_connection = True
            else:
                self.wfile.write(rest)
        return None

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(f"POST {self.path}")
        if self.headers.get("Authorization") != "Bearer hf_test":
            return self.missing("", status=401)
        if self.path.startswith("/api/repos/create"):
            return self.reply(json.dumps({"url": f"{self.server.endpoint}/owner/repo"}))
        if self.path.startswith("/api/validate-yaml"):
            return self.reply(json.dumps({"warnings": [], "errors": []}))
        if "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            modes = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked
            ]
            return self.reply(json.dumps({"files": modes}))
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                content = base64.b64decode(entry["value"]["content"])
                self.server.files[entry["value"]["path"]] = content
        url = f"{self.server.endpoint}/owner/repo/commit/{COMMIT}"
        return self.reply(json.dumps({"commitUrl": url, "commitOid": COMMIT, "success": True}))

    def reply(self, text: str) -> None:
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def missing(self, code: str, status: int = 404) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def fetch(hub: Hub, livos: Any, tmp_path: Path) -> Any:
    """`livos weights download` with its own cache, against that server."""

    def run(what: str, **env: str) -> Any:
        base = {
            "HF_ENDPOINT": hub.endpoint,
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_ETAG_TIMEOUT": "3",
            "HF_HUB_DOWNLOAD_TIMEOUT": "3",
        }
        return livos("weights", "download", what, env={**base, **env})

    return run


def error_of(done: Any) -> str:
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("livos: ")]
    assert len(lines) == 1, done.stderr
    return str(lines[0])


def path_of(done: Any) -> Path:
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def test_fresh_then_cached_then_offline(hub: Hub, fetch: Any, tmp_path: Path) -> None:
    path = path_of(fetch("owner/repo"))
    assert path.read_bytes() == BUILTIN.read_bytes()
    assert tmp_path / "cache" in path.parents
    assert load_model(path, device="cpu", precision="fp32").config == load_tiny().config
    assert hub.bodies == 1
    assert path_of(fetch("owner/repo")) == path
    assert hub.bodies == 1  # cached: asked for news, downloaded nothing
    hub.requests.clear()
    assert path_of(fetch("owner/repo", HF_HUB_OFFLINE="1")) == path
    assert not hub.requests


def test_revision_and_file(hub: Hub, fetch: Any) -> None:
    hub.files["sub/other.safetensors"] = hub.files.pop("model.safetensors")
    path = path_of(fetch("owner/repo@v1:sub/other.safetensors"))
    assert path.name == "other.safetensors"
    # The only weights in a repository need no name.
    assert path_of(fetch("owner/repo@v1")) == path


def test_safetensors_come_before_pickles(hub: Hub, fetch: Any) -> None:
    hub.files["model.pth"] = b"never asked for"
    assert path_of(fetch("owner/repo")).suffix == ".safetensors"


def test_several_weights_need_a_name(hub: Hub, fetch: Any) -> None:
    hub.files = {"a.safetensors": b"", "b.safetensors": b""}
    assert "owner/repo:a.safetensors" in error_of(fetch("owner/repo"))


def test_404(fetch: Any) -> None:
    assert "no such repository" in error_of(fetch("nobody/nothing:model.safetensors"))
    assert "no such repository" in error_of(fetch("nobody/nothing"))
    assert "no such file" in error_of(fetch("owner/repo:gone.safetensors"))
    assert "no such revision" in error_of(fetch("owner/repo@gone:model.safetensors"))


@pytest.mark.slow
def test_cut_short(hub: Hub, fetch: Any, tmp_path: Path) -> None:
    hub.fault = "cut"
    error_of(fetch("owner/repo:model.safetensors"))
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    # And once the line is good again, it comes.
    hub.fault = ""
    assert path_of(fetch("owner/repo:model.safetensors")).read_bytes() == BUILTIN.read_bytes()


def test_wrong_hash(hub: Hub, fetch: Any) -> None:
    hub.fault = "wrong"
    assert "expected content" in error_of(fetch("owner/repo:model.safetensors"))
    # What is bad stays recognised in the cache, offline too.
    assert "expected content" in error_of(fetch("owner/repo:model.safetensors", HF_HUB_OFFLINE="1"))


def test_offline_and_never_seen(fetch: Any) -> None:
    assert "local cache" in error_of(fetch("owner/repo", HF_HUB_OFFLINE="1"))
    assert "local cache" in error_of(fetch("owner/repo:a.safetensors", HF_HUB_OFFLINE="1"))


def test_published_names_come_from_a_mirror(hub: Hub, fetch: Any, tmp_path: Path) -> None:
    name = "livos-nomose-1024p"
    checkpoint = tmp_path / "small.pth"
    torch.save(reference_weights(LiVOS(SMALL)).state_dict(), checkpoint)
    hub.files[f"{name}.pth"] = checkpoint.read_bytes()
    path = path_of(fetch(name, LIVOS_HUB_REPO="owner/repo"))
    assert path.name == f"{name}.pth"
    assert "neither" in error_of(fetch("livos-wmose-480p", LIVOS_HUB_REPO="owner/repo"))


def test_a_mirror_is_asked_for_the_other_file_only_if_one_is_missing(hub: Hub, fetch: Any) -> None:
    name = "livos-nomose-1024p"
    hub.files[f"{name}.pth"] = b"not what the Hub says"
    hub.fault = "wrong"
    assert "expected content" in error_of(fetch(name, LIVOS_HUB_REPO="owner/repo"))
    hub.files[f"{name}.safetensors"] = b"nor is this"
    hub.requests.clear()
    assert "expected content" in error_of(fetch(name, LIVOS_HUB_REPO="owner/repo"))
    assert not [request for request in hub.requests if request.endswith(".pth")]
    assert "no such repository" in error_of(fetch(name, LIVOS_HUB_REPO="nobody/nothing"))
    assert not [request for request in hub.requests if request.endswith(".pth")]
    offline = error_of(fetch("livos-wmose-480p", LIVOS_HUB_REPO="owner/repo", HF_HUB_OFFLINE="1"))
    assert "neither" in offline
    assert "local cache" in offline


def test_published_names_without_a_mirror_say_how(fetch: Any) -> None:
    for name, entry in REGISTRY.items():
        if entry.drive:
            message = error_of(fetch(name, LIVOS_HUB_REPO="", XDG_CACHE_HOME="/nonexistent"))
            assert entry.drive in message
            assert "livos weights convert" in message


def test_what_google_drive_sends_is_complete_or_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = next(entry for entry in REGISTRY.values() if entry.drive)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("LIVOS_HUB_REPO", raising=False)
    ends: list[str] = []

    def download(*, id: str, output: str, **_: object) -> str | None:
        assert id == entry.drive
        Path(output).write_bytes(b"half")
        if ends[-1] == "error":
            raise RuntimeError("quota exceeded")
        return None if ends[-1] == "nothing" else output

    monkeypatch.setitem(sys.modules, "gdown", types.SimpleNamespace(download=download))
    for end, said in (("error", "quota exceeded"), ("nothing", "no file came")):
        ends.append(end)
        with pytest.raises(WeightsError, match=said):
            _from_drive(entry)
        assert not list((tmp_path / "livos").iterdir())
    ends.append("whole")
    path = _from_drive(entry)
    assert path == drive_cache(entry)
    assert [p.name for p in (tmp_path / "livos").iterdir()] == [path.name]


def load_tiny() -> LiVOS:
    return load_model(TINY_WEIGHTS, device="cpu", precision="fp32")


def test_the_built_in_network_is_small() -> None:
    model = load_tiny()
    assert sum(p.numel() for p in model.parameters()) <= 6_000_000
    assert BUILTIN.stat().st_size <= 12_000_000
    with safetensors.safe_open(str(BUILTIN), framework="pt") as file:
        assert {file.get_tensor(k).dtype for k in file.keys()} <= {  # noqa: SIM118
            torch.float16,
            torch.int64,
        }


@pytest.mark.parametrize("preset", PRESETS)
def test_a_configuration_survives_its_file(preset: str, tmp_path: Path) -> None:
    config = PRESETS[preset]
    model = LiVOS(config)
    path = tmp_path / "w.safetensors"
    write_safetensors(model.state_dict(), config, path)
    tensors, read = read_checkpoint(path)
    assert read == config
    assert all(torch.equal(tensors[k], v) for k, v in model.state_dict().items())


@pytest.mark.slow
def test_convert_a_published_checkpoint(tmp_path: Path, livos: Any) -> None:
    model = reference_weights(LiVOS(SMALL))
    wrapped = {f"module.{k}": v for k, v in model.state_dict().items()}
    wrapped["module.aux_computer.sensory_aux.projection.bias"] = torch.zeros(257)
    source, target = tmp_path / "in.pth", tmp_path / "out.safetensors"
    torch.save({"state_dict": wrapped}, source)
    done = livos("weights", "convert", source, target, "--size", "600")
    assert done.returncode == 0, done.stderr
    converted, config = load_checked(target)
    assert config.size == 600
    assert config.image_block == "basic"
    for name, tensor in model.state_dict().items():
        assert torch.equal(converted[name], tensor)
    assert livos("weights", "convert", source, target).returncode == 1  # exists
    assert livos("weights", "convert", source, tmp_path / "out.pth").returncode == 2


def test_remap_keys_is_pure() -> None:
    before = {"module.a": torch.ones(1), "aux_computer.b": torch.ones(1), "c": torch.ones(1)}
    assert set(remap_keys(before)) == {"a", "c"}
    assert set(before) == {"module.a", "aux_computer.b", "c"}


def test_a_tensor_too_few_is_refused(tmp_path: Path) -> None:
    state = LiVOS(TINY).state_dict()
    del state["key_projector.layer1.weight"]
    write_safetensors(state, TINY, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="does not fit its own configuration"):
        load_model(tmp_path / "w.safetensors", device="cpu")


def test_published_names_know_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = REGISTRY["livos-nomose-2048p"]
    path = tmp_path / "cache" / "livos" / f"{entry.name}.pth"
    path.parent.mkdir(parents=True)
    torch.save(reference_weights(LiVOS(SMALL)).state_dict(), path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LIVOS_HUB_REPO", raising=False)
    assert read_weights(entry.name)[1].size == 2048


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("owner/repo", ("owner/repo", None, None)),
        ("owner/repo@v1.0", ("owner/repo", "v1.0", None)),
        ("owner/repo:a/b.pth", ("owner/repo", None, "a/b.pth")),
        ("owner/repo@refs/pr/1:w.safetensors", ("owner/repo", "refs/pr/1", "w.safetensors")),
        ("repo", None),
        ("a/b/c", None),
    ],
)
def test_hub_addresses(text: str, want: tuple[str, str | None, str | None] | None) -> None:
    got = parse_hub(text)
    assert (got and (got.repo, got.revision, got.file)) == want


def test_list_and_card(livos: Any) -> None:
    names = [
        json.loads(line)["name"] for line in livos("weights", "list", "--json").stdout.splitlines()
    ]
    assert names == list(REGISTRY)
    card = livos("weights", "card", "lite").stdout
    assert card.startswith("---\n")
    assert "DAVIS" in card


@pytest.mark.slow
def test_push_without_a_token_is_an_error(livos: Any, tmp_path: Path) -> None:
    env = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "", "HF_HOME": str(tmp_path)}
    done = livos("weights", "push", "owner/repo", env=env)
    assert "cannot upload" in error_of(done)


@pytest.mark.slow
def test_push_then_download(hub: Hub, fetch: Any, livos: Any, tmp_path: Path) -> None:
    hub.files.clear()
    env = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_test", "HF_HOME": str(tmp_path)}
    done = livos("weights", "push", "owner/repo", env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(f"/owner/repo/commit/{COMMIT}")
    assert set(hub.files) == {"model.safetensors", "README.md"}
    assert b"DAVIS" in hub.files["README.md"]
    path = path_of(fetch("owner/repo"))
    assert read_terms(path) == REGISTRY[DEFAULT].terms
    pushed = load_model(path, device="cpu", precision="fp32")
    for name, tensor in load_model(device="cpu", precision="fp32").state_dict().items():
        assert torch.equal(pushed.state_dict()[name], tensor)


def test_loading_imports_nothing_that_only_compilers_want() -> None:
    """Each is a third of a second to a second of every start, and up to 100 MB."""
    code = (
        "import sys; from livos_cli import load_model; load_model('lite', device='cpu')\n"
        "print([name for name in ('torch._dynamo', 'sympy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_pytorch_that_fails_is_no_damaged_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc its first copy raises; what is said then must not send anybody to the file."""

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("Failed to initialize cpuinfo!")

    monkeypatch.setattr(torch.nn.Module, "load_state_dict", fails)
    with pytest.raises(RuntimeError, match="cpuinfo"):
        load_model(TINY_WEIGHTS, device="cpu", precision="fp32")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["segment", "mask"])
def test_without_proc_one_line_says_so(command: str, tmp_path: Path) -> None:
    if shutil.which("unshare") is None or os.geteuid():
        pytest.skip("taking /proc away from a process wants root and unshare (Linux)")
    words = {
        "segment": ["-m", EXAMPLES / "first.png"],
        "mask": ["--box", "10%,20%,40%,90%"],
    }[command]
    line = [
        sys.executable,
        "-m",
        "livos_cli",
        command,
        EXAMPLES / "clip.mp4",
        *words,
        "-o",
        tmp_path,
    ]
    hidden = f"mount -t tmpfs none /proc && exec {shlex.join(map(str, line))}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", hidden], capture_output=True, text=True, check=False
    )
    if "permission denied" in done.stderr.lower():
        pytest.skip(f"/proc cannot be taken away here: {done.stderr.strip()}")
    assert done.returncode == 1
    assert "mount /proc" in done.stderr
    assert "Traceback" not in done.stderr
    assert "damaged" not in done.stderr


def test_weights_that_earlier_versions_had_are_named_with_what_is_better() -> None:
    with pytest.raises(WeightsError, match="no longer has the weights 'tiny' — use `-w lite`"):
        load_model("tiny")
