"""``p2v verify SOURCE...``: boots a throw-away copy on an isolated network and reports what came up.

SOURCE is a conversion's record (NAME.json), which boots exactly the machine that was converted; a libvirt definition (NAME.xml)
with its disks; or disks alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from p2v.cli import console, machine_options, options
from p2v.core import jsontext
from p2v.core.errors import Usage
from p2v.core.events import Warned
from p2v.documents import to_data
from p2v.inspection import Reading
from p2v.standing import Look, Standing, is_record, of_machine, of_record
from p2v.verify import EvidenceFiles, require_tools, verify
from p2v.verify.text import render

# What a record says of its machine, and the options that would say it otherwise.
_SAID_BY_A_RECORD = (
    "name", "cpus", "memory", "mac", "network", "map", "map_if", "map_file", "ip", "with_media", "firmware", "system",
    "input_format", "parent", "extent_dir", "allow",
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    options.add_disks(parser, "the record of a conversion (NAME.json), ")
    machine_options.add_machine(parser)
    options.add_reader(parser)
    machine_options.add_keys(parser)
    machine_options.add_acceleration(parser)
    options.add_progress(parser)
    parser.add_argument("--screenshot", type=Path, metavar="PNG", help="save the console's picture here")
    parser.add_argument("--log", type=Path, metavar="FILE", help="save all that the guest said here")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="for the boot (default: 120, without KVM 300)")
    parser.add_argument("--json", action="store_true", help="the evidence as a JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Boot and print. 0 when it came up, 3 when not."""
    report = console.reporter(arguments.progress)
    chosen = machine_options.acceleration_of(arguments)
    keys = machine_options.keys_of(arguments)
    standing = _standing(arguments, Look(Reading(arguments.reader), chosen, report, keys))
    for remark in standing.remarks:
        report(Warned(remark))
    require_tools(standing.hardware)
    evidence = verify(
        standing.hardware,
        Path.cwd(),
        standing.facts,
        chosen(),
        files=EvidenceFiles(arguments.screenshot, arguments.log),
        report=report,
        timeout_seconds=arguments.timeout,
        keys=keys,
    )
    if arguments.json:
        console.out_json(jsontext.pretty(to_data(evidence)))
    else:
        console.out(render(evidence))
    return 0 if evidence.booted else 3


def _standing(arguments: argparse.Namespace, look: Look) -> Standing:
    records = [path for path in arguments.disks if is_record(path)]
    if not records:
        return of_machine(machine_options.machine_of(arguments), look)
    if len(arguments.disks) > 1:
        raise Usage(f"{records[0]} is the record of a machine with all its disks", "Name it alone.")
    # not given, options that only cards.configure_addresses adds are missing here
    for option in options.given(arguments, (name for name in _SAID_BY_A_RECORD if name in arguments)):
        raise Usage(
            f"{option} cannot change a machine that was converted",
            "A record boots exactly that machine; name its disks alone to try another.",
        )
    return of_record(records[0], look)
