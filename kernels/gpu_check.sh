#!/usr/bin/env bash
# Everything that wants a GPU, in under eight minutes, into one JSON. Needs PyTorch and Triton;
# with PyAV and OpenCV also from file to file, with safetensors also the agreement of fp16 with float32.
#
#     [PYTHON=python3] kernels/gpu_check.sh [result.json] [--dry-run]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH="$root:$root/kernels${PYTHONPATH:+:$PYTHONPATH}"
"${PYTHON:-python3}" "$root/kernels/gpu_check.py" "${@:-gpu_check.json}"
