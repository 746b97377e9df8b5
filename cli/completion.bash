# shellcheck shell=bash
# Completion of the kfuse command for bash. Asks kfuse itself, so it knows what this kfuse knows.
# SPDX-License-Identifier: Apache-2.0
_kfuse() {
    local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]-} kfuse=${COMP_WORDS[0]} option=
    local commands="devices doctor list lesson explain run bench compare cache"
    # "=" is a word of its own: --option = value
    if [ "$word" = "=" ]; then
        option=${COMP_WORDS[COMP_CWORD - 1]} word=
    elif [ "$COMP_CWORD" -gt 1 ] && [ "${COMP_WORDS[COMP_CWORD - 1]}" = "=" ]; then
        option=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    local words=
    case $option in
    --backend) words="cuda opencl null all" ;;
    --dtype) words="f32 f16 bf16" ;;
    --color) words="auto always never" ;;
    --format) words="table json jsonl" ;;
    --variant) words=$("$kfuse" list 2>/dev/null | sed -n 's/^[^a-z]\{1,8\}\([a-z][a-z_]*\) .*/\1/p' | sort -u) ;;
    --input | --output | --svg | --simulator)
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
        ;;
    --*) return ;;
    *)
        if [ "$COMP_CWORD" -eq 1 ]; then
            words=$commands
        elif [[ $word == -* ]]; then
            words=$("$kfuse" "$command" --help 2>/dev/null | grep -o -e '--[a-z]*' | sort -u)
        else
            case $command in
            explain | run | bench | compare) words=$("$kfuse" list 2>/dev/null | sed -n '2,$s/^\([a-z_]*\)  *[A-Z].*/\1/p') ;;
            lesson) words=$("$kfuse" lesson 2>/dev/null | sed -n 's/^[0-9][0-9]* \([a-z_]*\) .*/\1/p') ;;
            cache) words="show clear" ;;
            esac
        fi
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -o default -F _kfuse kfuse
