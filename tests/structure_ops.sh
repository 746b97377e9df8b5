#!/usr/bin/env bash
# label: structure
# Every op has its four files, and no kernel or test file is left without an op. Mistake caught: an op that
# exists on one backend only, a stem misspelt so that nothing builds or tests the file.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
shopt -s nullglob

bad=0
complain() {
    echo "$1"
    bad=1
}
ops=()
for file in ops/*.c; do
    op=$(basename "$file" .c)
    ops+=("$op")
    for other in backends/cuda/kernels/$op.cu backends/opencl/kernels/$op.cl tests/test_$op.c; do
        [ -e "$other" ] || complain "$file has no $other"
    done
done
[ ${#ops[@]} -gt 0 ] || complain "no op found"

# X_wgmma.cu belongs to X.
for kernel in backends/*/kernels/*.cu backends/*/kernels/*.cl; do
    stem=$(basename "$kernel")
    stem=${stem%.*}
    owner=''
    for op in "${ops[@]}"; do
        case $stem in "$op" | "$op"_*) owner=$op ;; esac
    done
    [ -n "$owner" ] || complain "$kernel belongs to no op"
done

# Entries are chosen one by one; that both texts declare the same ones is the business of test_texts.c.
for kernel in backends/*/kernels/*.cu backends/*/kernels/*.cl; do
    grep -q '^#if KF_ENTRY(' "$kernel" || complain "$kernel has no '#if KF_ENTRY(name)'"
done
exit $bad
