"""Triton's kernels compile for GPUs that are not there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COMPILE = """
import sys
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction


class Driver:
    # All that compiling asks of a device.
    def get_current_target(self): return GPUTarget("cuda", int(sys.argv[1]), 32)
    def get_current_device(self): return 0
    def get_current_stream(self, device): return 0


driver.set_active(Driver())
launch = JITFunction.run


def compile_only(self, *arguments, grid, warmup, **options):
    done = launch(self, *arguments, grid=grid, warmup=True, **options)
    print(self.__name__, done.metadata.shared, len(done.asm["cubin"]))


JITFunction.run = compile_only
from livos_kernels import triton as kernels

for dtype in (torch.float16, torch.float32):
    def channels_last(channels):
        map_ = torch.zeros(1, channels, 32, 64, dtype=dtype)
        return map_.contiguous(memory_format=torch.channels_last)

    key, value, gates = channels_last(64), channels_last(256)[None], channels_last(768)[None]
    state, group = torch.zeros(1, 1, 64, 256), torch.zeros(1, dtype=torch.int64)
    total = torch.zeros(1, 1, 64, 32, 64)
    kernels.read_state(key, state, total, group, torch.ones(1), dtype)
    kernels.update_state(state, key, value, torch.zeros(1, 256, dtype=dtype))
    kernels.gated_recurrent_update(gates, value)
    kernels.decide_masks(torch.zeros(1, 2, 128, 256), dtype)
"""


@pytest.mark.parametrize(("capability", "shared"), [(80, 163), (89, 99), (90, 227)])
def test_kernels_compile_for_cuda(capability: int, shared: int, tmp_path: object) -> None:
    """To machine code, within the shared memory (KiB) that a block may have there."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, str(capability)],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    names = {name for name, _, _ in lines}
    assert names == {
        f"_{n}_kernel" for n in ("count", "read", "update", "reduce", "gate", "decide")
    }
    assert max(int(used) for _, used, _ in lines) <= shared * 1024
    assert min(int(size) for _, _, size in lines) > 0
