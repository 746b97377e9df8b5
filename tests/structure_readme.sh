#!/usr/bin/env bash
# label: structure
# The README's table is what results/ says; and the script refuses what it must. Mistake caught: a number in
# the README that nobody measured, a table made from a run whose roofs were slow.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/readme_table --check
scripts/peers_table --check

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/results"
printf '%s\n' 'before' '<!-- results: begin (written by scripts/readme_table, not by hand) -->' \
    '<!-- results: end -->' 'after' >"$folder/README.md"
row() { # op variant backend shape bytes ns process
    printf '{"record":"result","op":"%s","variant":"%s","backend":"%s","device":"NVIDIA H200","dtype":"f32","shape":%s,"cache":"cold","status":"ok","bytes_min":%s,"time_ns":{"median":%s},"process":%s}\n' "$@"
}
rows() { # nanoseconds of the copy roof
    local backend
    echo '{"record":"run","schema_version":"1.0"}'
    for backend in cuda opencl; do
        row ceilings copy $backend '[268435456]' 2147483648 "$1" 1
        row ceilings read $backend '[268435456]' 1073741824 230000 1
        row softmax unfused $backend '[4096,4096]' 536887296 139000 1
        row softmax fused $backend '[4096,4096]' 134217728 30000 1
        row softmax fused $backend '[4096,4096]' 134217728 34000 2
        row softmax fused $backend '[4096,4096]' 134217728 39000 3
    done
    echo '{"record":"end","exit":0}'
}
table() {
    scripts/readme_table --results "$folder/results" --readme "$folder/README.md" "$@"
}
rows 500000 >"$folder/results/h200.jsonl"
if table --check 2>/dev/null; then
    echo "--check accepted a README without the table"
    exit 1
fi
table
table --check
grep -qF '| softmax | f32 | 4096×4096 | 139.0 | 34.0 | 4.09× | 139.0 | 34.0 | 4.09× | 1.00 |' "$folder/README.md" || {
    echo "the table is not the median over processes:"
    cat "$folder/README.md"
    exit 1
}
rows 520000 >"$folder/results/h200.jsonl"
if table 2>/dev/null; then
    echo "a file whose copy roof is 4.13 TB/s was accepted"
    exit 1
fi
# Rows of the OpenCL device alone, without any roof.
row softmax fused opencl '[4096,4096]' 134217728 30000 1 >"$folder/results/h200.jsonl"
if table 2>/dev/null; then
    echo "a file without roofs was accepted"
    exit 1
fi

# The table of peers: computed from the samples again, the newest measurement of a case, nothing of a CPU; it says who
# failed there, who was left out, and which kfuse it was.
rm "$folder"/results/*
printf '%s\n' 'before' '<!-- peers: begin (written by scripts/peers_table, not by hand) -->' '<!-- peers: end -->' \
    'after' >"$folder/README.md"
cp "$folder/README.md" "$folder/empty.md"
peer() { # name process ns ns ns median
    printf '{"record":"peer","peer":"%s","process":%s,"op":"softmax","form":"softmax","dtype":"bf16","shape":[16384,4096],"with":null,"device":"%s","cache":"cold","status":"ok","samples_ns":[%s,%s,%s],"time_ns":{"median":%s}}\n' \
        "$1" "$2" "${device:-NVIDIA H200}" "$3" "$4" "$5" "$6"
}
broken() { # name op status: a row without a time
    printf '{"record":"peer","peer":"%s","process":1,"op":"%s","form":"%s","dtype":"bf16","shape":[16384,4096],"with":null,"device":"NVIDIA H200","cache":"cold","status":"%s","reason":"Error: \\u001b[91mred 781\\u001b[0m","samples_ns":null,"time_ns":null}\n' \
        "$1" "$2" "$2" "$3"
}
run() { # nanoseconds more of each sample of kfuse
    local process
    echo '{"record":"run","context":{"kfuse":{"git":"123abc","dirty":true},"peers":{"kfuse_fused":{"version":"1"},"triton":{"version":"3.6"},"torch_fused":{"version":"2.11"},"quack":{"missing":"x"}}}}'
    for process in 1 2 3; do
        peer kfuse_fused $process $((64000 + $1)) $((65000 + $1)) $((66000 + $1)) $((65000 + $1))
        peer triton $process 80000 80000 80000 80000
        peer torch_fused $process 200000 200000 200000 200000
        peer roof_copy $process 63000 63000 63000 63000
    done
    echo '{"record":"end","exit":0}'
}
peers() {
    scripts/peers_table --results "$folder/results" --readme "$folder/README.md" "$@"
}
peers
cmp "$folder/README.md" "$folder/empty.md" || { echo "a section without rows" && exit 1; }
{ run 90000 && run 0; } >"$folder/results/peers-h200.jsonl"
if peers --check 2>/dev/null; then
    echo "--check accepted a README without the table of peers"
    exit 1
fi
peers
peers --check
for words in '| softmax | bf16 | 16384×4096 | – | 65.0 | – | triton | 80.0 | 0.812 (0.805–0.820) | ≤ 0.95 met |' \
    'Peers: triton 3.6, torch_fused 2.11.' 'over up to 3 fresh processes; kfuse at git 123abc with local changes.' \
    'Not measured: kfuse_unfused, kfuse_opencl, quack.'; do
    grep -qF "$words" "$folder/README.md" || {
        echo "the table of peers is not that of the newest rows:"
        cat "$folder/README.md"
        exit 1
    }
done
if grep -q 'star' "$folder/README.md"; then
    echo "nobody failed, and yet there is a star"
    exit 1
fi
# A verdict without somebody who might have run is marked, but not for the sake of one who has no such op.
{ run 0 && broken quack softmax failed && broken liger softmax unsupported; } >"$folder/results/peers-h200.jsonl"
{ run 0 && broken quack swiglu failed; } | sed 's/softmax/swiglu/g; s/"torch_fused":{"version":"2.11"},//
    /"peer":"torch_fused"/d' >>"$folder/results/peers-h200.jsonl"
peers
for words in '| ≤ 0.95 met* |' '- quack: softmax: ' 'Error: red 781' '(0.805–0.820) | ≤ 0.95 met |' \
    'Measured without torch_fused: swiglu.'; do
    grep -qF -- "$words" "$folder/README.md" || {
        echo "the table of peers does not say: $words"
        cat "$folder/README.md"
        exit 1
    }
done
device=CPU peer kfuse_fused 1 1 1 1 1 >"$folder/results/peers-h200.jsonl"
if peers 2>/dev/null; then
    echo "rows of a CPU were accepted"
    exit 1
fi
