"""Measure the clicks of `livos mask` on frames that the click network has not seen.

    python examples/measure_clicks.py DATA [--pictures FOLDER] [--seconds]

DATA holds davis-train/ and splits.json, video-more/, static-objects.zip and static-more.zip. The
protocol is the field's: the first click is in the middle of the object, each further one in the
middle of the largest error, and what was found before is given along. --pictures draws the masks,
--seconds takes the time of a click instead.
"""

from __future__ import annotations

import argparse
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch

from livos_cli import load_model
from livos_cli.evaluation.score import jaccard
from livos_cli.interactive.clicks import ClickPredictor
from livos_cli.network.clicks import ClickNet
from livos_cli.network.livos import LiVOS
from livos_cli.training.clicks import Click, next_click
from livos_cli.weights.clicks import load_clicks
from livos_cli.weights.registry import CLICKS

CLICK_LIMIT, GOAL, WORSE = 10, 0.85, 0.02
LEAST = 400  # pixels of an object
VIDEOS = ("puma-chair", "cdnet-highway-0", "cdnet-highway-3")
# Of each folder of stills in order, the 101st and every 200th after it; never trained on.
STILLS = {
    "static-objects.zip": (
        "ecssd/0101", "ecssd/0301", "ecssd/0501", "ecssd/0701", "ecssd/0901",
        "pennfudan/PennPed00027",
    ),
    "static-more.zip": (
        "ccp/0201", "ccp/0601", "ccp/1001", "coco-by/by-000000166918",
        "coco-by/by-000000520707", "coco-nc/nc-000000013201", "coco-nc/nc-000000161032",
        "coco-nc/nc-000000302882", "coco-nc/nc-000000442306", "weizmann-horses/horse102",
        "weizmann-horses/horse309", "weizmann-seg/2obj-00000155",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One object of one picture: (H, W, 3) uint8 and (H, W) bool."""

    group: str
    name: str
    rgb: np.ndarray
    truth: np.ndarray


def split_objects(group: str, name: str, rgb: np.ndarray, ids: np.ndarray) -> Iterator[Case]:
    """Every object that is large enough; grey masks of 0 and 255 hold one."""
    if ids.max() > 127:
        ids = (ids > 127).astype(np.uint8)
    for i in np.unique(ids):
        if i and (ids == i).sum() >= LEAST:
            yield Case(group, f"{name}:{i}", rgb, ids == i)


def first_frame(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The first frame that has an object, and its ids."""
    with (
        av.open(str(folder / f"{name}.mp4")) as video,
        av.open(str(folder / f"{name}.masks.mkv")) as masks,
    ):
        for frame, mask in zip(video.decode(video=0), masks.decode(video=0), strict=True):
            ids = mask.to_ndarray(format="gray")
            if (ids > 0).sum() >= LEAST:
                return frame.to_ndarray(format="rgb24"), ids
    raise ValueError(f"{name} has no object")


def cases(data: Path) -> Iterator[Case]:
    """The five `dev` sequences, and what else was left out of the training."""
    dev = json.loads((data / "splits.json").read_text())["dev"]
    for group, folder, names in (("dev", "davis-train", dev), ("unseen", "video-more", VIDEOS)):
        for name in names:
            yield from split_objects(group, name, *first_frame(data / folder, name))
    for archive, names in STILLS.items():
        with zipfile.ZipFile(data / archive) as stills:
            for name in names:
                coded = (np.frombuffer(stills.read(f"{name}.{end}"), np.uint8)
                         for end in ("jpg", "png"))  # fmt: skip
                rgb = cv2.imdecode(next(coded), cv2.IMREAD_COLOR)[..., ::-1]
                ids = cv2.imdecode(next(coded), cv2.IMREAD_UNCHANGED)
                ids = ids if ids.ndim == 2 else ids[..., 0]
                yield from split_objects("unseen", name, np.ascontiguousarray(rgb), ids)


def click_on(case: Case, model: LiVOS, net: ClickNet, folder: Path | None) -> list[float]:
    """IoU after each click."""
    predictor = ClickPredictor(model, net, case.rgb)
    found = np.zeros_like(case.truth)
    clicks: list[Click] = []
    scores: list[float] = []
    for _ in range(CLICK_LIMIT):
        click = next_click(found, case.truth, clicks)
        if click is None:
            scores.append(1.0)
            continue
        clicks.append(click)
        points, labels = [(x, y) for x, y, _ in clicks], [on for _, _, on in clicks]
        found = predictor.mask(points, labels, previous=found if len(clicks) > 1 else None)
        scores.append(jaccard(found, case.truth))
        if folder is not None and len(clicks) in (1, 3, 10):
            draw(folder, case, found, clicks, scores[-1])
    return scores


def draw(folder: Path, case: Case, found: np.ndarray, clicks: list[Click], score: float) -> None:
    """The mask in green, the truth's outline in yellow, clicks in white and red."""
    picture = case.rgb.copy()
    picture[found] = picture[found] // 2 + np.array([0, 110, 0], np.uint8)
    outline, _ = cv2.findContours(case.truth.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outline, -1, (255, 255, 0), 1)
    for x, y, on in clicks:
        cv2.circle(picture, (int(x), int(y)), 4, (255, 255, 255) if on else (255, 0, 0), -1)
    cv2.putText(picture, f"{len(clicks)}: {score:.2f}", (5, 20), 0, 0.6, (255, 255, 255), 2)
    name = case.name.replace("/", "-").replace(":", "-")
    cv2.imwrite(str(folder / f"{name}.{len(clicks):02d}.png"), picture[..., ::-1])


def report(group: str, names: list[str], curves: np.ndarray) -> None:
    """Mean and worst count of clicks, the curve, and how often a click does harm."""
    reached = curves >= GOAL
    counts = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, CLICK_LIMIT)
    worst = names[int(np.lexsort((curves[:, -1], -counts))[0])]
    steps = np.diff(curves, axis=1)
    print(
        f"{group}: {len(names)} objects; clicks to {GOAL}: mean {counts.mean():.2f}, most "
        f"{counts.max()} ({worst}), not within {CLICK_LIMIT}: {(~reached.any(axis=1)).sum()}\n"
        f"  mean IoU after 1 to {CLICK_LIMIT}: {' '.join(f'{v:.3f}' for v in curves.mean(0))}\n"
        f"  worst IoU:              {' '.join(f'{v:.3f}' for v in curves.min(0))}\n"
        f"  worse by more than {WORSE}: {(steps < -WORSE).mean():.3f} of clicks, "
        f"at most by {max(0.0, -steps.min()):.3f}"
    )


def time_clicks(data: Path, model: LiVOS, net: ClickNet) -> None:
    """Milliseconds of the features and of a click, at three sizes; whole frames and windows.

    Beside the clock's, the processor's: it counts all threads, and no other load of the machine.
    """
    rgb, truth = first_frame(data / "davis-train", "bear")
    for height, width in ((480, 854), (1080, 1920), (2160, 3840)):
        frame = cv2.resize(rgb, (width, height))
        large = cv2.resize(truth, (width, height), interpolation=cv2.INTER_NEAREST) > 0
        begun = [timed(partial(ClickPredictor, model, net, frame)) for _ in range(5)]
        predictor = ClickPredictor(model, net, frame)
        print(f"{height}p: features {median(begun[1:])}", flush=True)
        for name, found in (("whole frame", np.ones_like(large)), ("window", large)):
            taken = []
            points, labels = [(width * 0.5, height * 0.5)], [True]
            for count in range(24):
                points.append((width * (0.3 + 0.015 * count), height * 0.4))
                labels.append(count % 2 == 0)
                taken.append(timed(partial(predictor.mask, points, labels, previous=found)))
            print(f"  a click, {name}: {median(taken[3:])}", flush=True)


def timed(function: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the clock and of the processor that it takes."""
    clock, processor = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - clock, time.process_time() - processor


def median(taken: list[tuple[float, float]]) -> str:
    """Of both times, and the clock's 95th percentile."""
    clock, processor = np.array(taken).T * 1000
    return (
        f"{np.median(clock):.0f} ms, 95 % within {np.percentile(clock, 95):.0f} ms; "
        f"processor {np.median(processor):.0f} ms"
    )


def main() -> None:
    """Read the options, click, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--clicks", type=Path, default=CLICKS, help="weights of a click network")
    parser.add_argument("--encoder", help="its weights: a file, where they have no name yet")
    parser.add_argument("--pictures", type=Path, help="folder for the masks as pictures")
    parser.add_argument("--seconds", action="store_true", help="take the time instead")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    net = load_clicks(arguments.clicks)
    model = load_model(arguments.encoder or net.config.encoder, device="cpu", precision="fp32")
    if arguments.seconds:
        time_clicks(arguments.data, model, net)
        return
    if arguments.pictures:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
    curves: dict[str, dict[str, list[float]]] = {}
    for case in cases(arguments.data):
        scores = click_on(case, model, net, arguments.pictures)
        curves.setdefault(case.group, {})[case.name] = scores
        print(f"{case.name:32} {' '.join(f'{v:.3f}' for v in scores)}")
    for group, own in curves.items():
        report(group, list(own), np.array(list(own.values())))


if __name__ == "__main__":
    main()
