"""Training clips: real sequences, still images set in motion, and procedural scenes."""

from __future__ import annotations

import io
import json
import queue
import threading
import zipfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from livos_cli.training.procedural import render

__all__ = ["Clip", "ClipSource", "batches"]


@dataclass(frozen=True)
class Clip:
    """Frames (T, S, S, 3) uint8 RGB and ids (T, S, S) uint8 of 0..n."""

    frames: np.ndarray
    ids: np.ndarray


class ClipSource:
    """Draws random clips from everything under one data folder, all of it decoded into memory.

    Args:
        root: folder with `davis-train/NAME.mp4` and `NAME.masks.mkv`, `splits.json` (its `train`
            list is used) and `static-objects.zip` (PNG masks beside JPEG images).
        height: sequences are kept at this height, pixels.
        shares: relative weights of sequences, still images and procedural scenes.
    """

    def __init__(
        self, root: Path, height: int = 400, shares: tuple[float, float, float] = (0.6, 0.22, 0.18)
    ) -> None:
        names = json.loads((root / "splits.json").read_text())["train"]
        self.sequences = [_load_sequence(root / "davis-train", name, height) for name in names]
        self.stills = _load_stills(root / "static-objects.zip")
        self.shares = np.array(shares) / sum(shares)

    def draw(
        self, rng: np.random.Generator, objects: int, length: int, size: int, max_skip: int
    ) -> Clip:
        """One clip with exactly `objects` objects, each visible in the first frame."""
        while True:
            kind = rng.choice(3, p=self.shares)
            if kind == 2:
                clip = _procedural(rng, objects, length, size)
            else:
                if kind == 0:
                    frames, ids = self._sequence(rng, length, size, max_skip)
                else:
                    frames, ids = self._still(rng, length, size)
                if kind == 1 and rng.random() < 0.5:
                    ids[:] = 0  # a moving background; every object is pasted
                known = int(ids.max() > 0)
                for number in range(known + 1, objects + 1):
                    self._paste(rng, frames, ids, number, size)
                if rng.random() < 0.15:
                    self._paste(rng, frames, ids, 0, size)  # hides, and is not followed
                clip = Clip(frames, ids)
            areas = np.bincount(clip.ids[0].ravel(), minlength=objects + 1)[1:]
            if len(areas) == objects and areas.min() >= 0.002 * size * size:
                return Clip(_recolour(rng, clip.frames), clip.ids)

    def _sequence(
        self, rng: np.random.Generator, length: int, size: int, max_skip: int
    ) -> tuple[np.ndarray, np.ndarray]:
        frames, masks = self.sequences[rng.integers(len(self.sequences))]
        skip = int(rng.integers(1, max_skip + 1))
        skip = max(1, min(skip, (len(frames) - 1) // max(1, length - 1)))
        first = int(rng.integers(0, max(1, len(frames) - skip * (length - 1))))
        index = np.minimum(first + skip * np.arange(length), len(frames) - 1)
        if rng.random() < 0.5:
            index = index[::-1]
        # A window around the object of the first frame, wandering slowly with the clip.
        rows, columns = frames[0].shape[:2]
        window = int(min(rows, columns) * rng.uniform(0.45, 1.0))
        inside = np.argwhere(masks[index[0]])
        anchor = inside[rng.integers(len(inside))] if len(inside) else np.array([rows, columns]) / 2
        corner = anchor - rng.uniform(0.25, 0.75, 2) * window
        drift = rng.normal(0, 0.01 * window, 2)
        left = np.argwhere(masks[index[-1]])
        if len(inside) and len(left) and rng.random() < 0.7:
            # A camera that follows the object, so that most clips keep it in view.
            drift = drift + (left.mean(axis=0) - inside.mean(axis=0)) / length
        flip = rng.random() < 0.5
        out, ids = [], []
        for step, i in enumerate(index):
            y, x = np.clip(corner + drift * step, 0, [rows - window, columns - window]).astype(int)
            shape = (size, size)
            area = cv2.INTER_AREA if window > size else cv2.INTER_LINEAR
            frame = cv2.resize(frames[i][y : y + window, x : x + window], shape, interpolation=area)
            mask = cv2.resize(
                masks[i][y : y + window, x : x + window], shape, interpolation=cv2.INTER_NEAREST
            )
            out.append(frame[:, ::-1] if flip else frame)
            ids.append(mask[:, ::-1] if flip else mask)
        return np.stack(out), np.stack(ids)

    def _still(
        self, rng: np.random.Generator, length: int, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        image, mask = self.stills[rng.integers(len(self.stills))]
        scale = size / min(image.shape[:2]) * rng.uniform(1.05, 1.5)
        matrices = _motion(rng, length, image.shape[:2], size, scale, amount=0.5)
        return _warp(image, mask, matrices, size, cv2.BORDER_REFLECT_101)

    def _paste(
        self, rng: np.random.Generator, frames: np.ndarray, ids: np.ndarray, number: int, size: int
    ) -> None:
        """Move a cut-out over the clip, in place, as object `number`."""
        image, mask = self.stills[rng.integers(len(self.stills))]
        y, x = np.nonzero(mask)
        top, bottom, left, right = y.min(), y.max() + 1, x.min(), x.max() + 1
        image, mask = image[top:bottom, left:right], mask[top:bottom, left:right]
        scale = size * rng.uniform(0.2, 0.6) / max(image.shape[:2])
        matrices = _motion(rng, len(frames), image.shape[:2], size, scale, amount=1.0, roam=0.35)
        pasted, area = _warp(image, mask, matrices, size, cv2.BORDER_CONSTANT)
        gain = rng.uniform(0.7, 1.3)
        where = area > 0
        frames[where] = np.clip(pasted[where] * gain, 0, 255).astype(np.uint8)
        ids[where] = number


def _load_sequence(
    folder: Path, name: str, height: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """One sequence at `height` rows: RGB frames and 0/1 masks."""
    frames, masks = [], []
    with av.open(str(folder / f"{name}.mp4")) as video:
        for frame in video.decode(video=0):
            image = frame.to_ndarray(format="rgb24")
            shape = (round(image.shape[1] * height / image.shape[0]), height)
            frames.append(cv2.resize(image, shape, interpolation=cv2.INTER_AREA))
    with av.open(str(folder / f"{name}.masks.mkv")) as video:
        for frame in video.decode(video=0):
            mask = (frame.to_ndarray(format="gray") > 127).astype(np.uint8)
            shape = (frames[0].shape[1], height)
            masks.append(cv2.resize(mask, shape, interpolation=cv2.INTER_NEAREST))
    return frames, masks


def _load_stills(archive: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images with one object each: instance masks give an image for every instance."""
    stills = []
    with zipfile.ZipFile(archive) as zipped:
        names = set(zipped.namelist())
        for name in sorted(names):
            if not name.endswith(".jpg") or name[:-4] + ".png" not in names:
                continue
            image = _decode(zipped.read(name), cv2.IMREAD_COLOR)[..., ::-1]
            mask = _decode(zipped.read(name[:-4] + ".png"), cv2.IMREAD_UNCHANGED)
            mask = mask if mask.ndim == 2 else mask[..., 0]
            # Salient-object masks are 0/255, with grey edges from JPEG; instance ids are small.
            ids = [None] if mask.max() > 127 else [int(i) for i in np.unique(mask) if i]
            for i in ids:
                one = ((mask > 127) if i is None else (mask == i)).astype(np.uint8)
                if one.sum() >= 400:
                    stills.append((np.ascontiguousarray(image), one))
    return stills


def _decode(data: bytes, flag: int) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(io.BytesIO(data).getvalue(), np.uint8), flag)
    if image is None:
        raise ValueError("an image of the training archive cannot be decoded")
    return image


def _motion(
    rng: np.random.Generator,
    length: int,
    shape: tuple[int, ...],
    size: int,
    scale: float,
    amount: float,
    roam: float = 0.0,
) -> list[np.ndarray]:
    """Smooth affine paths from image coordinates to a `size` square."""
    place = size / 2 + rng.uniform(-roam, roam, 2) * size
    speed = rng.normal(0, 0.03 * size * amount, 2)
    angle, spin = rng.uniform(-0.3, 0.3), rng.normal(0, 0.04 * amount)
    growth = rng.normal(0, 0.02 * amount)
    shear, shear_rate = rng.uniform(-0.1, 0.1), rng.normal(0, 0.02 * amount)
    mirror = 1 if rng.random() < 0.5 else -1
    middle = np.array([shape[1], shape[0]]) / 2
    matrices = []
    for step in range(length):
        bend = rng.normal(0, 0.006 * size * amount, 2)
        place = place + speed + bend
        speed = speed * 0.97
        turn = angle + spin * step
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        skew = np.array([[mirror, shear + shear_rate * step], [0, 1]])
        linear = rotation @ skew * scale * np.exp(np.clip(growth * step, -0.5, 0.5))
        matrices.append(np.concatenate([linear, (place - linear @ middle)[:, None]], axis=1))
    return matrices


def _warp(
    image: np.ndarray, mask: np.ndarray, matrices: list[np.ndarray], size: int, border: int
) -> tuple[np.ndarray, np.ndarray]:
    frames = [cv2.warpAffine(image, m, (size, size), borderMode=border) for m in matrices]
    ids = [
        cv2.warpAffine(mask, m, (size, size), flags=cv2.INTER_NEAREST, borderMode=border)
        for m in matrices
    ]
    return np.stack(frames), np.stack(ids)


def _procedural(rng: np.random.Generator, objects: int, length: int, size: int) -> Clip:
    scene = render(
        rng, size, size, length, objects, speed=rng.uniform(0.4, 2.0), radius=(0.1, 0.25)
    )
    frames, ids = zip(*scene, strict=True)
    return Clip(np.stack(frames), np.stack(ids))


def _recolour(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """Brightness, contrast and tint, one setting a clip; now and then blur or grey."""
    gain = rng.uniform(0.8, 1.2) * rng.uniform(0.93, 1.07, 3)
    offset = rng.uniform(-20, 20)
    table = np.clip(np.arange(256)[:, None] * gain + offset, 0, 255).astype(np.uint8)
    frames = np.stack([table[frames[..., c], c] for c in range(3)], axis=-1)
    if rng.random() < 0.1:
        frames = np.stack([cv2.GaussianBlur(f, (0, 0), rng.uniform(0.5, 1.5)) for f in frames])
    if rng.random() < 0.05:
        grey = frames.mean(axis=-1, keepdims=True).astype(np.uint8)
        frames = np.repeat(grey, 3, axis=-1)
    return frames


def batches(
    source: ClipSource,
    seed: int,
    first: int,
    *,
    clips: int,
    length: int,
    size: int,
    max_skip: int,
) -> Generator[tuple[np.ndarray, np.ndarray, int], None, None]:
    """Endless batches, drawn ahead by one thread through a bounded queue.

    Batch i depends on `seed` and i alone, so a resumed run sees what an uninterrupted one would.

    Yields:
        frames (B, T, S, S, 3) uint8, ids (B, T, S, S) uint8, and the number of objects.
    """
    ready: queue.Queue[tuple[np.ndarray, np.ndarray, int] | BaseException] = queue.Queue(maxsize=4)
    stop = threading.Event()

    def work() -> None:
        index = first
        try:
            while not stop.is_set():
                rng = np.random.default_rng((seed, index))
                objects = int(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15]))
                drawn = [source.draw(rng, objects, length, size, max_skip) for _ in range(clips)]
                batch = np.stack([c.frames for c in drawn]), np.stack([c.ids for c in drawn])
                while not stop.is_set():
                    try:
                        ready.put((*batch, objects), timeout=0.2)
                        break
                    except queue.Full:
                        continue
                index += 1
        except BaseException as error:  # handed to the consumer, which raises it
            ready.put(error)

    thread = threading.Thread(target=work, name="livos-clips", daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
