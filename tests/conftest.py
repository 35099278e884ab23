"""Fixtures: shared material where it is there, small videos where a test makes its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

# Tests that run beside each other (`pytest -n 2`) have a core each: threads of both would only
# wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
    torch.set_num_threads(1)  # of this one, which has read its environment already

# Where there is no GPU the kernels run in Triton's interpreter: said before triton is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

from fork_server import Forks

from livos_cli.network import LiVOS
from livos_cli.weights.load import load_model

# Where the tests are started in the background of a script, SIGINT is ignored, and would be in
# every process that they start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
# Trained weights of another network than the default.
TINY_WEIGHTS = ROOT / "tests" / "data" / "tiny.safetensors"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What lies in tests/slow/ is `slow`, without a word of its own."""
    for item in items:
        if ROOT / "tests" / "slow" in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference data that is no part of this repository."""
    path = Path(os.environ.get("LIVOS_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"reference data not found at {path} (set LIVOS_SHARED)")
    return path


@pytest.fixture(scope="session")
def tiny() -> LiVOS:
    """A trained network, float32 on the CPU."""
    return load_model(TINY_WEIGHTS, device="cpu", precision="fp32")


Livos = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks | None]:
    """The server that forks for each command, None where there is no forking."""
    server = Forks() if hasattr(os, "fork") else None
    yield server
    if server is not None:
        server.close()


@pytest.fixture(scope="session")
def livos(forks: Forks | None) -> Livos:
    """Runs the command as a user would, in a process of its own.

    Mostly one that is forked and so has imported everything; one that is started afresh where `env`
    has what libraries read when they are imported.
    """

    def run(
        *arguments: object,
        env: dict[str, str] | None = None,
        stdin: bytes | None = None,
        cwd: Path | None = None,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        words = [str(word) for word in arguments]
        environment = {**os.environ, **(env or {})}
        if forks is not None and forks.can_run(environment):
            done = forks.run(words, environment, stdin, cwd, timeout)
        else:
            done = subprocess.run(
                [sys.executable, "-m", "livos_cli", *words],
                input=stdin,
                capture_output=True,
                env=environment,
                cwd=cwd,
                timeout=timeout,
                check=False,
            )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    return run


def reference_weights(model: LiVOS) -> LiVOS:
    """Fill a network with the pseudo-random weights of the parity data."""
    state = model.state_dict()
    for name, tensor in state.items():
        if not tensor.is_floating_point() or name.endswith(".inv_freq"):
            continue
        rng = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
        shape = tuple(tensor.shape)
        if name.endswith("running_var"):
            values = rng.uniform(0.8, 1.2, shape)
        elif name.endswith("running_mean"):
            values = rng.normal(0, 0.1, shape)
        elif len(shape) == 1:
            scaled = name.endswith("weight") and any(
                part in name for part in ("bn", "norm", "downsample.1")
            )
            values = rng.normal(0, 0.05, shape) + scaled
        else:
            values = rng.normal(0, np.sqrt(1.6 / np.prod(shape[1:])), shape)
        state[name] = torch.from_numpy(np.asarray(values, dtype=np.float32))
    model.load_state_dict(state)
    return model.eval()
