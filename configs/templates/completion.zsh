#compdef sidestep
# Completion of sidestep in zsh. In ~/.zshrc after compinit: source <(sidestep completion zsh), or save it and source it.
_sidestep_words() {
    case "$1" in
@WORDS@
    esac
}

_sidestep() {
    local command="${words[2]}" current="$PREFIX"
    local -a found
    [[ $CURRENT -eq 2 ]] && command=''
    case "$command" in
        adapt|envs) [[ $CURRENT -gt 3 ]] && command="$command ${words[3]}" ;;
    esac
    found=(${(f)"$(_sidestep_words "$command")"})
    if [[ $current == *=* ]]; then
        found=(${found:#*=})
        compadd -- $found && return
        compset -P '*='
        _files
    else
        found=(${found:#*=?*})
        compadd -S '' -- ${(M)found:#*=}
        compadd -- ${found:#*=}
    fi
}
compdef _sidestep sidestep
