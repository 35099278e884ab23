"""From names of files and folders to videos: each with its mask, and where its outputs go."""

from __future__ import annotations

import codecs
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePath

from livos_cli.batch import remote
from livos_cli.batch.match import Masks
from livos_cli.errors import InputError, LivosError, UsageError
from livos_cli.files.outside import plain_name
from livos_cli.masks.names import composed
from livos_cli.options import RunOptions
from livos_cli.outputs.formats import KINDS
from livos_cli.video.address import Address
from livos_cli.video.container import is_url, stem_of
from livos_cli.video.images import IMAGE_SUFFIXES, natural_key

__all__ = ["VIDEO_SUFFIXES", "Item", "discover", "is_batch", "read_list"]

VIDEO_SUFFIXES = frozenset({
    ".3gp", ".asf", ".avi", ".flv", ".h264", ".hevc", ".ivf", ".m2ts", ".m2v", ".m4v", ".mkv",
    ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogv", ".ts", ".vob", ".webm",
    ".wmv", ".y4m",
})  # fmt: skip
HERE = PurePath()
NAMED = "check the name that was given"
LONGEST_NAME = 1 << 15  # characters; no system takes longer ones, few servers longer addresses


@dataclass(frozen=True)
class Item:
    """A video of a batch."""

    video: str  # path or URL
    mask: str | None  # path or URL
    folder: Path  # of its outputs
    stem: str  # what outputs are named after
    problem: LivosError | None = None  # why it cannot be done


@dataclass(frozen=True)
class _Found:
    video: str
    under: PurePath = HERE  # folder between the one that was given and it
    problem: LivosError | None = None

    @cached_property
    def name(self) -> str:
        if is_url(self.video):
            return self.video.split("::")[0].rstrip("/").rsplit("/", 1)[-1]
        name = os.path.basename(self.video)  # noqa: PTH119 - of 10,000 names
        return name if name not in ("", ".", "..") else Path(self.video).resolve().name

    @cached_property
    def stem(self) -> str:
        if is_url(self.video):
            return stem_of(self.video.split("::")[0])
        stem, suffix = os.path.splitext(self.name)  # noqa: PTH122
        # Folders keep their whole name; few names of files look like one of a folder.
        return stem if suffix and not os.path.isdir(self.video) else self.name  # noqa: PTH112


def is_batch(videos: list[str], listed: str | None, recursive: bool) -> bool:
    """Whether these are many videos, or folders of them, rather than one.

    A folder that holds images and no videos is one video.
    """
    if listed is not None or recursive or len(videos) != 1:
        return True
    video = videos[0]
    address = Address.of(video)
    if address.kind == "url":
        return remote.is_remote(video)
    return video != "" and address.kind == "folder" and _look(Path(video)).kind != "images"


def read_list(data: bytes) -> list[str]:
    """Names, a line each; or, where a name may hold line ends, each ended by a NUL.

    A byte order mark is no part of a name, and UTF-16, which Windows writes, is decoded.

    Raises:
        InputError: UTF-16 that is damaged.
    """
    if (encoding := _wide(data)) is not None:
        try:
            data = os.fsencode(data.decode(encoding).removeprefix("\ufeff"))
        except UnicodeError:
            raise InputError(
                f"the list of videos is {encoding.upper()} with damaged letters",
                "save it as UTF-8",
            ) from None
    data = data.removeprefix(codecs.BOM_UTF8)
    separator = b"\0" if b"\0" in data else b"\n"
    names = (name.rstrip(b"\r") if separator == b"\n" else name for name in data.split(separator))
    return [os.fsdecode(name) for name in names if name.strip()]


def _wide(data: bytes) -> str | None:
    """The encoding of a list with two or four bytes a letter, by its mark or its line ends."""
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    for end, encoding in ((b"\n\0", "utf-16-le"), (b"\0\n", "utf-16-be")):
        pairs = {data[i : i + 2] for i in range(0, min(len(data), 1 << 16) - 1, 2)}
        if end in pairs and len(data) % 2 == 0:
            return encoding
    return None


def discover(
    videos: Iterable[str],
    mask: str,
    output: RunOptions,
    *,
    recursive: bool = False,
) -> list[Item]:
    """The videos, with their masks. None is opened; what cannot be done has its `problem` set.

    Args:
        videos: files, folders and URLs.
        mask: a folder with a mask (image or folder) for each video, of the same stem; or the one
            mask of the one video.
        output: where results go: a folder, in which folders between what was given and the video
            are kept; or beside each video.
        recursive: look into folders in folders, too.

    Raises:
        InputError: no video at all.
        UsageError: one mask file for several.
    """
    names = list(videos)
    target = output.output and output.output.absolute()
    apart = [Path(mask)] if not is_url(mask) else []
    if target is not None:
        apart.append(target)
    # Of one name the error is that of the command; of many, of one video.
    look = _expand if len(names) == 1 else _expand_each
    found = [one for name in names for one in look(name, recursive, apart)]
    if not found:
        raise InputError(
            f"no video and no folder of images found in {', '.join(names[:3]) or 'the list'}",
            "-r looks into folders in folders" if not recursive else "check the path",
        )
    masks = Masks(mask)
    if masks.single and len(found) > 1:
        raise UsageError(
            f"{mask} is one mask, for {len(found)} videos",
            "give a folder of masks that are named like the videos",
        )
    items = []
    for one in found:
        try:
            items.append(_matched(one, target, masks))
        except LivosError as error:
            items.append(Item(one.video, None, target or Path.cwd(), one.stem, error))
    return _without_collisions(items)


