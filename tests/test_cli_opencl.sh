#!/bin/bash
# label: opencl
# timeout: 900
# The kfuse command on an OpenCL device: files in and out, rows, interrupts, fresh processes, the lesson.
# SPDX-License-Identifier: Apache-2.0
set -u
kfuse=${KFUSE_BUILD:?}/kfuse
lesson=$KFUSE_BUILD/lessons/simple_fusion
for name in BACKEND DEVICE DTYPE SHAPE VARIANT SET ATTR FORMAT QUIET; do unset "KFUSE_$name"; done
if ! "$kfuse" explain softmax --shape=8x8 --backend=opencl > /dev/null 2>&1; then
    echo 'no OpenCL device'
    case ,${KFUSE_REQUIRE:-}, in *,opencl,*) exit 1 ;; *) exit 77 ;; esac
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export LC_ALL=C.UTF-8
failed=0

expect() {
    local code=$1 words=$2 text got
    shift 2
    text=$("$@" 2>&1 < /dev/null)
    got=$?
    if [ "$got" -ne "$code" ] || ! grep -qF -- "$words" <<< "$text"; then
        printf '%s\n  exit %s, expected %s and "%s"\n%s\n' "$*" "$got" "$code" "$words" "$text"
        failed=1
    fi
}
ok() { # COMMAND...: must succeed
    "$@" || { echo "failed: $*"; failed=1; }
}

