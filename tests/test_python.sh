#!/usr/bin/env bash
# label: opencl
# timeout: 600
# The Python package, on this build's library: NumPy arrays through OpenCL, device memory of others through the null
# backend; pip installs it from the tree; what it says where the library is missing. Mistakes caught: see
# python/tests/; a struct that is not that of kfuse.h; a package that works in its tree only.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
build=${KFUSE_BUILD:-$source/build}
if grep -q '^KFUSE_SANITIZE:STRING=..*' "$build/CMakeCache.txt"; then
    echo "a sanitized library needs a sanitized interpreter: Python is tested by the other lanes"
    exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() {
    echo "FAILED: $*" >&2
    exit 1
}
export PYTHONDONTWRITEBYTECODE=1
unset KFUSE_DEVICE KFUSE_BACKEND

# ---- without the library --------------------------------------------------------------------------

bare=$("$source/scripts/python_with" ctypes) || {
    echo "there is no python3 here"
    exit 77
}
cp -r "$source/python/kfuse" "$scratch/kfuse" # outside the tree, which finds its own builds
if said=$(cd "$scratch" && KFUSE_LIBRARY=$scratch/none.so "$bare" -c 'import kfuse' 2>&1); then
    fail "imported without a library"
fi
grep -q 'ImportError: kfuse: libkfuse.so is not here.*none.so.*KFUSE_LIBRARY=' <<<"$said" || fail "it says: $said"
cp "$build/libkfuse.so" "$scratch/kfuse/libkfuse.so"
said=$(cd "$scratch" && env -u KFUSE_LIBRARY "$bare" -c 'import kfuse; print(kfuse.__version__, kfuse.softmax.__name__)')
version=$(sed -n 's/.*KF_VERSION_STRING "\(.*\)"/\1/p' "$source/include/kfuse/kfuse.h")
[ "$said" = "$version softmax" ] || fail "with the library beside the package it says '$said'"

# ---- the tests ------------------------------------------------------------------------------------

export KFUSE_LIBRARY=$build/libkfuse.so PYTHONPATH=$source/python
python=$("$source/scripts/python_with" numpy) || {
    [ "${CI:-}" != true ] || fail "no python3 has NumPy: scripts/setup test brings python3-numpy"
    echo "no python3 here has NumPy (Debian: python3-numpy): the tests did not run"
    exit 77
}
if ! said=$("$python" -c 'import kfuse._devices as d; d.host_device()' 2>&1); then
    case "$said,${KFUSE_REQUIRE:-}" in
    *UnavailableError*opencl*) fail "there is no OpenCL device: $said" ;;
    *UnavailableError*)
        echo "there is no OpenCL device here"
        exit 77
        ;;
    *) fail "$said" ;;
    esac
fi
for test in ops places every_op direct; do # each in a process of its own: they choose different devices
    "$python" "$source/python/tests/test_$test.py" 2>"$scratch/log" || {
        cat "$scratch/log"
        fail "python/tests/test_$test.py"
    }
    grep '^Ran ' "$scratch/log"
done
if [ -n "${KFUSE_NVRTC:-}" ] && [ -e "$build/tests/libfake_cuda.so" ]; then
    KFUSE_TEST_DIRECT=cuda KFUSE_LIBCUDA=$build/tests/libfake_cuda.so "$python" "$source/python/tests/test_direct.py" \
        2>"$scratch/log" || {
        cat "$scratch/log"
        fail "python/tests/test_direct.py through the CUDA backend"
    }
    grep '^Ran ' "$scratch/log"
else
    echo "no NVRTC (KFUSE_NVRTC) or no tests/fake_cuda here: the CUDA backend was not called from Python"
fi

# ---- pip ------------------------------------------------------------------------------------------

unset PYTHONPATH
mkdir -p "$scratch/tree/include/kfuse"
cp -r "$source/python" "$scratch/tree/python" # pip leaves a build folder beside what it builds
cp "$source/include/kfuse/kfuse.h" "$scratch/tree/include/kfuse/"
if ! "$bare" -m venv "$scratch/venv" >"$scratch/log" 2>&1; then
    echo "this python3 makes no virtual environments (Debian: python3-venv): pip was not tested"
elif ! "$scratch/venv/bin/pip" download -q --no-deps -d "$scratch" 'setuptools>=61' >"$scratch/log" 2>&1; then
    echo "setuptools cannot be fetched here: pip was not tested"
else
    PIP_NO_INDEX=1 PIP_FIND_LINKS=$scratch "$scratch/venv/bin/pip" install -q "$scratch/tree/python" \
        >"$scratch/log" 2>&1 || { # what was fetched, without asking the network again
        cat "$scratch/log"
        fail "pip install ./python"
    }
    said=$(cd / && "$scratch/venv/bin/python" -c '
import importlib.metadata, kfuse
print(importlib.metadata.version("kfuse"), kfuse.__version__, len(kfuse.__all__) > 20)')
    [ "$said" = "$version $version True" ] || fail "installed by pip it says '$said'"
    echo "pip installed kfuse $version"
fi
