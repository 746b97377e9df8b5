# shellcheck shell=bash
# shellcheck disable=SC2034 # `failed` is read by who sources this
# For scripts that start programs and look at what they say: sourced, with nothing of the caller's settings left. A
# script ends with `exit $failed`. SPDX-License-Identifier: Apache-2.0
for name in $(env | sed -n 's/^\(KFUSE_[A-Z_]*\)=.*/\1/p'); do
    case $name in KFUSE_BUILD | KFUSE_SOURCE | KFUSE_REQUIRE) ;; *) unset "$name" ;; esac
done
failed=0 told='' text=''

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
