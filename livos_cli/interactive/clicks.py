"""Masks of clicks: what is on an object, what is not, at the frame's own size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from livos_cli.errors import InputError, UsageError
from livos_cli.masks.hints import Hints, check_hints
from livos_cli.network.clicks import ClickFeatures, ClickNet, draw_guides, trunk_features
from livos_cli.network.layers import area_average
from livos_cli.network.livos import STRIDE, LiVOS
from livos_cli.tracker.resize import downsample_image
from livos_cli.weights.clicks import load_clicks
from livos_cli.weights.load import load_model
from livos_cli.weights.registry import clicks_with

__all__ = ["ClickPredictor", "doubt_found", "find_object", "hold_points", "load_networks"]

REACH = 1 / 160  # of the frame's shorter side: how far around it a point decides
SLACK = 0.08  # of a box's sides: an object may reach so far beyond it
AROUND = 1.5  # a window's sides, of the object's
CLOSER = 1.25  # how much larger a window must show the object than the whole frame does
LARGEST = 3.0  # pixels of the network for one of the frame
SPECK = 0.1  # of the largest part that a point lies in: smaller ones, without one, are left out
KEPT = 4  # windows whose features are kept

# What was found in a box can hardly be its object. A click in its middle finds the same once more:
# of boxes around twelve real objects with IoU 0.45 or more, of nineteen empty boxes one above 0.38.
LEAST_FILL = 0.1  # of the box
LEAST_AGAIN = 0.4
# No real object shared more of its colours with what is around it (24 boxes: at most 0.64).
MOST_ALIKE = 0.66
MARGIN = 0.35  # of the box's size: what is around it

Point = tuple[float, float]
Click = tuple[float, float, bool]
Box = tuple[float, float, float, float]
Window = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class _View:
    """A part of the frame as the network sees it."""

    window: Window
    size: tuple[int, int]  # rows and columns it is brought to
    features: ClickFeatures

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns at 1/4, padded to multiples of the stride."""
        height, width = (-(-side // STRIDE) * STRIDE // 4 for side in self.size)
        return height, width

    def place(self, x: float, y: float) -> Point:
        """A point of the frame, in the network's pixels."""
        left, top, right, bottom = self.window
        rows, columns = self.size
        return (x - left) * columns / (right - left), (y - top) * rows / (bottom - top)


def load_networks(weights: str) -> tuple[LiVOS, ClickNet]:
    """What `ClickPredictor` needs beside a frame: a click network and its image encoder.

    Args:
        weights: a name; where these have no click network, the default's is loaded.
    """
    net = load_clicks(clicks_with(weights)[1])
    return load_model(net.config.encoder, device="cpu", precision="fp32"), net


class ClickPredictor:
    """Finds objects in one frame; a click costs little once the features are there.

    An object that fills little of the frame is looked at once more in a window around it, whose
    features are computed when they are first wanted.

    Args:
        model: whose image encoder the click network was trained on: `clicks.config.encoder`.
        clicks: from `livos_cli.weights.clicks.load_clicks`.
        frame: (H, W, 3) uint8 RGB.

    Raises:
        UsageError: the model has another image encoder, or the frame is of another form.
    """

    def __init__(self, model: LiVOS, clicks: ClickNet, frame: np.ndarray) -> None:
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
            raise UsageError(
                f"the frame is {frame.dtype} of shape {frame.shape}", "give (H, W, 3) uint8"
            )
        if (*model.config.feature_widths, 16) != clicks.config.features:
            raise UsageError(
                "the click network does not fit these weights", f"use `{clicks.config.encoder}`"
            )
        self._model, self._net, self.frame = model, clicks, frame
        self.size = frame.shape[0], frame.shape[1]
        self._whole = self._look((0, 0, self.size[1], self.size[0]))
        self._windows: dict[Window, _View] = {}

    def mask(
        self,
        points: Sequence[Point],
        labels: Sequence[bool],
        box: Box | None = None,
        previous: np.ndarray | None = None,
    ) -> np.ndarray:
        """The object that the hints mean. Every point holds.

        Args:
            points: x and y in pixels of the frame, 0 to its width and height.
            labels: whether each point is on the object.
            box: x0, y0, x1, y1 around the object, in the same pixels.
            previous: (H, W) bool: what was found before these points, or a rough mask.

        Returns:
            (H, W) bool; the same for the same input.

        Raises:
            UsageError: nothing says where the object is, a point lies outside of the frame, or
                two that contradict each other on one pixel.
        """
        if len(points) != len(labels):
            raise UsageError(f"{len(points)} points have {len(labels)} labels", "give one a point")
        if previous is not None and previous.shape != self.size:
            raise UsageError(
                f"the previous mask is of shape {previous.shape}, not {self.size}",
                "give one of the frame's size",
            )
        hints = [(x, y, bool(on)) for (x, y), on in zip(points, labels, strict=True)]
        inside = tuple((x, y) for x, y, on in hints if on)
        outside = tuple((x, y) for x, y, on in hints if not on)
        started = previous is not None and bool(previous.any())
        check_hints(Hints(box, (), inside, outside), *self.size, started=started)
        if previous is None:
            previous = self._find(self._whole, hints, box, None)
            window = self._window(previous, box, inside)
            found = previous
        else:
            window = self._window(previous, box, inside)
            found = previous if window else self._find(self._whole, hints, box, previous)
        if window is not None:
            found = self._find(self._view(window), hints, box, previous)
        if box is not None:
            _keep_near(found, box, inside)
        hold_points(found, points, labels)
        return found

    def _find(
        self, view: _View, hints: list[Click], box: Box | None, previous: np.ndarray | None
    ) -> np.ndarray:
        """What the network takes for the object, seen in a view; (H, W) bool."""
        places = torch.tensor([view.place(x, y) for x, y, _ in hints]).reshape(-1, 2).float()
        on = torch.tensor([on for *_, on in hints], dtype=torch.bool)
        if box is not None:
            box = (*view.place(*box[:2]), *view.place(*box[2:]))
        left, top, right, bottom = view.window
        rows, columns = view.size
        last = None
        if previous is not None:
            part = np.ascontiguousarray(previous[top:bottom, left:right], dtype=np.uint8) * 255
            small = _resize(part, view.size) > 127
            last = area_average(_pad(torch.from_numpy(small).float()[None, None]), 4)[0, 0]
        guides = draw_guides(places, on, box, last, view.grid)
        with torch.inference_mode():
            half = self._net(view.features, guides[None])
            whole = F.interpolate(half[None], scale_factor=2, mode="bilinear")[0, 0]
        seen = np.ascontiguousarray(whole[:rows, :columns].numpy())
        _drop_specks(seen, places[on].numpy())
        found = np.zeros(self.size, bool)
        found[top:bottom, left:right] = _resize(seen, (bottom - top, right - left)) > 0
        return found

    def _window(self, mask: np.ndarray, box: Box | None, inside: Sequence[Point]) -> Window | None:
        """Where to look closer; None where the whole frame is hardly larger."""
        small = mask[:: self._step, :: self._step]
        rows, columns = np.flatnonzero(small.any(axis=1)), np.flatnonzero(small.any(axis=0))
        xs, ys = [x for x, _ in inside], [y for _, y in inside]
        if len(rows):
            xs += [columns[0] * self._step, (columns[-1] + 1) * self._step]
            ys += [rows[0] * self._step, (rows[-1] + 1) * self._step]
        if box is not None:
            xs, ys = [*xs, box[0], box[2]], [*ys, box[1], box[3]]
        if not xs:
            return None
        least = self._model.config.size / LARGEST
        sides = [max(least, AROUND * (max(v) - min(v))) for v in (xs, ys)]
        sides = [max(side, max(sides) / 2) for side in sides]
        ends = []
        for values, side, limit in zip((xs, ys), sides, self.size[::-1], strict=True):
            middle, step = (min(values) + max(values)) / 2, 2 ** int(np.log2(side / 8))
            low = max(0, int((middle - side / 2) // step * step))
            ends.append((low, min(limit, int(-(-(middle + side / 2) // step) * step))))
        (left, right), (top, bottom) = ends
        if min(right - left, bottom - top) * CLOSER > min(self.size):
            return None
        return left, top, right, bottom

    @property
    def _step(self) -> int:
        """Rows and columns from one that is looked at to the next: where a large mask is."""
        return max(1, min(self.size) // 512)

    def _view(self, window: Window) -> _View:
        """A window's view; the last few are kept."""
        view = self._windows.pop(window, None) or self._look(window)
        while len(self._windows) >= KEPT:
            self._windows.pop(next(iter(self._windows)))
        self._windows[window] = view
        return view

    def _look(self, window: Window) -> _View:
        left, top, right, bottom = window
        height, width = bottom - top, right - left
        scale = min(LARGEST, self._model.config.size / min(height, width))
        size = max(1, round(height * scale)), max(1, round(width * scale))
        rgb = downsample_image(torch.from_numpy(self.frame[top:bottom, left:right].copy()), size)
        with torch.inference_mode():
            features = trunk_features(self._model, _pad(rgb.to(self._model.device)))
            return _View(window, size, self._net.project(tuple(f.float().cpu() for f in features)))


def _pad(map_B1HW: Tensor) -> Tensor:
    """To the right and below, up to multiples of the stride."""
    rows, columns = map_B1HW.shape[-2:]
    return F.pad(map_B1HW, (0, -columns % STRIDE, 0, -rows % STRIDE))


def _resize(map_HW: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if map_HW.shape == size:
        return map_HW
    way = cv2.INTER_AREA if size[0] < map_HW.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(map_HW, size[::-1], interpolation=way))


def _drop_specks(log_odds: np.ndarray, points_N2: np.ndarray) -> None:
    """Leave out, in place, small parts that no point on the object lies in."""
    found = (log_odds > 0).astype(np.uint8)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(found, connectivity=8)
    last = np.array(found.shape)[::-1] - 1
    meant = parts[tuple(np.clip(points_N2.astype(np.int64), 0, last).T[::-1])]
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    kept = areas >= SPECK * areas[meant if areas[meant].any() else slice(None)].max(initial=1)
    kept[meant] = True
    log_odds[~kept[parts] & (found > 0)] = -1


def hold_points(mask: np.ndarray, points: Sequence[Point], labels: Sequence[bool]) -> None:
    """Make a mask say, in place, what the points say, with a few pixels around each.

    The pixel of a point is always as the point says. Around it, within a 160th of the frame's
    shorter side, so are all pixels that no point of the other kind is as near to.

    Args:
        mask: (H, W) bool.
        points: x and y in pixels; one on the right or lower border means the last pixel.
        labels: whether each is inside.

    Raises:
        UsageError: two points on one pixel contradict each other.
    """
    height, width = mask.shape
    places = [(min(max(int(x), 0), width - 1), min(max(int(y), 0), height - 1)) for x, y in points]
    kinds = {
        on: {p for p, o in zip(places, labels, strict=True) if o == on} for on in (True, False)
    }
    if both := kinds[True] & kinds[False]:
        x, y = min(both)
        raise UsageError(
            f"the points at {x},{y} contradict each other", "a pixel is on the object or is not"
        )
    reach = max(1, round(REACH * min(height, width)))
    for on, own in kinds.items():
        others = np.array(sorted(kinds[not on]), np.int64).reshape(-1, 2)
        for x, y in own:
            rows = slice(max(0, y - reach), min(height, y + reach + 1))
            columns = slice(max(0, x - reach), min(width, x + reach + 1))
            row, column = np.ogrid[rows, columns]
            distance = (row - y) ** 2 + (column - x) ** 2
            near = others[np.abs(others - (x, y)).max(axis=1, initial=0) <= 2 * reach + 1]
            decides = distance <= reach**2
            for u, v in near:
                decides &= distance < (row - v) ** 2 + (column - u) ** 2
            mask[rows, columns][decides] = on


def _keep_near(mask: np.ndarray, box: Box, inside: Sequence[Point]) -> None:
    """Drop what lies far outside of a box, in place; points on the object widen it."""
    x0, y0, x1, y1 = box
    across, down = SLACK * (x1 - x0), SLACK * (y1 - y0)
    xs, ys = [x for x, _ in inside], [y for _, y in inside]
    left, right = min([x0, *xs]) - across, max([x1, *xs]) + across
    top, bottom = min([y0, *ys]) - down, max([y1, *ys]) + down
    mask[: max(0, int(top))] = False
    mask[max(0, int(np.ceil(bottom))) :] = False
    mask[:, : max(0, int(left))] = False
    mask[:, max(0, int(np.ceil(right))) :] = False


def find_object(predictor: ClickPredictor, hints: Hints) -> np.ndarray:
    """Find what all of somebody's hints mean together.

    Args:
        predictor: of the frame.
        hints: at least a box, a polygon or a point on the object.

    Returns:
        (H, W) bool.

    Raises:
        UsageError: no hint, one outside of the frame, or two that contradict each other.
        InputError: nothing was found.
    """
    check_hints(hints, *predictor.size)
    points = [*hints.inside, *hints.outside]
    labels = [True] * len(hints.inside) + [False] * len(hints.outside)
    rough = None
    if hints.polygon:
        drawn = np.zeros(predictor.size, np.uint8)
        corners = np.floor(np.array(hints.polygon)).astype(np.int32)
        cv2.fillPoly(drawn, [corners], 1)
        rough = drawn > 0
    found = predictor.mask(points, labels, hints.box, rough)
    if not found.any():
        raise InputError(
            "no object was found there",
            "give more points, a --polygon along its outline, or paint the mask yourself",
        )
    return found


def _shared_colours(rgb: np.ndarray, found: np.ndarray, box: Box) -> float:
    """How much of its colours an object has in common with what is around it, 0 to 1."""
    x0, y0, x1, y1 = box
    pad = max(8.0, MARGIN * max(x1 - x0, y1 - y0))
    part = (
        slice(max(0, int(y0 - pad)), int(np.ceil(y1 + pad))),
        slice(max(0, int(x0 - pad)), int(np.ceil(x1 + pad))),
    )
    lab = cv2.cvtColor(np.ascontiguousarray(rgb[part]), cv2.COLOR_RGB2Lab).astype(float)
    on = found[part]
    if on.all() or not on.any():
        return 0.0
    one, other = (
        np.histogramdd(lab[where], bins=12, range=[(0, 256)] * 3)[0] / where.sum()
        for where in (on, ~on)
    )
    return float(np.minimum(one, other).sum())


def doubt_found(predictor: ClickPredictor, found: np.ndarray, hints: Hints) -> str | None:
    """Why what was found in a box may be no object; None if all looks well.

    Args:
        predictor: of the frame.
        found: (H, W) bool, by `find_object`, not empty.
        hints: what it was found by.
    """
    if hints.box is None:
        return None
    x0, y0, x1, y1 = hints.box
    height, width = found.shape
    area = (min(x1, width) - max(x0, 0)) * (min(y1, height) - max(y0, 0))
    fill = float(found.sum()) / max(1.0, area)
    if fill < LEAST_FILL:
        return f"only {100 * fill:.1g} % of its box was found: does the box hold an object?"
    if _shared_colours(predictor.frame, found, hints.box) > MOST_ALIKE:
        return "it has much the same colours as what is around it"
    if hints.inside or hints.polygon:
        return None
    inner = cv2.distanceTransform(np.pad(found, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = divmod(int(inner.argmax()), width)
    again = predictor.mask([(x + 0.5, y + 0.5)], [True])
    if (again & found).sum() < LEAST_AGAIN * (again | found).sum():
        return "a click in its middle finds something else: does the box hold one object?"
    return None
