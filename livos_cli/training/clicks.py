"""What the click network is trained on: crops of pictures, and clicks as a user would set them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from torch import Tensor

from livos_cli.network.clicks import draw_guides
from livos_cli.network.layers import area_average
from livos_cli.training.augment import degrade, recolour
from livos_cli.training.sources import Still

__all__ = ["Click", "Sample", "Session", "begin", "draw_sample", "next_click", "spoil"]

LEAST = 300  # pixels of an object in a crop
MOST = 0.9  # of a crop that an object may fill
ZOOM = 2.2  # the tightest crop, as a factor of the widest
Click = tuple[float, float, bool]  # x, y in pixels, and whether it is on the object


def next_click(
    found: np.ndarray,
    truth: np.ndarray,
    taken: Sequence[Click] = (),
    rng: np.random.Generator | None = None,
) -> Click | None:
    """Where a user would click next: in the middle of the largest error.

    Args:
        found: (H, W) bool, the mask so far.
        truth: (H, W) bool.
        taken: clicks that were set already, in pixels of these masks; not chosen again.
        rng: half of the clicks are set anywhere in the inner half of that error; None: none is.

    Returns:
        The centre of a pixel and what it is; None where nothing is wrong.
    """
    free = np.ones(truth.shape, bool)
    for x, y, _ in taken:
        free[int(y), int(x)] = False
    best: tuple[float, np.ndarray, bool] | None = None
    for wrong, on in ((truth & ~found, True), (found & ~truth, False)):
        inner = cv2.distanceTransform(np.pad(wrong, 1).astype(np.uint8), cv2.DIST_L2, 5)
        inner = inner[1:-1, 1:-1] * free
        depth = float(inner.max(initial=0))
        if depth > 0 and (best is None or depth > best[0]):
            best = depth, inner, on
    if best is None:
        return None
    depth, inner, on = best
    place = int(inner.argmax())
    if rng is not None and rng.random() < 0.5:
        place = int(rng.choice(np.flatnonzero(inner.ravel() >= depth / 2)))
    y, x = divmod(place, truth.shape[1])
    return x + 0.5, y + 0.5, on


@dataclass(frozen=True)
class Sample:
    """A crop (S, S, 3) uint8 and how much of each pixel of 1/2 is the object's, float32."""

    rgb: np.ndarray
    truth: np.ndarray


