#!/bin/bash
# label: opencl
# timeout: 600
# bench/peers/run.py in its small form: NumPy and kfuse on an OpenCL CPU device. Mistakes caught: a time for a result
# that is wrong, one peer that stops all the others, rows that nothing can read, an argument that is guessed at; and
# those of bench/peers/tests/, which need neither kfuse nor a device, only NumPy or torch for some.
# SPDX-License-Identifier: Apache-2.0
set -u
source=$(cd "$(dirname "$0")/.." && pwd)
run=$source/bench/peers/run.py
build=${KFUSE_BUILD:?}
python=$("$source/scripts/python_with" numpy) || python=
torch=$("$source/scripts/python_with" numpy torch) || torch=
# shellcheck source=tests/expect.bash
. "$(dirname "$0")/expect.bash"
export KFUSE_LIBRARY=$build/libkfuse.so KFUSE_COMMAND=$build/kfuse PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

refuses() { # WORDS COMMAND...: exit 2 and one line with these words
    local words=$1
    shift
    expect 2 "${python:-python3}" "$run" "$@"
    says "$words"
    [ "$(wc -l <<< "$text")" -eq 1 ] || { printf '%s\n  more than one line:\n%s\n' "$told" "$text"; failed=1; }
}

refuses 'name an op' --shape=8x8
refuses "did you mean 'softmax'" sofmax
refuses "did you mean 'numpy'" softmax --peers=nunpy
refuses "unknown dtype 'f64'" softmax --dtype=f64
refuses "not '8y8'" softmax --shape=8y8
refuses 'too short' softmax --shape=8
refuses 'has an empty place' softmax --dtype=f32,
refuses 'takes jsonl:FILE' softmax -o rows.json
refuses 'a whole number from 3 to 99' softmax --samples=1
refuses 'invalid choice' softmax --device=gpu
refuses 'bf16 needs torch' softmax --device=numpy --dtype=bf16

# what TileLang's kernels hold must be whole rows, in few enough registers of few enough threads
"${python:-python3}" - "$source/bench/peers" << 'PYTHON' || failed=1
import sys
sys.path.insert(0, sys.argv[1])
import peer_tilelang as peer
for size in (2, 4):
    for cols in range(1, peer.HELD + 1):
        plans = peer.narrow_plans(5, cols) if cols <= peer.NARROW else peer.wide_plans(cols, size)
        bad = [(tall, width, threads) for tall, width, threads in plans
               if width < cols or threads > 1024 or threads & (threads - 1) or tall * width > threads * 64
               or threads == 1024 and tall * width > threads * 32]
        if bad or not plans:
            sys.exit("%d columns of %d bytes: %s of %s" % (cols, size, bad or "no plan", plans))
PYTHON

units() { # PYTHON TEST...: tests of bench/peers/tests, in it
    local unit=$1 name
    shift
    for name in "$@"; do
        "$unit" "$source/bench/peers/tests/test_$name.py" > "$work/log" 2>&1 || { cat "$work/log" && failed=1; }
        sed -n "s/^Ran /test_$name.py: ran /p; s/^OK (/  (/p" "$work/log"
    done
}
units "${python:-python3}" report timing check truth worker
[ "${torch:-$python}" = "$python" ] || units "$torch" check

# without NumPy everybody is listed with the reason, and a run says what would help
mkdir "$work/bare"
for name in numpy torch; do
    echo "raise ModuleNotFoundError(\"No module named '$name'\", name='$name')" > "$work/bare/$name.py"
done
bare() {
    PYTHONPATH=$work/bare "${python:-python3}" "$run" "$@"
}
expect 0 bare --list
says 'numpy             NumPy, one call per line of the formula: not here: NumPy is not installed' \
    'kfuse_fused       kfuse, the variant that it chooses itself: not here: NumPy is not installed'
[ "$(grep -c ': not here: NumPy is not installed$' <<< "$text")" -eq 18 ] ||
    { echo "not all are listed: $text"; failed=1; }
expect 3 bare softmax -o jsonl:bare.jsonl
[ "$text" = 'run.py: NumPy is not installed; pip install -r bench/peers/requirements.txt, or numpy alone' ] ||
    { echo "without NumPy: $text"; failed=1; }
grep -qx '{"exit":3,"record":"end"}' bare.jsonl || { echo "without NumPy: $(cat bare.jsonl)"; failed=1; }
expect 3 bare softmax --device=cpu
says 'run.py: torch is not installed; pip install -r bench/peers/requirements.txt'

if [ -z "$python" ]; then
    echo 'no NumPy: nothing was measured'
    [ $failed -eq 0 ] && exit 77
    exit 1
fi
if ! "$KFUSE_COMMAND" explain softmax --shape=8x8 --backend=opencl > /dev/null 2>&1; then
    echo 'no OpenCL device'
    case ,${KFUSE_REQUIRE:-}, in *,opencl,*) exit 1 ;; *) exit 77 ;; esac
