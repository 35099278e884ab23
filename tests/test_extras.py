"""What is missing is named with the command that brings it, however livos was installed."""

from __future__ import annotations

import json
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from livos_cli import extras
from livos_cli.extras import install_hint, packages_of


@pytest.fixture
def prefix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder in place of the environment that livos runs in."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    return tmp_path


def came_from(monkeypatch: pytest.MonkeyPatch, told: dict[str, Any] | None) -> None:
    real = metadata.distribution("livos")

    class Told:
        requires = real.requires

        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return None if told is None else json.dumps(told)

    monkeypatch.setattr(extras.metadata, "distribution", lambda _: Told())


def test_an_extra_is_its_packages_and_those_of_the_extras_it_takes_in() -> None:
    assert packages_of("ui") == ["starlette", "uvicorn"]
    assert sorted(packages_of("onnxruntime")) == ["onnx", "onnxruntime", "onnxscript"]
    assert packages_of("nothing") == []


def test_every_extra_that_a_hint_names_is_declared() -> None:
    declared = metadata.metadata("livos").get_all("Provides-Extra") or []
    sources = (Path(extras.__file__).parent).rglob("*.py")
    used = {
        part.split('"')[1]
        for path in sources
        for part in path.read_text().replace("'", '"').split("install_hint(")[1:]
        if part.startswith('"')
    }
    assert {"ui", "eval", "plot", "ray", "train", "drive", "onnxruntime", "openvino"} <= used
    assert used <= set(declared)


def test_pip_is_named_where_it_is_the_one_of_this_environment(
    prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: str(prefix / "bin" / "pip"))
    assert install_hint("ui") == "pip install starlette uvicorn"
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/pip")  # of another Python
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda _: object())
    assert install_hint("ui") == f"{sys.executable} -m pip install starlette uvicorn"
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda _: None)  # as uv makes them
    assert install_hint("ui") == f"uv pip install --python {sys.executable} starlette uvicorn"


def test_tools_that_keep_an_environment_a_program(
    prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (prefix / "pipx_metadata.json").touch()
    assert install_hint("ui") == "pipx inject livos starlette uvicorn"
    (prefix / "pipx_metadata.json").unlink()
    (prefix / "uv-receipt.toml").touch()
    more = "--with starlette --with uvicorn"
    came_from(monkeypatch, {"url": "file:///a/my%20wheels/livos.whl", "archive_info": {}})
    assert install_hint("ui") == f"uv tool install --force '/a/my wheels/livos.whl' {more}"
    came_from(monkeypatch, {"url": "https://host/livos", "vcs_info": {"vcs": "git"}})
    assert install_hint("ui") == f"uv tool install --force git+https://host/livos {more}"
    came_from(monkeypatch, None)  # from an index
    assert install_hint("ui") == f"uv tool install --force livos {more}"


def test_uvx_is_told_by_its_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "uv" / "archive-v0" / "x1y2"))
    came_from(monkeypatch, {"url": "file:///w/livos.whl"})
    more = "--with starlette --with uvicorn"
    assert install_hint("ui") == f"uvx {more} --from /w/livos.whl livos"


def test_no_hint_names_a_project_of_an_index_for_an_extra() -> None:
    for path in Path(extras.__file__).parent.rglob("*.py"):
        assert "install 'livos[" not in path.read_text(), path
