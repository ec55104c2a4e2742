"""``p2v disk VERB``: disk images alone: what they are, what they hold, copying, comparing, checking, serving."""

from __future__ import annotations

import argparse

from p2v.cli.disk import check, compare, convert, info, serve
from p2v.cli.disk import map as map_verb

_VERBS = (
    ("info", "say what an image is: format, sizes, chain, who made it, what is unfinished", info),
    ("map", "list where its bytes are: data, zeroes, holes", map_verb),
    ("convert", "copy it to a qcow2 or raw image, byte for byte", convert),
    ("compare", "say whether two images hold the same, and where not", compare),
    ("check", "list everything that is wrong with it", check),
    ("serve", "offer it read-only over NBD on a UNIX socket, until interrupted", serve),
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    verbs = parser.add_subparsers(dest="disk_verb", required=True, metavar="VERB")
    for name, title, module in _VERBS:
        verb = verbs.add_parser(name, help=title, description=module.__doc__)
        module.configure(verb)
        verb.set_defaults(run_disk_verb=module.run)


def run(arguments: argparse.Namespace) -> int:
    """Run the verb that was chosen."""
    return int(arguments.run_disk_verb(arguments))
