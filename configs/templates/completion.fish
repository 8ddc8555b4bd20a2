# Completion of sidestep in fish: sidestep completion fish > ~/.config/fish/completions/sidestep.fish
function __sidestep_words
    switch "$argv[1]"
@WORDS@
    end
end

function __sidestep
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l command "$words[2]"
    if contains -- "$command" adapt envs; and set -q words[3]
        set command "$command $words[3]"
    end
    if string match -q '*=*' -- $current
        __sidestep_words $command | string match -v '*='
    else
        __sidestep_words $command | string match -rv '=.'
    end
end
complete -c sidestep -a '(__sidestep)'
