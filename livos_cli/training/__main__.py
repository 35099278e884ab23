"""Train the built-in network: python -m livos_cli.training --data DATA --out RUN

Goes on from RUN/checkpoint.pt if that is there. Every field of TrainOptions is an option.
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

import torch

from livos_cli.network import TINY, LiVOS
from livos_cli.training.data import ClipSource
from livos_cli.training.loop import TrainOptions, train
from livos_cli.weights import lay_out_for_cpu, load_checked
from livos_cli.weights.convert import write_safetensors


def main() -> None:
    """Read the options, train, write RUN/tiny.safetensors in float16."""
    parser = argparse.ArgumentParser(prog="python -m livos_cli.training")
    parser.add_argument("--data", type=Path, required=True, help="see ClipSource")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="weights to start from; none: from scratch")
    for field in fields(TrainOptions):
        name = "--" + field.name.replace("_", "-")
        parser.add_argument(name, type=type(field.default), default=field.default)
    arguments = vars(parser.parse_args())
    data, out, init = arguments.pop("data"), arguments.pop("out"), arguments.pop("init")
    options = TrainOptions(**arguments)
    torch.manual_seed(options.seed)
    model = LiVOS(TINY)
    if init is not None:
        tensors, config = load_checked(init)
        model = LiVOS(config)
        model.load_state_dict(tensors)
    lay_out_for_cpu(model)
    averaged = train(model, ClipSource(data), out, options)
    target = out / "tiny.safetensors"
    write_safetensors(averaged.state_dict(), model.config, target, half=True, overwrite=True)
    print(target)


if __name__ == "__main__":
    main()
