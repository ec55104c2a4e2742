"""``p2v doctor``: what this host can do, and what to install for the rest."""

from __future__ import annotations

import argparse
from typing import Any

from p2v.cli import console
from p2v.core import jsonio
from p2v.doctor import able, examine, render
from p2v.documents import to_data


def add_parser(verbs: Any) -> None:
    """Register the verb."""
    parser = verbs.add_parser("doctor", help="say what this host can do", description=__doc__)
    parser.add_argument("--json", action="store_true", help="as a JSON document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Examine and print; 69 when the main job cannot run here."""
    checks = examine()
    if arguments.json:
        console.out_json(jsonio.pretty(to_data(checks)))
    else:
        console.out(render(checks))
    return 0 if able(checks) else 69
