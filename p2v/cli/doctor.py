"""``p2v doctor``: what this host can do, and what to install for the rest."""

from __future__ import annotations

import argparse

from p2v.acceleration import acceleration
from p2v.cli import console
from p2v.core import jsontext
from p2v.core.acceleration import Acceleration
from p2v.core.errors import ToolMissing
from p2v.doctor import able, examine, render
from p2v.documents import to_data
from p2v.quick_appliance import remove


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("--json", action="store_true", help="as a JSON document")
    appliance = parser.add_mutually_exclusive_group()
    appliance.add_argument(
        "--build-appliance", action="store_true", help="build the appliance that starts quicker now, and start it once"
    )
    appliance.add_argument("--remove-appliance", action="store_true", help="remove it; the next conversion builds it again")


def _build(answer: Acceleration) -> None:
    try:
        from p2v.appliance_building import build
    except ImportError as error:
        raise ToolMissing("libguestfs' Python module", "python3-guestfs (dnf: python3-libguestfs)") from error
    build(answer, console.reporter("auto"))


def run(arguments: argparse.Namespace) -> int:
    """Examine and print; 69 when the main job cannot run here."""
    answer = acceleration(fresh=True)
    if arguments.remove_appliance:
        console.note(f"Removed appliances: {remove()}.")
    if arguments.build_appliance:
        _build(answer)
    checks = examine(answer=answer)
    if arguments.json:
        console.out_json(jsontext.pretty(to_data(checks)))
    else:
        console.out(render(checks))
    return 0 if able(checks) else 69
