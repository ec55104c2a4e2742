"""``p2v verify DISK...``: boots a throw-away copy on an isolated network and reports what came up."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from p2v.cli import console, machine_options, options
from p2v.core import jsontext
from p2v.core.errors import Usage
from p2v.documents import to_data
from p2v.inspection import Reading
from p2v.planning import plan_machine
from p2v.targets.hardware import TargetDisk
from p2v.verify import EvidenceFiles, require_tools, verify
from p2v.verify.text import render

_BOOTABLE = ("qcow2", "raw")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    options.add_disks(parser)
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
    document = plan_machine(machine_options.machine_of(arguments), Reading(arguments.reader), chosen, report, keys)
    for source in document.sources:
        if source.image.format not in _BOOTABLE:
            raise Usage(
                f"{source.path}: QEMU is not handed a {source.image.format} image of unknown origin",
                "Convert it first; `p2v convert --verify` boots the result.",
            )
    require_tools(document.hardware)
    disks = tuple(
        TargetDisk(s.path, s.image.format, d.serial)
        for s, d in zip(document.sources, document.machine.disks, strict=True)
    )
    evidence = verify(
        replace(document.hardware, disks=disks),
        Path.cwd(),
        document.facts,
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
