"""``p2v batch init PATH... > jobs.yaml``: a manifest to begin with, from folders of machines or from an audit's JSON document.

What blocks a machine stands beside it, and it is left out by a comment.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from p2v.batch.beginning import entries, init_text
from p2v.cli import console, options


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH",
        help="folders of machines, disks, descriptions; or the document of an audit (`p2v audit --json`)",
    )  # fmt: skip
    parser.add_argument(
        "--at-once", type=int, metavar="N", help="machines looked at at the same time (default: one a processor)"
    )
    options.add_progress(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the manifest."""
    report = console.reporter(arguments.progress)
    text = init_text(arguments.paths, report=report, at_once=arguments.at_once)
    console.out_utf8(text.rstrip("\n"))
    if arguments.progress not in ("json", "none"):
        _tell(*entries(text))
    return 0


def _tell(machines: int, left_out: int) -> None:
    """What to do with it: on stderr, for the manifest itself goes into a file."""
    count = f"{machines} machine{'' if machines == 1 else 's'}"
    apart = f", and {left_out} left out: comments say why" if left_out else ""
    console.note(f"p2v: a manifest of {count}{apart}")
    if not machines and not left_out:
        console.note("     Name the folder that the disks or descriptions are in; `p2v audit PATH` says what was looked at.")
    if machines:
        console.note("     Edit it (target, verify, map), then `p2v batch plan FILE`.")
