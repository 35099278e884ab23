"""Checkpoint files: read them safely, bring their keys to this network's, write safetensors."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from livos_cli.errors import OutputError, WeightsError
from livos_cli.files import write_whole
from livos_cli.network.calibration import Calibration
from livos_cli.network.config import BASE, SMALL, LiVOSConfig
from livos_cli.network.model import LiVOS

__all__ = [
    "METADATA_KEY",
    "infer_config",
    "read_calibration",
    "read_checkpoint",
    "remap_keys",
    "write_safetensors",
]

METADATA_KEY = "livos_config"
CALIBRATION_KEY = "livos_certainty"
TRAINING_ONLY = "aux_computer."  # tensors that no inference uses


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], LiVOSConfig]:
    """Read `.safetensors`, or a `.pth` without running any code in it.

    Returns:
        Tensors under this network's names, and their configuration.

    Raises:
        WeightsError: missing, damaged, not a checkpoint of this network, or a pickle with code.
    """
    if not path.is_file():
        raise WeightsError(f"the weights file {path} does not exist", "check the path")
    metadata: dict[str, str] = {}
    if path.suffix == ".safetensors":
        try:
            with safetensors.safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise WeightsError(
                f"the weights file {path} is damaged ({error})", "download or copy it again"
            ) from None
    else:
        tensors = _read_pickle(path)
    tensors = remap_keys(tensors)
    text = metadata.get(METADATA_KEY)
    return tensors, LiVOSConfig.from_json(text) if text else infer_config(tensors, path)


def read_calibration(path: Path) -> Calibration | None:
    """The calibration in the metadata of a `.safetensors` that `read_checkpoint` takes, if any.

    Raises:
        WeightsError: it is damaged.
    """
    if path.suffix != ".safetensors":
        return None
    with safetensors.safe_open(str(path), framework="pt") as file:
        text = (file.metadata() or {}).get(CALIBRATION_KEY)
    return None if text is None else Calibration.from_json(text)


def _read_pickle(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as file:
        magic = file.read(2)
    if magic != b"PK" and not magic.startswith(b"\x80"):  # neither torch's zip nor a pickle
        raise WeightsError(f"the weights file {path} is damaged", "download or copy it again")
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error) or "GLOBAL" in str(error) or "weights_only" in str(error):
            raise WeightsError(
                f"{path} holds code, not only tensors; it was not run",
                "weights from an unknown place can harm this machine: get a .safetensors file",
            ) from None
        raise WeightsError(f"the weights file {path} is damaged", "download it again") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"the weights file {path} is damaged ({reason})", "download or copy it again"
        ) from None
    for key in ("state_dict", "model", "weights", "network"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise WeightsError(f"{path} is not a table of tensors", "is it a LiVOS checkpoint?")
    return loaded


def remap_keys(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Published names -> this network's: wrappers' prefixes and training-only tensors go.

    A pure function; everything it keeps is then loaded strictly.
    """
    prefix = "module."
    out = {}
    for name, tensor in tensors.items():
        name = name.removeprefix(prefix)
        if not name.startswith(TRAINING_ONLY):
            out[name] = tensor
    return out


def infer_config(tensors: dict[str, Tensor], path: Path) -> LiVOSConfig:
    """The published configuration whose shapes these tensors have.

    Raises:
        WeightsError: they fit neither `base` nor `small`.
    """
    for config in (BASE, SMALL):
        with torch.device("meta"):
            expected = LiVOS(config).state_dict()
        if {k: v.shape for k, v in expected.items()} == {k: v.shape for k, v in tensors.items()}:
            return config
    raise WeightsError(
        f"{path} is not a LiVOS checkpoint that can be recognised",
        "published checkpoints are; others carry their configuration in their metadata",
    )


def write_safetensors(
    tensors: dict[str, Tensor],
    config: LiVOSConfig,
    path: Path,
    *,
    half: bool = False,
    overwrite: bool = False,
    calibration: Calibration | None = None,
) -> None:
    """Write weights with their configuration in the metadata; complete, or not at all.

    Args:
        tensors: under this network's names.
        config: stored beside them.
        path: where to.
        half: floating-point tensors as float16.
        overwrite: replace an existing file.
        calibration: of these very weights.

    Raises:
        OutputError: the file exists, or cannot be written.
    """
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already", "use -y to overwrite it")
    out = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in tensors.items()
    }
    metadata = {METADATA_KEY: config.to_json(), "format": "pt"}
    if calibration is not None:
        metadata[CALIBRATION_KEY] = calibration.to_json()
    write_whole(path, safetensors.torch.save(out, metadata))
