"""The scripts of all shells."""

from __future__ import annotations

import p2v
from p2v.cli.completion import bash, fish, zsh
from p2v.cli.completion.grammar import Verb, verb_of
from p2v.cli.main import whole_parser

_MADE_BY = {"bash": bash.script, "zsh": zsh.script, "fish": fish.script}


def script(shell: str) -> str:
    """The script for one of them, of this version's command line. All verbs' modules are read for it."""
    return _MADE_BY[shell](program(), p2v.__version__)


def program() -> Verb:
    """The whole command line."""
    return verb_of(whole_parser())
