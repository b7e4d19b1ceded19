# fish completion of docker: asks `docker __complete` what may follow.
# Written by "coracle docs"; install in share/fish/vendor_completions.d.

function __docker_candidates
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program $words[1]
    for line in ($program __complete $words[2..-1] "$current" 2>/dev/null)
        if string match -qr '^:[0-9]+$' -- $line
            if test $line = :0
                __fish_complete_path "$current"
            end
        else
            echo $line
        end
    end
end

complete -c docker -f -a '(__docker_candidates)'
complete -c coracle -f -a '(__docker_candidates)'
