"""The shape of the code: which part may use which, and who may print."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from conftest import ROOT

PACKAGE = ROOT / "livos_cli"
KERNELS = ROOT / "kernels" / "livos_kernels"
# Each floor may use those below it, and the rooms of one floor do not use each other.
FLOORS = [
    {"cli"},
    {"batch", "bench", "evaluation", "training", "ui"},
    {"interactive", "pipeline"},
    {"datasets", "outputs", "tracker"},
    {"masks", "weights"},
    {"runtimes"},
    {"network", "video"},
    {"livos_kernels"},
]
# What all may use, and what uses nothing but itself.
SMALL = {
    "bfloat16",
    "device",
    "errors",
    "extras",
    "files",
    "memory",
    "options",
    "redact",
    "version",
}
DOORS = {"__init__", "__main__"}  # the ways in: from Python, and `python -m livos_cli`
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FLOOR_OF |= dict.fromkeys(SMALL, len(FLOORS)) | dict.fromkeys(DOORS, -1)
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
def test_imports_point_down(path: Path) -> None:
    part = part_of(path)
    used = imported_parts(ast.parse(path.read_text())) - {part}
    if part in SMALL:
        assert used <= SMALL, f"{part} must not import {used - SMALL}"
    up = {other for other in used if other not in FLOOR_OF or FLOOR_OF[other] <= FLOOR_OF[part]}
    assert part in SMALL or not up, f"{part} must not import {up}"


def test_every_room_is_on_a_floor_and_in_the_layout() -> None:
    layout = (ROOT / "CONTRIBUTING.md").read_text()
    for path in [*PACKAGE.iterdir(), KERNELS]:
        if path.name == "__pycache__" or path.suffix not in {"", ".py"}:
            continue
        assert path.stem in FLOOR_OF, path
        name = f"{path.parent.name}/{path.name}"
        assert path.stem in DOORS or re.search(rf"^ *.*{re.escape(name)}([ /:]|$)", layout, re.M), (
            path
        )


@pytest.mark.parametrize("path", sorted((PACKAGE / "network").glob("*.py")), ids=lambda p: p.name)
def test_the_network_knows_no_machine(path: Path) -> None:
    """It computes; who calls it looks after memory."""
    assert not imported_parts(ast.parse(path.read_text())) & {"device", "memory", "files"}


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


def test_the_docs_name_every_command_and_kind() -> None:
    from livos_cli.cli import app
    from livos_cli.outputs.formats import KINDS

    text = "".join(path.read_text() for path in (ROOT / "docs" / "guides").glob("*.md"))
    for word in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        assert re.search(rf"\blivos {word}\b", text), word
    table = (ROOT / "docs" / "reference" / "files.md").read_text()
    for kind in KINDS:
        assert f"| `{kind}` |" in table, kind


def test_the_readme_can_be_read_in_three_minutes() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 170
    assert len(text.split()) <= 1200


def test_pages_link_to_what_is_there() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_kind_is_completed_and_in_the_help() -> None:
    from livos_cli.cli import app
    from livos_cli.cli.kinds import KIND_NAMES
    from livos_cli.outputs.formats import KINDS

    assert set(KIND_NAMES) == set(KINDS)
    segment = typer.main.get_command(app).commands["segment"]  # type: ignore[attr-defined]
    (text,) = [option.help for option in segment.params if option.name == "save"]
    for kind in KINDS:
        assert re.search(rf"\b{kind}\b", text), kind


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
