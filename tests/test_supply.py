"""What is installed: every package has a fixed version and a licence that is listed; the audit."""

from __future__ import annotations

import re
import subprocess
import sys

from conftest import ROOT


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned() -> set[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+(; .+)?", line) for line in lines[1:])
    return {plain(line.split("==")[0]) for line in lines[1:]}


def test_every_fixed_package_has_its_licence_listed() -> None:
    text = (ROOT / "docs" / "reference" / "licences.md").read_text()
    rows = re.findall(r"^\| ([\w-]+) \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    listed = {
        name: licence.strip() for name, licence, _ in rows if name not in ("package", "wheel")
    }
    assert set(listed) == pinned()
    assert not [name for name, licence in listed.items() if licence in ("?", "not installed here")]
    assert "x264" in text
    assert "GPL" in text


def test_the_table_is_what_the_metadata_says() -> None:
    """Of the packages that are installed here; versions may differ from machine to machine."""
    made = subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "licences")], capture_output=True, text=True, check=True
    )
    text = (ROOT / "docs" / "reference" / "licences.md").read_text()
    for line in made.stdout.splitlines():
        if "not installed here" not in line:
            assert line in text, line


def test_the_audit_is_pinned_and_part_of_the_gate() -> None:
    assert {"pip-audit", "cyclonedx-python-lib", "packageurl-python"} <= pinned()
    assert ".ci/audit " in (ROOT / ".ci" / "run").read_text()


def test_pre_commit_has_the_ruff_of_the_gate() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    (rev,) = re.findall(r"ruff-pre-commit\n    rev: v(\S+)", text)
    assert f"ruff=={rev}\n" in (ROOT / "constraints.txt").read_text()


def test_a_release_is_refused_unless_all_say_the_same() -> None:
    source = re.search(r'^Source = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    version = re.search(r'^version = "(.+?)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert source is not None
    assert version is not None

    def refused(tag: str, home: str) -> str:
        words = [sys.executable, str(ROOT / ".ci" / "release_check"), tag, home]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == (not done.stderr)
        return done.stderr

    assert not refused(f"v{version[1]}", source[1])
    assert "the tag is v9.9" in refused("v9.9", source[1])
    assert "this is https://host/else" in refused(f"v{version[1]}", "https://host/else")