def _matched(one: _Found, target: Path | None, masks: Masks) -> Item:
    """A video with its mask and its folder of outputs. Raises LivosError if it has none."""
    if one.problem is not None:
        raise one.problem
    if is_url(one.video):
        try:
            plain_name(one.stem)
        except ValueError as error:
            raise InputError(f"the name of {one.video}: {error}", NAMED) from None
    if target is not None:
        folder = target / one.under
    else:
        folder = Path.cwd() if is_url(one.video) else Path(one.video).resolve().parent
    found = masks.of(one.video, one.name, one.stem, one.under)
    return Item(one.video, found, folder, one.stem)


def _without_collisions(items: list[Item]) -> list[Item]:
    """Two videos must not have the same outputs; on some systems case makes no difference.

    Nor does the form of accents.
    """

    def same(item: Item) -> tuple[str, str]:
        return str(item.folder), composed(item.stem).casefold()

    counts = Counter(same(item) for item in items if item.problem is None)
    checked = []
    for item in items:
        if counts[same(item)] > 1 and item.problem is None:
            error = UsageError(
                f"another video is also called {item.stem}: both would be written to {item.folder}",
                "rename one, or run them apart",
            )
            item = replace(item, problem=error)
        checked.append(item)
    return checked


@dataclass
class _Look:
    """What a folder holds."""

    videos: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    images: bool = False

    @property
    def kind(self) -> str:
        return "videos" if self.videos else "images" if self.images else "folders"


def _look(folder: Path) -> _Look:
    """Raises OSError if it cannot be read. Hidden files and earlier results are not looked at."""
    seen = _Look()
    outputs = tuple(suffix.rstrip("/") for suffix in _output_suffixes())
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith("."):
                continue
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - of 10,000 names
            if entry.is_dir():
                if not name.endswith(outputs):
                    seen.folders.append(folder / name)
            elif suffix in VIDEO_SUFFIXES:
                if not name.endswith(outputs):
                    seen.videos.append(folder / name)
            elif suffix in IMAGE_SUFFIXES:
                seen.images = True
    seen.videos.sort(key=lambda p: natural_key(p.name))
    # What `--save png` made of a video lies in a folder of its name.
    stems = {path.stem for path in seen.videos}
    seen.folders = [path for path in seen.folders if path.name not in stems]
    seen.folders.sort(key=lambda p: natural_key(p.name))
    return seen


def _output_suffixes() -> Iterator[str]:
    """Of results, which are no inputs: `.mask.mkv`, `.objects/`."""
    for kind in KINDS.values():
        for codec, matte, contours in (("prores", "ffv1", "svg"), ("vp9", "prores", "json")):
            options = RunOptions(alpha_codec=codec, matte_codec=matte, contours=contours)
            if (suffix := kind.suffix(options)) != "/":
                yield suffix
    yield ".alpha/"


def _expand_each(video: str, recursive: bool, apart: list[Path]) -> Iterator[_Found]:
    """The videos of a name; one that cannot be looked at is one video that fails."""
    try:
        yield from _expand(video, recursive, apart)
    except LivosError as error:
        yield _Found(video, problem=error)
    except (OSError, ValueError) as error:  # a name that no system takes: too long, or with a NUL
        reason = getattr(error, "strerror", None) or str(error)
        yield _Found(video, problem=InputError(f"{video} cannot be read ({reason})", NAMED))


def _expand(video: str, recursive: bool, apart: list[Path]) -> Iterator[_Found]:
    """The videos of a name: itself, or those in it."""
    if (length := len(video)) > LONGEST_NAME:
        too_long = InputError(
            f"a name of {length:,} characters is not the name of a video",
            "is the list one name a line?",
        )
        yield _Found(f"{video[:80]}…", problem=too_long)
        return
    if is_url(video):
        if remote.is_remote(video):
            for url, under, problem in remote.expand(video, VIDEO_SUFFIXES, recursive):
                yield _Found(url, under, problem)
        else:
            yield _Found(video)
        return
    path = Path(video)
    if not path.is_dir():
        yield _Found(video)  # that it does not exist shows when it is opened
        return
    seen = {_identity(p) for p in (path, *apart)}  # masks and outputs are no videos
    yield from _walk(path, HERE, recursive, seen, first=True)


def _identity(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0)
    return stat.st_dev, stat.st_ino


def _walk(
    folder: Path, under: PurePath, recursive: bool, seen: set[tuple[int, int]], *, first: bool
) -> Iterator[_Found]:
    """Videos of a folder, then those of its folders; each folder once, whatever links say."""
    try:
        look = _look(folder)
    except OSError as error:
        problem = LivosError(f"{folder} cannot be read ({error.strerror})", "check its permissions")
        yield _Found(str(folder), under.parent, problem)
        return
    if look.kind == "images":
        yield _Found(str(folder), under.parent if not first else HERE)
        return
    for video in look.videos:
        yield _Found(str(video), under)
    for inner in look.folders:
        identity = _identity(inner)
        if identity in seen:
            continue
        seen.add(identity)
        below = _walk(inner, under / inner.name, recursive, seen, first=False)
        if recursive:
            yield from below
        else:  # a folder of images is a video of this folder
            yield from (one for one in below if one.video == str(inner))
