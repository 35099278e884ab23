"""Masks of every kind, whose truth is known: containers times what is painted in them.

`python tests/mask_zoo.py` reads them all and prints how many came out right, were refused in one
line, were read otherwise with a line that says so, or were wrong without a word.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from livos_cli.masks.palette import DAVIS_PALETTE

HEIGHT, WIDTH = 96, 160
# Colours that no palette has at the same place, for objects 1, 2, 3, ….
BRIGHT = np.zeros((256, 3), np.uint8)
BRIGHT[1:] = [
    (int(220 - 37 * i % 200), int(20 + 91 * i % 230), int(60 + 53 * i % 190)) for i in range(255)
]


@dataclass(frozen=True)
class Truth:
    """What is painted."""

    ids: np.ndarray  # (H, W) uint8
    soft: bool = False  # with antialiased edges: pixels there may fall to either side
    void: bool = False  # borders of 255


def few() -> Truth:
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.circle(ids, (40, 45), 25, 1, -1)
    cv2.circle(ids, (110, 48), 30, 2, -1)
    ids[40:55, 100:112] = 5
    return Truth(ids)


def many() -> Truth:
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    for n in range(150):
        y, x = n // 15 * 9 + 3, n % 15 * 10 + 5
        ids[y : y + 5, x : x + 6] = n + 1
    return Truth(ids)


def odd() -> Truth:
    ids = many().ids.astype(int)
    return Truth(np.where(ids <= 70, np.maximum(2 * ids - 1, 0), 0).astype(np.uint8))


def cells() -> Truth:
    """120 that touch each other, without ground between them."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    at = rng.uniform(0, 1, (120, 2)) * (HEIGHT, WIDTH)
    distance = (y[..., None] - at[:, 0]) ** 2 + (x[..., None] - at[:, 1]) ** 2
    ids = distance.argmin(-1) + 1
    ids[np.sqrt(distance.min(-1)) > 12] = 0
    ids[:10] = 0
    return Truth(ids.astype(np.uint8))


def tiny() -> Truth:
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.circle(ids, (40, 45), 25, 1, -1)
    for n, (y, x) in enumerate([(10, 100), (30, 120), (70, 90), (80, 140)]):
        ids[y : y + 2, x : x + 2] = n + 2
    ids[50, 100] = 6  # one pixel
    ids[45:47, 64:66] = 7  # touches the disc
    return Truth(ids)


def lines() -> Truth:
    ids = few().ids
    ids[5, 20:140] = 3
    ids[10:90, 150] = 4
    return Truth(ids)


def ball() -> Truth:
    """A drawing with soft edges, a small round thing in it."""
    ids = few().ids
    ids[ids == 5] = 2
    cv2.circle(ids, (75, 85), 4, 1, -1)
    return Truth(ids, soft=True)


def soft() -> Truth:
    ids = few().ids
    ids[ids == 5] = 2
    return Truth(ids, soft=True)


def dots() -> Truth:
    """Soft edges, and beside them hard small objects of their own."""
    ids = soft().ids
    for n, (y, x) in enumerate([(4, 80), (88, 75), (90, 6)]):
        ids[y : y + 3, x : x + 3] = n + 3
    return Truth(ids, soft=True)


def white() -> Truth:
    return Truth((few().ids == 1).astype(np.uint8))


