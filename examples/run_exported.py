"""Run what `livos export` wrote, without livos: ONNX Runtime, NumPy, OpenCV and Pillow alone.

    livos export lite graphs
    python examples/run_exported.py graphs video.mp4 first.png OUT [--side 384]

OUT gets a PNG of ids a frame. `first.png` is a grey or palette PNG of ids: 0 background, then 1, 2
and so on. It shows what a program of one's own has to do: the state that is carried from frame to
frame is a handful of arrays, whose sizes never change. New objects after the first frame,
corrections and certainty are left out; `livos segment` has them.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it is sent to Microsoft otherwise
import onnxruntime


def run(session: onnxruntime.InferenceSession, **given: np.ndarray) -> list[np.ndarray]:
    """A graph's outputs; what it has no use for is left out."""
    names = [one.name for one in session.get_inputs()]
    found: list[np.ndarray] = session.run(None, {name: given[name] for name in names})
    return found


def softmax(x: np.ndarray) -> np.ndarray:
    """Over the first axis."""
    x = np.exp(x - x.max(axis=0))
    return x / x.sum(axis=0)


def main() -> None:
    """Frame by frame."""
    parser = argparse.ArgumentParser(description="Segment a video with exported graphs.")
    parser.add_argument("graphs", type=Path)
    parser.add_argument("video")
    parser.add_argument("first")
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, help="shorter side of the network's frames")
    options = parser.parse_args()

    about = json.loads((options.graphs / "livos.json").read_text())
    encode, read, write = (
        onnxruntime.InferenceSession(str(options.graphs / f"{step}.onnx"))
        for step in ("encode", "read", "write")
    )
    ids = np.array(Image.open(options.first))
    if ids.ndim != 2 or not ids.any():
        raise SystemExit(f"{options.first} is no grey PNG of ids")
    names = np.unique(ids[ids > 0])
    objects = len(names)
    options.out.mkdir(parents=True)
    video, index = cv2.VideoCapture(options.video), 0
    while (taken := video.read())[0]:
        full = cv2.cvtColor(taken[1], cv2.COLOR_BGR2RGB)
        scale = (options.side or about["size"]) / min(full.shape[:2])
        height, width = (16 * round(side * min(scale, 1) / 16) for side in full.shape[:2])
        small = cv2.resize(full, (width, height), interpolation=cv2.INTER_AREA)
        image = small.transpose(2, 0, 1)[None].astype(np.float32) / 255
        outputs = about["steps"]["encode"]["outputs"]
        encoded = dict(zip(outputs, run(encode, image=image), strict=True))
        if index == 0:
            grid = (height // 16, width // 16)
            memory = {
                "state": np.zeros((1, objects, about["key"], about["value"]), np.float32),
                # Objects that enter together share a key sum, which begins with this frame's key.
                "key_sum": encoded["key"][:, None],
                "group": np.zeros(objects, np.int64),
                "sensory": np.zeros((1, objects, about["sensory"], *grid), np.float32),
                "objects": np.zeros((1, objects, about["queries"], about["embed"] + 1), np.float32),
            }
            given = cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST)
            soft = np.stack([(given == name).astype(np.float32) for name in names])[None]
            decided = ids
        else:
            log_odds, memory["key_sum"], memory["sensory"] = run(read, **encoded, **memory)
            larger = [cv2.resize(one, (width, height)) for one in log_odds[0]]
            probability = softmax(np.stack(larger))
            soft = np.ascontiguousarray(probability[None, 1:])
            whole = [cv2.resize(one, full.shape[1::-1]) for one in probability]
            decided = np.array([0, *names], np.uint8)[np.stack(whole).argmax(axis=0)]
        # The frame's soft masks go in; their averages, which the next frame is read with, come out.
        memory["state"], memory["sensory"], memory["objects"], memory["masks"] = run(
            write, image=image, **encoded, **(memory | {"masks": soft})
        )
        cv2.imwrite(str(options.out / f"{index:05d}.png"), decided)
        index += 1


if __name__ == "__main__":
    main()
