"""The file of a click network: written once, read safely."""

from __future__ import annotations

from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from livos_cli.errors import OutputError, WeightsError
from livos_cli.files.atomic import write_whole
from livos_cli.network.clicks import ClickConfig, ClickNet
from livos_cli.network.inference import lay_out_channels_last
from livos_cli.weights.convert import check_shapes, damaged
from livos_cli.weights.registry import CLICKS

__all__ = ["CLICKS", "load_clicks", "write_clicks"]

METADATA_KEY = "livos_clicks"


def write_clicks(
    tensors: dict[str, Tensor], config: ClickConfig, path: Path, *, overwrite: bool = False
) -> None:
    """Write a click network as float16, its configuration in the metadata; complete or not at all.

    Raises:
        OutputError: the file exists, or cannot be written.
    """
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already", "choose another name")
    out = {name: tensor.half().contiguous() for name, tensor in tensors.items()}
    metadata = {METADATA_KEY: config.to_json(), "format": "pt"}
    write_whole(path, safetensors.torch.save(out, metadata))


def load_clicks(path: Path = CLICKS) -> ClickNet:
    """A click network ready to run: float32, on the CPU, without gradients.

    Raises:
        WeightsError: the file is missing, damaged, or holds something else.
    """
    if not path.is_file():
        raise WeightsError(f"the weights file {path} does not exist", "check the path")
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
            if text is None:
                raise WeightsError(f"{path} holds no click network", "is it of something else?")
            config = ClickConfig.from_json(text)
            with torch.device("meta"):
                wanted = {k: v.shape for k, v in ClickNet(config).state_dict().items()}
            names = list(file.keys())
            there = {name: torch.Size(file.get_slice(name).get_shape()) for name in names}
            check_shapes(there, wanted, path)
            tensors = {name: file.get_tensor(name).float() for name in wanted}
    except (safetensors.SafetensorError, OSError, ValueError, MemoryError) as error:
        raise damaged(path, error) from None
    net = ClickNet(config)
    net.load_state_dict(tensors)
    net = net.eval().requires_grad_(False)
    lay_out_channels_last(net)
    return net
