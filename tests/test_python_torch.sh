#!/usr/bin/env bash
# label: opencl
# timeout: 600
# The Python package beside torch, where a python3 with torch is here (KFUSE_PYTHON names one): its tensors in host
# memory, custom ops, torch.compile, the short way. Mistakes caught: see python/tests/test_torch.py and test_short.py.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
build=${KFUSE_BUILD:-$source/build}
if grep -q '^KFUSE_SANITIZE:STRING=..*' "$build/CMakeCache.txt"; then
    echo "a sanitized library needs a sanitized interpreter: Python is tested by the other lanes"
    exit 77
fi
python=$("$source/scripts/python_with" torch numpy) || {
    echo "no python3 here has torch: KFUSE_PYTHON=/path/to/one names it"
    exit 77
}
if ! "$python" -c 'import torch; torch.library.custom_op' 2>/dev/null; then
    echo "torch is older than 2.4 here"
    exit 77
fi
export KFUSE_LIBRARY=$build/libkfuse.so PYTHONPATH=$source/python PYTHONDONTWRITEBYTECODE=1
unset KFUSE_DEVICE KFUSE_BACKEND
"$python" "$source/python/tests/test_torch.py"
"$python" "$source/python/tests/test_short.py" # a process of its own: it chooses the null backend
"$python" "$source/python/tests/test_cuda.py"  # skipped by itself where torch has no GPU
