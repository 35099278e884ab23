"""Where each benchmark keeps its frames, annotations and lists, and what its server takes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from livos_cli.errors import InputError, UsageError
from livos_cli.files.outside import plain_name
from livos_cli.masks.palette import decode_index_png
from livos_cli.video.images import list_images

__all__ = [
    "DATASETS",
    "Dataset",
    "Layout",
    "Sequence",
    "first_seen",
    "list_annotations",
    "open_dataset",
    "read_ids",
]


@dataclass(frozen=True)
class Layout:
    """A row of the table of benchmarks."""

    split: str | None  # default; None: everything there is
    by_split: bool  # ROOT/SPLIT/JPEGImages (YouTube-VOS) or ROOT/JPEGImages (DAVIS)
    resolutions: bool  # JPEGImages/480p/NAME rather than JPEGImages/NAME
    lists: str | None  # folder of ROOT/ImageSets with SPLIT.txt
    hidden: frozenset[str]  # splits whose annotations are only those that a method is given
    merge: bool  # all annotated objects are one
    zip_folder: str | None  # what the server's zip holds the sequences in; None: no server


# Layouts: davischallenge.org, youtube-vos.org, github.com/henghuiding/MOSE-api and
# github.com/LingyiHongfd/LVOS.
DATASETS: dict[str, Layout] = {
    "davis16": Layout("val", False, True, "2016", frozenset(), True, ""),
    "davis17": Layout(
        "val", False, True, "2017", frozenset({"test-dev", "test-challenge"}), False, ""
    ),
    "ytvos": Layout("valid", True, False, None, frozenset({"valid", "test"}), False, "Annotations"),
    "mose": Layout("valid", True, False, None, frozenset({"valid", "test"}), False, ""),
    "lvos": Layout("valid", True, False, None, frozenset({"test"}), False, "Annotations"),
    "folder": Layout(None, False, False, "", frozenset(), False, None),
}


@dataclass(frozen=True)
class Sequence:
    """One video: a folder of images, and one of index PNGs with the images' names."""

    name: str
    frames: Path
    annotations: Path
    keep: frozenset[str] | None = None  # frames whose predictions are wanted; None: all


@dataclass(frozen=True)
class Dataset:
    """What there is to evaluate on."""

    kind: str
    split: str | None
    sequences: tuple[Sequence, ...]
    merge: bool
    scored: bool  # whether annotations are there for all frames, so that J and F can be measured
    zip_folder: str | None


def open_dataset(
    root: Path,
    kind: str,
    *,
    split: str | None = None,
    resolution: str = "480p",
    only: Iterable[str] = (),
    all_frames: bool = False,
) -> Dataset:
    """Find the sequences of a benchmark.

    Args:
        root: the benchmark's folder.
        kind: a key of DATASETS.
        split: None: the benchmark's own default.
        resolution: of DAVIS: 480p or Full-Resolution.
        only: names of the sequences wanted; none: all.
        all_frames: of YouTube-VOS: run on ROOT/SPLIT_all_frames, keep the frames of ROOT/SPLIT.

    Raises:
        UsageError: an unknown kind, or settings that it does not have.
        InputError: the folder does not have the layout.
    """
    layout = DATASETS.get(kind)
    if layout is None:
        raise UsageError(f"unknown dataset '{kind}'", f"--dataset takes {', '.join(DATASETS)}")
    if all_frames and kind != "ytvos":
        raise UsageError(f"{kind} has no version with all frames", "remove --all-frames")
    if not root.is_dir():
        raise InputError(f"{root} is not a folder", "give the benchmark's folder")
    split = split or layout.split
    base = root / split if layout.by_split and split else root
    below = Path(resolution) if layout.resolutions else Path()
    images, annotations = base / "JPEGImages" / below, base / "Annotations" / below
    for folder in (images, annotations):
        if not folder.is_dir():
            raise InputError(f"{folder} does not exist", f"{kind} is laid out as {_shape(kind)}")
    names = [_plain(name, root) for name in _names(root, base, images, kind, split)]
    wanted = list(only)
    if unknown := [name for name in wanted if name not in names]:
        raise InputError(f"there is no sequence '{unknown[0]}' in {images}", "see --sequences")
    sequences = []
    for name in [n for n in names if n in wanted] if wanted else names:
        frames, keep = images / name, None
        if all_frames:
            keep = frozenset(p.stem for p in list_images(frames))
            frames = root / f"{split}_all_frames" / "JPEGImages" / name
        for folder in (frames, annotations / name):
            if not folder.is_dir():
                raise InputError(f"{folder} does not exist", f"it belongs to sequence {name}")
        sequences.append(Sequence(name, frames, annotations / name, keep))
    if not sequences:
        raise InputError(f"{images} holds no sequence", "each is a folder of images")
    return Dataset(
        kind, split, tuple(sequences), layout.merge, split not in layout.hidden, layout.zip_folder
    )


