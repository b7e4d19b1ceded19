# bash completion of docker: asks `docker __complete` what may follow.
# Written by "coracle docs"; install as share/bash-completion/completions/docker.

_docker() {
    local words=("${COMP_WORDS[@]:1:COMP_CWORD}") cur=${COMP_WORDS[COMP_CWORD]} line
    local -a raw=()
    COMPREPLY=()

    # `--flag=value` and `image:tag` arrive in pieces when = and : part words.
    local glued=() word
    for word in "${words[@]}"; do
        if ((${#glued[@]})) && { [[ $word == [=:]* ]] || [[ ${glued[-1]} == *[=:] && ${glued[-1]} != ?:* ]]; }; then
            glued[-1]+=$word
        else
            glued+=("$word")
        fi
    done
    ((${#glued[@]})) || glued=("")
    local full=${glued[-1]}

    mapfile -t raw < <("${COMP_WORDS[0]}" __complete "${glued[@]}" 2>/dev/null)
    local directive=0
    for line in "${raw[@]}"; do
        if [[ $line == :[0-9]* ]]; then
            directive=${line#:}
        else
            COMPREPLY+=("${line%%$'\t'*}")
        fi
    done

    # What stands before the last separator is on the line already.
    local prefix=${full%"$cur"}
    if [[ -n $prefix ]]; then
        COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
    elif [[ $cur == [=:] ]]; then
        COMPREPLY=("${COMPREPLY[@]#"$full"}")
    fi

    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[=:] ]]; then
        compopt -o nospace 2>/dev/null
    fi
    if ((directive == 0)); then
        compopt -o filenames 2>/dev/null
        mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$cur")
    fi
}

complete -F _docker docker
complete -F _docker coracle
