#!/usr/bin/env bash
# The shapes of the anchors, op by op, within a time: bench/peers/anchors.sh FOLDER [SECONDS [OPTION of run.py...]].
# Every group of ops gets its share of what time is left and a file of its own, FOLDER/peers-GROUP.jsonl, complete up to
# its last case whatever happens; nothing that fails stops the rest.
# SPDX-License-Identifier: Apache-2.0
set -u
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:?a folder for the rows}
seconds=${2:-540}
shift $(($# < 2 ? $# : 2))
mkdir -p "$folder"
end=$((SECONDS + seconds))
groups=( # share of the time in parts of what this and the later groups have, name, ops
    '12 entropy cross_entropy cross_entropy_grad'
    '12 gated swiglu elementwise add_rms_norm add_layer_norm geglu bias_gelu elementwise_chain'
    '28 softmax softmax'
    '20 layer_norm layer_norm'
    '20 rms_norm rms_norm'
    '6 log_softmax log_softmax'
    '12 backward rms_norm_backward layer_norm_backward softmax_backward swiglu_backward'
    '6 others rope dropout_add'
)
left=0
for group in "${groups[@]}"; do left=$((left + ${group%% *})); done
for group in "${groups[@]}"; do
    read -r share name ops <<< "$group"
    rest=$((end - SECONDS))
    budget=$((rest * share / left))
    left=$((left - share))
    if [ "$budget" -lt 5 ]; then
        echo "$name: no time left"
        continue
    fi
    # shellcheck disable=SC2086 # a list of words
    timeout --signal=INT --kill-after=10 $((budget + 45 < rest ? budget + 45 : rest)) \
        python3 "$here/run.py" $ops --budget="$budget" --patience=120 -o "jsonl:$folder/peers-$name.jsonl" "$@" \
        2> "$folder/$name.err" | grep -v ': not here: '
    echo "$name: exit ${PIPESTATUS[0]}, $((end - SECONDS)) s left"
done
