"""``p2v doctor``: what this host can do, and what to install for the rest."""

from __future__ import annotations

import argparse

from p2v.cli import console
from p2v.core import jsontext
from p2v.doctor import able, examine, render
from p2v.documents import to_data


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("--json", action="store_true", help="as a JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Examine and print; 69 when the main job cannot run here."""
    checks = examine()
    if arguments.json:
        console.out_json(jsontext.pretty(to_data(checks)))
    else:
        console.out(render(checks))
    return 0 if able(checks) else 69