fi
sanitizer=$(ldd "$KFUSE_LIBRARY" | awk '/lib[a-z]*asan/ { print $3; exit }')
peers() { # a sanitized library loads only where its runtime came first; Python itself leaks
    if [ -n "$sanitizer" ]; then
        LD_PRELOAD=$sanitizer ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0 "$python" "$run" --device=numpy "$@"
    else
        "$python" "$run" --device=numpy "$@"
    fi
}
planted() { # MISTAKE ARGUMENTS...
    local mistake=$1
    shift
    KFUSE_PEERS_PLANT=$mistake peers "$@"
}
rows() { # FILE EXPRESSION...: each is true of context, peers (rows by name), ratios, end
    "$python" - "$@" << 'PYTHON' || failed=1
import json, sys
records = [json.loads(line, parse_constant=lambda text: sys.exit(text + " is no JSON")) for line in open(sys.argv[1])]
context, end = records[0].get("context"), records[-1]
peers = {}
for record in records:
    if record["record"] == "peer":
        peers.setdefault(record["peer"], []).append(record)
ratios = [record for record in records if record["record"] == "ratio"]
timed = lambda name: bool(peers.get(name)) and all(
    r["status"] == "ok" and r["verified"] and r["time_ns"]["p20"] <= r["time_ns"]["median"] for r in peers[name])
untimed = lambda name, status: bool(peers.get(name)) and all(
    r["status"] == status and r["reason"] and not r["time_ns"] and not r["samples_ns"] and not r["verified"]
    for r in peers[name])
for text in sys.argv[2:]:
    if not eval(text):
        print("%s: not so: %s" % (sys.argv[1], text))
        sys.exit(1)
PYTHON
}

expect 0 peers --list
says 'kfuse_fused' 'not here: torch is not installed' 'TileLang, kernels of our own: not here' \
    'TVM under its default schedules: not here'

expect 0 peers softmax cross_entropy_grad elementwise --shape=16x33 --dtype=f32,f16 \
    --samples=3 --processes=2 -o "jsonl:$PWD/small.jsonl"
says 'proves nothing about GPUs' 'softmax f32 16x33' 'triton: not here'
rows small.jsonl 'records[0]["record"] == "run" and "softmax" in context["argv"] and context["date"] and "jsonl:small.jsonl" in context["argv"]' \
    'context["peers"]["numpy"]["version"] and context["peers"]["torch_fused"]["missing"] and "git" in context["kfuse"]' \
    'end == {"record": "end", "exit": 0}' 'timed("kfuse_fused") and timed("kfuse_unfused") and timed("kfuse_opencl")' \
    'len(peers["kfuse_fused"]) == 12 and len(peers["kfuse_opencl"]) == 6' 'len(ratios) == 6' \
    '{r["process"] for r in peers["kfuse_fused"]} == {1, 2}' \
    'all(r["ratio"]["processes"] == 2 and r["best"] == "numpy" and r["verdict"] == "CPU" for r in ratios if r["form"] != "cross_entropy_grad")'
expect 0 peers add_rms_norm rms_norm_backward swiglu rope dropout_add --samples=3 --peers=kfuse_fused,numpy -o jsonl:more.jsonl
rows more.jsonl 'timed("kfuse_fused") and len(peers["kfuse_fused"]) == 5' 'peers["numpy"][-1]["status"] == "unsupported"'

# a result that is wrong gets no time, whoever it is of
for name in numpy kfuse_fused; do
    expect 1 planted "wrong:$name" softmax --samples=3 -o jsonl:wrong.jsonl
    says "$name: wrong, so no time, at softmax f32 64x256: 'y' is wrong"
    rows wrong.jsonl "untimed('$name', 'wrong') and timed('kfuse_unfused')" 'end["exit"] == 1 and not ratios[0]["ratio"]'
done
expect 1 planted "spoil:kfuse_unfused" softmax --samples=3 -o jsonl:spoilt.jsonl
says "kfuse_unfused: wrong, so no time, at softmax f32 64x256: it wrote over 'x'"
rows spoilt.jsonl 'untimed("kfuse_unfused", "wrong") and timed("numpy") and timed("kfuse_fused")'
# one that takes the process down, before or in the middle of it, or says nothing any more, costs its own times only
expect 0 planted "crash:numpy" softmax elementwise --samples=3 --peers=kfuse_fused,numpy -o jsonl:down.jsonl
says 'numpy: failed, so no time, at softmax f32 64x256' 'took the process down'
rows down.jsonl 'untimed("numpy", "failed") and len(peers["numpy"]) == 2 and timed("kfuse_fused")' 'len(peers["kfuse_fused"]) == 2'
expect 0 planted "hang:numpy" softmax --samples=3 --patience=20 --peers=kfuse_fused,numpy -o jsonl:down.jsonl
says 'numpy: failed, so no time, at softmax f32 64x256: took the process down: no progress for 20 s'
rows down.jsonl 'untimed("numpy", "failed") and timed("kfuse_fused")'
expect 0 planted "probe:numpy" softmax --samples=3 --peers=kfuse_fused,numpy -o jsonl:probe.jsonl
says 'numpy: not here: took the process down'
rows probe.jsonl 'timed("kfuse_fused") and "numpy" not in peers'
# interrupted in its second case: the first one is kept
mkdir tmp
TMPDIR=$work/tmp KFUSE_PEERS_PLANT=hang:numpy@1 LD_PRELOAD=$sanitizer ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0 "$python" "$run" \
    --device=numpy softmax elementwise --samples=3 --peers=kfuse_fused,numpy -o jsonl:cut.jsonl > cut.text 2>&1 &
for _ in $(seq 500); do
    if grep -qs '"at": 1, "peer": "numpy"' tmp/*/rows-*.jsonl; then break; fi
    sleep 0.2
done
kill -TERM $!
wait $!
code=$?
[ $code -eq 130 ] || { echo "interrupted: exit $code: $(cat cut.text)"; failed=1; }
rows cut.jsonl 'timed("numpy") and len(peers["numpy"]) == 1' 'end == {"record": "end", "exit": 130}'
expect 5 peers softmax -o jsonl:/nowhere/rows.jsonl
says '/nowhere/rows.jsonl'
expect 0 env KFUSE_LIBRARY=/nowhere.so "$python" "$run" --device=numpy softmax --samples=3 --peers=kfuse_fused,numpy
says 'kfuse_fused: not here: libkfuse does not load'

[ $failed -eq 0 ] && echo 'all as expected'
exit $failed
