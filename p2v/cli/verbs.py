"""Verbs as subcommands: one module a verb, imported only when its verb was chosen."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from p2v.cli import console


class Parser(argparse.ArgumentParser):
    """argparse ends with status 2, which here means "done with warnings"; a usage error is 64."""

    def error(self, message: str) -> None:  # type: ignore[override]
        console.note(f"p2v: {message}{self._near(message)}")
        if missing := [action.choices for action in self._verbs() if action.metavar in message.split(": ")[-1].split(", ")]:
            console.note(f"     Verbs: {', '.join(missing[0])}.")
        console.note(f"     `{self.prog} --help` tells what there is.")
        sys.exit(64)

    def _verbs(self) -> Iterator[argparse._SubParsersAction[Any]]:
        return (action for action in self._actions if isinstance(action, argparse._SubParsersAction))

    def _near(self, message: str) -> str:
        """What was meant, where a word is nearly one that is known."""
        if found := re.match(r"argument .*: invalid choice: (?P<word>'.*') \(choose from (?P<known>.*)\)$", message, re.DOTALL):
            known = re.findall(r"'([^']*)'", found["known"])
        elif found := re.match(r"unrecognized arguments: (?P<word>--[\w-]+)", message):
            known = [name for action in self._actions for name in action.option_strings]
        else:
            return ""
        # a part of every start otherwise
        import difflib

        near = difflib.get_close_matches(found["word"].strip("'"), known, 1)
        return f"; did you mean {near[0]}?" if near else ""


class VerbParser(Parser):
    """The parser of one verb. Its options come from its module, which is most of the time a short run takes."""

    def __init__(self, *, module_name: str, run_as: str, **rest: Any) -> None:
        super().__init__(**rest)
        self._module_name = module_name
        self._run_as = run_as

    def load(self) -> None:
        """Bring in the verb's module with its options; once."""
        module = importlib.import_module(self._module_name)
        # what is a mark of code to one is a stray character to the other
        self.description = (module.__doc__ or "").replace("``", "`")
        module.configure(self)
        self.set_defaults(**{self._run_as: module.run})

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """What argparse calls when the verb was chosen."""
        self.load()
        parsed, strange = super().parse_known_args(args, namespace)
        if strange:
            # told by the verb that does not know it, not by the program as a whole
            self.error(f"unrecognized arguments: {' '.join(strange)}")
        return parsed, strange


_OF_THEIR_NAMES: Mapping[str, str] = MappingProxyType({})


def add_verbs(
    parser: argparse.ArgumentParser,
    package: str,
    titles: Mapping[str, str],
    *,
    run_as: str,
    modules: Mapping[str, str] = _OF_THEIR_NAMES,
) -> None:
    """Subcommands by the names and titles; each is the module of that name in ``package``, or of the one in ``modules``.

    Its ``run`` becomes the attribute ``run_as`` of the parsed arguments.
    """
    verbs = parser.add_subparsers(dest=f"{run_as}_verb", required=True, metavar="VERB", parser_class=VerbParser)
    for name, title in titles.items():
        verbs.add_parser(name, help=title, module_name=f"{package}.{modules.get(name, name)}", run_as=run_as)
