"""``p2v record bundle RECORD -o FILE.tar.gz``: pack a record, its events, versions and boot log for others to look at.

Names, addresses, identifiers and keys become placeholders, contents of the guest's files are left out. What is in it, and
what not, is printed and is in its MANIFEST.txt (docs/record.md says how it decides).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from p2v.cli import console
from p2v.record.bundle import bundle


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("record", type=Path, metavar="RECORD", help="the JSON file beside the result")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the bundle, a .tar.gz")
    parser.add_argument(
        "--screenshot", action="store_true", help="put in the boot check's screenshot, which cannot be scrubbed"
    )


def run(arguments: argparse.Namespace) -> int:
    """Pack and print the manifest."""
    packed = bundle(arguments.record, arguments.output, screenshot=arguments.screenshot)
    console.out(f"{packed.path}\n\n{packed.manifest.rstrip()}")
    return 0
