#!/usr/bin/env bash
# label: unit
# The man page and the completion know what the command knows. Mistakes caught: a command, option, exit code or
# environment variable that the page lacks, or has although it is gone; a completion that offers nothing, or words of
# the table's frame.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
build=${KFUSE_BUILD:-$source/build}
page=$source/docs/kfuse.1
failed=0
fail() {
    echo "FAILED: $*" >&2
    failed=1
}

# The page without its markup.
text=$(sed -e 's/\\f[A-Z]//g' -e 's/\\-/-/g' "$page")
commands=$("$build/kfuse" --help | sed -n 's/^  \([a-z]*\)  .*/\1/p')
[ "$(wc -w <<<"$commands")" -ge 9 ] || fail "kfuse --help lists too few commands: $commands"
for command in $commands; do
    grep -q "kfuse $command" <<<"$text" || fail "the page lacks kfuse $command"
    for option in $("$build/kfuse" "$command" --help | grep -o -e '--[a-z][a-z]*' | sort -u); do
        grep -q -e "$option" <<<"$text" || fail "the page lacks $option of kfuse $command"
    done
done
known=$(for command in $commands; do "$build/kfuse" "$command" --help; done | grep -o -e '--[a-z][a-z]*' | sort -u)
named=$(grep -o -e '--[a-z][a-z]*' <<<"$text" | sort -u)
for option in $named; do
    grep -qx -e "$option" <<<"$known" || fail "the page has $option, which no command takes"
done
for code in 0 1 2 3 4 5 130; do
    grep -qx "[.]B $code" "$page" || fail "the page lacks exit code $code"
done
variables=$(cat "$source"/core/*.c "$source"/backends/*/*.c "$source"/cli/*.c |
    grep -o '"KFUSE_[A-Z_]*"' | tr -d '"' | sort -u)
[ "$(wc -w <<<"$variables")" -ge 5 ] || fail "too few environment variables were found: $variables"
for variable in $variables; do
    grep -q "$variable" "$page" || fail "the page lacks $variable"
done
named=$(grep -o 'KFUSE_[A-Z_]*' "$page" | sort -u)
for variable in $named; do
    grep -qx "$variable" <<<"$variables" || fail "the page has $variable, which nothing reads"
done
if command -v man >/dev/null && command -v groff >/dev/null; then
    warnings=$(LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=100 man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null) || true
    [ -z "$warnings" ] || fail "man: $warnings"
else
    echo "no man and groff here: the page's markup is not checked"
fi

# shellcheck source=/dev/null # the completion is checked by itself
. "$source/cli/completion.bash"
complete_words() { # words..., the last one is being typed
    COMP_WORDS=("$build/kfuse" "$@")
    COMP_CWORD=$#
    COMPREPLY=()
    _kfuse
    printf '%s ' "${COMPREPLY[@]}"
}
offers() { # expected, words...
    local expected=$1 got
    shift
    got=$(complete_words "$@")
    [ "$got" = "$expected " ] || fail "kfuse $* completes to '$got', not '$expected'"
}
offers "compare" com
offers "softmax softmax_backward" bench soft
offers "layer_norm" lesson lay
offers "--processes" bench --pro
offers "--json" devices --js
offers "opencl" bench softmax --backend = o
offers "fused fused_cluster fused_cpu fused_split" bench softmax --variant = f
offers "show" cache s
LC_ALL=C
offers "fused fused_cluster fused_cpu fused_split" bench softmax --variant = f
exit $failed
