"""Triton's kernels compile for GPUs that are not there, without spilling registers.

Also on the oldest Triton that the ranges of pyproject.toml allow, where `LIVOS_OLD_TRITON` names a
folder that `pip install --no-deps --target FOLDER triton==3.2.0` has filled.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

COMPILE = """
import os, subprocess, sys, tempfile
from pathlib import Path
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

capability = int(sys.argv[1])


class Driver:
    # All that compiling asks of a device.
    def get_current_target(self): return GPUTarget("cuda", capability, 32)
    def get_current_device(self): return 0
    def get_current_stream(self, device): return 0
    def get_active_torch_device(self): return torch.device("cpu")


driver.set_active(Driver())
launch = JITFunction.run
folder = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
assembler = "ptxas-blackwell" if capability >= 100 else "ptxas"
assembler = folder / (assembler if (folder / assembler).exists() else "ptxas")
seen = set()


def compile_only(self, *arguments, grid, warmup, **options):
    done = launch(self, *arguments, grid=grid, warmup=True, **options)
    if done.hash in seen:
        return
    seen.add(done.hash)
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(done.asm["ptx"])
        file.flush()
        lines = done.asm["ptx"].splitlines()
        target = next(line.split()[1].rstrip(",") for line in lines if line.startswith(".target"))
        command = [assembler, "-v", f"--gpu-name={target}", file.name, "-o", os.devnull]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spilled = next(line for line in told.splitlines() if "spill" in line)
    print(self.__name__, done.metadata.shared, spilled.strip(), sep="; ")


JITFunction.run = compile_only
from livos_kernels import triton as kernels, update

update._programs = lambda _: 200


def frame(dtype, batch, objects, groups, height, width, channels_last=True):
    def maps(count, channels):
        map_ = torch.zeros(batch * count, channels, height, width, dtype=dtype)
        if channels_last:
            map_ = map_.contiguous(memory_format=torch.channels_last)
        return map_.unflatten(0, (batch, count))

    key = maps(1, 64)[:, 0]
    total = torch.zeros(batch, groups, height, width, 64).movedim(-1, 2)
    kernels.count_key(key, total, torch.ones(batch))
    gate = torch.zeros(batch, 256, dtype=dtype)
    kernels.update_state(torch.zeros(batch, objects, 64, 256), key, maps(objects, 256), gate)
    kernels.gated_recurrent_update(maps(objects, 768), maps(objects, 256))
    for added, activation in ((None, "gelu"), (maps(1, 256)[:, 0], "relu")):
        kernels.finish_convolution(maps(1, 256)[:, 0], gate[0], added, activation)
    kernels.decide_masks(torch.zeros(batch, objects + 1, 4 * height, 4 * width), dtype)


for dtype in (torch.float16, torch.bfloat16, torch.float32):
    frame(dtype, 1, 1, 1, 32, 64)
if "--vary" in sys.argv:
    # Odd sizes, as many objects and groups as one likes: nothing is compiled again.
    for shape in ((1, 2, 2, 32, 64), (1, 3, 1, 33, 57), (1, 7, 3, 5, 7), (1, 16, 16, 16, 16)):
        frame(torch.float16, *shape)
"""
NAMES = {f"_{name}_kernel" for name in ("count", "update", "reduce", "gate", "finish", "decide")}
OLD = os.environ.get("LIVOS_OLD_TRITON")


def compiled(tmp_path: Path, *arguments: str, triton: str = "") -> list[tuple[str, int, str]]:
    """Name, bytes of shared memory, and what the assembler says of spills, of each kernel."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    if triton:
        path = environment.get("PYTHONPATH", "")
        environment["PYTHONPATH"] = os.pathsep.join([triton, path]).rstrip(os.pathsep)
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("; ") for line in done.stdout.splitlines()]
    return [(name, int(shared), said) for name, shared, said in rows]


# Of a block, KiB of shared memory that there are: A100, RTX 30, RTX 40, H100, RTX 50.
DEVICES = [("80", 163), ("86", 99), ("89", 99), ("90", 227), ("120", 99)]


@pytest.mark.parametrize(("capability", "shared"), DEVICES)
@pytest.mark.parametrize("version", ["installed", "oldest"])
def test_kernels_compile_for_cuda(
    capability: str, shared: int, version: str, tmp_path: Path
) -> None:
    """To machine code, in half and single precision; nothing goes to local memory."""
    if version == "oldest" and OLD is None:
        pytest.skip("set LIVOS_OLD_TRITON to a folder that holds Triton 3.2.0")
    if version == "oldest" and capability == "120":
        pytest.skip("Triton 3.2 is older than these GPUs")
    rows = compiled(tmp_path, capability, triton=OLD or "" if version == "oldest" else "")
    assert {name for name, _, _ in rows} == NAMES
    for name, used, said in rows:
        assert used <= shared * 1024, (name, used)
        assert re.findall(r"(\d+) bytes", said) == ["0", "0", "0"], (name, said)


def test_what_changes_in_a_video_compiles_nothing(tmp_path: Path) -> None:
    counts = [
        Counter(name for name, _, _ in compiled(tmp_path, "90", *more))
        for more in ((), ("--vary",))
    ]
    assert counts[0] == counts[1]
