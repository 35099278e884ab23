"""Packages that only some commands need: what to type to get them, however livos was installed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from livos_cli.files.typed import command

__all__ = ["install_hint", "packages_of"]


def packages_of(extra: str) -> list[str]:
    """Names of the packages that an extra of livos adds, from what is installed says of itself."""
    # The build has put in place what extras that take in others (`livos[export]`) stand for.
    wanted = re.compile(rf"([\w.-]+).*extra *== *['\"]{re.escape(extra)}['\"]")
    return [found[1] for line in metadata.requires("livos") or [] if (found := wanted.match(line))]


def install_hint(extra: str) -> str:
    """The command that adds an extra's packages to where livos runs now.

    It names the packages, not `livos[extra]`: that name need not be this project on whatever
    index is asked, and a wheel or checkout may have moved since.
    """
    prefix, packages = Path(sys.prefix), packages_of(extra)
    if (prefix / "pipx_metadata.json").is_file():
        return command("pipx", "inject", "livos", *packages)
    with_packages = [word for name in packages for word in ("--with", name)]
    if (prefix / "uv-receipt.toml").is_file():
        return command("uv", "tool", "install", "--force", _origin(), *with_packages)
    if _is_passing(prefix):
        return command("uvx", *with_packages, "--from", _origin(), "livos")
    return command(*_installer(prefix), *packages)


def _origin() -> str:
    """Where livos came from, as installers take it: a file, a folder, an address, or its name."""
    try:
        told = metadata.distribution("livos").read_text("direct_url.json")
        found = json.loads(told) if told else {}
    except (metadata.PackageNotFoundError, ValueError):
        found = {}
    url = str(found.get("url", ""))
    if url.startswith("file:"):
        path = unquote(urlsplit(url).path)
        return path.lstrip("/") if os.name == "nt" else path
    if "vcs_info" in found:
        return f"{found['vcs_info'].get('vcs', 'git')}+{url}"
    return url or "livos"


def _is_passing(prefix: Path) -> bool:
    """Whether it is an environment of uvx's, which is gone when its cache is cleaned."""
    return any(part.startswith(("archive-v", "environments-v")) for part in prefix.parts)


def _installer(prefix: Path) -> list[str]:
    """What installs into this environment."""
    pip = shutil.which("pip")
    if pip is not None and Path(pip).parent.parent == prefix:
        return ["pip", "install"]
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install"]
    return ["uv", "pip", "install", "--python", sys.executable]
