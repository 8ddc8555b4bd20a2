# Completion of sidestep in bash. In ~/.bashrc: source <(sidestep completion bash), or save it and source the file.
_sidestep_words() {
    case "$1" in
@WORDS@
    esac
}

_sidestep() {
    # COMP_WORDS is split at "=", so the line itself is read.
    local line=${COMP_LINE:0:COMP_POINT} command='' current candidates
    current=${line##* }
    local -a words
    read -ra words <<< "${line%"$current"}"
    case "${words[1]-}" in
        adapt|envs) command="${words[1]}${words[2]:+ ${words[2]}}" ;;
        *) command="${words[1]-}" ;;
    esac
    if [[ $current == *=* ]]; then
        candidates=$(_sidestep_words "$command" | grep -v '=$')
    else
        candidates=$(_sidestep_words "$command" | grep -v '=.')
    fi
    local IFS=$'\n'
    COMPREPLY=($(compgen -W "$candidates" -- "$current"))
    if [[ $current == *=* ]]; then
        # Values that are no choices are often paths.
        [[ ${#COMPREPLY[@]} -eq 0 ]] && COMPREPLY=($(compgen -P "${current%%=*}=" -f -- "${current#*=}"))
        [[ $COMP_WORDBREAKS == *=* ]] && COMPREPLY=("${COMPREPLY[@]#"${current%%=*}="}")
    elif [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then
        compopt -o nospace
    fi
}
complete -F _sidestep sidestep
