"""Lay out videos and mask videos as DAVIS does, for `livos eval` and `livos train`.

    python examples/lay_out_davis.py DATA/davis-train DAVIS --split dev
    livos eval DAVIS --dataset davis17 --split dev

DATA/davis-train holds NAME.mp4 and NAME.masks.mkv, frame for frame. With --split, the names are
those that DATA/splits.json lists under it. Frames are written as JPEG of quality 97, masks as index
PNGs; a mask of 0 and 255 becomes object 1.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import av
import cv2
import numpy as np

from livos_cli.masks.palette import encode_index_png


def lay_out(folder: Path, name: str, root: Path) -> int:
    """Write one sequence; returns its number of frames."""
    images = root / "JPEGImages" / "480p" / name
    annotations = root / "Annotations" / "480p" / name
    for place in (images, annotations):
        place.mkdir(parents=True, exist_ok=True)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 97, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]
    count = 0
    with (
        av.open(str(folder / f"{name}.mp4")) as video,
        av.open(str(folder / f"{name}.masks.mkv")) as masks,
    ):
        pairs = zip(video.decode(video=0), masks.decode(video=0), strict=True)
        for count, (frame, mask) in enumerate(pairs, start=1):
            bgr = frame.to_ndarray(format="bgr24")
            cv2.imwrite(str(images / f"{count - 1:05d}.jpg"), bgr, quality)
            ids = mask.to_ndarray(format="gray")
            if set(np.unique(ids)) <= {0, 255}:
                ids = np.minimum(ids, 1)
            (annotations / f"{count - 1:05d}.png").write_bytes(encode_index_png(ids))
    return count


def main() -> None:
    """Read the options and lay out every sequence."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds NAME.mp4 and NAME.masks.mkv")
    parser.add_argument("root", type=Path, help="the DAVIS folder to make")
    parser.add_argument("--split", default="dev", help="a list of ../splits.json")
    arguments = parser.parse_args()
    splits = arguments.folder.resolve().parent / "splits.json"
    names = json.loads(splits.read_text())[arguments.split]
    for name in names:
        print(name, lay_out(arguments.folder, name, arguments.root))
    lists = arguments.root / "ImageSets" / "2017"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / f"{arguments.split}.txt").write_text("\n".join(names) + "\n")


if __name__ == "__main__":
    main()
