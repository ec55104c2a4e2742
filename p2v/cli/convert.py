"""``p2v convert DISK... -o DIR``: copy and rewrite at once; out comes what KVM runs. The source is not written to."""

from __future__ import annotations

import argparse
from pathlib import Path

from converters.copy import COPY_THREADS
from converters.target_formats import TargetFormat
from p2v.cli import (
    console,
    device_options,
    gentle_options,
    in_place,
    layout_options,
    live_options,
    machine_options,
    options,
    storage,
    support,
)
from p2v.cli import plan as plan_verb
from p2v.cli import report as report_verb
from p2v.cli.ahead_text import ahead_rows
from p2v.conversion_job import Request
from p2v.core.errors import Usage
from p2v.core.events import Reporter
from p2v.core.run import SystemRunner
from p2v.documents import PlanDocument, load_plan, relocated
from p2v.inspection import Reading
from p2v.left_out import Wanted
from p2v.migrate import convert
from p2v.planning import plan_machine
from p2v.preflight import look_ahead, troubles_of_room
from p2v.record import ConversionRecord, record_json
from p2v.targets.front_ends import FrontEnd
from p2v.targets.libvirt_host import Delivery, LibvirtHost
from p2v.targets.storage import Storage
from p2v.verify import Reason


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("disks", nargs="*", type=Path, metavar="SOURCE", help=options.SOURCE_HELP)
    parser.add_argument("--input-format", choices=options.FORMAT_IDS, help="take the disks for this format")
    options.add_system(parser)
    options.add_lookup(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--to",
        choices=[each.value for each in FrontEnd],
        default=FrontEnd.QEMU.value,
        help="whom to tell of the machine, by files beside its disks (default qemu: a script, and libvirt's definition)",
    )
    parser.add_argument("--connect", metavar="URI", help="with --to libvirt: define the machine there (as qemu:///system)")
    storage.configure(parser)
    parser.add_argument("--start", action="store_true", help="with --connect: start the machine")
    parser.add_argument("--format", choices=("qcow2", "raw"), help="of the disks made (default qcow2)")
    parser.add_argument("--plan", type=Path, metavar="FILE", help="carry out this plan (`p2v plan --json`)")
    parser.add_argument("--verify", action="store_true", help="boot a throw-away overlay of the result and prove it")
    parser.add_argument("--checksum", action="store_true", help="content digests of source and result in the record")
    parser.add_argument("--record-host-name", action="store_true", help="tell this host's name in the record")
    parser.add_argument("--threads", type=int, default=COPY_THREADS, help="threads that copy (default: %(default)s)")
    parser.add_argument(
        "--all-blocks", action="store_true",
        help="copy everything: what file systems call free and what is in swap areas and page files too "
        "(left out otherwise: deleted files do not travel)",
    )  # fmt: skip
    parser.add_argument(
        "--skip-hibernation", action="store_true",
        help="leave out what is in hiberfil.sys of a Windows that is not asleep; its page files are left out anyway",
    )  # fmt: skip
    parser.add_argument("--fresh", action="store_true", help="do not go on with an interrupted run; begin again")
    parser.add_argument(
        "--dry-run", action="store_true",
        help="write nothing: print the plan, what would be made and copied, and all that is in the way (exit status 4 then)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the record instead of the report")
    # said by a batch to its children
    parser.add_argument("--fence", type=int, metavar="NUMBER", help=argparse.SUPPRESS)
    layout_options.configure(parser)
    gentle_options.configure(parser)
    live_options.configure(parser)
    device_options.configure(parser)
    in_place.configure(parser)
    support.configure(parser)
    machine_options.add_machine(parser)
    machine_options.add_guest(parser)
    options.add_reader(parser)
    machine_options.add_keys(parser)
    machine_options.add_acceleration(parser)
    options.add_progress(parser)


def run(arguments: argparse.Namespace) -> int:
    """Plan (or take the plan), convert, print. 3 when it was converted and the boot check failed, 2 when something was lost.

    With ``--dry-run`` nothing is written, and 4 says that something is in the way.
    """
    _refuse_senseless(arguments)
    report = console.reporter(arguments.progress)
    if arguments.dry_run:
        return _dry_run(arguments, report)
    with support.watched(arguments.support_bundle, report) as watch:
        record = _in_place(arguments, watch) if arguments.in_place else _copied(arguments, watch)
    if arguments.json:
        console.out_json(record_json(record))
    else:
        console.out(report_verb.render(record, arguments.output))
    if record.boot is not None and not record.boot.booted:
        what = "proved nothing" if record.boot.verdict.reason is Reason.NO_EVIDENCE else "failed"
        console.note(f"p2v: converted, but the boot check {what}: {record.boot.verdict.sentence}")
        return 3
    if record.has_losses:
        console.note("p2v: converted with losses: parts of the source could not be read, see above")
        return 2
    return 0


