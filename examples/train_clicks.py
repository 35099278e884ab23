"""Train the click network of `livos mask` on the frozen image encoder of some weights.

    python examples/train_clicks.py --images STILLS.zip@0.5 --pairs DATA/davis-train@0.5 -o RUN

Images and pairs are those of `livos train --data`. Run it again to resume. When it stops, RUN holds
clicks.safetensors.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from livos_cli import load_model
from livos_cli.network.clicks import ClickConfig
from livos_cli.training.click_loop import ClickOptions, train_clicks
from livos_cli.training.procedural import render
from livos_cli.training.sources import Budget, SourceSpec, Still, load_stills, load_videos
from livos_cli.weights.clicks import write_clicks
from livos_cli.weights.registry import DEFAULT

HEIGHT, EVERY = 432, 4  # rows of a video's frames, and which of them are kept
SCENES = 300
SMALLEST = 400  # pixels of an object


def stills_of(spec: SourceSpec, threads: int) -> list[Still]:
    """The objects of a source, one by one."""
    if spec.kind == "images":
        assert spec.path is not None
        return load_stills(spec.path, Budget(4 << 30))
    stills = []
    for video in load_videos(spec, HEIGHT, Budget(4 << 30), threads):
        for index in range(0, len(video), EVERY):
            rgb, ids = video.frame(index)
            stills += [Still(rgb, (ids == i).astype(np.uint8)) for i in np.unique(ids) if i]
    return [still for still in stills if still.mask.sum() >= SMALLEST]


def scenes() -> list[Still]:
    """Scenes drawn from nothing."""
    stills = []
    for seed in range(SCENES):
        rng = np.random.default_rng((7, seed))
        rgb, ids = next(iter(render(rng, 240, 320, 1, 1 + seed % 3)))
        stills += [Still(rgb, (ids == i).astype(np.uint8)) for i in np.unique(ids) if i]
    return [still for still in stills if still.mask.sum() >= SMALLEST]


def main() -> None:
    """Read the options, load, train, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", action="append", default=[], metavar="PATH[@SHARE]")
    parser.add_argument("--pairs", action="append", default=[], metavar="PATH[@SHARE]")
    parser.add_argument("--encoder", default=DEFAULT, help="weights: a name, or NAME.safetensors")
    parser.add_argument("--scenes", type=float, default=0.05, help="share of drawn scenes")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the run's folder")
    parser.add_argument("--steps", type=int, default=ClickOptions.steps)
    parser.add_argument("--minutes", type=float, default=ClickOptions.minutes)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    specs = [SourceSpec.parse(f"images:{text}") for text in arguments.images]
    specs += [SourceSpec.parse(f"pairs:{text}") for text in arguments.pairs]
    sources = [(stills_of(spec, arguments.threads), spec.share) for spec in specs]
    if arguments.scenes:
        sources.append((scenes(), arguments.scenes))
    for stills, share in sources:
        print(f"{len(stills):6} objects, share {share}", flush=True)
    options = ClickOptions(
        steps=arguments.steps, minutes=arguments.minutes, bf16=arguments.bf16
    )  # fmt: skip
    model = load_model(arguments.encoder, device="cpu", precision="fp32")
    config = ClickConfig(encoder=Path(arguments.encoder).stem)
    recent: list[tuple[float, float]] = []

    def told(step: int, loss: float, iou: float) -> None:
        recent.append((loss, iou))
        if step % 50 == 0:
            mean = np.mean(recent, axis=0)
            print(f"step {step:5}  loss {mean[0]:.3f}  IoU {mean[1]:.3f}", flush=True)
            recent.clear()

    weights = train_clicks(model, config, sources, arguments.output, options, told)
    write_clicks(weights, config, arguments.output / "clicks.safetensors", overwrite=True)


if __name__ == "__main__":
    main()