def void() -> Truth:
    ids = few().ids
    edge = cv2.dilate((ids > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) & (ids == 0)
    return Truth(np.where(edge, 255, ids).astype(np.uint8), void=True)


CONTENTS: dict[str, Callable[[], Truth]] = {
    f.__name__: f for f in (few, many, odd, cells, tiny, lines, soft, ball, dots, white, void)
}


def draw(truth: Truth, colours: np.ndarray) -> np.ndarray:
    """Colours of ids, with soft edges where the truth has them. Shape (H, W) or (H, W, 3)."""
    if not truth.soft:
        return colours[truth.ids]
    flat = colours.reshape(256, -1).astype(float)
    total = np.zeros((HEIGHT, WIDTH, flat.shape[1]))
    for i in np.unique(truth.ids):
        one = (truth.ids == i).astype(np.uint8) * 255
        if (truth.ids == i).sum() < 16:  # hard
            share = (one > 0).astype(float)
        else:
            big = cv2.resize(one, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
            big = (cv2.GaussianBlur(big, (0, 0), 4) > 127).astype(np.float32)
            share = cv2.resize(big, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        total += share[..., None] * flat[i]
    for i in np.unique(truth.ids):
        if (truth.ids == i).sum() < 16:
            total[truth.ids == i] = flat[i]
    return (
        np.clip(np.round(total), 0, 255).astype(np.uint8).reshape(HEIGHT, WIDTH, *colours.shape[1:])
    )


def _grey_of(truth: Truth) -> np.ndarray:
    values = np.arange(256, dtype=np.uint8)
    if truth.soft:  # as somebody paints who looks at it
        values[1:6] = [100, 200, 50, 150, 250]
    elif truth.ids.max() == 1:
        values[1] = 255
    return values


def _save(image: Image.Image, path: Path, **how: object) -> None:
    image.save(path, **how)  # type: ignore[arg-type]


def _tiff(path: Path, array: np.ndarray, **how: object) -> None:
    import tifffile

    tifffile.imwrite(path, array, **how)  # type: ignore[arg-type]


Writer = Callable[[Path, Truth], bool]  # whether ids, rather than areas alone, must be the same


def _exact(truth: Truth) -> bool:
    return not truth.soft and truth.ids.max() != 1


def grey8(path: Path, truth: Truth) -> bool:
    _save(Image.fromarray(draw(truth, _grey_of(truth))), path)
    return _exact(truth)


def grey16(path: Path, truth: Truth) -> bool:
    cv2.imwrite(str(path), draw(truth, _grey_of(truth)).astype(np.uint16))
    return _exact(truth)


def davis(path: Path, truth: Truth) -> bool:
    _save(Image.fromarray(draw(truth, DAVIS_PALETTE)), path)
    return _exact(truth) and truth.ids.max() < 32


def bright(path: Path, truth: Truth) -> bool:
    _save(Image.fromarray(draw(truth, BRIGHT)), path)
    return False


def channel(path: Path, truth: Truth) -> bool:
    grey = draw(truth, _grey_of(truth))
    _save(Image.fromarray(np.dstack([grey, 0 * grey, 0 * grey])), path)
    return False


def clear(path: Path, truth: Truth) -> bool:
    alpha = (truth.ids > 0).astype(np.uint8) * 255
    _save(Image.fromarray(np.dstack([BRIGHT[truth.ids], alpha])), path)
    return False


def half(path: Path, truth: Truth) -> bool:
    alpha = (truth.ids > 0).astype(np.uint8) * 127
    _save(Image.fromarray(np.dstack([BRIGHT[truth.ids], alpha])), path)
    return False


def index(path: Path, truth: Truth) -> bool:
    image = Image.fromarray(truth.ids).convert("P")
    image.putpalette(DAVIS_PALETTE.ravel().tolist())
    _save(image, path)
    return True


def index_own(path: Path, truth: Truth) -> bool:
    image = Image.fromarray(truth.ids).convert("P")
    image.putpalette(BRIGHT.ravel().tolist())
    _save(image, path)
    return True


def index_turned(path: Path, truth: Truth) -> bool:
    """As a painting program orders a palette: by something else than ids."""
    image = Image.fromarray(255 - truth.ids).convert("P")
    image.putpalette(BRIGHT[::-1].ravel().tolist())
    _save(image, path)
    return False


def adaptive(path: Path, truth: Truth) -> bool:
    _save(Image.fromarray(draw(truth, BRIGHT)).quantize(64), path)
    return False


def web(path: Path, truth: Truth) -> bool:
    _save(Image.fromarray(draw(truth, BRIGHT)).convert("P"), path)
    return False


def from_jpeg(path: Path, truth: Truth) -> bool:
    good = cv2.imencode(".jpg", draw(truth, BRIGHT)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    cv2.imwrite(str(path), cv2.imdecode(good, cv2.IMREAD_COLOR))
    return False


def grey_from_jpeg(path: Path, truth: Truth) -> bool:
    good = cv2.imencode(".jpg", draw(truth, _grey_of(truth)), [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    cv2.imwrite(str(path), cv2.imdecode(good, cv2.IMREAD_GRAYSCALE))
    return False


def tiff_of(kind: type, **how: object) -> Writer:
    def write(path: Path, truth: Truth) -> bool:
        _tiff(path, draw(truth, _grey_of(truth)).astype(kind), **how)
        return _exact(truth)

    return write


CONTAINERS: dict[str, tuple[str, Writer]] = {
    "PNG grey 8": (".png", grey8),
    "PNG grey 16": (".png", grey16),
    "PNG RGB DAVIS": (".png", davis),
    "PNG RGB others": (".png", bright),
    "PNG ids in red": (".png", channel),
    "PNG RGBA": (".png", clear),
    "PNG RGBA 127": (".png", half),
    "PNG palette DAVIS": (".png", index),
    "PNG palette own": (".png", index_own),
    "PNG palette reordered": (".png", index_turned),
    "PNG palette adaptive": (".png", adaptive),
    "PNG palette web": (".png", web),
    "PNG RGB after JPEG": (".png", from_jpeg),
    "PNG grey after JPEG": (".png", grey_from_jpeg),
    "BMP grey": (".bmp", grey8),
    "BMP RGB": (".bmp", davis),
    "BMP palette": (".bmp", index),
    "WebP grey": (".webp", lambda p, t: webp(p, t, _grey_of(t))),
    "WebP RGB": (".webp", lambda p, t: webp(p, t, DAVIS_PALETTE)),
    "JPEG grey": (".jpg", grey8),
    "JPEG RGB": (".jpg", bright),
    "TIFF 8": (".tif", tiff_of(np.uint8)),
    "TIFF 16": (".tif", tiff_of(np.uint16)),
    "TIFF int32": (".tif", tiff_of(np.int32)),
    "TIFF float32": (".tif", tiff_of(np.float32)),
    "TIFF tiled": (".tif", tiff_of(np.uint8, tile=(32, 32))),
    "TIFF tiled, deflated": (".tif", tiff_of(np.uint16, tile=(16, 16), compression="zlib")),
    "TIFF palette": (".tif", index),
}


def webp(path: Path, truth: Truth, colours: np.ndarray) -> bool:
    _save(Image.fromarray(draw(truth, colours)).convert("RGB"), path, lossless=True, exact=True)
    return _exact(truth) and truth.ids.max() < 32


@dataclass(frozen=True)
class Case:
    container: str
    content: str
    verdict: str  # right, refused, said, or wrong
    detail: str


def judge(truth: Truth, got: np.ndarray, *, exact: bool, lossy: bool) -> str:
    """Empty if what was read is what was painted; otherwise what is not."""
    want = truth.ids.copy()
    if truth.void:  # 255 or background, both are right if it is said
        border = want == 255
        want, got = np.where(border, 0, want), np.where(border, 0, got)
    if exact:
        wrong = int((got != want).sum())
        return f"{wrong} pixels differ" if wrong else ""
    pairs: Counter[tuple[int, int]] = Counter(
        zip(want.ravel().tolist(), got.ravel().tolist(), strict=True)
    )
    objects = np.unique(want[want > 0])
    if len(objects) != len(np.unique(got[got > 0])):
        return f"{len(np.unique(got[got > 0]))} objects of {len(objects)}"
    taken = set()
    for i in objects.tolist():
        (_, best), both = max(((p, n) for p, n in pairs.items() if p[0] == i), key=lambda x: x[1])
        union = int(((want == i) | (got == best)).sum())
        if not best or best in taken or both / union < (0.7 if truth.soft or lossy else 0.999):
            return f"object {i} is {best} with IoU {both / union:.2f}"
        taken.add(best)
    return ""


def zoo(folder: Path, read: Callable[[Path, list[str]], np.ndarray]) -> Iterator[Case]:
    """Read every mask there is of this kind.

    Args:
        folder: where they are written.
        read: gives ids, appends its notes, or raises.
    """
    from livos_cli.errors import InputError

    for name, (suffix, write) in CONTAINERS.items():
        for content, make in CONTENTS.items():
            truth = make()
            path = folder / f"{name} {content}{suffix}"
            exact = write(path, truth)
            notes: list[str] = []
            try:
                got = read(path, notes)
            except InputError as error:
                yield Case(name, content, "refused", str(error).replace(str(path), "M"))
                continue
            wrong = judge(truth, got, exact=exact, lossy="JPEG" in name)
            verdict = "right" if not wrong else "said" if notes else "wrong"
            yield Case(name, content, verdict, " | ".join([wrong, *notes]).replace(str(path), "M"))


def main() -> None:
    from livos_cli.masks.object_ids import read_mask

    def read(path: Path, notes: list[str]) -> np.ndarray:
        try:
            return read_mask(path, note=notes.append)
        except TypeError:  # before there were notes
            return read_mask(path)

    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for case in zoo(Path(folder), read):
            counts[case.verdict] += 1
            if case.verdict != "right" or "-v" in sys.argv:
                print(f"{case.verdict:8}{case.container:24}{case.content:8}{case.detail[:150]}")
    print(dict(counts))


if __name__ == "__main__":
    main()
