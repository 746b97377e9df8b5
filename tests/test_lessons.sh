#!/bin/bash
# label: opencl
# timeout: 900
# Lessons on an OpenCL device: the lines that each must print, and what they refuse.
# SPDX-License-Identifier: Apache-2.0
set -u
kfuse=${KFUSE_BUILD:?}/kfuse
for name in $(env | sed -n 's/^\(KFUSE_[A-Z_]*\)=.*/\1/p'); do
    case $name in KFUSE_BUILD | KFUSE_SOURCE | KFUSE_REQUIRE) ;; *) unset "$name" ;; esac
done
if ! "$kfuse" explain softmax --shape=8x8 --backend=opencl > /dev/null 2>&1; then
    echo 'no OpenCL device'
    case ,${KFUSE_REQUIRE:-}, in *,opencl,*) exit 1 ;; *) exit 77 ;; esac
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export LC_ALL=C.UTF-8
failed=0

# expect CODE COMMAND...: its text stays in $text for `says`
expect() {
    local code=$1 got
    shift
    told=$*
    text=$("$@" 2>&1 < /dev/null)
    got=$?
    if [ "$got" -ne "$code" ]; then
        printf '%s\n  exit %s, expected %s\n%s\n' "$told" "$got" "$code" "$text"
        failed=1
    fi
}
says() { # WORDS...: each of them stands in the text of the last command
    local words
    for words in "$@"; do
        grep -qF -- "$words" <<< "$text" || { printf '%s\n  does not say "%s"\n%s\n' "$told" "$words" "$text"; failed=1; }
    done
}

# ---- layer_norm
expect 0 "$kfuse" lesson layer_norm --backend=opencl --shape=64x256 -o jsonl:rows.jsonl
says '1 Count.' 'unfused, 5 launches' '8.' '├─layer_norm_row_mean' '├─layer_norm_subtract' '├─layer_norm_row_rstd' \
    '├─layer_norm_scale' '└─layer_norm_affine' 'with weight, bias' '2 Predict.' '3 Measure.' 'OF ROOF' \
    'each launch alone:' 'the bytes predicted' '1.75×' '4 Why.' '5 Numbers.' 'WELFORD' 'NaN' '6 Your turn.'
[ "$(grep -c '"record":"result"' rows.jsonl)" -eq 2 ] || { echo 'layer_norm: not two rows'; failed=1; }
# what stands in the table at a mean of 1e3: two passes right to 1e-5, the squares no better than 1e-4
awk '$1 == "1e+03" { gsub(/[()]/, ""); seen = 1; bad = $4 > 1e-5 || $8 < 1e-4 } END { exit !seen || bad }' <<< "$text" ||
    { echo "layer_norm: the table of numbers is not as expected: $text"; failed=1; }
expect 0 "$kfuse" lesson layer_norm --backend=opencl --shape=64x256 --with=none
says 'unfused, 4 launches' '5 Numbers.'
LC_ALL=C expect 0 "$KFUSE_BUILD/lessons/layer_norm" --backend=opencl --shape=8x64 --dtype=bf16
says '|-layer_norm_subtract' 'TIME us' '8x64 bf16'
expect 0 "$kfuse" lesson layer_norm --backend=opencl --shape=0x64
says 'no elements' '5 Numbers.'
expect 2 "$kfuse" lesson layer_norm --backend=opencl --shape=64
expect 2 "$kfuse" lesson layer_norm --backend=opencl --variant=fused
expect 3 "$kfuse" lesson layer_norm --device=opencl:9.9

[ $failed -eq 0 ] && echo 'all as expected'
exit $failed
