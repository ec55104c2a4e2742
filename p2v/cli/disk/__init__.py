"""``p2v disk VERB``: disk images alone: what they are, what they hold, copying, comparing, checking, serving."""

from __future__ import annotations

import argparse

from p2v.cli.verbs import add_verbs

_VERBS = {
    "info": "say what an image is: format, sizes, chain, who made it, what is unfinished",
    "map": "list where its bytes are: data, zeroes, holes",
    "convert": "copy it to a qcow2 or raw image, byte for byte",
    "compare": "say whether two images hold the same, and where not",
    "check": "list everything that is wrong with it",
    "serve": "offer it read-only over NBD on a UNIX socket, until interrupted",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    add_verbs(parser, __name__, _VERBS, run_as="run_disk_verb")


def run(arguments: argparse.Namespace) -> int:
    """Run the verb that was chosen."""
    return int(arguments.run_disk_verb(arguments))
