#!/usr/bin/env bash
# label: opencl
# timeout: 300
# The programs under examples/ build with warnings as errors and do what they say, on the devices that are here; the
# one for CUDA is compiled where the toolkit's headers are. Mistake caught: an example that was right once.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
build=${KFUSE_BUILD:-$source/build}
if grep -q '^KFUSE_SANITIZE:STRING=..*' "$build/CMakeCache.txt"; then
    echo "a sanitized library is for its own tests: the examples are built by the other lanes"
    exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
loader=$(ldconfig -p | awk '$1 == "libOpenCL.so.1" && !found { print $NF; found = 1 }')
[ -n "$loader" ] || {
    echo "there is no OpenCL loader here"
    exit 77
}
flags=(-std=c11 -Wall -Wextra -Werror "-I$source/include" "-I$build/generated/include")
for example in opencl threads host_time; do
    cc "${flags[@]}" "$source/examples/$example.c" -o "$scratch/$example" "-L$build" -lkfuse "-Wl,-rpath,$build" \
        "$loader" -lm -pthread
    "$scratch/$example" || {
        echo "FAILED: examples/$example.c" >&2
        exit 1
    }
done
cuda=$(sed -n 's/^KFUSE_CUDA_INCLUDE:PATH=//p' "$build/CMakeCache.txt")
if [ -e "$cuda/cuda_runtime_api.h" ]; then
    cc "${flags[@]}" -isystem "$cuda" -c "$source/examples/cuda.c" -o "$scratch/cuda.o"
else
    echo "examples/cuda.c was not compiled: the headers of the CUDA toolkit are not here"
fi
for example in "$source"/examples/*.c; do
    case $(basename "$example") in
    opencl.c | threads.c | host_time.c | cuda.c) ;;
    *) echo "FAILED: nothing here runs $example" >&2 && exit 1 ;;
    esac
done
