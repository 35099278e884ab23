"""Files at fsspec URLs: s3://, gs://, hf:// and whatever else fsspec has a package for."""

from __future__ import annotations

import hashlib
import json
import posixpath
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from livos_cli.errors import InputError, LivosError, UsageError
from livos_cli.files.outside import inner_path, plain_name

__all__ = ["entries", "expand", "fetch", "identity", "is_file", "is_remote"]

# FFmpeg reads these itself, as they come.
STREAMED = frozenset(
    {"file", "ftp", "http", "https", "rtmp", "rtp", "rtsp", "rtsps", "sftp", "srt", "tcp", "udp"}
)

SHARE_OF_DISK = 80  # per cent of the free space that a video or its masks may take while they are
# worked on

# What file systems call that which changes with a file's content.
STATE = frozenset(
    {"size", "mtime", "LastModified", "last_modified", "updated", "ETag", "etag", "generation"}
    | {"md5Hash", "content_md5", "blob_id", "oid", "CRC", "date_time", "checksum"}
)


def is_remote(url: str) -> bool:
    """Whether a URL is fetched through fsspec; others are streams for FFmpeg."""
    scheme = url.split("://", 1)[0].split("::", 1)[0]
    if "://" not in url or scheme in STREAMED:
        return False
    from fsspec import available_protocols

    return scheme in available_protocols()


def _open(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(url)
    except ImportError as error:  # it names the package
        raise UsageError(f"{url} cannot be read here ({error})", "install that package") from None
    except Exception as error:
        raise _cannot_read(url, error) from None


def _cannot_read(url: str, error: Exception) -> InputError:
    # Each file system has exceptions of its own.
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return InputError(f"{url} cannot be read ({reason})", "check the address and the credentials")


def is_file(url: str) -> bool:
    """Whether there is a file, not a folder.

    Raises:
        InputError: there is neither.
    """
    system, path = _open(url)
    try:
        return system.info(path)["type"] == "file"
    except Exception as error:
        raise _cannot_read(url, error) from None


def expand(
    url: str, suffixes: frozenset[str], recursive: bool
) -> Iterator[tuple[str, PurePath, InputError | None]]:
    """The videos of a URL: itself, or those in the folder that it is.

    Returns:
        Each with the folders in between; and, of a name that leads out of there, the error.
    """
    if is_file(url):
        yield url, PurePath(), None
        return
    system, root = _open(url)
    try:
        found = sorted(map(str, system.find(root, maxdepth=None if recursive else 1)))
    except Exception as error:
        raise _cannot_read(url, error) from None
    for path in found:
        if posixpath.splitext(path)[1].lower() not in suffixes:
            continue
        try:
            relative = _below(path, root)
        except ValueError as error:
            yield url, PurePath(), InputError(f"an entry of {url}: {error}", "it is left out")
            continue
        if not relative.name.startswith("."):
            yield _join(url, relative), relative.parent, None


def _below(path: str, root: str) -> PurePosixPath:
    """A path of a listing, from the folder on that was listed.

    Raises:
        ValueError: it is not below it, or would lead elsewhere; see `livos_cli.files.outside`.
    """
    inner = path.removeprefix(root.rstrip("/")).lstrip("/") if path.startswith(root) else path
    return inner_path(inner)


def entries(url: str, under: PurePath) -> Iterator[tuple[str, str, bool]]:
    """Name, URL and whether it is a folder, of what is in a folder; nothing if there is none."""
    where = _join(url, under)
    system, path = _open(where)
    try:
        listed = system.ls(path, detail=True)
    except FileNotFoundError:
        return
    except Exception as error:
        raise _cannot_read(where, error) from None
    for entry in listed:
        try:
            name = plain_name(posixpath.basename(entry["name"].rstrip("/")))
            folder = entry["type"] == "directory"
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # no mask that anything could be named like
        yield name, _join(where, PurePath(name)), folder


def identity(url: str) -> str:
    """What changes when a file changes, or one in a folder: its size, time or checksum.

    Raises:
        InputError: it is not there.
    """
    system, path = _open(url)
    try:
        files = sorted(system.find(path)) if system.isdir(path) else [path]
        # Not fsspec's own `ukey`: that of an archive is another in every process.
        states = [
            {key: str(value) for key, value in system.info(file).items() if key in STATE}
            for file in files
        ]
        told = json.dumps([files, states], sort_keys=True)
        # A digest: paths may hold a key, and this is kept beside the results.
        return hashlib.sha256(told.encode()).hexdigest()
    except Exception as error:
        raise _cannot_read(url, error) from None


def _join(url: str, relative: PurePath) -> str:
    """A URL further down; what follows `::` is about the file system it lies in."""
    first, *rest = url.split("::")
    if relative != PurePath():
        between = "" if first.endswith("/") else "/"
        first = f"{first}{between}{relative.as_posix()}"
    return "::".join((first, *rest))


def _bound(url: str, folder: Path) -> Any:
    """Follows what is written, and stops it before the disk of temporary files is full.

    What an archive says of its sizes need not be true, and a few bytes of it may unpack to any
    number.
    """
    from fsspec.callbacks import Callback

    limit = shutil.disk_usage(folder).free * SHARE_OF_DISK // 100

    class Bound(Callback):  # type: ignore[misc]  # fsspec has no types
        written = 0

        def relative_update(self, inc: int = 1) -> None:
            self.written += inc
            if self.written > limit:
                raise InputError(
                    f"{url} holds more than {limit / 1e9:.3g} GB, {SHARE_OF_DISK} % of what the "
                    "disk of temporary files has free",
                    "unpack or download it yourself, or set TMPDIR to a larger disk",
                )

        def branch(self, path_1: object, path_2: object, kwargs: object) -> Callback:
            return self

    return Bound()


def fetch(url: str, folder: Path) -> Path:
    """Copy a file, or a folder of files, into a folder; returns where it is then.

    Raises:
        InputError: it cannot be had.
        OutputError: it cannot be kept.
    """
    system, path = _open(url)
    bound = _bound(url, folder.parent)
    try:
        target = folder / plain_name(posixpath.basename(path.rstrip("/")))
        if system.isdir(path):
            for inner in sorted(system.find(path)):
                place = target / _below(inner, path)
                place.parent.mkdir(parents=True, exist_ok=True)
                system.get_file(inner, str(place), callback=bound)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            system.get_file(path, str(target), callback=bound)
    except LivosError:
        raise
    except Exception as error:
        raise _cannot_read(url, error) from None
    return target
