#!/usr/bin/env bash
# label: structure
# What may never be in the code, as greps: a rule that nobody checks is gone within a month. Comments may
# name anything; where a rule is about identifiers, the text of string literals may too.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

bad=0
code=$(mktemp)
names=$(mktemp)
trap 'rm -f "$code" "$code.bare" "$names"' EXIT
search() { # file of code lines, pattern, files...
    local lines=$1 pattern=$2
    shift 2
    printf '%s\n' "$@" >"$names"
    # Of the lines FILE:NUMBER:CODE those of the files named whose code matches.
    awk -F: 'NR == FNR { wanted[$0]; next } $1 in wanted' "$names" "$lines" |
        grep -E "^[^:]*:[0-9]+:.*($pattern)" || true
}
forbid() { # title pattern files...: pattern in code, strings included
    local title=$1 pattern=$2
    shift 2
    report "$title" "$(search "$code" "$pattern" "$@")"
}
forbid_identifier() { # title pattern files...: pattern in code outside strings
    local title=$1 pattern=$2
    shift 2
    report "$title" "$(search "$code.bare" "$pattern" "$@")"
}
report() { # title findings
    [ -n "$2" ] || return 0
    bad=1
    echo "never: $1"
    printf '%s\n' "$2" | sed 's/^/    /' | head -n 20
}

shopt -s nullglob globstar
neutral=(core/**/*.[ch] ops/**/*.[ch] harness/**/*.[ch] lessons/**/*.[ch] cli/**/*.[ch])
library=(core/**/*.[ch] ops/**/*.[ch] backends/**/*.[ch])
tests=(tests/**/*.[ch])
everything=("${neutral[@]}" backends/**/*.[ch] include/**/*.h "${tests[@]}")
kernels=(backends/*/kernels/**/*.cu backends/*/kernels/**/*.cl)
[ ${#neutral[@]} -gt 0 ] || { echo "no source found" && exit 1; }
scripts/code_lines "${everything[@]}" "${kernels[@]}" >"$code"
scripts/code_lines --no-strings "${everything[@]}" "${kernels[@]}" >"$code.bare"

# ---- the seam: one place knows an API ---------------------------------------------------------
forbid_identifier "an API identifier outside backends/" \
    '\b(cl[A-Z][A-Za-z]+|CL_[A-Z0-9_]+|cl_(mem|context|kernel|program|event|command_queue|device_id|platform_id|int|uint|ulong)|cu[A-Z][A-Za-z0-9]+|CU_[A-Z0-9_]+|CU(device|context|stream|module|function|event|result|graph)[A-Za-z]*|nvrtc[A-Z][A-Za-z]*|nvml[A-Z][A-Za-z]*|cublas[A-Za-z]*)\b' \
    "${neutral[@]}"
forbid "a native header outside backends/" '#[[:space:]]*include[[:space:]]*[<"](CL/|cuda|nvrtc|nvml|cublas|vector_types)' "${neutral[@]}"
forbid "a comparison with a backend's or vendor's name" \
    '(str(n|case|ncase)?cmp|strstr|strcasestr|memcmp|streq|same_text)[[:space:]]*\([^;]*"([Cc][Uu][Dd][Aa]|[Oo]pen[Cc][Ll]|[Nn][Vv][Ii][Dd][Ii][Aa]|AMD|[Ii]ntel|[Pp]o[Cc][Ll]|[Rr]usticl|[Oo]clgrind|null)[^"]*"' \
    "${neutral[@]}"
forbid "a table of GPU names" '"[^"]*\b(H100|H200|A100|B200|L40|RTX|GeForce|Tesla|Radeon|MI300)\b' core/**/*.[ch] ops/**/*.[ch] backends/**/*.[ch]
forbid "an arrow that points the wrong way" '#[[:space:]]*include[[:space:]]*"[^"]*(harness|cli|lessons)/' "${library[@]}"
forbid "an arrow that points the wrong way" '#[[:space:]]*include[[:space:]]*"[^"]*backends/' ops/**/*.[ch] lessons/**/*.[ch] cli/**/*.[ch]

# ---- the library is a guest -------------------------------------------------------------------
forbid_identifier "the library prints, exits or starts a process" \
    '(^|[^A-Za-z0-9_.>])(printf|puts|putchar|perror|exit|_exit|abort|system|popen|fork|vfork|posix_spawn[p]?|exec[lv][pe]*)[[:space:]]*\(|\bstd(out|err)\b' \
    "${library[@]}"
forbid_identifier "dlopen with RTLD_DEEPBIND or a driver closed again" 'RTLD_DEEPBIND' "${everything[@]}"
forbid "fast maths or a late language version by default" 'fast-relaxed-math|finite-math-only|use_fast_math|cl-std=CL[23]' \
    "${library[@]}" harness/**/*.[ch]

# ---- kernels ----------------------------------------------------------------------------------
forbid "a kernel in a C string" '"[^"]*((__kernel|__global__) +(void|__attribute)|get_global_id|threadIdx)' "${neutral[@]}" backends/**/*.[ch]
if [ ${#kernels[@]} -gt 0 ]; then
    forbid "a kernel named by a number" '(kernel|KERNEL)[0-9]+[[:space:]]*\(' "${kernels[@]}"
    forbid "a header included by a kernel" '#[[:space:]]*include[[:space:]]*<' "${kernels[@]}"
fi

# ---- truth ------------------------------------------------------------------------------------
forbid_identifier "a second clock: times are measured in harness/measure.c" 'CLOCK_MONOTONIC|CLOCK_PROCESS|gettimeofday|[^a-z_]clock[[:space:]]*\(' \
    core/**/*.[ch] ops/**/*.[ch] lessons/**/*.[ch]
forbid_identifier "an assert that accepts NaN (CMocka's float asserts)" 'assert_(float|double)_(not_)?equal' "${tests[@]}"
# The inputs' own ranges and the round trip of numbers through text are no results of kernels.
judged=()
for file in "${tests[@]}"; do
    case $file in tests/test_inputs.c | tests/test_results.c) ;; *) judged+=("$file") ;; esac
done
forbid_identifier "a literal tolerance: bounds come from the reference" \
    '([Tt]olerance|[^A-Za-z](tol|atol|rtol))[[:space:]]*=[[:space:]]*[0-9.]|fabsf?[[:space:]]*\([^;]*\)[[:space:]]*<=?[[:space:]]*[0-9]*\.?[0-9]+(e-[0-9]+)?f?\b' \
    "${judged[@]}"

# ---- style that a formatter cannot see --------------------------------------------------------
forbid_identifier "a macro that returns" '#[[:space:]]*define[^"]*\breturn\b' "${everything[@]}"
report "a generated file in git" "$(git ls-files 2>/dev/null | grep -E '(^|/)(build[^/]*/|compile_commands\.json$|__pycache__/)|\.(o|so|a|pyc|cubin|ptx)$' || true)"

exit $bad
