"""The script for zsh: a specification of its ``_arguments`` for each verb, which does the rest (zshcompsys(1))."""

from __future__ import annotations

import re
from collections.abc import Iterator

from p2v.cli.completion.grammar import Kind, Option, Place, Value, Verb

_FUNCTIONS = r"""
# Names of machines that are not there yet; zsh quotes what it inserts, and none of them is evaluated.
_p2v_machines() {
    local -a machines
    local first=$program
    # an option is being written, which is no reason to ask
    [[ $PREFIX == -* ]] && return 1
    [[ $first == '~/'* ]] && first=$HOME${first:1}
    machines=("${(@f)$(command "$first" completion --machines-for "${before[@]}" </dev/null 2>/dev/null)}")
    machines=("${(@M)machines:#[A-Za-z0-9][A-Za-z0-9._+-]#}")
    machines=("${(@)machines:|given}")
    _wanted machines expl machine compadd -a machines
}

# A file behind something else, as in DISK=DEVICE or all:file:PATH.
_p2v_with_a_file() {
    compset -P '*[:=]'
    _files
}

_p2v() {
    local program=${(Q)words[1]} curcontext=$curcontext
    # the words before the cursor, as they will be when the line is run, and those of them that may be machines
    local -a before=("${(@Q)words[2,CURRENT-1]}") given
    given=("${(@)before[3,-1]}")
    _p2v_of_all
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _p2v "$@"
else
    compdef _p2v p2v
fi
""".strip()
_KINDS = {
    Kind.TEXT: " ",
    Kind.FILE: "_files",
    Kind.FOLDER: "_files -/",
    Kind.WITH_A_FILE: "_p2v_with_a_file",
    Kind.MACHINE: "_p2v_machines",
}


def script(program: Verb, version: str) -> str:
    """The whole script."""
    return "\n".join(
        (
            "#compdef p2v",
            f"# Completion of p2v {version} in zsh; made by `p2v completion zsh`.",
            "",
            *(line for verb in program.all() for line in _function(verb)),
            _FUNCTIONS,
        )
    )


def _name(verb: Verb) -> str:
    return "_".join(("_p2v", *verb.words)) if verb.words else "_p2v_of_all"


def _function(verb: Verb) -> Iterator[str]:
    """The function of a verb."""
    yield f"{_name(verb)}() {{"
    specs = [*(each for option in verb.options for each in _option(option)), *_places(verb.places)]
    if not verb.verbs:
        yield from ("    _arguments -s -S \\", *_continued(specs), "}", "")
        return
    specs += ["1: :->verb", "*:: :->rest"]
    yield from ("    local state line ret=1", "    local -A opt_args")
    yield from ("    local -a verbs=(", *(f"        {_quoted(_described(each))}" for each in verb.verbs), "    )")
    yield from ("    _arguments -C -S \\", *_continued(specs, " && ret=0"))
    yield from ("    case $state in", "        verb) _describe -t verbs verb verbs && ret=0 ;;", "        rest)")
    yield "            case $words[1] in"
    yield from (f"                {each.words[-1]}) {_name(each)} && ret=0 ;;" for each in verb.verbs)
    yield from ("            esac ;;", "    esac", "    return ret", "}", "")


def _continued(specs: list[str], end: str = "") -> Iterator[str]:
    for number, spec in enumerate(specs, 1):
        yield f"        {_quoted(spec)}" + (end if number == len(specs) else " \\")


def _described(verb: Verb) -> str:
    return f"{verb.words[-1]}:{verb.title}"


def _option(option: Option) -> Iterator[str]:
    """A specification for each of its names."""
    others = "(- *)" if option.ends else "" if option.repeats else f"({' '.join(option.names)})"
    for name in option.names:
        spec = f"{others}{'*' if option.repeats else ''}{name}"
        if option.value is not None:
            spec += "=" if name.startswith("--") else "+"
        spec += f"[{_escaped(option.title, '[]')}]"
        if option.value is not None:
            spec += f"{'::' if option.is_bare else ':'}{_value(option.value)}"
        yield spec


def _places(places: tuple[Place, ...]) -> Iterator[str]:
    for number, place in enumerate(places, 1):
        yield f"{'*' if place.repeats else number}:{_value(place.value)}"


def _value(value: Value) -> str:
    choices = f"({' '.join(map(_escaped_word, value.choices))})"
    return f"{_escaped(value.called, ':')}:{_KINDS.get(value.kind, choices)}"


def _escaped(text: str, letters: str) -> str:
    return re.sub(f"([\\\\{re.escape(letters)}])", r"\\\1", text)


def _escaped_word(text: str) -> str:
    return re.sub(r"([^A-Za-z0-9_.-])", r"\\\1", text)


def _quoted(text: str) -> str:
    """One word for zsh, whatever its options say of ! and '."""
    return "'" + text.replace("'", "'\\''") + "'"
