"""The script for bash: tables made from the command line, and functions that look words up in them.

It stands alone: neither the package bash-completion nor a version above 4.4 is needed. It never evaluates a word, and starts no
process but for names of machines.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from p2v.cli.completion.grammar import Value, Verb

# Words are taken apart here, not as COMP_WORDS has them: it is cut at = and : as well, and keeps quotes.
_FUNCTIONS = r"""
# The words of a line without their quotes, into `words`; the last, unfinished one into `current`.
# `aside`: it is the file of a redirection.
_p2v_split() {
    local line=$1 letter quote='' begun='' i
    words=() current='' aside=''
    for ((i = 0; i < ${#line}; i++)); do
        letter=${line:i:1}
        if [[ $quote == "'" && $letter != "'" ]]; then
            current+=$letter
        elif [[ $quote == '"' && $letter == \\ && ${line:i+1:1} == [\$\`\"\\] ]]; then
            current+=${line:++i:1}
        elif [[ $quote == '"' && $letter != '"' ]]; then
            current+=$letter
        elif [[ $quote ]]; then
            quote=''
        elif [[ $letter == [\'\"] ]]; then
            quote=$letter begun=1
        elif [[ $letter == \\ ]]; then
            current+=${line:++i:1} begun=1
        elif [[ $letter == [[:blank:]] ]]; then
            [[ $begun && ! $aside ]] && words+=("$current")
            [[ $begun ]] && aside=''
            current='' begun=''
        elif [[ $letter == [\<\>] ]]; then
            [[ $begun && ! $aside && $current == *[!0-9]* ]] && words+=("$current")
            current='' begun='' aside=1
        else
            current+=$letter begun=1
        fi
    done
}

# Those of the words given behind $1 that begin as what is written; $1 stands before each.
_p2v_offer() {
    local before=$1 each cut=''
    shift
    # bash replaces what stands behind the last = or : alone
    [[ $current == *"$replaced" ]] && cut=${current%"$replaced"}
    for each; do
        each=$before$each
        [[ $each == "$current"* ]] && COMPREPLY+=("${each#"$cut"}")
    done
}

# Names of machines that are not there yet, into `machines`. What cannot be a name did not come from p2v, whatever did.
_p2v_machines() {
    local program=${words[0]} name known=" ${words[*]:3} "
    [[ $program == '~/'* ]] && program=$HOME${program:1}
    while IFS= read -r name; do
        [[ $name == [A-Za-z0-9]* && $name != *[!A-Za-z0-9._+-]* && $known != *" $name "* ]] && machines+=("$name")
    done < <(command "$program" completion --machines-for "${words[@]:1}" </dev/null 2>/dev/null)
}

# What can stand at the cursor by its kind; $1 stands before it in the same word.
_p2v_value() {
    local -a machines
    case $kind in
        choice) _p2v_offer "$1" "${choices[@]}" ;;
        machine) _p2v_machines; _p2v_offer "$1" "${machines[@]}" ;;
        folder) compopt -o dirnames ;;
        # readline knows how names of files are quoted
        file | with-a-file) compopt -o bashdefault -o default ;;
    esac
}

# Goes through what is written before the cursor: which verb it is, which place, and which option is `pending` for its value.
_p2v_walk() {
    local word
    for word in "${words[@]:1}"; do
        if [[ $pending && ! ( $bare && $word == -* ) ]]; then
            pending=''
            continue
        fi
        pending=''
        if [[ $plain ]]; then
            place+=1
        elif [[ $word == -- ]]; then
            plain=1
        elif [[ $word == -?* ]]; then
            [[ $word != *=* ]] && _p2v_option "$word" && pending=$word
        elif ((${#verbs[@]})); then
            [[ " ${verbs[*]} " == *" $word "* ]] || return
            verb+=${verb:+ }$word
            _p2v_verb
        else
            place+=1
        fi
    done
    return 0
}

_p2v() {
    local IFS=$' \t\n' replaced=$2 current aside verb='' kind bare pending='' plain=''
    local -a words verbs options choices
    local -i place=0
    COMPREPLY=()
    _p2v_split "${COMP_LINE:0:COMP_POINT}"
    if [[ $aside ]]; then
        compopt -o bashdefault -o default
        return
    fi
    _p2v_verb
    _p2v_walk || return
    if [[ $pending && ! ( $bare && $current == -* ) ]]; then
        _p2v_option "$pending" && _p2v_value ''
    elif [[ ! $plain && $current == --*=* ]]; then
        _p2v_option "${current%%=*}" && _p2v_value "${current%%=*}="
    elif [[ ! $plain && $current == -* ]]; then
        _p2v_offer '' "${options[@]}"
    elif ((${#verbs[@]})); then
        _p2v_offer '' "${verbs[@]}"
    elif _p2v_place; then
        _p2v_value ''
    elif [[ ! $plain ]]; then
        _p2v_offer '' "${options[@]}"
    fi
}

complete -F _p2v p2v
""".strip()


def script(program: Verb, version: str) -> str:
    """The whole script."""
    verbs = list(program.all())
    of_a_verb = "What can follow a verb, into `verbs` and `options`."
    of_an_option = (
        "What follows the option $1, into `kind`, `choices` and `bare` (it can do without); false for nothing."
    )
    of_a_place = "What stands at a place, into `kind` and `choices`; false for nothing."
    parts = (
        f"# Completion of p2v {version} in bash; made by `p2v completion bash`.",
        *_function("_p2v_verb", of_a_verb, "$verb", _verb_cases(verbs)),
        *_function("_p2v_option", of_an_option, "$verb $1", _option_cases(verbs)),
        *_function("_p2v_place", of_a_place, "$verb $place", _place_cases(verbs)),
        _FUNCTIONS,
    )
    return "\n".join(parts)


def _function(name: str, said: str, word: str, cases: Iterator[tuple[str, str]]) -> Iterator[str]:
    """A function that looks ``word`` up; patterns and what is done where one of them fits."""
    yield from (f"# {said}", f"{name}() {{", f'    case "{word}" in')
    yield from (f"        {patterns}) {done} ;;" for patterns, done in cases)
    yield from ("        *) return 1 ;;", "    esac", "}", "")


def _verb_cases(verbs: Sequence[Verb]) -> Iterator[tuple[str, str]]:
    for verb in verbs:
        below = _array("verbs", [each.words[-1] for each in verb.verbs])
        yield (
            shlex.quote(" ".join(verb.words)),
            f"{below} {_array('options', [name for each in verb.options for name in each.names])}",
        )


def _option_cases(verbs: Sequence[Verb]) -> Iterator[tuple[str, str]]:
    found: dict[str, list[str]] = {}
    for verb in verbs:
        for option in verb.options:
            if option.value is not None:
                done = f"{_said(option.value)} bare={'1' if option.is_bare else ''}"
                found.setdefault(done, []).extend(shlex.quote(" ".join((*verb.words, name))) for name in option.names)
    return ((" | ".join(patterns), done) for done, patterns in found.items())


def _place_cases(verbs: Sequence[Verb]) -> Iterator[tuple[str, str]]:
    found: dict[str, list[str]] = {}
    for verb in verbs:
        for number, place in enumerate(verb.places):
            before = shlex.quote(" ".join((*verb.words, "")))
            found.setdefault(_said(place.value), []).append(f"{before}{'*' if place.repeats else number}")
    return ((" | ".join(patterns), done) for done, patterns in found.items())


def _said(value: Value) -> str:
    return f"kind={value.kind.value} {_array('choices', value.choices)}"


def _array(name: str, words: Sequence[str]) -> str:
    return f"{name}=({' '.join(map(shlex.quote, words))})"
