"""What stands under a key of a manifest, as a value of its kind; whatever makes no sense is noted, and reading goes on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import time
from pathlib import Path
from typing import Any

from p2v.batch.jobs import Hook, Window
from p2v.batch.manifest_keys import HOOK_KEYS, NETWORK, Kind, ManifestKey
from p2v.batch.nodes import Node
from p2v.core.errors import Mistake
from p2v.core.text import printable
from p2v.core.units import format_bytes, parse_size

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PER_SECOND = re.compile(r"(?i)\s*(/s|ps)\s*$")
_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_TEXT_AT_MOST = 4096
_LIST_AT_MOST = 1000
_HOOK_SECONDS_AT_MOST = 7 * 24 * 3600.0


@dataclass(slots=True)
class Reading:
    """A manifest being read: ``folder`` is what relative paths begin at, ``found`` the mistakes so far."""

    folder: Path
    found: list[Mistake] = field(default_factory=list)

    def note(self, node: Node, where: str, message: str) -> None:
        """Keep a mistake."""
        self.found.append(Mistake(node.line, shown(where), message))

    def value(self, node: Node, key: ManifestKey, where: str) -> Any:
        """What stands there, None where it makes no sense (which is noted)."""
        try:
            return _READERS[key.kind](self, node, key)
        except _Wrong as wrong:
            self.note(wrong.node or node, where, wrong.message)
            return None


class _Wrong(Exception):
    """A value that makes no sense."""

    def __init__(self, message: str, node: Node | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.node = node


def shown(text: str) -> str:
    """A text from a manifest within a sentence: one line, and not too long."""
    return printable(text if len(text) <= 80 else text[:77] + "...", keep="")


def _text(reading: Reading, node: Node, key: ManifestKey) -> str:
    if not node.is_scalar:
        raise _Wrong("is to be one text")
    text = node.text
    if not text.strip():
        raise _Wrong("is empty")
    if len(text) > _TEXT_AT_MOST:
        raise _Wrong(f"has more than {_TEXT_AT_MOST} letters")
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise _Wrong("has control characters or several lines in it")
    if key.form and not re.fullmatch(key.form, text):
        raise _Wrong(f"{_quoted(text)} cannot be it{_as_in(key)}")
    return text


def _as_in(key: ManifestKey) -> str:
    return f"; as in {key.name}: {key.example}" if key.example else ""


def _quoted(text: str) -> str:
    return f"'{shown(text)}'"


def _list(node: Node) -> list[Node]:
    """One thing is a list of one."""
    if node.items is None:
        return [node]
    if not node.items:
        raise _Wrong("is an empty list")
    if len(node.items) > _LIST_AT_MOST:
        raise _Wrong(f"has more than {_LIST_AT_MOST} entries")
    return node.items


def _each(reading: Reading, node: Node, key: ManifestKey, one: Callable[[Reading, Node, ManifestKey], Any]) -> Any:
    made = []
    for each in _list(node):
        try:
            made.append(one(reading, each, key))
        except _Wrong as wrong:
            raise _Wrong(wrong.message, wrong.node or each) from wrong
    return tuple(made)


def _texts(reading: Reading, node: Node, key: ManifestKey) -> tuple[str, ...]:
    return _each(reading, node, key, _text)  # type: ignore[no-any-return]


def _path(reading: Reading, node: Node, key: ManifestKey) -> Path:
    text = _text(reading, node, key)
    if text.startswith("~"):
        raise _Wrong(f"{_quoted(text)}: only a shell knows what ~ is; write the folder out")
    return reading.folder / text


def _paths(reading: Reading, node: Node, key: ManifestKey) -> tuple[Path, ...]:
    made: tuple[Path, ...] = _each(reading, node, key, _path)
    twice = next((path for number, path in enumerate(made) if path in made[:number]), None)
    if twice is not None:
        raise _Wrong(f"{_quoted(str(twice))} stands there twice")
    return made


def _flag(reading: Reading, node: Node, key: ManifestKey) -> bool:
    if node.is_scalar and node.is_plain and node.text.lower() in _FLAGS:
        return _FLAGS[node.text.lower()]
    raise _Wrong("is to be true or false")


def _count(reading: Reading, node: Node, key: ManifestKey) -> int:
    if not node.is_scalar or not _INTEGER.fullmatch(node.text):
        raise _Wrong("is to be a whole number")
    number = int(node.text)
    if number < key.least or (key.most is not None and number > key.most):
        raise _Wrong(f"{number} is not from {key.least} to {key.most}")
    return number


def _seconds(reading: Reading, node: Node, key: ManifestKey) -> float:
    if not node.is_scalar or not _DECIMAL.fullmatch(node.text):
        raise _Wrong("is to be a number of seconds")
    seconds = float(node.text)
    if key.most is not None and seconds > key.most:
        raise _Wrong(f"{node.text} seconds are more than {key.most}")
    return seconds


def _size(reading: Reading, node: Node, key: ManifestKey) -> int:
    if not node.is_scalar:
        raise _Wrong("is to be a size, as 2G or 512M")
    try:
        size = parse_size(_PER_SECOND.sub("", node.text))
    except (ValueError, OverflowError) as error:
        raise _Wrong(f"{_quoted(node.text)} is no size; as in 2G or 512M") from error
    if size < key.least:
        raise _Wrong(
            f"{_quoted(node.text)} is less than {format_bytes(key.least)}; a number alone is bytes, write 20M or 2G"
        )
    if size > (key.most or 2**62):
        raise _Wrong(f"{_quoted(node.text)} is more than {format_bytes(key.most or 2**62)}")
    return size


def _choice(reading: Reading, node: Node, key: ManifestKey) -> str:
    if not node.is_scalar or node.text not in key.choices:
        said = _quoted(node.text) if node.is_scalar else "a list or a mapping"
        raise _Wrong(f"{said} is none of {', '.join(key.choices)}")
    return node.text


def _flag_or_choice(reading: Reading, node: Node, key: ManifestKey) -> bool | str:
    if node.is_scalar and node.is_plain and node.text.lower() in _FLAGS:
        return _FLAGS[node.text.lower()]
    if node.is_scalar and node.text in key.choices:
        return node.text
    raise _Wrong(f"is to be true, false, or one of {', '.join(key.choices)}")


def _map(reading: Reading, node: Node, key: ManifestKey) -> Mapping[str, str]:
    if node.pairs is None:
        raise _Wrong("is to be a mapping, as in {VM Network: bridge:br0}")
    made: dict[str, str] = {}
    for name, target in node.pairs:
        if not name.text.strip() or name.text.strip() in made:
            raise _Wrong(
                "a name is empty" if not name.text.strip() else f"{_quoted(name.text)} stands there twice", name
            )
        try:
            made[name.text.strip()] = _text(reading, target, _NETWORK)
        except _Wrong as wrong:
            raise _Wrong(f"{_quoted(name.text)} {wrong.message}", target) from wrong
    return made


_ANY = ManifestKey("", Kind.TEXT, "")
_NETWORK = ManifestKey("map", Kind.TEXT, "", form=NETWORK, example="{VM Network: bridge:br0}")


def _secrets(reading: Reading, node: Node, key: ManifestKey) -> tuple[str, ...]:
    return _each(reading, node, key, _secret)  # type: ignore[no-any-return]


def _secret(reading: Reading, node: Node, key: ManifestKey) -> str:
    text = _text(reading, node, key)
    parts = text.split(":", 2)
    if parts[0] in ("file", "env", "key") and len(parts) >= 2:
        parts = ["all", parts[0], text.partition(":")[2]]
    # what is wrong may be a passphrase: no message repeats it
    if len(parts) == 3 and parts[1] == "key":
        raise _Wrong(
            "a passphrase has no place in a manifest; put it into a file or the environment (file:PATH, env:NAME)"
        )
    if len(parts) != 3 or not parts[0] or parts[1] not in ("file", "env") or not parts[2]:
        raise _Wrong("is neither [SELECTOR:]file:PATH nor [SELECTOR:]env:NAME; as in all:file:secret.txt")
    selector, kind, value = parts
    if kind == "env":
        if not _VARIABLE.fullmatch(value):
            raise _Wrong("what follows env: cannot be the name of a variable of the environment")
        return f"{selector}:env:{value}"
    return f"{selector}:file:{reading.folder / value}"


def _window(reading: Reading, node: Node, key: ManifestKey) -> Window:
    begin, _, end = _text(reading, node, key).partition("-")
    made = Window(_hour(begin), _hour(end))
    if made.begin == made.end:
        raise _Wrong("begins when it ends; leave it out for a machine that may begin at any time")
    return made


def _hour(text: str) -> time:
    hour, _, minute = text.strip().partition(":")
    return time(int(hour), int(minute))


def _hook(reading: Reading, node: Node, key: ManifestKey) -> Hook:
    command, limit = node, None
    if node.pairs is not None:
        told = {name.text: value for name, value in node.pairs}
        for name in told:
            if name not in HOOK_KEYS:
                raise _Wrong(f"{_quoted(name)} is not known here; a command has {' and '.join(HOOK_KEYS)}")
        if "command" not in told:
            raise _Wrong("no command is given")
        command, limit = told["command"], told.get("seconds")
    if command.items is None:
        raise _Wrong("is to be a list of words, as in [/usr/local/bin/hook, --quiet]: there is no shell", command)
    argv = _texts(reading, command, _ANY)
    if limit is None:
        return Hook(_program(reading, argv))
    seconds = _seconds(reading, limit, _ANY)
    if not 0 < seconds <= _HOOK_SECONDS_AT_MOST:
        raise _Wrong(f"seconds: more than 0, and {_HOOK_SECONDS_AT_MOST:g} at most", limit)
    return Hook(_program(reading, argv), seconds)


def _program(reading: Reading, argv: tuple[str, ...]) -> tuple[str, ...]:
    """With a program that is named by a path below the manifest's folder; a bare name is looked for in PATH."""
    return (str(reading.folder / argv[0]) if "/" in argv[0] else argv[0], *argv[1:])


_READERS: Mapping[Kind, Callable[[Reading, Node, ManifestKey], Any]] = {
    Kind.TEXT: _text,
    Kind.TEXTS: _texts,
    Kind.PATH: _path,
    Kind.PATHS: _paths,
    Kind.FLAG: _flag,
    Kind.COUNT: _count,
    Kind.SECONDS: _seconds,
    Kind.SIZE: _size,
    Kind.CHOICE: _choice,
    Kind.FLAG_OR_CHOICE: _flag_or_choice,
    Kind.MAP: _map,
    Kind.SECRETS: _secrets,
    Kind.WINDOW: _window,
    Kind.HOOK: _hook,
}
