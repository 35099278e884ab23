"""Where training clips come from: benchmarks, videos with mask videos, images with masks."""

from __future__ import annotations

import json
import re
import threading
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np

from livos_cli.datasets import DATASETS, list_annotations, open_dataset, read_ids
from livos_cli.errors import InputError, UsageError
from livos_cli.masks.palette import decode_index_png, has_palette
from livos_cli.video.images import IMAGE_SUFFIXES, list_images, read_image

__all__ = [
    "KINDS",
    "Budget",
    "SourceSpec",
    "Still",
    "Video",
    "load_stills",
    "load_videos",
]

KINDS = ("pairs", *DATASETS, "images", "procedural")
Pair = tuple[np.ndarray, np.ndarray]  # (H, W, 3) uint8 RGB, (H, W) uint8 ids
LEAST = 400  # pixels of an object that is worth following or pasting
LARGEST_ENTRY = 256 << 20  # bytes of an image in a zip


@dataclass(frozen=True)
class SourceSpec:
    """One entry of the list of data: `KIND[:PATH][@SHARE]`.

    `pairs`: a folder of NAME.mp4 with NAME.masks.mkv; a key of `livos_cli.datasets.DATASETS`: that
    benchmark's training split; `images`: a folder or zip of images, each with a PNG mask of the
    same name; `procedural`: scenes drawn from nothing.
    """

    kind: str
    path: Path | None
    share: float

    @classmethod
    def parse(cls, text: str) -> SourceSpec:
        """Read the form above; the share of all clips is 1 if not given, whatever the sum.

        Raises:
            UsageError: not of that form.
        """
        match = re.fullmatch(r"(?P<kind>[a-z0-9]+)(:(?P<path>.+?))?(@(?P<share>\d*\.?\d+))?", text)
        if match is None or match["kind"] not in KINDS:
            raise UsageError(
                f"'{text}' is not a data source",
                f"KIND[:PATH][@SHARE] with KIND of {', '.join(KINDS)}",
            )
        if (match["path"] is None) != (match["kind"] == "procedural"):
            raise UsageError(f"'{text}': {match['kind']} needs a path, procedural has none", "")
        return cls(
            match["kind"],
            Path(match["path"]).expanduser() if match["path"] else None,
            float(match["share"] or 1.0),
        )


