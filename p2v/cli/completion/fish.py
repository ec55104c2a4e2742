"""The script for fish: a ``complete`` for each option of each verb, with the condition that the line is of that verb."""

from __future__ import annotations

from collections.abc import Iterator

from p2v.cli.completion.grammar import Kind, Option, Value, Verb

_FUNCTIONS = r"""
# Whether the line before the cursor is of a verb: its words are those behind the program's name that are no options.
function __p2v_is --argument-names wanted
    set -l words (commandline -opc)
    set -l found ''
    for word in $words[2..]
        string match -q -- '-*' $word; and continue
        # no verb is below a verb that is run
        contains -- $found $__p2v_with_verbs; or break
        set found "$found $word"
    end
    test "$found" = "$wanted"
end

# Folders, also behind the name of an option and =.
function __p2v_folders
    __fish_complete_directories (string replace -r -- '^-[^=]*=' '' (commandline -ct))
end

# Names of machines that are not there yet; fish quotes what it inserts, and evaluates none of them.
function __p2v_machines
    set -l words (commandline -opc)
    set -l program (string replace -r '^~/' -- "$HOME/" $words[1])
    command -q $program; or return
    for name in (command $program completion --machines-for $words[2..] </dev/null 2>/dev/null)
        string match -qr '^[A-Za-z0-9][A-Za-z0-9._+-]*$' -- $name; or continue
        contains -- $name $words[4..]; or echo $name
    end
end
""".strip()
_VALUES = {
    Kind.TEXT: "-x",
    Kind.FILE: "-r -F",
    Kind.FOLDER: "-x -a '(__p2v_folders)'",
    Kind.WITH_A_FILE: "-r -F",
    Kind.MACHINE: "-x -a '(__p2v_machines)'",
}


def script(program: Verb, version: str) -> str:
    """The whole script."""
    verbs = tuple(program.all())
    above = " ".join(_quoted(_path(verb)) for verb in verbs if verb.verbs)
    return "\n".join(
        (
            f"# Completion of p2v {version} in fish; made by `p2v completion fish`.",
            f"set -g __p2v_with_verbs {above}",
            "",
            _FUNCTIONS,
            "",
            "complete -c p2v -f",
            *(line for verb in verbs for line in _lines(verb)),
        )
    )


def _path(verb: Verb) -> str:
    return "".join(f" {word}" for word in verb.words)


def _lines(verb: Verb) -> Iterator[str]:
    begin = f"complete -c p2v -n {_quoted(f'__p2v_is {_quoted(_path(verb))}')}"
    for each in verb.verbs:
        yield f"{begin} -a {each.words[-1]} -d {_quoted(each.title)}"
    for place in verb.places:
        if place.value.kind in (Kind.CHOICE, Kind.MACHINE):
            yield f"{begin} -a {_candidates(place.value)}"
        else:
            yield f"{begin} -F"
    for option in verb.options:
        yield f"{begin} {_option(option)}"


def _option(option: Option) -> str:
    names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
    parts = [names, "-d", _quoted(option.title)]
    if option.value is not None:
        parts.append(_value(option.value))
    return " ".join(parts)


def _value(value: Value) -> str:
    # also of one that can do without: fish offers options behind it once there is a -
    return f"-x -a {_candidates(value)}" if value.kind is Kind.CHOICE else _VALUES[value.kind]


def _candidates(value: Value) -> str:
    return "'(__p2v_machines)'" if value.kind is Kind.MACHINE else _quoted(" ".join(value.choices))


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
