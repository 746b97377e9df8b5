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
    owner=
    for op in "${ops[@]}"; do
        case $stem in "$op" | "$op"_*) owner=$op ;; esac
    done
    [ -n "$owner" ] || complain "$kernel belongs to no op"
done

# Both texts name the same entries, in the same order, unless one says why not.
entries() {
    sed -n 's/^#if KF_ENTRY(\([a-z0-9_]*\)).*/\1/p' "$1"
}
for op in "${ops[@]}"; do
    cuda=backends/cuda/kernels/$op.cu
    opencl=backends/opencl/kernels/$op.cl
    if ! [ -e "$cuda" ] || ! [ -e "$opencl" ]; then continue; fi
    [ -n "$(entries "$cuda")" ] || complain "$cuda has no '#if KF_ENTRY(...)'"
    for pair in "$cuda cuda $opencl" "$opencl opencl $cuda"; do
        read -r here backend there <<<"$pair"
        while read -r entry; do
            entries "$there" | grep -qx "$entry" && continue
            # "//: only cuda: clusters" stands inside or right above the entry.
            grep -B3 -A6 -F "#if KF_ENTRY($entry)" "$here" | grep -qF "//: only $backend:" ||
                complain "$here: entry $entry is not in $there, and no '//: only $backend: REASON' says why"
        done < <(entries "$here")
    done
done
exit $bad
