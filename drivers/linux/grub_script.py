"""GRUB 2's configuration language, as far as needed to find words and menu entries in it (GRUB manual, 6.1).

Nothing is evaluated: variables stay as they are written. Every word knows where it stands, so that an edit
can leave all other characters alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

# what needs no look inside: the group says which, none for blanks and comments
_SIMPLE = re.compile(r"""(?:[ \t\r]|\\\n)+|\#[^\n]*|(?P<end>[\n;])|(?P<word>[^ \t\r\n;'"\\$#]+)(?=[ \t\r\n;]|\Z)""")
_PLAIN = re.compile(r"[^ \t\r\n;'\"\\$#]+")
# a name's characters only, and no endless name, so that a long line of "${" is not looked through for each of them
_VARIABLE = re.compile(r"\$(?:\{[A-Za-z0-9_?*@#]{0,200}\}|[A-Za-z0-9_]+|[?*@#])?")
_SINGLE = re.compile(r"'([^']*)(?:'|\Z)")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)(?:"|\\?\Z)', re.DOTALL)
_ESCAPED_IN_DOUBLE = re.compile(r'\\(["$\\])|\\\n')

_KEYWORDS = frozenset({"if", "then", "else", "elif", "do", "while", "until", "!"})
_TITLE_OPTIONS = frozenset({"--class", "--users", "--hotkey", "--source", "--id"})
_ID_VARIABLES = frozenset({"$menuentry_id_option", "${menuentry_id_option}"})
_DEPTH_AT_MOST = 16


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its quotes taken off, and the characters it takes in the text."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Command:
    """The words of one command; ``opens`` when a block follows it. A block's end is a command without words."""

    words: tuple[Word, ...]
    opens: bool = False

    @property
    def name(self) -> str:
        """Its first word; empty for a block's end."""
        return self.words[0].text if self.words else ""


@dataclass(slots=True)
class MenuItem:
    """A ``menuentry``, or a ``submenu`` with its ``items``; ``commands`` are its own, without those of its items."""

    title: str
    identifier: str
    submenu: bool
    commands: list[Command] = field(default_factory=list)
    items: list[MenuItem] = field(default_factory=list)


@dataclass(slots=True)
class Script:
    """A configuration file: its menu, and the commands outside any entry.

    ``bls_at``: how many items stand before the command that adds the Boot Loader Specification's entries; None: no such.
    """

    items: list[MenuItem]
    commands: list[Command]
    bls_at: int | None = None


def parse(text: str) -> Script:
    """Read a whole configuration. Anything is accepted: what GRUB would refuse ends up as ordinary words."""
    script = Script([], [])
    # a function's or other block's commands count as those of what it stands in
    stack: list[MenuItem | None] = []
    for command in commands(text):
        inside = stack[-1] if stack else None
        if not command.words:
            if stack:
                stack.pop()
            continue
        if command.opens and command.name in ("menuentry", "submenu") and len(stack) < _DEPTH_AT_MOST:
            item = _menu_item(command)
            (inside.items if inside else script.items).append(item)
            stack.append(item)
            continue
        (inside.commands if inside else script.commands).append(command)
        if command.name == "blscfg" and inside is None and script.bls_at is None:
            script.bls_at = len(script.items)
        if command.opens:
            stack.append(inside)
    return script


def groups(script: Script) -> Iterator[list[Command]]:
    """The commands outside the menu, then those of every menu entry, in the order of the text."""

    def below(items: list[MenuItem]) -> Iterator[list[Command]]:
        for item in items:
            yield item.commands
            yield from below(item.items)

    yield script.commands
    yield from below(script.items)


def commands(text: str) -> Iterator[Command]:
    """The commands in order, keywords of ``if`` and loops taken off their front."""
    words: list[Word] = []
    for word in _words(text):
        if word is None:
            if command := _command(words):
                yield command
            words = []
        elif word.text == "{" == text[word.start : word.end] and words:
            yield Command(tuple(words), opens=True)
            words = []
        elif word.text == "}" == text[word.start : word.end]:
            if command := _command(words):
                yield command
            yield Command(())
            words = []
        else:
            words.append(word)
    if command := _command(words):
        yield command


def _command(words: list[Word]) -> Command | None:
    first = next((index for index, word in enumerate(words) if word.text not in _KEYWORDS), len(words))
    return Command(tuple(words[first:])) if words[first:] else None


def _words(text: str) -> Iterator[Word | None]:
    """Words, and None wherever a command ends."""
    at = 0
    while at < len(text):
        if match := _SIMPLE.match(text, at):
            at = match.end()
            if match.lastgroup == "word":
                yield Word(match[0], match.start(), at)
            elif match.lastgroup:
                yield None
        else:
            word = _word(text, at)
            yield word
            at = word.end


def _word(text: str, start: int) -> Word:
    pieces: list[str] = []
    at = start
    while at < len(text) and text[at] not in " \t\r\n;":
        if match := _PLAIN.match(text, at) or _VARIABLE.match(text, at):
            pieces.append(match[0])
        elif match := _SINGLE.match(text, at):
            pieces.append(match[1])
        elif match := _DOUBLE.match(text, at):
            pieces.append(_ESCAPED_IN_DOUBLE.sub(lambda escape: escape[1] or "", match[1]))
        elif text.startswith("\\\n", at):
            at += 2
            continue
        elif text[at] == "\\":
            pieces.append(text[at + 1 : at + 2])
            at += 2
            continue
        else:  # a "#" inside a word is an ordinary character
            pieces.append(text[at])
            at += 1
            continue
        at = match.end()
    return Word("".join(pieces), start, min(at, len(text)))


def _menu_item(command: Command) -> MenuItem:
    title, identifier = "", ""
    words = iter(word.text for word in command.words[1:])
    for word in words:
        if word in _ID_VARIABLES or word == "--id":
            identifier = next(words, "")
        elif word.startswith("--id="):
            identifier = word.removeprefix("--id=")
        elif word in _TITLE_OPTIONS:
            next(words, "")
        elif not word.startswith("--") and not title:
            title = word
    return MenuItem(title, identifier, command.name == "submenu")
