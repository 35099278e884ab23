"""Programs that run the exported graphs, behind one small interface."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np

from livos_cli.device import fast_bfloat16
from livos_cli.errors import UsageError
from livos_cli.extras import install_hint
from livos_cli.runtimes.steps import STEPS

__all__ = ["ENGINES", "Engine", "OnnxRuntime", "OpenVino", "precision_for"]


class Engine(Protocol):
    """Runs the three steps; each has a `check`, which is asked before graphs are made for it."""

    version: str  # its name and version

    def run(self, step: str, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs of a step, as `steps.STEPS` has them; inputs that it has no use for too."""


def _onnxruntime() -> ModuleType:
    """The package; told before it is imported to send nothing about this machine to anybody."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    found: ModuleType = onnxruntime
    return found


class OnnxRuntime:
    """Microsoft's, on the CPU.

    Args:
        folder: with encode.onnx, read.onnx and write.onnx.
        precision: `fp32`, or `int8` where the graphs are so; the graphs themselves decide.
        threads: as many as it takes.

    Raises:
        UsageError: it is not installed, or cannot compute in that precision.
    """

    @staticmethod
    def check(precision: str) -> None:
        """Raise UsageError where it is not installed or cannot compute in that precision."""
        try:
            _onnxruntime()
        except ImportError:
            raise UsageError(
                "--backend onnxruntime needs the extra 'onnxruntime'", install_hint("onnxruntime")
            ) from None
        if precision not in ("fp32", "int8"):
            raise UsageError(
                f"--backend onnxruntime computes in fp32 or int8, not {precision}",
                "use --precision fp32, or --backend openvino",
            )

    def __init__(self, folder: Path, precision: str, threads: int) -> None:
        self.check(precision)
        onnxruntime = _onnxruntime()
        self.version = f"ONNX Runtime {onnxruntime.__version__}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        # Its threads spin where they wait; beside other programs that costs many times the gain.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._sessions = {
            step.name: onnxruntime.InferenceSession(
                str(folder / f"{step.name}.onnx"), options, providers=["CPUExecutionProvider"]
            )
            for step, _ in STEPS
        }
        self._names = {
            name: [one.name for one in session.get_inputs()]
            for name, session in self._sessions.items()
        }

    def run(self, step: str, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """See `Engine`."""
        feed = {name: np.ascontiguousarray(inputs[name]) for name in self._names[step]}
        found: list[np.ndarray] = self._sessions[step].run(None, feed)
        return found


class OpenVino:
    """Intel's, on the CPU: of Intel, AMD or Arm.

    Args:
        folder: as for `OnnxRuntime`.
        precision: `fp32`, `bf16`, or `int8` where the graphs are so.
        threads: as many as it takes.

    Raises:
        UsageError: it is not installed.
    """

    @staticmethod
    def check(precision: str) -> None:
        """Raise UsageError where it is not installed or cannot compute in that precision."""
        try:
            import openvino  # noqa: F401
        except ImportError:
            raise UsageError(
                "--backend openvino needs the extra 'openvino'", install_hint("openvino")
            ) from None
        if precision not in ("fp32", "bf16", "int8"):
            raise UsageError(
                f"--backend openvino computes in fp32, bf16 or int8, not {precision}",
                "use --precision auto",
            )

    def __init__(self, folder: Path, precision: str, threads: int) -> None:
        self.check(precision)
        import openvino

        self.version = f"OpenVINO {openvino.__version__}"
        core = openvino.Core()
        hints = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        }
        self._requests = {}
        self._names = {}
        for step, _ in STEPS:
            compiled = core.compile_model(folder / f"{step.name}.onnx", "CPU", hints)
            self._requests[step.name] = compiled.create_infer_request()
            self._names[step.name] = [one.get_any_name() for one in compiled.inputs]

    def run(self, step: str, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """See `Engine`."""
        feed = {name: np.ascontiguousarray(inputs[name]) for name in self._names[step]}
        found = self._requests[step].infer(feed)
        # Its buffers are used again by the next call.
        return [np.array(one) for one in found.values()]


ENGINES: dict[str, type[OnnxRuntime] | type[OpenVino]] = {
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
}


def precision_for(backend: str, precision: str) -> str:
    """What `auto` is for an engine; checked, before graphs are made for it.

    Raises:
        UsageError: it is not installed or cannot compute in that precision.
    """
    if precision == "auto":
        precision = "bf16" if backend == "openvino" and fast_bfloat16() else "fp32"
    ENGINES[backend].check(precision)
    return precision
