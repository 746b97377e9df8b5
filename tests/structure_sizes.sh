#!/usr/bin/env bash
# label: structure
# Files under 400 lines, a backend or a kernel file under 700; no host function over 60 lines, their median
# under 15; lines of at most 100 columns outside tables. Mistake caught: the file everything ends up in.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."
shopt -s nullglob globstar

bad=0
check_lines() { # limit files...
    local limit=$1 file lines
    shift
    for file in "$@"; do
        lines=$(wc -l <"$file")
        if [ "$lines" -ge "$limit" ]; then
            echo "$file: $lines lines, must be under $limit"
            bad=1
        fi
    done
}
host=(core/**/*.[ch] ops/**/*.[ch] harness/**/*.[ch] lessons/**/*.[ch] cli/**/*.[ch] tests/**/*.[ch])
check_lines 400 "${host[@]}" include/kfuse/*.h scripts/* tests/*.sh tests/*.py python/**/*.py bench/**/*.py CMakeLists.txt cmake/*
check_lines 700 backends/**/*.[ch] backends/*/kernels/**/*.cu backends/*/kernels/**/*.cl lessons/**/*.cu lessons/**/*.cl

# A function body is what stands between a brace alone in column 1 and the next closing one in column 1:
# the committed .clang-format writes nothing else so.
lengths=$(awk '
    FNR == 1 { start = 0 }
    /^\{/ { start = FNR; next }
    /^\}/ && start { printf "%d %s:%d\n", FNR - start - 1, FILENAME, start; start = 0 }
' "${host[@]}" backends/**/*.[ch] | sort -n)
too_long=$(awk '$1 > 60 { print $2 ": a function of " $1 " lines, at most 60" }' <<<"$lengths")
if [ -n "$too_long" ]; then
    printf '%s\n' "$too_long"
    bad=1
fi
median=$(awk '{ length_of[NR] = $1 } END { print length_of[int((NR + 1) / 2)] }' <<<"$lengths")
echo "$(wc -l <<<"$lengths") host functions, median $median lines"
if [ "${median:-0}" -ge 15 ]; then
    echo "the median must be under 15"
    bad=1
fi
exit $bad
