"""``p2v record sign RECORD --key KEY``: sign a record with your SSH key; the signature is RECORD.sig.

`ssh-keygen -Y verify` checks it without p2v (docs/record.md).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from p2v.cli import console
from p2v.record.reading import open_record
from p2v.record.signature import NAMESPACE, check, sign


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("record", type=Path, metavar="RECORD", help="the JSON file beside the result")
    parser.add_argument(
        "--key",
        type=Path,
        required=True,
        metavar="FILE",
        help="your SSH key, as in ~/.ssh/id_ed25519; or the .pub file of a key that ssh-agent holds",
    )
    add_namespace(parser)


def add_namespace(parser: argparse.ArgumentParser) -> None:
    """What the signature is for."""
    parser.add_argument(
        "--namespace", default=NAMESPACE, metavar="NAME", help=f"what the signature is for (default {NAMESPACE})"
    )


def run(arguments: argparse.Namespace) -> int:
    """Sign, look at the signature once, and tell the key."""
    made = sign(arguments.record, arguments.key.expanduser(), arguments.namespace)
    signature = check(arguments.record, open_record(arguments.record).data, None, arguments.namespace)
    console.out(f"{made}: signed with {signature.key}")
    return 0
