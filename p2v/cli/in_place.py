"""``p2v convert --in-place``: the one mode that writes to its source; its options, and how it is run."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from p2v.cli import gentle_options, layout_options, live_options, machine_options, options
from p2v.core.errors import Usage
from p2v.core.events import Reporter
from p2v.documents import PlanDocument
from p2v.inplace import convert_in_place
from p2v.machine import Machine
from p2v.record import ConversionRecord
from p2v.settling import InPlaceRequest, settle
from p2v.targets.front_ends import FrontEnd

_FRONT_ENDS = (FrontEnd.QEMU, FrontEnd.LIBVIRT)
# options of the copy, by the names their values have
_OF_COPIES = (
    "format", "connect", "pool", "start", "to_device", "overwrite_device", "discard", "with_media", "storage", "storage_class",
    "volume_type", "all_blocks", "skip_hibernation", *layout_options.NAMES, *gentle_options.NAMES, *live_options.NAMES,
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options; what needs none of them imports nothing."""
    group = parser.add_argument_group("in place, where there is no room for a copy (no other mode writes to a source)")
    group.add_argument(
        "--in-place",
        action="store_true",
        help="change the disks where they stand, when all else is done, all of them or none; "
        "what they held is kept in a journal for `p2v undo`. With --verify nothing is written unless the guest has booted",
    )
    group.add_argument(
        "--undo-journal",
        type=Path,
        metavar="FILE",
        help="where to keep it (default NAME.undo beside the first disk; for a block device in the folder of -o)",
    )
    group.add_argument(
        "--force", action="store_true", help="write the changes although the boot check of --verify failed"
    )


def run(
    arguments: argparse.Namespace,
    machine: Callable[[], Machine],
    document: Callable[[], PlanDocument],
    report: Reporter,
) -> ConversionRecord:
    """Bring an interrupted run to an end, or convert. ``document`` plans: it is asked only when the disks are in no doubt."""
    for option in options.given(arguments, _OF_COPIES):
        raise Usage(f"{option} is for copies; with --in-place the disks stay what and where they are")
    front_end = FrontEnd(arguments.to)
    if front_end not in _FRONT_ENDS:
        hint = "It takes copies of the disks; convert without --in-place."
        raise Usage(f"--in-place cannot go with --to {front_end.value}", hint)
    request = InPlaceRequest(
        folder=arguments.output,
        boot_check=arguments.verify,
        checksum=arguments.checksum,
        force=arguments.force,
        fresh=arguments.fresh,
        threads=arguments.threads,
        keys=machine_options.keys_of(arguments),
        front_end=front_end,
        undo_journal=arguments.undo_journal,
        host_name=arguments.record_host_name,
    )
    known = machine()
    return settle(known.name, known.disks, request, report) or convert_in_place(
        document(), request, machine_options.acceleration_of(arguments), report
    )


def refuse_alone(arguments: argparse.Namespace) -> None:
    """Options that mean nothing without ``--in-place``. Raises Usage."""
    if arguments.undo_journal is not None or arguments.force:
        name = "--undo-journal" if arguments.undo_journal is not None else "--force"
        raise Usage(f"{name} is for --in-place: without it no source is written to, and there is nothing to undo")
