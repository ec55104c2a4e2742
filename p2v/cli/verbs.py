"""Verbs as subcommands: one module a verb, imported only when its verb was chosen."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from p2v.cli import console


class Parser(argparse.ArgumentParser):
    """argparse ends with status 2, which here means "done with warnings"; a usage error is 64."""

    def error(self, message: str) -> None:  # type: ignore[override]
        console.note(f"p2v: {message}")
        console.note(f"     {self.format_usage().strip()}")
        sys.exit(64)


class VerbParser(Parser):
    """The parser of one verb. Its options come from its module, which is most of the time a short run takes."""

    def __init__(self, *, module_name: str, run_as: str, **rest: Any) -> None:
        super().__init__(**rest)
        self._module_name = module_name
        self._run_as = run_as

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """What argparse calls when the verb was chosen."""
        module = importlib.import_module(self._module_name)
        # what is a mark of code to one is a stray character to the other
        self.description = (module.__doc__ or "").replace("``", "`")
        module.configure(self)
        self.set_defaults(**{self._run_as: module.run})
        return super().parse_known_args(args, namespace)


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