class Budget:
    """How much decoded data may be kept in memory. Threads share it."""

    def __init__(self, limit: int) -> None:
        self.limit, self._left, self._lock = limit, limit, threading.Lock()

    def take(self, size: int) -> bool:
        """Whether `size` more bytes fit; if so they are counted."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True


class Video:
    """Frames with ids, at the height they are kept at; decoded once while the budget lasts."""

    def __init__(self, name: str, readers: list[Callable[[], Pair]], budget: Budget) -> None:
        self.name, self._readers = name, readers
        self._kept: list[Pair | None] = [None] * len(readers)
        for index, read in enumerate(readers):
            rgb, ids = pair = read()
            if not budget.take(rgb.nbytes + ids.nbytes):
                break  # the rest is decoded whenever it is drawn
            self._kept[index] = pair

    def __len__(self) -> int:
        return len(self._readers)

    def frame(self, index: int) -> Pair:
        """RGB (H, W, 3) uint8 and ids (H, W) uint8 of one frame."""
        return self._kept[index] or self._readers[index]()


@dataclass(frozen=True)
class Still:
    """An image and where its one object is: (H, W, 3) uint8 RGB and (H, W) uint8 of 0 and 1."""

    rgb: np.ndarray
    mask: np.ndarray


def load_videos(spec: SourceSpec, height: int, budget: Budget, threads: int) -> tuple[Video, ...]:
    """Read all sequences of a source.

    Args:
        spec: of any kind but `images` and `procedural`.
        height: larger frames are downsampled to so many rows.
        budget: of memory; what does not fit stays on disk, where the source allows that.
        threads: that decode.

    Raises:
        InputError: nothing there, or not in the right form.
    """
    path = spec.path
    assert path is not None
    make: list[Callable[[], Video]] = []
    if spec.kind == "pairs":
        make += [partial(_pair, path, name, height, budget) for name in _pair_names(path)]
    else:
        dataset = open_dataset(path, spec.kind, split="train" if spec.kind != "folder" else None)
        for sequence in dataset.sequences:
            readers = _image_readers(sequence.frames, sequence.annotations, height, dataset.merge)
            make.append(partial(Video, sequence.name, readers, budget))
    with ThreadPoolExecutor(threads) as pool:
        videos = [video for video in pool.map(lambda load: load(), make) if len(video) > 1]
    if not videos:
        raise InputError(f"{spec.path} holds no sequence", "each needs frames and masks")
    return tuple(videos)


def _shrink(rgb: np.ndarray, ids: np.ndarray, height: int, label: Path) -> Pair:
    if rgb.shape[:2] != ids.shape:
        raise InputError(
            f"{label} is {ids.shape[1]}x{ids.shape[0]}, its frame {rgb.shape[1]}x{rgb.shape[0]}",
            "masks must have the frames' size",
        )
    if rgb.shape[0] <= height:
        return rgb, ids
    shape = (round(rgb.shape[1] * height / rgb.shape[0]), height)
    return (
        np.asarray(cv2.resize(rgb, shape, interpolation=cv2.INTER_AREA)),
        np.asarray(cv2.resize(ids, shape, interpolation=cv2.INTER_NEAREST)),
    )


def _image_readers(
    frames: Path, annotations: Path, height: int, merge: bool
) -> list[Callable[[], Pair]]:
    """A reader for every frame that is annotated."""
    images = {path.stem: path for path in list_images(frames)}

    def reader(image: Path, mask: Path) -> Callable[[], Pair]:
        return lambda: _shrink(read_image(image), read_ids(mask, merge=merge), height, mask)

    masks = list_annotations(annotations)
    return [reader(images[mask.stem], mask) for mask in masks if mask.stem in images]


def _pair_names(folder: Path) -> list[str]:
    """All NAME of NAME.masks.mkv, or those that splits.json calls `train`, beside or in it."""
    names = sorted(p.name.removesuffix(".masks.mkv") for p in folder.glob("*.masks.mkv"))
    for splits in (folder / "splits.json", folder.resolve().parent / "splits.json"):
        if splits.is_file():
            try:
                train = set(json.loads(splits.read_text())["train"])
            except (ValueError, KeyError, TypeError):
                raise InputError(f"{splits} has no list `train`", "mend or remove it") from None
            names = [name for name in names if name in train]
            break
    if not names:
        raise InputError(f"{folder} holds no NAME.masks.mkv", "pairs are NAME.mp4, NAME.masks.mkv")
    return names


def _pair(folder: Path, name: str, height: int, budget: Budget) -> Video:
    """A video cannot be read at random, so all of it must fit."""
    pairs: list[Pair] = []
    try:
        with (
            av.open(str((folder / f"{name}.mp4").absolute())) as video,
            av.open(str((folder / f"{name}.masks.mkv").absolute())) as masks,
        ):
            both = zip(video.decode(video=0), masks.decode(video=0), strict=True)
            for frame, mask in both:
                ids = mask.to_ndarray(format="gray")
                if ids.max(initial=0) > 127:  # 0 and 255, perhaps softened: one object
                    ids = (ids > 127).astype(np.uint8)
                rgb = frame.to_ndarray(format="rgb24")
                pair = _shrink(rgb, ids, height, folder / f"{name}.masks.mkv")
                if not budget.take(pair[0].nbytes + pair[1].nbytes):
                    raise InputError(
                        f"{folder} does not fit in {budget.limit >> 30} GiB",
                        "raise --memory, or lower --height",
                    )
                pairs.append(pair)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{folder / name} cannot be read ({error})", "is it complete?") from None
    # Counted above already.
    return Video(name, [partial(_itself, pair) for pair in pairs], Budget(1 << 62))


def _itself(pair: Pair) -> Pair:
    return pair


def load_stills(path: Path, budget: Budget) -> list[Still]:
    """Images with one object each; a mask of several instances gives an image for every one.

    Args:
        path: folder (with all below it) or zip of NAME.jpg with NAME.png.
        budget: of memory.

    Raises:
        InputError: nothing there, unreadable, or too much for the budget.
    """
    if path.is_dir():
        files = {str(p.relative_to(path)): p for p in sorted(path.rglob("*")) if p.is_file()}
        return _stills(path, files, lambda name: files[name].read_bytes(), budget)
    try:
        with zipfile.ZipFile(path) as zipped:

            def read(name: str) -> bytes:
                # What it unpacks to is not bounded by the size of the archive.
                if (size := zipped.getinfo(name).file_size) > LARGEST_ENTRY:
                    raise InputError(
                        f"{path}: {name} unpacks to {size:,} bytes", "no image is so large"
                    )
                return zipped.read(name)

            return _stills(path, sorted(zipped.namelist()), read, budget)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({error})", "give a folder or a zip") from None


def _stills(
    path: Path, names: Iterable[str], read: Callable[[str], bytes], budget: Budget
) -> list[Still]:
    there = set(names)
    stills: list[Still] = []
    for name in sorted(there):
        stem, mask_name = Path(name).stem, str(Path(name).with_suffix(".png"))
        if Path(name).suffix.lower() not in IMAGE_SUFFIXES - {".png"} or mask_name not in there:
            continue
        rgb = _decode(read(name), cv2.IMREAD_COLOR, f"{path}: {stem}")
        mask = _mask(read(mask_name), f"{path}: {stem}.png")
        if mask.shape != rgb.shape[:2]:
            raise InputError(f"{path}: {stem}: image and mask differ in size", "remove or mend it")
        rgb = np.ascontiguousarray(rgb[..., ::-1])
        # Salient-object masks are 0/255, with grey edges from JPEG; instance ids are small.
        ids = [0] if mask.max() > 127 else [int(i) for i in np.unique(mask) if i]
        for i in ids:
            one = (mask == i if i else mask > 127).astype(np.uint8)
            if one.sum() < LEAST:
                continue
            if not budget.take(
                one.nbytes + (0 if stills and stills[-1].rgb is rgb else rgb.nbytes)
            ):
                raise InputError(
                    f"{path} does not fit in {budget.limit >> 30} GiB", "raise --memory"
                )
            stills.append(Still(rgb, one))
    if not stills:
        raise InputError(f"{path} holds no image with a mask", "NAME.jpg needs NAME.png")
    return stills


def _mask(data: bytes, label: str) -> np.ndarray:
    """A palette's indices, or grey values, also where they are stored as RGB."""
    if has_palette(data):
        return decode_index_png(data, label)
    mask = _decode(data, cv2.IMREAD_UNCHANGED, label)
    if mask.ndim == 3:
        if (mask[..., :3] != mask[..., :1]).any():
            raise InputError(f"{label} is a coloured image", "masks are palette or grey PNGs")
        mask = mask[..., 0]
    return mask


def _decode(data: bytes, flag: int, label: str) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    if image is None:
        raise InputError(f"{label} cannot be decoded", "remove or mend it")
    return np.asarray(image)
