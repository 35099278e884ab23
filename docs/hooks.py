"""Pages that are made from the code: the command line's help, and the table of installs."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@cache
def help_of(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "livos_cli", *words, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "80", "NO_COLOR": "1", "PATH": "", "PYTHONPATH": str(ROOT)},
    )
    return done.stdout.rstrip()


def commands() -> str:
    names = re.findall(r"^  (\w+)  ", help_of().partition("Commands:")[2], re.MULTILINE)
    parts = [f"```text\n{help_of()}\n```"]
    for name in names:
        parts.append(f"## livos {name}\n\n```text\n{help_of(name)}\n```")
        inner = help_of(name).partition("Commands:")[2]
        for sub in re.findall(r"^  (\w+)  ", inner, re.MULTILINE):
            parts.append(f"### livos {name} {sub}\n\n```text\n{help_of(name, sub)}\n```")
    return "\n\n".join(parts)


def installs() -> str:
    table = runpy.run_path(str(ROOT / ".ci" / "installs"))["table"]
    return str(table(json.loads((ROOT / "docs" / "installs.json").read_text())))


def on_page_markdown(markdown: str, **_: Any) -> str:
    if "<!-- commands -->" in markdown:
        markdown = markdown.replace("<!-- commands -->", commands())
    if "<!-- installs -->" in markdown:
        markdown = markdown.replace("<!-- installs -->", installs())
    return markdown
