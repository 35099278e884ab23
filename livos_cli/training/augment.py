"""What makes a still move, and what makes every clip look different."""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["Bend", "affine_path", "degrade", "recolour", "warp"]


class Bend:
    """A smooth displacement that swings with time: elastic motion.

    Args:
        rng: all randomness comes from here.
        size: side of the square it acts on, pixels.
        amount: amplitude as a share of `size`.
    """

    NODES = 4  # along each side of the grid whose nodes swing

    def __init__(self, rng: np.random.Generator, size: int, amount: float) -> None:
        self._size = size
        self._amplitude = rng.normal(0, amount * size, (2, self.NODES, self.NODES))
        self._phase = rng.uniform(0, 2 * np.pi, (2, self.NODES, self.NODES))
        self._rate = rng.uniform(0.1, 0.5)

    def at(self, step: int) -> np.ndarray:
        """Displacement (size, size, 2), x then y, in pixels, of time step `step`."""
        nodes = self._amplitude * np.sin(self._rate * step + self._phase)
        grid = np.ascontiguousarray(nodes.transpose(1, 2, 0).astype(np.float32))
        shape = (self._size, self._size)
        return np.asarray(cv2.resize(grid, shape, interpolation=cv2.INTER_CUBIC))


def affine_path(
    rng: np.random.Generator,
    length: int,
    shape: tuple[int, int],
    size: int,
    scale: float,
    amount: float,
    roam: float = 0.0,
) -> list[np.ndarray]:
    """Smooth affine motion from image coordinates to a square.

    Args:
        rng: all randomness comes from here.
        length: time steps.
        shape: rows and columns of the image.
        size: side of the square, pixels.
        scale: pixels of the square for one of the image.
        amount: of the motion; 1 is lively.
        roam: how far from the middle the path may begin, as a share of `size`.

    Returns:
        A (2, 3) matrix a step.
    """
    place = size / 2 + rng.uniform(-roam, roam, 2) * size
    speed = rng.normal(0, 0.03 * size * amount, 2)
    angle, spin = rng.uniform(-0.3, 0.3), rng.normal(0, 0.04 * amount)
    growth = rng.normal(0, 0.02 * amount)
    shear, shear_rate = rng.uniform(-0.1, 0.1), rng.normal(0, 0.02 * amount)
    mirror = 1 if rng.random() < 0.5 else -1
    middle = np.array([shape[1], shape[0]]) / 2
    matrices = []
    for step in range(length):
        jolt = rng.normal(0, 0.006 * size * amount, 2)
        place = place + speed + jolt
        speed = speed * 0.97
        turn = angle + spin * step
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        skew = np.array([[mirror, shear + shear_rate * step], [0, 1]])
        linear = rotation @ skew * scale * np.exp(np.clip(growth * step, -0.5, 0.5))
        matrices.append(np.concatenate([linear, (place - linear @ middle)[:, None]], axis=1))
    return matrices


def warp(
    rgb: np.ndarray,
    mask: np.ndarray,
    matrices: list[np.ndarray],
    size: int,
    border: int,
    bend: Bend | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Move an image and its mask along a path.

    Args:
        rgb: (H, W, 3) uint8.
        mask: (H, W) uint8.
        matrices: from `affine_path`.
        size: side of the result, pixels.
        border: what is outside the image, a cv2.BORDER_*.
        bend: elastic motion besides.

    Returns:
        (T, size, size, 3) and (T, size, size), uint8.
    """
    frames, masks = [], []
    for step, matrix in enumerate(matrices):
        if bend is None:
            shape = (size, size)
            frames.append(cv2.warpAffine(rgb, matrix, shape, borderMode=border))
            masks.append(
                cv2.warpAffine(mask, matrix, shape, flags=cv2.INTER_NEAREST, borderMode=border)
            )
            continue
        y, x = np.mgrid[:size, :size].astype(np.float32)
        bent = np.stack([x, y], axis=-1) + bend.at(step)
        inverse = cv2.invertAffineTransform(matrix).astype(np.float32)
        where = bent @ inverse[:, :2].T + inverse[:, 2]
        column, row = (np.ascontiguousarray(where[..., i]) for i in (0, 1))
        frames.append(cv2.remap(rgb, column, row, cv2.INTER_LINEAR, borderMode=border))
        masks.append(cv2.remap(mask, column, row, cv2.INTER_NEAREST, borderMode=border))
    return np.stack(frames), np.stack(masks)


def recolour(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """Brightness, contrast and tint, one setting a clip; now and then grey."""
    gain = rng.uniform(0.8, 1.2) * rng.uniform(0.93, 1.07, 3)
    offset = rng.uniform(-20, 20)
    table = np.clip(np.arange(256)[:, None] * gain + offset, 0, 255).astype(np.uint8)
    frames = np.stack([table[frames[..., c], c] for c in range(3)], axis=-1)
    if rng.random() < 0.05:
        grey = frames.mean(axis=-1, keepdims=True).astype(np.uint8)
        frames = np.repeat(grey, 3, axis=-1)
    return frames


def degrade(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """Blur by focus or by motion, and compression, each in some of the clips."""
    if rng.random() < 0.1:
        sigma = rng.uniform(0.5, 1.5)
        frames = np.stack([cv2.GaussianBlur(f, (0, 0), sigma) for f in frames])
    if rng.random() < 0.1:
        reach = int(rng.integers(3, 10))
        kernel = np.zeros((reach, reach), np.float32)
        angle = rng.uniform(0, np.pi)
        middle, arm = (reach - 1) / 2, np.array([np.cos(angle), np.sin(angle)]) * reach / 2
        ends = [tuple(int(v) for v in np.round(middle + sign * arm)) for sign in (-1, 1)]
        cv2.line(kernel, ends[0], ends[1], 1.0)
        frames = np.stack([cv2.filter2D(f, -1, kernel / kernel.sum()) for f in frames])
    if rng.random() < 0.2:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))]
        coded = [cv2.imencode(".jpg", frame, quality)[1] for frame in frames]
        frames = np.stack([np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)) for data in coded])
    return frames
