#!/usr/bin/env bash
# Everything that wants a GPU, in ten minutes, into one JSON, which is whole after every part. Needs
# PyTorch; what else is missing is said first.
#
#     [PYTHON=python3] kernels/gpu_check.sh [result.json] [--dry-run] [--minutes M] [--only PART,PART]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH="$root:$root/kernels${PYTHONPATH:+:$PYTHONPATH}"
"${PYTHON:-python3}" "$root/kernels/gpu_check.py" "$@"
