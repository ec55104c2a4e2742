"""``p2v plan SOURCE...``: what a conversion would do, with the real diffs; nothing is done."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import fields

from drivers.plan_text import render as render_plan
from p2v.cli import console, live_options, machine_options, options
from p2v.core.errors import P2vError
from p2v.core.text import printable
from p2v.core.units import SECTOR_BYTES, format_bytes
from p2v.documents import PlanDocument, plan_digest, plan_json
from p2v.inspection import Reading
from p2v.machine import Clock, Connection, Firmware, Smbios
from p2v.nvram.carried import described
from p2v.planning import plan_machine
from p2v.targets.hardware import TargetHardware, TargetNic
from p2v.targets.platforms import Video

_ASSUMED = {"cpus": "--cpus", "memory": "--memory", "mac": "--mac"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    options.add_disks(parser)
    machine_options.add_machine(parser)
    machine_options.add_guest(parser)
    live_options.configure(parser)
    options.add_reader(parser)
    machine_options.add_keys(parser)
    machine_options.add_acceleration(parser)
    options.add_progress(parser)
    parser.add_argument("--json", action="store_true", help="a document for `p2v convert --plan FILE`")


def run(arguments: argparse.Namespace) -> int:
    """Plan and print; 4 when there are blockers."""
    report = console.reporter(arguments.progress if arguments.progress != "auto" else "none")
    document = plan_machine(
        machine_options.machine_of(arguments),
        Reading(arguments.reader),
        machine_options.acceleration_of(arguments),
        report,
        machine_options.keys_of(arguments),
        machine_options.guest_of(arguments),
        live_options.wish_of(arguments),
    )
    if arguments.json:
        console.out_json(plan_json(document))
    else:
        console.out(render(document, ("To copy", *_copied(document))))
    return 4 if document.plan.blockers else 0


def _copied(document: PlanDocument) -> Iterator[str]:
    if document.live:
        yield "  nobody knows before: disks are in use"
        return
    # a document for `p2v convert --plan` has nothing of it
    from p2v.cli.left_out_text import copy_rows
    from p2v.copy_estimate import estimate
    from p2v.left_out import Wanted

    try:
        yield from copy_rows(estimate(document, Wanted()))
    except P2vError as error:
        # the plan itself stands, and the conversion says it again
        yield printable(f"  not known: {error.sentence()}", keep="")


def render(document: PlanDocument, copied: Sequence[str] = ()) -> str:
    """The whole plan as text: guest, changes with diffs, findings, hardware; ``copied``: lines on what is copied."""
    system = document.facts.os
    title = f"Plan for {document.machine.name}: {(system.name or system.id) if system else 'no known system'}"
    described = [f"  {document.machine.described_by}"] if document.machine.described_by else []
    sources = [*described, *(f"  source: {s.path} ({s.image.format})" for s in document.sources)]
    # a name with a newline in it must not look like a line of ours
    lines = [*(printable(line, keep="\t") for line in (title, *sources)), ""]
    lines += [render_plan(document.plan).rstrip("\n"), "", "Hardware on KVM:", *hardware_rows(document)]
    lines += ["", *copied] if copied else []
    lines += ["", "The source is not written to; only `p2v convert --in-place` does that, and keeps a journal to undo it."]
    lines += ["", f"Plan digest: {plan_digest(document)}"]
    return "\n".join(lines)


def _firmware(hardware: TargetHardware) -> str:
    is_pc = hardware.arch == "x86_64"
    name = hardware.firmware.value.upper() if is_pc or hardware.firmware is Firmware.UEFI else "its own firmware"
    return name + (", secure boot" if hardware.secure_boot else "")


def hardware_rows(document: PlanDocument) -> list[str]:
    """What KVM will offer, with a word on what was assumed."""
    hardware, machine = document.hardware, document.machine
    made = hardware.topology
    topology = f" ({made.sockets} sockets, {made.cores} cores, {made.threads} threads each)" if made else ""
    rows = [
        f"  machine     {hardware.machine}, {_firmware(hardware)}, {hardware.arch}" + (", TPM 2.0" if hardware.tpm else ""),
        f"  CPUs        {hardware.cpus}{topology}" + (f", {hardware.cpu_model}" if hardware.cpu_model else ""),
        f"  memory      {format_bytes(hardware.memory_bytes)}",
        f"  disks       {len(hardware.disks)} on {hardware.disk_bus.value}{_sectors(hardware)}",
        *(f"  network     {nic.model.value} ({nic.mac}) on {_network(nic)}" for nic in hardware.nics),
    ]
    if hardware.firmware is Firmware.UEFI:
        rows.append(f"  variables   {_variables(document)}")
    rows += [] if hardware.nics else ["  network     none"]
    drives = [f"{count} {what}" for count, what in ((hardware.cdroms, "CD-ROM"), (hardware.floppies, "floppy")) if count]
    inside = [f"{medium.path} in a {medium.kind.value} drive" for medium in hardware.media]
    rows += [f"  drives      {', '.join([*drives, *inside])}"] if drives else []
    stated = {field.name.replace("_", " "): getattr(hardware.smbios, field.name) for field in fields(Smbios)}
    told = [f"{name} {value!r}" for name, value in stated.items() if value]
    rows += [f"  SMBIOS      {', '.join(told)}"] if told else []
    rows += [f"  generation  {hardware.generation_id}"] if hardware.generation_id else []
    rows += _windows_rows(hardware)
    if machine.assumed:
        named = ", ".join(_ASSUMED.get(field, field) for field in machine.assumed)
        rows.append(f"  The source does not tell everything: these are defaults, set them with {named}.")
    return rows


def _windows_rows(hardware: TargetHardware) -> list[str]:
    """What only a machine for Windows (or for what is older still) has."""
    clock = ["local time"] if hardware.clock is Clock.LOCAL_TIME else []
    clock += ["missed ticks made up for", "no HPET"] if hardware.counts_ticks else []
    rows = [f"  clock       {', '.join(clock)}"] if clock else []
    rows += [f"  display     {hardware.video.value}"] if hardware.video in (Video.CIRRUS, Video.RAMFB) else []
    rows += [f"  pointer     USB tablet on {hardware.tablet.value}"] if hardware.tablet is not None else []
    names = [each.value for each in hardware.hyperv]
    rows += [f"  Hyper-V's   {', '.join(names)} (where KVM works)"] if names else []
    rows += ["  guest agent no channel: the guest has no driver for it"] if not hardware.agent else []
    return rows


def _sectors(hardware: TargetHardware) -> str:
    large = [str(i) for i, disk in enumerate(hardware.disks, 1) if disk.logical_sector_bytes != SECTOR_BYTES]
    return f"; sectors of 4096 bytes: disk {', '.join(large)}" if large else ""


def _variables(document: PlanDocument) -> str:
    machine = document.machine
    carried = described(machine.variables, secure_boot=document.hardware.secure_boot)
    if not carried:
        return "new ones: the firmware starts what lies at the removable path"
    return printable(f"{carried}; from {machine.nvram.name if machine.nvram is not None else 'the source'}", keep="")


def _network(nic: TargetNic) -> str:
    name = printable(nic.network, keep="")
    return "QEMU's own network (NAT)" if nic.connection is Connection.USER else f"{nic.connection.value} {name}"