def draw_sample(rng: np.random.Generator, stills: Sequence[Still], size: int) -> Sample:
    """A random square of one of the stills, changed at random.

    Args:
        rng: all randomness comes from here.
        stills: to draw from, all alike.
        size: of the crop, pixels; a multiple of 16.
    """
    while True:
        still = stills[int(rng.integers(len(stills)))]
        height, width = still.mask.shape
        side = min(height, width) / np.exp(rng.uniform(0, np.log(ZOOM)))
        across, down = side * np.exp(rng.uniform(-0.1, 0.1, 2))
        across, down = min(width, round(across)), min(height, round(down))
        rows, columns = np.nonzero(still.mask)
        at = int(rng.integers(len(rows)))
        top = _around(rng, int(rows[at]), down, height)
        left = _around(rng, int(columns[at]), across, width)
        part = (slice(top, top + down), slice(left, left + across))
        way = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
        soft = still.mask[part].astype(np.float32)
        whole = np.asarray(cv2.resize(soft, (size, size), interpolation=way))
        truth = np.asarray(cv2.resize(whole, (size // 2, size // 2), interpolation=cv2.INTER_AREA))
        if not LEAST <= 4 * float(truth.sum()) <= MOST * size * size:
            continue
        rgb = np.asarray(cv2.resize(still.rgb[part], (size, size), interpolation=way))
        if rng.random() < 0.5:
            rgb, truth = rgb[:, ::-1], truth[:, ::-1]
        rgb = degrade(rng, recolour(rng, rgb[None]))[0]
        return Sample(np.ascontiguousarray(rgb), np.ascontiguousarray(truth))


def _around(rng: np.random.Generator, place: int, length: int, limit: int) -> int:
    """Where a window of some length may begin to hold a place."""
    low, high = max(0, place - length + 1), min(place, limit - length)
    return int(rng.integers(low, high + 1))


def spoil(rng: np.random.Generator, truth: np.ndarray) -> np.ndarray:
    """A mask as somebody might have drawn it or as another program found it.

    Args:
        rng: all randomness comes from here.
        truth: (H, W) bool.

    Returns:
        (H, W) bool.
    """
    mask = truth.astype(np.uint8)
    size = float(np.sqrt(mask.sum()))
    if rng.random() < 0.5:  # a polygon
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        reach = rng.uniform(0.02, 0.12) * size
        rough = [cv2.approxPolyDP(o, reach, closed=True) for o in outlines]
        moved = [r + rng.integers(-1, 2, r.shape).astype(r.dtype) for r in rough if len(r) > 2]
        mask = np.zeros_like(mask)
        cv2.fillPoly(mask, moved, 1)
    reach = int(rng.uniform(0, 0.12) * size)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    mask = np.asarray((cv2.dilate if rng.random() < 0.6 else cv2.erode)(mask, kernel), np.uint8)
    for value in (0, 1):  # a part is missing, something else was taken for the object
        if rng.random() < 0.35:
            where = np.flatnonzero(truth.ravel() == (value == 0))
            if len(where):
                y, x = divmod(int(rng.choice(where)), truth.shape[1])
                cv2.circle(mask, (x, y), max(1, int(rng.uniform(0.1, 0.35) * size)), value, -1)
    return mask > 0


@dataclass
class Session:
    """One sample and all that a user has said of it so far; places in pixels of 1/2."""

    features: tuple[Tensor, ...]  # (1, C, h, w) of the crop
    target: Tensor  # (H/2, W/2) float32
    truth: np.ndarray  # (H/2, W/2) bool
    rounds: int  # still to go
    clicks: list[Click] = field(default_factory=list)
    box: tuple[float, float, float, float] | None = None
    previous: np.ndarray | None = None

    def guides(self) -> Tensor:
        """The maps of what was said, (GUIDES, H/4, W/4)."""
        points = torch.tensor([[2 * x, 2 * y] for x, y, _ in self.clicks]).reshape(-1, 2)
        labels = torch.tensor([on for _, _, on in self.clicks], dtype=torch.bool)
        box = None
        if self.box is not None:
            x0, y0, x1, y1 = (2 * value for value in self.box)
            box = x0, y0, x1, y1
        rows, columns = self.truth.shape[0] // 2, self.truth.shape[1] // 2
        last = None
        if self.previous is not None:
            whole = torch.from_numpy(self.previous.astype(np.float32))
            last = area_average(whole[None, None], 2)[0, 0]
        return draw_guides(points, labels, box, last, (rows, columns))

    def answer(self, rng: np.random.Generator, found: np.ndarray) -> bool:
        """Say what is wrong with a mask; False where the session is over."""
        self.rounds -= 1
        self.previous = found if rng.random() < 0.9 else None
        click = next_click(found, self.truth, self.clicks, rng)
        if click is not None:
            self.clicks.append(click)
        return self.rounds > 0 and click is not None


def begin(
    rng: np.random.Generator, sample: Sample, features: tuple[Tensor, ...], rounds: int
) -> Session:
    """How a user might start: a click, a box, a rough mask, or several clicks at once.

    Args:
        rng: all randomness comes from here.
        sample: a crop.
        features: of it.
        rounds: at most so many masks are asked for.
    """
    truth = sample.truth > 0.5
    target = torch.from_numpy(sample.truth)
    session = Session(features, target, truth, 1 + int(rng.integers(rounds)))
    start = rng.random()
    if start < 0.2:
        session.box = _loose_box(rng, truth)
        if rng.random() < 0.7:
            return session
    elif start < 0.35:
        session.previous = spoil(rng, truth)
        if rng.random() < 0.3:
            session.box = _loose_box(rng, truth)
        if rng.random() < 0.5:
            return session
    nothing = np.zeros_like(truth) if session.previous is None else session.previous
    click = next_click(nothing, truth, (), rng)
    if click is not None:
        session.clicks.append(click)
    if rng.random() < 0.25:
        _scatter(rng, session)
    return session


def _loose_box(rng: np.random.Generator, truth: np.ndarray) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(truth.any(axis=1)), np.flatnonzero(truth.any(axis=0))
    x0, y0, x1, y1 = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    slack = rng.uniform(-0.04, 0.1, 4) if rng.random() < 0.7 else np.zeros(4)
    height, width = truth.shape
    return (
        float(max(0, x0 - slack[0] * (x1 - x0))),
        float(max(0, y0 - slack[1] * (y1 - y0))),
        float(min(width, x1 + slack[2] * (x1 - x0))),
        float(min(height, y1 + slack[3] * (y1 - y0))),
    )


def _scatter(rng: np.random.Generator, session: Session) -> None:
    """More clicks at once: on the object, near it, and anywhere else."""
    truth = session.truth
    size = max(2, int(0.3 * np.sqrt(truth.sum())))
    near = cv2.dilate(truth.astype(np.uint8), np.ones((size, size), np.uint8)) > 0
    inner = cv2.erode(truth.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    outer = cv2.dilate(truth.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0
    for where, on in ((inner, True), (near & outer, False), (outer, False)):
        places = np.flatnonzero(where.ravel())
        for place in rng.choice(places, min(len(places), int(rng.integers(0, 4)))):
            y, x = divmod(int(place), truth.shape[1])
            session.clicks.append((x + 0.5, y + 0.5, on))
