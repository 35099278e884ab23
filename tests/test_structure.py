"""The shape of the code: which part may use which, and who may print."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "livos_cli"
KERNELS = ROOT / "kernels" / "livos_kernels"
BASICS = {"errors", "memory", "options", "redact"}
# part -> what it may import; cli -> batch -> pipeline -> {video, tracker} -> network -> kernels
ALLOWED: dict[str, set[str]] = {
    "livos_kernels": set(),
    "redact": set(),
    "memory": {"errors"},
    "errors": {"redact"},
    "options": {"errors"},
    "names": set(),
    "device": BASICS,
    "network": BASICS | {"device", "livos_kernels"},
    "framing": {"network"},
    "graph": {"network"},
    "certainty": {"network"},
    "state": {"certainty", "framing", "network"},
    "tracker": BASICS
    | {"certainty", "device", "framing", "graph", "network", "state", "livos_kernels"},
    "upload": {"video"},
    "outside": set(),
    "trust": {"files", "outside"},
    "video": BASICS | {"files", "names", "watch"},
    "weights": BASICS | {"device", "files", "outside", "network"},
    "records": BASICS | {"files", "names", "trust"},
    "outputs": BASICS | {"names", "records", "video"},
    "fingerprint": BASICS | {"livos_cli", "video"},
    "journal": BASICS | {"files", "outputs", "records", "spool", "trust", "video"},
    "spool": BASICS | {"video"},
    "watch": {"options"},
    "refine": {"spool"},
    "tracking": BASICS | {"framing", "network", "refine", "spool", "tracker", "upload", "video"},
    "pipeline": BASICS
    | {"device", "fingerprint", "framing", "network", "outputs", "resume", "tracking"}
    | {"video", "watch"},
    "resume": BASICS
    | {"fingerprint", "journal", "network", "records", "tracker", "tracking", "video"},
    "remote": BASICS | {"outside"},
    "lock": BASICS | {"files", "records", "trust"},
    "manifest": {"files", "livos_cli", "names", "records", "trust"},
    "discover": BASICS | {"livos_cli", "outside", "remote", "video"},
    "plan": BASICS
    | {"discover", "files", "fingerprint", "livos_cli", "manifest", "outputs", "records"}
    | {"remote", "trust", "video", "watch"},
    "batch": BASICS
    | {"device", "discover", "livos_cli", "network", "pipeline", "plan", "remote", "video"},
    "stretches": BASICS
    | {"files", "fingerprint", "network", "outputs", "pipeline", "records", "spool"}
    | {"tracking", "video"},
    "cluster": BASICS | {"batch", "discover", "network", "plan", "stretches", "video", "weights"},
    "api": BASICS | {"network", "pipeline", "tracking", "video", "weights"},
    "training": BASICS
    | {"datasets", "device", "files", "network", "trust", "video", "weights", "livos_kernels"},
    "bench": BASICS | {"device", "network", "pipeline", "tracker", "video"},
    "first_mask": BASICS,
    "clicks": BASICS | {"first_mask", "framing", "network"},
    "files": BASICS,
    "datasets": BASICS | {"outside", "video"},
    "evaluation": BASICS
    | {"datasets", "device", "files", "network", "outputs", "tracker", "tracking", "trust"}
    | {"video"},
    "cli": BASICS
    | {
        "batch",
        "bench",
        "clicks",
        "cluster",
        "datasets",
        "device",
        "discover",
        "evaluation",
        "files",
    }
    | {"first_mask", "lock", "network", "outputs", "pipeline", "plan", "stretches", "tracking"}
    | {"training", "video", "weights", "livos_cli"},
    "__main__": {"cli"},
    "__init__": BASICS | {"api", "tracker", "weights"},
}
FILES = sorted([*PACKAGE.rglob("*.py"), *KERNELS.rglob("*.py")])


def part_of(path: Path) -> str:
    if KERNELS in path.parents:
        return "livos_kernels"
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(tree: ast.AST) -> set[str]:
    parts = set()
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "livos_cli":
                inner = {a.name for a in node.names if (PACKAGE / a.name).exists()}
                names = [f"livos_cli.{name}" for name in inner] or ["livos_cli"]
        for name in names:
            first, _, rest = name.partition(".")
            if first == "livos_kernels":
                parts.add(first)
            elif first == "livos_cli":
                parts.add(rest.split(".")[0] or "livos_cli")
    return parts


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    part = part_of(path)
    used = imported_parts(ast.parse(path.read_text())) - {part}
    assert used <= ALLOWED[part], f"{part} must not import {used - ALLOWED[part]}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_the_command_line_prints_or_exits(path: Path) -> None:
    if part_of(path) == "cli" or path.name == "__main__.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in {"print", "sys.exit", "exit", "quit", "input"}, name


def test_importing_the_package_is_cheap() -> None:
    code = (
        "import sys, livos_cli, livos_cli.cli; print('torch' in sys.modules or 'av' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_readme_names_every_command_and_kind() -> None:
    from livos_cli.video.sinks import KINDS

    text = (ROOT / "README.md").read_text()
    for word in ["segment", "mask", "info", "eval", "train", "bench", "weights", *KINDS]:
        assert re.search(rf"\b{word}\b", text), word


def test_constraints_cover_the_dependencies() -> None:
    import importlib.metadata

    pinned = {
        re.split(r"[=\[; ]", line)[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    declared = {
        re.split(r"[><=\[; ]", text)[0].lower()
        for text in importlib.metadata.requires("livos") or []
        if "extra == 'drive'" not in text
    }
    # Extras of the project itself name it.
    assert declared - {"livos"} <= pinned
