"""The command line as data: verbs, options, and what kind of a word each takes. Made from the parsers: it cannot fall behind."""

from __future__ import annotations

import argparse
import enum
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from p2v.cli.verbs import VerbParser
from p2v.cli.words import machine_name

_TITLE_LETTERS = 72
_FOLDERS = ("DIR", "FOLDER")
_WITH_A_FILE = re.compile(r"PATH|FILE|FOLDER|DIR|DEVICE")


class Kind(enum.Enum):
    """What a word is to be."""

    TEXT = "text"
    """Something that nobody can guess."""
    CHOICE = "choice"
    FILE = "file"
    FOLDER = "folder"
    WITH_A_FILE = "with-a-file"
    """A file behind something else, as in ``DISK=DEVICE`` or ``all:file:PATH``."""
    MACHINE = "machine"
    """The name of a machine of a batch."""


@dataclass(frozen=True, slots=True)
class Value:
    """A word that is no verb and no option. ``called``: in the help, as ``FILE``."""

    kind: Kind
    called: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Option:
    """An option by all of its names. ``value``: what follows it, None for nothing; ``is_bare``: it can do without."""

    names: tuple[str, ...]
    title: str
    value: Value | None = None
    is_bare: bool = False
    repeats: bool = False
    ends: bool = False
    """Nothing else matters beside it (``--help``)."""


@dataclass(frozen=True, slots=True)
class Place:
    """A word by its place; ``repeats``: the same again in all places behind it."""

    value: Value
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb, or the program itself. ``words``: from behind the program's name; either it has ``verbs`` or it is run."""

    words: tuple[str, ...]
    title: str
    options: tuple[Option, ...]
    places: tuple[Place, ...] = ()
    verbs: tuple[Verb, ...] = ()

    def all(self) -> Iterator[Verb]:
        """It and all below it."""
        yield self
        for verb in self.verbs:
            yield from verb.all()


def verb_of(parser: argparse.ArgumentParser, words: tuple[str, ...] = (), title: str = "") -> Verb:
    """A parser with all below it; the modules of its verbs are read, so one that has none of them yet."""
    if isinstance(parser, VerbParser):
        parser.load()
    options: list[Option] = []
    places: list[Place] = []
    verbs: list[Verb] = []
    for action in parser._actions:
        if action.help == argparse.SUPPRESS:
            continue
        if isinstance(action, argparse._SubParsersAction):
            titles = {each.dest: _title(parser, each) for each in action._choices_actions}
            verbs += [verb_of(below, (*words, name), titles[name]) for name, below in action.choices.items()]
        elif action.option_strings:
            options.append(_option(parser, action))
        else:
            places.append(Place(_value(action), action.nargs in ("*", "+")))
    return Verb(words, title, tuple(options), tuple(places), tuple(verbs))


def _option(parser: argparse.ArgumentParser, action: argparse.Action) -> Option:
    names, title = tuple(action.option_strings), _title(parser, action)
    if action.nargs == 0:
        return Option(names, title, ends=isinstance(action, (argparse._HelpAction, argparse._VersionAction)))
    if action.nargs not in (None, "?"):
        raise NotImplementedError(f"{names[0]}: scripts know no option with {action.nargs!r} values")
    repeats = isinstance(action, argparse._AppendAction)
    return Option(names, title, _value(action), is_bare=action.nargs == "?", repeats=repeats)


def _value(action: argparse.Action) -> Value:
    called = action.metavar if isinstance(action.metavar, str) else action.dest.replace("_", "-").upper()
    if action.choices is not None:
        return Value(Kind.CHOICE, called, tuple(map(str, action.choices)))
    if action.type is machine_name:
        return Value(Kind.MACHINE, called)
    if action.type is Path:
        return Value(Kind.FOLDER if called in _FOLDERS else Kind.FILE, called)
    return Value(Kind.WITH_A_FILE if _WITH_A_FILE.search(called) else Kind.TEXT, called)


def _title(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """The beginning of its help, on one line."""
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    return textwrap.shorten(text, _TITLE_LETTERS, placeholder=" ...")
