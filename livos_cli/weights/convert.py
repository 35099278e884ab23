"""Checkpoint files: read them safely, bring their keys to this network's, write safetensors."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from livos_cli.errors import LivosError, OutputError, WeightsError
from livos_cli.files.atomic import write_whole
from livos_cli.memory import out_of_memory, too_little_memory
from livos_cli.network.calibration import Calibration
from livos_cli.network.config import BASE, SMALL, LiVOSConfig
from livos_cli.network.livos import LiVOS
from livos_cli.weights.terms import TERMS_KEY

__all__ = [
    "METADATA_KEY",
    "check_shapes",
    "damaged",
    "infer_config",
    "read_calibration",
    "read_checkpoint",
    "remap_keys",
    "write_safetensors",
]

T = TypeVar("T")

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
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    tensors = remap_keys(_read_pickle(path))
    return tensors, infer_config(tensors, path)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], LiVOSConfig]:
    """Only what has the right shapes is read: a file may be any other network's, and large."""
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
            names = list(file.keys())
            shapes = remap_keys({n: torch.Size(file.get_slice(n).get_shape()) for n in names})
            config = LiVOSConfig.from_json(text) if text else infer_config(shapes, path)
            check_shapes(shapes, shapes_of(config), path)
            return remap_keys({name: file.get_tensor(name) for name in names}), config
    except (safetensors.SafetensorError, OSError, ValueError, MemoryError) as error:
        raise damaged(path, error) from None


def damaged(path: Path, error: BaseException) -> LivosError:
    """What is to be said of a file of weights that reading it ended so."""
    if out_of_memory(error):
        return too_little_memory(f"to read the weights {path}")
    reason = (str(error) or type(error).__name__).splitlines()[0][:160]
    return WeightsError(f"the weights file {path} is damaged ({reason})", "copy it again")


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
    if magic == b"PK":
        _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about odd pickles: an error follows, or none
            loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error) or "GLOBAL" in str(error) or "weights_only" in str(error):
            raise WeightsError(
                f"{path} holds code, not only tensors; it was not run",
                "weights from an unknown place can harm this machine: get a .safetensors file",
            ) from None
        raise WeightsError(f"the weights file {path} is damaged", "download it again") from None
    except Exception as error:  # a damaged pickle can fail in any way; no code of it was run
        raise damaged(path, error) from None
    for key in ("state_dict", "model", "weights", "network"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(
        isinstance(name, str) and _is_plain(value) for name, value in loaded.items()
    ):
        raise WeightsError(f"{path} is not a table of named tensors", "is it a LiVOS checkpoint?")
    return loaded


def _is_plain(value: object) -> bool:
    """Whether it is a tensor of numbers as a network has them: not sparse, quantised, complex."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and not (value.is_quantized or value.is_complex() or value.is_meta)
    )


def _check_archive(path: Path) -> None:
    """torch packs without compression: what claims to hold more than its size would fill memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise damaged(path, error) from None
    if claimed > 4 * (size := path.stat().st_size):
        raise WeightsError(
            f"the weights file {path} of {size:,} bytes would unpack to {claimed:,}",
            "torch writes no such files: do not trust where it came from",
        )


def remap_keys(tensors: dict[str, T]) -> dict[str, T]:
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


def shapes_of(config: LiVOSConfig) -> dict[str, torch.Size]:
    """The tensors that a network of this configuration has; takes no memory for them."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in LiVOS(config).state_dict().items()}


def check_shapes(shapes: dict[str, torch.Size], wanted: dict[str, torch.Size], path: Path) -> None:
    """Raises WeightsError unless these are the tensors that a network of a configuration has.

    Before one is made: a few bytes can ask for widths that fill any memory.
    """
    reason = ""
    if missing := sorted(wanted.keys() - shapes.keys()):
        reason = f"{len(missing)} tensors are missing, {missing[0]} first"
    elif more := sorted(shapes.keys() - wanted.keys()):
        reason = f"{len(more)} tensors are too many, {more[0][:80]} first"
    elif name := next((n for n, shape in wanted.items() if shapes[n] != shape), ""):
        reason = f"{name} is {list(shapes[name])}, not {list(wanted[name])}"
    if reason:
        raise WeightsError(
            f"{path} does not fit its own configuration ({reason})",
            "the file is damaged or of another network",
        )


def infer_config(tensors: Mapping[str, Tensor | torch.Size], path: Path) -> LiVOSConfig:
    """The published configuration whose shapes these tensors have.

    Args:
        tensors: tensors, or shapes alone, under this network's names.
        path: where they are from, for the error.

    Raises:
        WeightsError: they fit neither `base` nor `small`.
    """
    shapes = {k: v.shape if isinstance(v, Tensor) else v for k, v in tensors.items()}
    for config in (BASE, SMALL):
        if shapes_of(config) == shapes:
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
    terms: str | None = None,
) -> None:
    """Write weights with their configuration in the metadata; complete, or not at all.

    Args:
        tensors: under this network's names.
        config: stored beside them.
        path: where to.
        half: floating-point tensors as float16.
        overwrite: replace an existing file.
        calibration: of these very weights.
        terms: of their use, in a few words.

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
    if terms is not None:
        metadata[TERMS_KEY] = terms
    write_whole(path, safetensors.torch.save(out, metadata))
