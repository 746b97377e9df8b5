#!/bin/bash
# label: opencl
# timeout: 900
# Lessons on an OpenCL device: the lines that each must print, and what they refuse.
# SPDX-License-Identifier: Apache-2.0
set -u
kfuse=${KFUSE_BUILD:?}/kfuse
# shellcheck source=tests/expect.bash
. "$(dirname "$0")/expect.bash"
if ! "$kfuse" explain softmax --shape=8x8 --backend=opencl > /dev/null 2>&1; then
    echo 'no OpenCL device'
    case ,${KFUSE_REQUIRE:-}, in *,opencl,*) exit 1 ;; *) exit 77 ;; esac
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export LC_ALL=C.UTF-8

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

# ---- memory_analysis
analysis=("$kfuse" lesson memory_analysis --backend=opencl)
expect 0 "${analysis[@]}" --shape=64x256 --simulator=none -o jsonl:traffic.jsonl
says 'softmax unfused 64×256 f32' '1 Count.' 'LOADS ASK MB' 'left out by --simulator=none' '2 Predict.' '3 Measure.' \
    'OF ROOF' 'has no profiler' '4 Why.' 'row_max:' 'instead of unfused:' '× fewer bytes' '5 Your turn.'
[ "$(grep -c '"record":"result"' traffic.jsonl)" -eq 8 ] || { echo 'memory_analysis: not 2 plans and 6 launches'; failed=1; }
expect 0 "${analysis[@]}" layer_norm rms_norm --variant=fused_cpu --shape=8x64 --simulator=none
says 'layer_norm fused_cpu 8×64 f32' 'rms_norm fused_cpu 8×64 f32' 'fused_cpu, 1 launch' 'layer_norm_fused_cpu'
grep -q 'unfused' <<< "$text" && { echo 'a variant that was not named was run'; failed=1; }
expect 0 "${analysis[@]}" --case='softmax unfused bf16 rows=4 cols=33 seed=7' --simulator=none
says 'softmax unfused 4×33 bf16'
expect 0 "$KFUSE_BUILD/lessons/memory_analysis" layer_norm --backend=opencl --shape=0x8 --simulator=none
says 'no elements'
expect 2 "${analysis[@]}" sofmax
says "did you mean 'softmax'"
expect 2 "${analysis[@]}" --variant=fusde
says "did you mean 'fused'"
expect 2 "${analysis[@]}" --svg=
says 'names no file'
expect 2 "$kfuse" lesson simple_fusion --backend=opencl --svg=x.svg
says 'draws no picture'
expect 2 "$kfuse" lesson simple_fusion softmax
says "'softmax' is one word too many"
expect 3 "${analysis[@]}" --variant=fused_cluster
says 'fused_cluster cannot run on'
expect 3 "${analysis[@]}" --simulator=/nowhere/lib.so
says 'there is no simulator library /nowhere/lib.so'
expect 3 "$kfuse" lesson memory_analysis --device=opencl:9.9
mkdir empty drawer # a gnuplot that is never asked to draw
printf '#!/bin/sh\nexit 1\n' > drawer/gnuplot
chmod +x drawer/gnuplot
expect 5 env PATH="$work/drawer:$PATH" "${analysis[@]}" --svg=/nowhere/x.svg --simulator=none
says 'cannot write /nowhere/x.svg'
echo old > old.svg
expect 3 env PATH="$work/empty" "${analysis[@]}" --svg=old.svg
says 'gnuplot is not on PATH'
printf '#!/bin/sh\necho "<svg>half of it"; echo bad font >&2; exit 1\n' > empty/gnuplot
chmod +x empty/gnuplot
expect 3 env PATH="$work/empty:$PATH" "${analysis[@]}" --shape=8x8 --simulator=none --svg=old.svg
says 'drew no picture: bad font'
[ "$(cat old.svg)" = old ] || { echo 'a picture that failed was written over a file'; failed=1; }
if compgen -G '*.tmp' > /dev/null; then
    echo 'a temporary file stayed'
    failed=1
fi

# with the simulator, where it is: as declared in every launch, on a shape cut to its size
expect 0 "${analysis[@]}" layer_norm --shape=2048x512 -q
if grep -qF 'Oclgrind is not here' <<< "$text"; then
    echo 'no simulator: the executed column was not tried'
else
    says 'by the simulator on 32×512, because' 'layer_norm_fused_cpu' '✓'
    if grep -qF 'layer_norm_scale_cpu' <<< "$text"; then says 'launches other kernels'; fi
    grep -qF 'NOT AS DECLARED' <<< "$text" && { echo "executed differs from declared: $text"; failed=1; }
    [ "$(grep -c '✓' <<< "$text")" -eq 6 ] || { echo "not six launches: $text"; failed=1; }
    expect 0 env OCL_ICD_VENDORS="$work/empty" CUDA_VISIBLE_DEVICES= "$kfuse" lesson memory_analysis --shape=7x33
    says 'there is no device here' 'planned for a generic GPU' 'by the simulator on 7×33.' '✓'
fi
if command -v gnuplot > /dev/null; then
    expect 0 "${analysis[@]}" --shape=16x64 --svg=traffic.svg
    says 'The picture is in traffic.svg.'
    python3 - traffic.svg << 'END' || failed=1
import sys, xml.dom.minidom
text = xml.dom.minidom.parse(sys.argv[1]).documentElement.toxml()
missing = [w for w in ("softmax_subtract", "read, declared", "softmax unfused 16x64 f32", "kfuse: bytes") if w not in text]
sys.exit("the picture lacks %s" % missing if missing else 0)
END
else
    echo 'no gnuplot: the picture was not drawn'
fi

[ $failed -eq 0 ] && echo 'all as expected'
exit $failed