# .npy without NumPy: NAME DESCR FORTRAN SHAPE BYTES-PER-ELEMENT STRUCT-LETTER
npy() {
    python3 - "$@" << 'END'
import struct, sys
name, descr, fortran, shape, letter = sys.argv[1:6]
dims = [int(n) for n in shape.split("x")] if shape != "scalar" else []
count = 1
for n in dims:
    count *= n
head = "{'descr': '%s', 'fortran_order': %s, 'shape': (%s), }" % (descr, fortran, "".join("%d, " % n for n in dims))
head += " " * (-(len(head) + 11) % 64) + "\n"
order = ">" if descr[0] == ">" else "<"
data = struct.pack(order + "%d%s" % (count, letter), *[((i * 7) % 23) / 4 - 3 if letter != "q" else i for i in range(count)])
open(name, "wb").write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + data)
END
}
sum_is_rows() { # FILE ROWS: the softmax of every row sums to one
    python3 - "$@" << 'END'
import struct, sys
text = open(sys.argv[1], "rb").read()
at = 10 + struct.unpack("<H", text[8:10])[0]
values = struct.unpack("<%df" % ((len(text) - at) // 4), text[at:])
sys.exit(0 if abs(sum(values) - float(sys.argv[2])) < 1e-3 else "sum %r" % sum(values))
END
}
npy x.npy '<f4' False 4x6 f
npy deep.npy '<f4' False 2x3x5 f
npy fortran.npy '<f4' True 4x6 f
npy big.npy '>f8' False 4x6 d
npy half.npy '<f2' False 4x6 e
npy empty.npy '<f4' False 0x6 f
npy scalar.npy '<f4' False scalar f
npy strange.npy '<c8' False 4x6 d
head -c 100 x.npy > short.npy
echo 'not an array' > text.npy
run=("$kfuse" run softmax --backend=opencl)
expect 0 'verified' "${run[@]}" --input=x.npy --output=y.npy --verify
ok sum_is_rows y.npy 4
expect 0 '' "${run[@]}" --input=deep.npy --output=d.npy -q
ok sum_is_rows d.npy 6
expect 0 'verified' "${run[@]}" --input=deep.npy --output=d.npy --attr axis=1 --verify
ok sum_is_rows d.npy 10
expect 0 'verified' "${run[@]}" --input=deep.npy --output=d.npy --attr axis=-3 --variant=fused --verify
ok sum_is_rows d.npy 15
expect 2 'axis=3' "${run[@]}" --input=deep.npy --output=none.npy --attr axis=3
# The axes that are normalised are the array's, however many it has.
npy weight.npy '<f4' False 3x5 f
norm=("$kfuse" run layer_norm --backend=opencl --input=x=deep.npy --output=y=n.npy --verify)
for axis in -1 -2 0 1 2; do
    expect 0 'verified' "${norm[@]}" --attr axis=$axis --output=mean=m.npy --output=rstd=r.npy
done
npy rstd.npy '<f4' False 2 f
expect 0 'verified' "$kfuse" run rms_norm_backward --backend=opencl --input=grad_y=deep.npy --input=x=deep.npy \
    --input=rstd=rstd.npy --output=grad_x=g.npy --output=grad_weight=w.npy --attr axis=-2 --verify
npy vector.npy '<f4' False 9 f
expect 0 'verified' "$kfuse" run rms_norm --backend=opencl --input=x=vector.npy --output=y=n.npy --output=rstd=r.npy --verify
# How much of a head turns hangs on the arrays.
npy turned.npy '<f4' False 1x6x10 f
npy angle.npy '<f4' False 5x4 f
npy places.npy '<i8' False 1 q
rope=("$kfuse" run rope --backend=opencl --input=x=turned.npy --input=positions=places.npy --input=cos=angle.npy
    --input=sin=angle.npy --output=y=t.npy --verify)
expect 0 'verified' "${rope[@]}" --attr rotary_dim=8
expect 2 'rotary_dim is 6' "${rope[@]}" --attr rotary_dim=6
expect 0 'verified' "${norm[@]}" --attr axis=-2 --input=weight=weight.npy
expect 2 'weight' "${norm[@]}" --attr axis=-1 --input=weight=weight.npy
expect 2 'axis' "${norm[@]}" --attr axis=3
expect 2 'axis' "${norm[@]}" --attr axis=last
expect 0 'Fortran' "${run[@]}" --input=fortran.npy --output=f.npy
ok sum_is_rows f.npy 4
expect 0 '' "${run[@]}" --input=big.npy --output=b.npy --variant=unfused
ok sum_is_rows b.npy 4
expect 0 '' "${run[@]}" --input=half.npy --output=h.npy --verify
expect 0 'written as f4' "${run[@]}" --input=x.npy --output=bf.npy --dtype=bf16
expect 0 '' "${run[@]}" --input=empty.npy --output=e.npy --verify
expect 2 '' "${run[@]}" --input=scalar.npy --output=none.npy
expect 5 '' "${run[@]}" --input=strange.npy --output=none.npy
expect 5 '' "${run[@]}" --input=short.npy --output=none.npy
expect 5 '' "${run[@]}" --input=text.npy --output=none.npy
expect 5 '' "${run[@]}" --input=missing.npy --output=none.npy
expect 5 '' "${run[@]}" --input=x.npy --output=/nowhere/none.npy
expect 0 '' "$kfuse" run elementwise --backend=opencl --input=x=x.npy --input=y=x.npy --input=z=x.npy \
    --output=o.npy --verify
expect 2 '' "$kfuse" run elementwise --backend=opencl --input=x=x.npy --input=y=deep.npy --input=z=x.npy \
    --output=none.npy
expect 3 '' "${run[@]}" --input=x.npy --output=none.npy --variant=fused_cluster
[ -e none.npy ] && { echo 'an output of a failed run was left behind'; failed=1; }

# rows: formats, unsupported variants as rows, fresh processes, steps
bench=("$kfuse" bench softmax --backend=opencl --shape=64x256 -q)
expect 0 'unsupported' "${bench[@]}"
expect 0 '"results"' "${bench[@]}" -o json
expect 2 'only one -o' "${bench[@]}" -o json -o table
ok "${bench[@]}" --variant=unfused --steps -o jsonl:rows.jsonl
ok test "$(grep -c '"record":"result"' rows.jsonl)" -eq 6
ok "${bench[@]}" --variant=unfused,fused_cpu --processes=2 -o jsonl:fresh.jsonl
ok test "$(grep -c '"record":"result"' fresh.jsonl)" -eq 6
expect 3 '' "${bench[@]}" --variant=fused_cluster
# an axis that is not the last is a third size, also for a fresh process
expect 0 '"shape":[4,50,7]' "$kfuse" bench softmax --backend=opencl -q --shape=4x50x7 --attr=axis=1 --variant=fused_cpu \
    --processes=2 -o jsonl
expect 3 'fused_cluster cannot run' "$kfuse" bench --backend=opencl -q \
    --case='softmax fused_cluster f32 rows=4 cols=64'
# every plan with its steps under it: the variants in the order of the table, steps counted from 1
"${bench[@]}" --steps > steps.txt
order=$(awk '$4 ~ /^[0-9]+$/ { printf "%s", $4 } $4 ~ /^(un)?fused/ { printf " %s", $4 }' steps.txt)
[ "$order" = ' unfused12345 fused1 fused_cluster fused_split fused_cpu1' ] || { echo "steps stand as$order"; failed=1; }
# an existing file survives a command that fails when other outputs have been opened
echo old > old.jsonl
expect 5 '/nowhere/x' "${bench[@]}" -o jsonl:old.jsonl -o jsonl:new.jsonl -o json:/nowhere/x
if [ "$(cat old.jsonl)" != old ] || [ -e new.jsonl ]; then
    echo 'a failed command wrote a file'
    failed=1
fi
expect 2 'write to the same place' sh -c "'$kfuse' bench softmax --shape=8x8 -o table -o json:same.txt > same.txt"
# a sweep goes on behind what no grid can hold
expect 0 'unsupported: step' "$kfuse" bench elementwise --backend=opencl --shape=64,4398046511104 -q --variant=fused_cpu

# knobs that a variant has in its table and does not read on a CPU are left out, with a note
if "$kfuse" devices | grep -q 'CPU'; then
    knob=(--set THREADS_PER_ROW=1024)
    told='knob THREADS_PER_ROW is left out'
    expect 0 "$told: softmax unfused" "$kfuse" bench softmax --backend=opencl --shape=64x256 "${knob[@]}"
    expect 0 "$told: softmax unfused" "$kfuse" bench softmax --backend=opencl --shape=16x4096 "${knob[@]}"
    "${bench[@]}" --variant=unfused "${knob[@]}" | grep -q ' ok' || { echo 'unfused did not run'; failed=1; }
    expect 0 "$told" "${run[@]}" --input=x.npy --output=k.npy --variant=unfused "${knob[@]}"
    expect 0 "$told" "$kfuse" lesson simple_fusion --backend=opencl --shape=64x64 "${knob[@]}"
    expect 0 'BLOCK=64' "$kfuse" explain softmax --backend=opencl --shape=64x64 --set BLOCK=64
fi
expect 0 'skipped' "${bench[@]}" --shape=0x256 --variant=fused
expect 3 "did you mean 'opencl:0.0'" "${bench[@]}" --device=opencl:0.7
name=$("$kfuse" devices | sed -n 's/.*opencl:0.0 \([A-Za-z]\{5,\}\).*/\1/p' | head -1)
[ -z "$name" ] || expect 3 "did you mean '$name'" "${bench[@]}" --device="${name%??}x${name: -1}"
expect 3 'there is no device' "${bench[@]}" --device='some card of another machine'

# interrupted: 130, complete rows stay, everything else goes
"$kfuse" bench softmax --backend=opencl --shape=4096x4096 -q -o json:gone.json -o jsonl:stays.jsonl --samples=64 &
sleep 2
kill -INT $!
wait $!
got=$?
[ $got -eq 130 ] || { echo "interrupted: exit $got"; failed=1; }
[ -e gone.json ] && { echo 'an unfinished json file stayed'; failed=1; }
[ -e stays.jsonl ] || { echo 'the jsonl file went'; failed=1; }

# the lesson, as a subcommand and as a program without kfuse beside it
expect 0 'prove nothing about GPUs' "$kfuse" lesson simple_fusion --backend=opencl --shape=128x256
cp "$lesson" alone
expect 0 '4 Why.' ./alone --backend=opencl --shape=64x64 -o json:lesson.json
ok grep -q '"results"' lesson.json
expect 2 'unknown knob' ./alone --backend=opencl --set NOTHING=1
expect 3 '' ./alone --device=opencl:9.9
expect 0 'compiled kernels' "$kfuse" cache show
[ $failed -eq 0 ] && echo 'all as expected'
exit $failed
