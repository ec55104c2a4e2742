"""``p2v record VERB``: the record of a conversion: show it, check what it proves, sign it, pack it for others to look at."""

from __future__ import annotations

import argparse

from p2v.cli.verbs import add_verbs

_VERBS = {
    "show": "tell what the conversion did (as `p2v report`)",
    "verify": "check that the record is whole, and say what it proves",
    "sign": "sign it with your SSH key",
    "bundle": "pack it for support, without names, addresses and contents of the guest",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    add_verbs(parser, __name__, _VERBS, run_as="run_record_verb")


def run(arguments: argparse.Namespace) -> int:
    """Run the verb that was chosen."""
    return int(arguments.run_record_verb(arguments))
