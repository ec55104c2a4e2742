"""``p2v batch init PATH... > jobs.yaml``: a manifest to begin with, from folders of machines or from an audit's JSON document.

What blocks a machine stands beside it, and it is left out by a comment.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from p2v.batch.beginning import init_text
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
    console.out(init_text(arguments.paths, report=report, at_once=arguments.at_once).rstrip("\n"))
    return 0