def _shape(kind: str) -> str:
    layout = DATASETS[kind]
    base = "ROOT/SPLIT" if layout.by_split else "ROOT"
    below = "/480p" if layout.resolutions else ""
    return f"{base}/JPEGImages{below}/NAME/*.jpg and {base}/Annotations{below}/NAME/*.png"


def _names(root: Path, base: Path, images: Path, kind: str, split: str | None) -> list[str]:
    """Names of the sequences: from the split's list, else meta.json, else what is there."""
    lists = DATASETS[kind].lists
    if lists is not None and split is not None:
        # DAVIS 2016 as first released lists pairs of files, in a folder named by resolution.
        candidates = [root / "ImageSets" / folder / f"{split}.txt" for folder in (lists, "480p")]
        found = next((path for path in candidates if path.is_file()), None)
        if found is None:
            raise InputError(f"{candidates[0]} does not exist", "it lists the split's sequences")
        first = (line.split()[0] for line in found.read_text().splitlines() if line.strip())
        return list(dict.fromkeys(Path(f).parent.name if "/" in f else f for f in first))
    if kind == "ytvos" and (meta := base / "meta.json").is_file():
        return sorted(_videos(meta))
    return sorted(p.name for p in images.iterdir() if p.is_dir())


def _plain(name: str, root: Path) -> str:
    """Predictions lie in folders of these names: none may lead elsewhere."""
    try:
        return plain_name(name)
    except ValueError as error:
        raise InputError(f"a sequence's name in {root}: {error}", "mend its list") from None


def _videos(meta: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(meta.read_text())["videos"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{meta} cannot be read ({error})", "is it the benchmark's own?") from None


def list_annotations(folder: Path) -> list[Path]:
    """The PNGs of a folder, in the order of their frames: 2 before 10."""
    return [path for path in list_images(folder) if path.suffix.lower() == ".png"]


def read_ids(path: Path, *, merge: bool = False) -> np.ndarray:
    """An annotation or prediction, by its raw values: (H, W) uint8.

    Args:
        path: a palette or grey PNG.
        merge: every value but 0 becomes 255, one object.

    Raises:
        InputError: not such an image.
    """
    ids = decode_index_png(path)
    return np.where(ids != 0, 255, 0).astype(np.uint8) if merge else ids


def first_seen(sequence: Sequence, *, merge: bool = False) -> dict[str, frozenset[int]]:
    """Which objects a method is told of, and when: an object's first annotation.

    Returns:
        Frame name -> ids that enter there, in order of the frames. The annotation of that frame
        is given for them; later annotations are not shown to the network.

    Raises:
        InputError: an annotation without a frame, or none at all.
    """
    frames = {path.stem for path in list_images(sequence.frames)}
    seen: set[int] = set()
    entering: dict[str, frozenset[int]] = {}
    for path in list_annotations(sequence.annotations):
        if path.stem not in frames:
            raise InputError(f"{path} has no frame in {sequence.frames}", "names must agree")
        ids = {int(i) for i in np.unique(read_ids(path, merge=merge)) if i}
        if new := ids - seen:
            entering[path.stem] = frozenset(new)
            seen |= new
    if not entering:
        raise InputError(f"{sequence.annotations} shows no object", "give at least one mask")
    return entering
