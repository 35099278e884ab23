"""Which mask belongs to which video of a batch, by their names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePath

from livos_cli.batch import remote
from livos_cli.errors import LivosError, UsageError
from livos_cli.masks.names import FIRST, composed
from livos_cli.video.container import is_url
from livos_cli.video.images import IMAGE_SUFFIXES, missing_hint

__all__ = ["Masks"]


class Masks:
    """The masks of a batch: a folder of them, by stem; or one mask, of one video.

    Attributes:
        single: whether it is one mask.

    Raises:
        UsageError: there is nothing.
        InputError: a URL that cannot be read.
    """

    def __init__(self, mask: str) -> None:
        self._mask = mask
        self._url = is_url(mask)
        self._listed: dict[PurePath, dict[str, list[str]]] = {}
        if self._url:
            self.single = remote.is_file(mask)
            return
        path = Path(mask)
        if not path.exists():
            raise UsageError(
                f"the mask {mask} does not exist",
                missing_hint(path, "-m") or "check the path given to --mask",
            )
        self.single = not path.is_dir()

    def of(self, video: str, name: str, stem: str, under: PurePath) -> str:
        """The path or URL of a video's mask.

        Args:
            video: path or URL.
            name: of its file or folder.
            stem: the name without suffix.
            under: folders between what was given and it; a mask may lie in the same, or in none.

        Raises:
            LivosError: there is none, or more than one.
        """
        if self.single:
            return self._mask
        for folder in dict.fromkeys((under, PurePath())):
            listed = self._list(folder)
            # By the whole name first, so that clip.mp4.png and clip.mov.png can be told apart.
            # The last one is what `livos mask` calls a mask of the first frame.
            for one in dict.fromkeys((name, stem, f"{stem}{FIRST}")):
                masks = listed.get(one) or listed.get(composed(one), [])
                if len(masks) > 1:
                    raise LivosError(
                        f"several masks for {video}: {', '.join(sorted(masks))}", "keep one of them"
                    )
                if masks:
                    return masks[0]
        raise LivosError(
            f"no mask for {video}: {self._mask} has no {stem}.png and no folder {stem}",
            "masks are named like their videos",
        )

    def _list(self, under: PurePath) -> dict[str, list[str]]:
        if under not in self._listed:
            by_name: dict[str, list[str]] = {}
            for name, path, folder in self._entries(under):
                stem, suffix = os.path.splitext(name)  # noqa: PTH122 - of 10,000 names
                if folder:
                    by_name.setdefault(name, []).append(path)
                elif suffix.lower() in IMAGE_SUFFIXES:
                    by_name.setdefault(stem, []).append(path)
            alike: dict[str, list[str]] = {}  # names that look the same, unless one is the same
            for name, paths in by_name.items():
                if (one := composed(name)) not in by_name:
                    alike.setdefault(one, []).extend(paths)
            by_name.update(alike)
            self._listed[under] = by_name
        return self._listed[under]

    def _entries(self, under: PurePath) -> Iterator[tuple[str, str, bool]]:
        if self._url:
            yield from remote.entries(self._mask, under)
            return
        try:
            with os.scandir(Path(self._mask) / under) as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        yield entry.name, entry.path, entry.is_dir()
        except FileNotFoundError:
            pass  # no such folder among the masks
        except OSError as error:
            raise LivosError(
                f"{Path(self._mask) / under} cannot be read ({error.strerror})",
                "check its permissions",
            ) from None
