"""Clips made from nothing: textured deforming objects over a textured, moving background."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

__all__ = ["render", "texture"]


def texture(
    rng: np.random.Generator, height: int, width: int, octaves: int = 4, vivid: float = 1.0
) -> np.ndarray:
    """A random colour texture: noise of several octaves between two tints.

    Args:
        rng: all randomness comes from here.
        height: rows.
        width: columns.
        octaves: of the noise; more give finer detail.
        vivid: saturation, 0 to 1.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    base = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        cells = 2 ** (octave + 1) + int(rng.integers(0, 3))
        rows = max(2, round(cells * height / width))
        noise = rng.standard_normal((rows, cells)).astype(np.float32)
        wide = np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))
        base += wide / np.float32(1.4**octave)
    if rng.random() < 0.35:  # stripes or checks, bent by the noise
        angle = rng.uniform(0, np.pi)
        y, x = np.mgrid[:height, :width].astype(np.float32) / width
        phase = (x * np.cos(angle) + y * np.sin(angle)) * rng.uniform(20, 90)
        base += 0.8 * np.sin(phase + base)
    base = (base - base.mean()) / (base.std() + 1e-6)
    share = 1 / (1 + np.exp(-1.5 * base))[..., None]
    dark, light = rng.uniform(0, 255, (2, 3))
    if np.abs(dark - light).sum() < 120:
        light = 255 - dark
    colour = dark * (1 - share) + light * share
    grey = colour.mean(axis=2, keepdims=True)
    return np.clip(grey + (colour - grey) * vivid, 0, 255).astype(np.uint8)


class _Path:
    """A smooth random motion: a slow drift and two sines an axis."""

    def __init__(self, rng: np.random.Generator, amount: float) -> None:
        self.amplitude = rng.uniform(0.2, 1, (2, 2)) * amount
        self.rate = rng.uniform(0.3, 1.6, (2, 2))
        self.phase = rng.uniform(0, 2 * np.pi, (2, 2))

    def __call__(self, time: float) -> np.ndarray:
        return (self.amplitude * np.sin(self.rate * time + self.phase)).sum(axis=1)


class _Blob:
    """An object with its own texture and an outline of moving Fourier terms."""

    TEXTURE = 256

    def __init__(
        self, rng: np.random.Generator, radius: float, centre: np.ndarray, travel: float
    ) -> None:
        self.image = texture(rng, self.TEXTURE, self.TEXTURE, int(rng.integers(3, 7)))
        self.radius = radius
        self.centre = centre
        self.path = _Path(rng, travel)
        self.spin = rng.uniform(-0.5, 0.5)
        self.turn = rng.uniform(0, 2 * np.pi)
        self.stretch = rng.uniform(0.6, 1.4)
        self.terms = rng.integers(2, 6, 3)
        self.depth = rng.uniform(0.04, 0.16, 3)
        self.rate = rng.uniform(-1.5, 1.5, 3)
        self.breath = rng.uniform(0.0, 0.12)

    def draw(self, frame: np.ndarray, time: float, camera: np.ndarray, zoom: float) -> np.ndarray:
        """Paint over `frame` in place; returns where, (H, W) bool."""
        height, width = frame.shape[:2]
        angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
        radius = 1 + self.breath * np.sin(2.1 * time + self.turn)
        waves = self.depth * np.sin(np.outer(angle, self.terms) + self.rate * time)
        radius = radius + waves.sum(axis=1)
        outline = np.stack(
            [radius * np.cos(angle) * self.stretch, radius * np.sin(angle) / self.stretch], axis=1
        )
        turn = self.turn + self.spin * time
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        place = self.centre + self.path(time) - camera
        middle = np.array([width, height]) / 2
        place = middle + (place - middle) * zoom
        scale = self.radius * zoom
        points = outline @ rotation.T * scale + place
        area = np.zeros((height, width), np.uint8)
        cv2.fillPoly(area, [np.round(points * 16).astype(np.int32)], 1, shift=4)
        linear = rotation * (scale * 3.2 / self.TEXTURE)
        offset = place - linear @ np.full(2, self.TEXTURE / 2)
        matrix = np.concatenate([linear, offset[:, None]], axis=1)
        painted = cv2.warpAffine(
            self.image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101
        )
        where = area.astype(bool)
        frame[where] = painted[where]
        return where


def render(
    rng: np.random.Generator,
    height: int,
    width: int,
    frames: int,
    objects: int,
    *,
    speed: float = 1.0,
    radius: tuple[float, float] = (0.10, 0.22),
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw a scene frame by frame.

    A camera pans and zooms over a textured ground; objects 1..n move, turn and deform, later ones
    in front; one pillar, part of the scene and in front of all, hides what passes behind it.

    Args:
        rng: all randomness comes from here.
        height: rows of a frame, pixels.
        width: columns of a frame, pixels.
        frames: how many to draw.
        objects: how many objects, 1 to 255.
        speed: of all motion; 1 is lively at 25 frames a second.
        radius: range of the objects' radii, as a share of the shorter side.

    Yields:
        (frame (H, W, 3) uint8 RGB, ids (H, W) uint8: 0 background and pillar, 1..n objects).
    """
    short = min(height, width)
    ground = texture(rng, int(height * 1.6), int(width * 1.6), int(rng.integers(5, 9)), 0.5)
    camera = _Path(rng, 0.10 * short)
    zoom_rate, zoom_depth = rng.uniform(0.3, 0.9), rng.uniform(0.0, 0.08)
    middle = np.array([width, height]) / 2
    blobs = []
    for index in range(objects):
        around = 2 * np.pi * (index + rng.uniform(0.1, 0.9)) / objects
        centre = middle + np.array([np.cos(around) * width, np.sin(around) * height]) * 0.27
        blobs.append(_Blob(rng, rng.uniform(*radius) * short, centre, 0.16 * short))
    pillar = texture(rng, height, 64)
    pillar_x = middle[0] + rng.uniform(-0.15, 0.15) * width
    pillar_width = rng.uniform(0.04, 0.08) * width
    start = rng.uniform(0, 10)
    for index in range(frames):
        time = start + speed * index / 12
        shift = camera(time)
        zoom = 1 + zoom_depth * np.sin(zoom_rate * time)
        rows, columns = ground.shape[:2]
        matrix = np.array(
            [
                [zoom, 0, middle[0] - zoom * (columns / 2 + shift[0])],
                [0, zoom, middle[1] - zoom * (rows / 2 + shift[1])],
            ]
        )
        frame = cv2.warpAffine(ground, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
        ids = np.zeros((height, width), np.uint8)
        for number, blob in enumerate(blobs, start=1):
            ids[blob.draw(frame, time, shift, zoom)] = number
        left = middle[0] + (pillar_x - shift[0] - middle[0]) * zoom
        first, last = round(left), round(left + pillar_width * zoom)
        first, last = max(0, first), min(width, last)
        if last > first:
            frame[:, first:last] = cv2.resize(pillar, (last - first, height))
            ids[:, first:last] = 0
        yield frame, ids