def _refuse_senseless(arguments: argparse.Namespace) -> None:
    if not 1 <= arguments.threads <= 64:
        raise Usage(f"--threads {arguments.threads}: 1 to 64")
    if arguments.all_blocks and arguments.skip_hibernation:
        raise Usage("--all-blocks leaves nothing out, and --skip-hibernation does", "Say one of them.")
    if arguments.dry_run and (arguments.in_place or arguments.json):
        hint = "`p2v plan` shows what --in-place would change, and has --json."
        raise Usage("--dry-run is for copies, and prints text", hint)
    if arguments.fence is not None and (arguments.fence < 1 or arguments.in_place):
        raise Usage(f"--fence {arguments.fence}: the number of a batch's lease, 1 or more, and not with --in-place")


def _dry_run(arguments: argparse.Namespace, report: Reporter) -> int:
    document, request = planned(arguments, report)
    looked = look_ahead(document, request)
    in_the_way = (*looked.in_the_way, *troubles_of_room(looked, request.folder))
    console.out("\n".join([plan_verb.render(document), "", *ahead_rows(looked, in_the_way, document, request)]))
    return 4 if in_the_way else 0


def _in_place(arguments: argparse.Namespace, watch: support.Watched) -> ConversionRecord:
    def document() -> PlanDocument:
        return watch.planned(_document(arguments, watch.report))

    if arguments.plan is None:
        if not arguments.disks:
            raise Usage("no source was named", "As in p2v convert --in-place disk.raw -o converted")
        return in_place.run(arguments, lambda: machine_options.machine_of(arguments), document, watch.report)
    planned = document()
    return in_place.run(arguments, lambda: planned.machine, lambda: planned, watch.report)


def _copied(arguments: argparse.Namespace, watch: support.Watched) -> ConversionRecord:
    document, request = planned(arguments, watch.report)
    acceleration = machine_options.acceleration_of(arguments)
    return convert(watch.planned(document), request, acceleration, watch.report)


def planned(arguments: argparse.Namespace, report: Reporter) -> tuple[PlanDocument, Request]:
    """What the options ask for: the plan, and how it is to be carried out. Nothing is done; raises as ``run``."""
    # what makes no sense is told before the guest is read
    _refuse_senseless(arguments)
    in_place.refuse_alone(arguments)
    places = storage.storage_of(arguments, FrontEnd(arguments.to))
    delivery, devices = _delivery(arguments, places), device_options.devices_of(arguments)
    disk_format = arguments.format or "qcow2"
    layout = layout_options.layout_of(arguments, TargetFormat(disk_format))
    layout_options.require_readable_here(layout)
    document = _document(arguments, report)
    storage.require_disks(places, len(document.sources))
    request = Request(
        folder=arguments.output,
        disk_format=disk_format,
        layout=layout,
        checksum=arguments.checksum,
        threads=arguments.threads,
        boot_check=arguments.verify,
        fresh=arguments.fresh,
        left_out=Wanted(arguments.all_blocks, arguments.skip_hibernation),
        keys=machine_options.keys_of(arguments),
        front_end=FrontEnd(arguments.to),
        storage=places,
        delivery=delivery,
        devices=devices,
        host_name=arguments.record_host_name,
        reading=gentle_options.wish_of(arguments),
        live=live_options.wish_of(arguments, arguments.output),
        fence=arguments.fence,
    )
    return document, request


def _delivery(arguments: argparse.Namespace, places: Storage) -> Delivery | None:
    if arguments.connect is None:
        if arguments.pool or arguments.start:
            raise Usage("--pool and --start need a libvirt to go to", "As in --to libvirt --connect qemu:///system.")
        return None
    if FrontEnd(arguments.to) is not FrontEnd.LIBVIRT:
        raise Usage("--connect is for --to libvirt")
    return Delivery(LibvirtHost(arguments.connect, SystemRunner()), places, arguments.start)


def _document(arguments: argparse.Namespace, report: Reporter) -> PlanDocument:
    if arguments.plan is None:
        if not arguments.disks:
            raise Usage("no source was named", "As in p2v convert disk.vmdk -o converted")
        return plan_machine(
            machine_options.machine_of(arguments),
            Reading(arguments.reader),
            machine_options.acceleration_of(arguments),
            report,
            machine_options.keys_of(arguments),
            machine_options.guest_of(arguments),
            live_options.wish_of(arguments, arguments.output),
        )
    of_cards = ("mac", "network", "map", "map_if", "map_file", "ip")
    of_machine = ("name", "cpus", "memory", *of_cards, "with_media", "firmware",
                  "system", "input_format", "parent", "extent_dir", "allow")
    of_guest = ("new_identity", "install_agent", "agent_package", "virtio_win", "purge_tools", "compatible", "rebuild_initramfs",
                "discard_hibernation")
    for option in options.given(arguments, (*of_machine, *of_guest)):
        raise Usage(f"{option} cannot change a plan", "Give it to `p2v plan` instead.")
    document = load_plan(arguments.plan)
    return relocated(document, tuple(arguments.disks)) if arguments.disks else document
