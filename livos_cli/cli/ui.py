"""livos ui: a video, its masks and the tracker in a page of the browser."""

from __future__ import annotations

import os
import secrets
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from livos_cli.cli.common import (
    Device,
    MaxSize,
    PrecisionOption,
    Quiet,
    Weights,
    say_terms,
    stderr_console,
)
from livos_cli.errors import InputError, UsageError
from livos_cli.extras import install_hint
from livos_cli.files.typed import typed
from livos_cli.weights.locate import locate
from livos_cli.weights.registry import DEFAULT, clicks_with

if TYPE_CHECKING:
    from livos_cli.ui.session import Session

__all__ = ["EXAMPLES", "ui"]

EXAMPLES = """\b
Examples:
  livos ui video.mp4
  livos ui video.mp4 -m masks/ -o project
  livos ui project"""
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def ui(
    video: Annotated[
        str,
        typer.Argument(
            metavar="VIDEO|FOLDER",
            help="Video file, folder of images, a project to open again, or a folder of those to "
            "choose from. [default: this folder]",
            show_default=False,
        ),
    ] = ".",
    output: Annotated[
        Optional[Path],
        typer.Option(
            "--output",
            "-o",
            metavar="PROJECT",
            help="Folder of the project: masks, settings and what is exported. "
            "[default: VIDEO.livos beside the video]",
            show_default=False,
        ),
    ] = None,
    mask: Annotated[
        Optional[Path],
        typer.Option(
            "--mask",
            "-m",
            metavar="MASKS",
            help="Begin a new project with these masks, as `livos segment -m` takes them.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int,
        typer.Option(metavar="N", help="Port; 0 for any that is free.", min=0, max=65535),
    ] = 0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Only print the address.")
    ] = False,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Where to listen. Anything but 127.0.0.1 lets others in who have the token, "
            "unencrypted.",
        ),
    ] = "127.0.0.1",
    token: Annotated[
        Optional[str],
        typer.Option(
            metavar="TEXT",
            help="What the first address must hold, 16 letters or more. [default: random]",
            show_default=False,
        ),
    ] = None,
    weights: Weights = DEFAULT,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    max_size: MaxSize = None,
    quiet: Quiet = False,
) -> None:
    """Mark objects, track them, correct and export, in a page of the browser."""
    _check_address(host, token)
    _check_packages()
    video, folder = _which(video, output)
    # Fetched, or said to be missing, before the page is there.
    located = {name: locate(name) for name in (weights, clicks_with(weights)[0])}
    console = stderr_console()
    for name, path in located.items() if not quiet else ():
        say_terms(console, name, path)

    from livos_cli.ui.open_project import Network
    from livos_cli.ui.serve import bind, serve
    from livos_cli.ui.session import Session

    listening = bind(host, port)
    session = Session(video, folder, Network(weights, device, precision, max_size), mask)
    try:
        threading.Thread(target=_warm_up, args=(session,)).start()

        def ready(address: str) -> None:
            if not quiet:
                console.print(f"project: {session.project.folder}")
            print(address, flush=True)
            if not quiet:
                console.print("Ctrl-C ends it; nothing is lost")
            if not no_browser and _has_windows():
                import webbrowser

                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

        serve(session, listening, host, token or secrets.token_urlsafe(24), ready)
    except KeyboardInterrupt:
        pass  # the usual way to end
    finally:
        session.close()


def _has_windows() -> bool:
    """Whether a browser with windows can open; one in the terminal would take it over."""
    if not sys.platform.startswith("linux"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _check_address(host: str, token: str | None) -> None:
    if token is not None and len(token) < 16:
        raise UsageError("--token is too short", "give 16 letters or more")
    if host not in LOOPBACK and token is None:
        raise UsageError(
            f"--host {host} lets everybody who reaches this machine try",
            "add --token TEXT, a secret of 16 letters or more; what is sent is not encrypted",
        )


def _check_packages() -> None:
    try:
        import starlette.applications  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise UsageError(
            "`livos ui` needs the extra 'ui' (starlette, uvicorn)", install_hint("ui")
        ) from None


def _which(video: str, output: Path | None) -> tuple[str, Path]:
    """The video, and the folder of its project."""
    from livos_cli.files.names import fitting
    from livos_cli.ui.project import PROJECT_FILE, video_of
    from livos_cli.video.address import Address
    from livos_cli.video.container import check_exists
    from livos_cli.video.images import list_images

    check_exists(video)
    path = Path(video)
    if path.is_dir() and (path / PROJECT_FILE).is_file():
        if output is not None and output.resolve() != path.resolve():
            raise UsageError(f"{path} is a project already", "remove -o")
        return video_of(path), path
    if path.is_dir() and not list_images(path):
        return _which(_choose(path), output)
    address = Address.of(video)
    if not address.repeatable:
        raise UsageError(f"{video} cannot be read in any order", "save it to a file first")
    return video, output or path.resolve().parent / f"{fitting(address.stem)}.livos"


def _choose(folder: Path) -> str:
    """Which of a folder's videos and projects, asked where somebody can answer."""
    from livos_cli.batch.discover import VIDEO_SUFFIXES
    from livos_cli.ui.project import PROJECT_FILE

    found = sorted(
        path
        for path in folder.iterdir()
        if (path / PROJECT_FILE).is_file()
        or (path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())
    )
    if not found:
        raise InputError(
            f"{folder} holds no images, no video and no project", "give a video: livos ui VIDEO"
        )
    if len(found) > 1 and not sys.stdin.isatty():
        raise InputError(
            f"{folder} holds {len(found)} videos and projects", f"livos ui {typed(found[0])}"
        )
    if len(found) == 1:
        return str(found[0])
    console = stderr_console()
    for number, path in enumerate(found, start=1):
        console.print(f"{number:3}  {path.name}")
    number = typer.prompt("which one", type=int, err=True)
    if not 1 <= number <= len(found):
        raise UsageError(f"there is no {number}", f"give a number from 1 to {len(found)}")
    return str(found[number - 1])


def _warm_up(session: Session) -> None:
    """Load what the first click and the first frame want.

    Not in a daemon thread: it would be killed in the middle of PyTorch, which aborts the process.
    """
    from livos_cli.errors import LivosError

    try:
        session.model()
        session.prepare(0)
    except LivosError:
        return  # it is said to whoever asks
    except Exception:
        sys.excepthook(*sys.exc_info())
