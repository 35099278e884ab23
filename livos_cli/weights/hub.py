"""Weights from elsewhere: the Hugging Face Hub, or the authors' Google Drive."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path

from livos_cli.errors import WeightsError
from livos_cli.extras import install_hint
from livos_cli.files.atomic import replacing
from livos_cli.files.cache import cache_folder
from livos_cli.files.outside import inner_path
from livos_cli.weights.registry import HUB_VARIABLE, Entry

__all__ = [
    "HubFile",
    "drive_cache",
    "fetch_hub",
    "fetch_named",
    "parse_hub",
    "sha256_of",
    "verify_sha256",
]

_SPEC = re.compile(
    r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?(:(?P<file>[\w./ -]+))?", re.ASCII
)
SUFFIXES = (".safetensors", ".pth", ".pt")  # in order of preference


@dataclass(frozen=True)
class HubFile:
    """`owner/repo[@revision][:file]`."""

    repo: str
    revision: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.repo}{revision}" + (f":{self.file}" if self.file else "")


class MissingError(WeightsError):
    """A file that the repository does not have; offline, one that is not in the cache."""


def parse_hub(text: str) -> HubFile | None:
    """Read such an address; None if it is not one."""
    match = _SPEC.fullmatch(text)
    if match is None or (match["file"] and not _stays_inside(match["file"])):
        return None
    return HubFile(match["repo"], match["revision"], match["file"])


def fetch_hub(wanted: HubFile) -> Path:
    """Download through huggingface-hub, or find it in its cache.

    The library's environment variables hold: HF_HUB_CACHE, HF_HUB_OFFLINE, HF_TOKEN, HF_ENDPOINT.
    Where the Hub names a file by its sha256, the content is checked against it, cached or fresh.

    Raises:
        MissingError: the file is not there, or not in the cache and the Hub cannot be reached.
        WeightsError: not allowed, no such repository, or not what the Hub says it is.
    """
    # Imported here: it takes a while, and built-in weights do not need it.
    from huggingface_hub import errors as hub

    try:
        path = _download(wanted) if wanted.file else _download_only_weights(wanted)
    except hub.GatedRepoError:
        raise WeightsError(
            f"{wanted}: access to this repository must be asked for on the Hub",
            "ask there, then set HF_TOKEN",
        ) from None
    except hub.RepositoryNotFoundError:
        raise WeightsError(
            f"{wanted}: no such repository on the Hub, or it is private",
            "check the name; for a private one set HF_TOKEN",
        ) from None
    except hub.RevisionNotFoundError:
        raise WeightsError(
            f"{wanted}: the repository has no such revision", "check what follows the @"
        ) from None
    except (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled):
        raise MissingError(
            f"{wanted} is not in the local cache, and the Hub cannot be reached",
            "check the network, or unset HF_HUB_OFFLINE; once downloaded it works offline",
        ) from None
    except hub.EntryNotFoundError:
        raise MissingError(
            f"{wanted}: the repository has no such file", "check what follows the colon"
        ) from None
    except hub.HFValidationError as error:
        raise WeightsError(f"{wanted} is not a Hub address ({error})", "use owner/repo") from None
    # HTTPError is that of whichever client the library uses; it has it without exporting it.
    # ValueError is an endpoint that is no address.
    except (OSError, ValueError, hub.HTTPError) as error:  # type: ignore[attr-defined]
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{wanted} could not be downloaded ({reason})", "try again: it resumes where it stopped"
        ) from None
    # The cache names a large file's blob by its sha256.
    blob = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", blob):
        verify_sha256(path, blob)
    return path


def _download(wanted: HubFile) -> Path:
    from huggingface_hub import hf_hub_download

    assert wanted.file is not None
    return Path(hf_hub_download(wanted.repo, wanted.file, revision=wanted.revision))


def _download_only_weights(wanted: HubFile) -> Path:
    """The repository's `model.safetensors`, or the one weights file that it has."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub import errors as hub

    try:
        return _download(replace(wanted, file="model.safetensors"))
    except hub.LocalEntryNotFoundError:  # no network: perhaps another file is in the cache
        folder = snapshot_download(wanted.repo, revision=wanted.revision, local_files_only=True)
        names = [p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file()]
    except hub.EntryNotFoundError:
        names = HfApi().list_repo_files(wanted.repo, revision=wanted.revision)
    names = [name for name in names if _stays_inside(name)]
    for suffix in SUFFIXES:
        found = sorted(name for name in names if name.endswith(suffix))
        if len(found) == 1:
            return _download(replace(wanted, file=found[0]))
        if found:
            raise WeightsError(
                f"{wanted} holds several weights: {', '.join(found[:6])}",
                f"name one: {wanted}:{found[0]}",
            )
    raise WeightsError(
        f"{wanted} holds no weights (no {', '.join(SUFFIXES)} file)", "check the name"
    )


def _stays_inside(name: str) -> bool:
    """Whether a repository's file is one that has a place in the cache."""
    try:
        inner_path(name)
    except ValueError:
        return False
    return True


def fetch_named(entry: Entry) -> Path:
    """Published weights: from the mirror the user set, or from Google Drive through gdown.

    Raises:
        WeightsError: neither is possible; says how to get the file by hand.
    """
    if entry.mirror:
        mirror = parse_hub(entry.mirror)
        if mirror is None:
            raise WeightsError(
                f"{HUB_VARIABLE}={entry.mirror} is not a Hub repository", "use owner/repo"
            )
        path = _from_mirror(mirror, entry.name)
    else:
        path = _from_drive(entry)
    if entry.sha256:
        verify_sha256(path, entry.sha256)
    return path


def _from_mirror(mirror: HubFile, name: str) -> Path:
    """safetensors first, then .pth."""
    first, second = (replace(mirror, file=f"{name}{suffix}") for suffix in SUFFIXES[:2])
    try:
        return fetch_hub(first)
    except MissingError as missing:
        try:
            return fetch_hub(second)
        except MissingError:
            raise WeightsError(
                f"{mirror} has neither {first.file} nor {second.file} ({missing.message})",
                f"check {HUB_VARIABLE}",
            ) from None


def drive_cache(entry: Entry) -> Path:
    """Where a file from Google Drive is kept, once it has come."""
    return cache_folder() / f"{entry.name}.pth"


def _from_drive(entry: Entry) -> Path:
    path = drive_cache(entry)
    if path.is_file():
        return path
    by_hand = (
        f"get https://drive.google.com/file/d/{entry.drive}/view in a browser, then: "
        f"livos weights convert FILE.pth {entry.name}.safetensors --size {entry.size}"
    )
    try:
        import gdown
    except ImportError:
        raise WeightsError(
            f"{entry.name} is on Google Drive only, which needs the extra 'drive'",
            f"{install_hint('drive')}, or set {HUB_VARIABLE} to a Hub mirror, or {by_hand}",
        ) from None
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(path) as temporary:
            if gdown.download(id=entry.drive, output=str(temporary), quiet=False) is None:
                raise OSError("no file came")
    except Exception as error:
        # gdown's errors share no base class; whatever it was, the way out is the same.
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{entry.name} could not be downloaded from Google Drive ({reason})", by_hand
        ) from error
    return path


def verify_sha256(path: Path, expected: str) -> None:
    """Raises WeightsError if the file's content is not what it should be."""
    digest = sha256_of(path)
    if digest != expected:
        raise WeightsError(
            f"{path} does not have the expected content "
            f"(sha256 {digest[:12]}…, expected {expected[:12]}…)",
            "the download is damaged or was changed: delete the file and try again",
        )


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
