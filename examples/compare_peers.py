"""livos beside its authors' code and Cutie, with random weights, on this machine's CPU.

    git clone https://github.com/uncbiag/LiVOS
    git clone https://github.com/hkchengrex/Cutie     (or: unzip the wheel of rf-cutie)
    pip install hydra-core einops                     (and what else they ask for)
    python examples/compare_peers.py LiVOS Cutie [FRAMES]

The arguments are the folders that hold the packages `livos` and `cutie`. Nothing of theirs is
changed, but that no ImageNet weights are fetched: with random weights only time counts. As in
their own evaluation, frames of 854x480 go in at 480 rows. In one process a frame goes through all
in turn; printed are the means of the last ten frames' milliseconds, by the clock and of the
processor. FRAMES of a run, 30 unless given: Cutie remembers every fifth, and at most five of them,
so that the last ten of 30 are at its full cost.

Before that, the authors' network and livos with the same weights go over twelve frames with one
object, and the difference of their probabilities is printed. (With several, random weights say
nothing: all are as likely everywhere, so that rounding decides what the transformer looks at.)
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from statistics import mean
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from compare_speed import CPU, HEIGHT, OBJECTS, THREADS, WIDTH, Stepping, times
from torch import Tensor

from livos_cli import Tracker, load_model
from livos_cli.bench.frames import Scene
from livos_cli.device import device_name

COMPARED = 12  # frames whose probabilities are compared
COUNTED = 10  # last frames of a run, whose times are: Cutie remembers two of any ten


class Peer:
    """An `InferenceCore` of theirs, fed and read as their evaluation does it."""

    def __init__(self, core: Any) -> None:
        self.core = core

    @torch.inference_mode()
    def step(self, frame: np.ndarray, mask: np.ndarray | None = None) -> Tensor:
        """Probabilities (N + 1, H, W), background first."""
        image = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1).float() / 255
        if mask is None:
            return self.core.step(image)
        ids = torch.from_numpy(np.ascontiguousarray(mask)).long()
        return self.core.step(image, ids, [int(i) for i in ids.unique() if i])

    def step_ids(self, frame: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """Ids (H, W)."""
        return self.step(frame, mask).argmax(dim=0).byte().numpy()


def without_download(package: str) -> None:
    """Let `package`'s encoders start at random instead of fetching ImageNet weights."""
    resnet: Any = importlib.import_module(f"{package}.model.utils.resnet")
    resnet.model_zoo = SimpleNamespace(load_url=lambda *_, **__: {})
    resnet.load_weights_add_extra_dim = lambda *_: None


def authors_network() -> torch.nn.Module:
    """LiVOS of its authors, `base`."""
    without_download("livos")
    torch.manual_seed(0)
    wrapper: Any = importlib.import_module("livos.model.livos_wrapper")
    return wrapper.LIVOS(model_type="base").eval()


def authors(network: torch.nn.Module) -> Peer:
    """It, before the first frame."""
    evaluation: Any = importlib.import_module("livos.eval")
    return Peer(evaluation.InferenceCore(network))


def cutie_networks(checkout: Path) -> dict[str, tuple[Any, Any]]:
    """Settings and network of Cutie's two sizes, as for DAVIS 2017."""
    hydra: Any = importlib.import_module("hydra")
    omegaconf: Any = importlib.import_module("omegaconf")
    settings: Any = importlib.import_module("cutie.inference.utils.args_utils")
    model: Any = importlib.import_module("cutie.model.cutie")
    without_download("cutie")
    made = {}
    config = str((checkout / "cutie" / "config").resolve())
    with hydra.initialize_config_dir(version_base="1.3.2", config_dir=config):
        for size in ("base", "small"):
            cfg = hydra.compose(config_name="eval_config", overrides=[f"model={size}"])
            with omegaconf.open_dict(cfg):
                settings.get_dataset_cfg(cfg)
            made[f"Cutie-{size}"] = (model.CUTIE(cfg).eval(), cfg)
    return made


def compare(network: torch.nn.Module, weights: Path) -> None:
    """Print by how much the authors' probabilities and livos's differ."""
    scene = Scene(HEIGHT, WIDTH, 1)
    theirs = authors(network)
    ours = Tracker(load_model(weights, device="cpu", precision="fp32"), max_size=HEIGHT)
    difference, share = [], []
    for index in range(COMPARED):
        mask = None if index else scene.mask
        one, two = theirs.step(scene.frame(index), mask), ours.step(scene.frame(index), mask)
        if index:
            difference.append(float((one - two).abs().mean()))
            share.append(float((one.argmax(0) == two.argmax(0)).float().mean()))
    print(
        f"theirs and livos: mean |difference| of probability {max(difference):.1e} at most,",
        end=" ",
    )
    print(f"{min(share):.4%} of pixels decided alike", flush=True)


def main() -> None:
    """The comparison, then a line for each setting and program."""
    livos, cutie = Path(sys.argv[1]), Path(sys.argv[2])
    frames = int(sys.argv[3]) if len(sys.argv) > 3 else 30
    sys.path[:0] = [str(livos), str(cutie)]
    network = authors_network()
    cuties = cutie_networks(cutie)
    core: Any = importlib.import_module("cutie.inference.inference_core")
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "random.pth"
        torch.save(network.state_dict(), weights)
        compare(network, weights)
        ours = {
            f"livos {name} {precision}": load_model(which, device="cpu", precision=precision)
            for name, which in (("base", weights), ("lite", "lite"))
            for precision in ("fp32", "bf16")
        }
        print("threads objects program: ms by the clock, ms of the processor")
        for threads in THREADS:
            torch.set_num_threads(threads)
            print(device_name(CPU))
            for objects in OBJECTS:
                programs: dict[str, Stepping] = {"authors' base": authors(network)}
                for name, (module, cfg) in cuties.items():
                    programs[name] = Peer(core.InferenceCore(module, cfg))
                for name, model in ours.items():
                    programs[name] = Tracker(model, max_size=HEIGHT)
                taken = times(programs, objects, frames - COUNTED, COUNTED, mean)
                for name, (clock, processor) in taken.items():
                    print(f"{threads} {objects} {name}: {clock:.0f} {processor:.0f}", flush=True)


if __name__ == "__main__":
    main()
