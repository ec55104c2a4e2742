"""A machine of a batch planned as ``p2v convert`` plans it: the same options, read by the same code."""

from __future__ import annotations

import argparse
from typing import NoReturn

from p2v.batch.arguments import convert_arguments
from p2v.batch.jobs import MachineJob
from p2v.batch.planned import Planned, Planner
from p2v.cli import convert
from p2v.core.errors import Usage
from p2v.core.events import silent


class _Parser(argparse.ArgumentParser):
    """One machine's mistake is that machine's; the plan of the others goes on."""

    def error(self, message: str) -> NoReturn:
        raise Usage(message)


def planner() -> Planner:
    """What plans one machine. Raises, for a machine, what ``p2v convert`` raises before it begins to copy."""
    parser = _Parser(prog="p2v convert", add_help=False, allow_abbrev=False)
    convert.configure(parser)

    def plan(machine: MachineJob) -> Planned:
        document, request = convert.planned(parser.parse_args(convert_arguments(machine)), silent)
        return Planned(document, request)

    return plan
