"""One mask image read as object ids, however it was painted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from livos_cli.errors import InputError
from livos_cli.masks.colours import ColourTable, early_colours
from livos_cli.masks.decode_image import Picture, decode_mask_file
from livos_cli.masks.grey import VOID, as_integers, has_void_borders, inside_matte, tell_specks
from livos_cli.masks.palette import DAVIS_PALETTE
from livos_cli.masks.picture_tests import (
    LEVELS_OFF,
    dithered_colours,
    has_more_than_white,
    is_cut_out,
    is_painted,
    is_smeared_black_and_white,
    is_soft,
    is_web_palette,
    pack,
    shown,
)
from livos_cli.masks.soft_edges import (
    SAME,
    distinct_of,
    merge_noise,
    noise_share,
    noisy_levels,
    settle,
    specks_of,
)

__all__ = ["ColourTable", "Style", "judge_style", "read_mask"]

MANY = 32  # distinct greys from which a picture may be a soft matte
MOST = 256  # colours of one mask
PAINTED = 30  # colours that a painted mask with noise has at most
WEB_STEP = 75.0  # RGB distance of neighbours in a web palette, between which dithering goes
NOISY = 32  # colours from which a picture may have the noise of JPEG
NOISY_LEVELS = 8  # so many greys that are specks near others are the noise of JPEG


@dataclass(frozen=True)
class Style:
    """How the masks of one video are painted, where a single image leaves it open."""

    colour: bool = False  # some are coloured, so a grey of an RGB image is a colour like others
    values: bool = False  # some hold several grey values, so 255 is an id, not "the object"
    single: bool = False  # whatever is not black is one object


def read_mask(
    path: str | Path,
    colours: ColourTable | None = None,
    *,
    allow_empty: bool = False,
    style: Style = Style(),
    note: Callable[[str], None] = lambda _: None,
) -> np.ndarray:
    """Read an image as object ids.

    Palette: the indices, unless its order says nothing (black is another index than 0, or its
    colours are those of a picture): then the colours. Grey: the values, but black and one other
    value of 128 or more is one object. RGB: one colour an object, black is background.
    Transparency: what shows is the object. Edges that are antialiased, or a soft matte, are
    decided to one side or the other.

    Args:
        path: PNG, JPEG, BMP, WebP or TIFF; of several pages the first.
        colours: ids of colours, shared between the masks of one video.
        allow_empty: take an image without any object.
        style: of all masks of one video.
        note: told, a line each, what values and colours became where that is not plain.

    Returns:
        (H, W) int64, 0 for background.

    Raises:
        InputError: the file is missing, is no image, or holds no object.

    Examples:
        >>> import numpy as np
        >>> from livos_cli import read_mask
        >>> np.unique(read_mask("examples/first.png")).tolist()
        [0, 1, 2, 3]
    """
    path = Path(path)
    picture = decode_mask_file(path)
    if picture.pages > 1:
        note(f"the mask {path} holds {picture.pages} pictures: the first is taken")
    reading = _Reading(path, picture, colours or ColourTable(), style, note)
    ids = reading.ids()
    if not allow_empty and not ids.any():
        raise InputError(
            f"the mask {path} is empty: every pixel is background",
            "paint the object with a value other than 0",
        )
    reading.look_at(ids)
    return ids


def judge_style(paths: list[Path]) -> Style:
    """Look at all masks of one video, so that each is read alike."""
    if len(paths) < 2:
        return Style()
    colour, values = False, set()
    for path in paths:
        picture = decode_mask_file(path)
        colour |= picture.palette is None and not picture.grey
        if picture.grey and not picture.lossy:
            reading = _Reading(path, picture, ColourTable(), Style(values=True), lambda _: None)
            values |= set(np.unique(reading.ids()).tolist()) - {0}
    return Style(colour=colour, values=len(values) > 1)


@dataclass(frozen=True)
class _Reading:
    """One picture on its way to ids."""

    path: Path
    picture: Picture
    colours: ColourTable
    style: Style
    note: Callable[[str], None]

    def ids(self) -> np.ndarray:
        picture = self.picture
        if picture.palette is not None:
            return self._of_palette(picture.values, picture.palette)
        if picture.grey and not (picture.rgb and self.style.colour):
            values = as_integers(picture.values, self.path)
            return self._of_lossy(values) if picture.lossy else self._of_grey(values)
        rgb = picture.values
        rgb = rgb if rgb.ndim == 3 else np.repeat(rgb[..., None], 3, axis=2)
        if picture.lossy:
            if picture.alpha is not None and not (picture.alpha > 0).all():
                self.note(
                    f"the mask {self.path} is compressed with loss: what is not transparent is "
                    "taken for one object, whatever its colours"
                )
                return shown(picture.alpha).astype(np.int64)  # alpha has its own compression
            raise self._lossy_error()
        return self._of_colours(rgb)

    # Grey

    def _of_grey(self, values: np.ndarray) -> np.ndarray:
        distinct = distinct_of(values)
        top = int(distinct[-1])
        full = 65535 if self.picture.values.dtype == np.uint16 else 255
        object_ = top if self.style.values else 1  # what black and white's white becomes
        if len(distinct) <= 2 and top > full // 2 and not distinct[0]:
            return np.where(values != 0, object_, 0)
        if len(distinct) > MANY and top > full // 2 and is_soft(values, top):
            return np.where(inside_matte(values, top, self.path, self.note), object_, 0)
        if len(distinct) > 3 and is_smeared_black_and_white(values, full):
            return np.where(values * 2 > full, full if self.style.values else 1, 0)
        settled = settle(values, colour=False, tolerance=0.5)
        values = settled.values
        if settled.softened and set(np.unique(values).tolist()) <= {0, full}:
            return np.where(values != 0, object_, 0)
        if (noisy := noisy_levels(values)) >= NOISY_LEVELS:
            raise InputError(
                f"the mask {self.path} has {len(distinct)} greys, {noisy} of them specks as JPEG "
                "leaves them: its values are not the ones painted",
                "save it as PNG, never as JPEG on the way",
            )
        if settled.levels or not settled.softened:
            tell_specks(values, self.path, self.note)
        return self._without_void(values)

    def _without_void(self, ids: np.ndarray) -> np.ndarray:
        if self.style.single or not has_void_borders(ids):
            return ids
        self.note(
            f"the mask {self.path}: value 255 is a thin border around the other objects (void): "
            "it is taken for background"
        )
        return np.where(ids == VOID, 0, ids)

    def _of_lossy(self, values: np.ndarray) -> np.ndarray:
        """JPEG and WebP smear values: only black and white can be told apart in them."""
        clear = (values < 64) | (values > 191)
        top = int(values.max())
        if clear.mean() < 0.97 or 0 < top < 128 or has_more_than_white(values):
            raise self._lossy_error()
        return (values > 127).astype(np.int64)

    def _lossy_error(self) -> InputError:
        return InputError(
            f"the mask {self.path} is compressed with loss, so its values are not the ones painted",
            "save it as PNG",
        )

    # Palettes

    def _of_palette(self, indices: np.ndarray, rgba: np.ndarray) -> np.ndarray:
        """Indices, if they can be ids; otherwise what the colours are."""
        shows = np.ones(indices.shape, bool)
        if self.picture.alpha is not None:
            shows = shown(self.picture.alpha)
        ids = np.where(shows, indices, 0).astype(np.int64)
        used = np.unique(indices[shows])
        rgb = rgba[:, :3]
        if np.array_equal(rgb[used], DAVIS_PALETTE[used]):
            return self._without_void(ids)
        black = [int(i) for i in used if not rgb[i].any()]
        why = ""
        if black and black != [0] and 0 not in black:
            why = f"in its palette black is index {black[0]}, not 0"
        elif is_web_palette(rgb):
            why = "its palette is the web's"
        elif is_painted(rgb[indices], shows):
            why = "its palette holds the soft edges or the dithering of a picture"
        if why:
            self.note(f"the mask {self.path}: {why}, so its colours tell the objects")
            return self._of_colours(rgb[indices], painted=True)
        if 0 in used and rgb[0].any():
            self.note(
                f"the mask {self.path}: index 0 of its palette is {_name(rgb[0])}, not black; it "
                "is taken for background"
            )
        return self._without_void(ids)

    # Colours

    def _of_colours(self, rgb: np.ndarray, *, painted: bool = False) -> np.ndarray:
        packed = pack(rgb)
        alpha = self.picture.alpha
        if alpha is not None:
            shows = shown(alpha)
            if is_cut_out(packed, shows):
                return shows.astype(np.int64)
            if (shows & (packed == 0)).mean() > 0.001:
                self.note(
                    f"the mask {self.path}: black and transparent both are taken for background"
                )
            packed = np.where(shows, packed, 0)
        packed = self._flat_colours(packed, painted=painted)
        distinct = distinct_of(packed)
        table = np.array([self.colours.id_of(int(colour)) for colour in distinct], np.int64)
        self._tell_colours(distinct, table)
        return table[np.searchsorted(distinct, packed)]

    def _flat_colours(self, packed: np.ndarray, *, painted: bool) -> np.ndarray:
        """Colours without soft edges, noise and dithering.

        Raises:
            InputError: it has none that are flat.
        """
        count = len(distinct_of(packed))
        if count > MOST and specks_of(packed).mean() > 0.5:
            raise self._picture_error(count)
        one_channel = sum(bool((packed >> shift & 255).any()) for shift in (0, 8, 16)) < 2
        noisy = not one_channel and count >= NOISY and noise_share(packed) > 0.3
        if not noisy:
            flat = settle(packed, colour=True, tolerance=LEVELS_OFF if painted else 3.0).values
            speckled = painted and len(dithered_colours(flat)) > 0
            if len(distinct_of(flat)) <= MOST and not speckled:
                return flat
        merged = merge_noise(packed, PAINTED, WEB_STEP if painted else SAME)
        specks = len(dithered_colours(packed)) if merged is None and count <= MOST else 0
        if specks > 1:
            what = "dithered" if painted else "resized with smoothing, or noisy"
            raise InputError(
                f"the mask {self.path} is {what}: {specks} of its {count} colours are specks "
                "only, so its objects cannot be told",
                "save it as RGB, or with a palette but without dithering"
                if painted
                else "paint objects in flat colours, and resize masks by nearest neighbour only",
            )
        if merged is None:
            raise self._picture_error(count)
        for colour in distinct_of(merged).tolist():
            merged[merged == colour] = self.colours.near(colour)
        self.note(
            f"the mask {self.path} has {count} colours, as after JPEG or dithering: they are read "
            f"as {len(distinct_of(merged))}"
        )
        return merged

    def _picture_error(self, count: int) -> InputError:
        return InputError(
            f"the mask {self.path} has {count} colours: it looks like a picture, not a mask",
            "paint each object in one flat colour on black; save it as PNG, never as JPEG on the "
            "way, and without dithering",
        )

    def _tell_colours(self, colours: np.ndarray, ids: np.ndarray) -> None:
        """Say which id each colour has, where the DAVIS palette does not."""
        given = {int(c): int(i) for c, i in zip(colours, ids, strict=True) if c}
        plain = all(early_colours().get(c) == i for c, i in given.items())
        dim = any(max(c >> 16, c >> 8 & 255, c & 255) < 32 for c in given)
        if plain or self.style.single or (len(given) < 2 and not dim):
            return
        shown = [f"#{c:06x} is {i}" for c, i in sorted(given.items(), key=lambda both: both[1])]
        more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
        self.note(f"the mask {self.path}: of its colours {', '.join(shown[:8])}{more}")

    # What was found

    def look_at(self, ids: np.ndarray) -> None:
        """Say what is odd about ids that are taken as they are."""
        if (ids != 0).all() and ids.size and not self.style.single:
            found, counts = np.unique(ids, return_counts=True)
            most = int(np.argmax(counts))
            self.note(
                f"the mask {self.path} has no background: every pixel is of an object, "
                f"{100 * counts[most] / ids.size:.0f} % of them of object {found[most]}; "
                "if that is the ground, paint it 0"
            )


def _name(rgb: np.ndarray) -> str:
    return "#" + "".join(f"{int(part):02x}" for part in rgb)
