"""``p2v inspect DISK...``: what is inside, read-only."""

from __future__ import annotations

import argparse
from dataclasses import replace

from drivers.facts import Disk, FileSystem, GuestFacts, Initramfs, Kernel, Partition, ReadBy, Volume
from p2v.cli import console, inspect_windows, machine_options, options
from p2v.core import jsontext
from p2v.core.text import printable
from p2v.core.units import SECTOR_BYTES, format_bytes
from p2v.documents import Inspection, SourceDisk, to_data
from p2v.inspection import Reading, inspect
from p2v.live_sources import users_told
from p2v.machine import Attachment, Machine, Topology


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    options.add_disks(parser)
    options.add_reader(parser)
    machine_options.add_keys(parser)
    machine_options.add_acceleration(parser)
    options.add_progress(parser)
    parser.add_argument("--json", action="store_true", help="the whole inspection as a JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Inspect and print. 0 when something was found, 76 is raised by the engine when nothing can be read."""
    machine = machine_options.described_by(arguments)
    disks = machine_options.disks_of(arguments) if machine is None else machine.disks
    report = console.reporter(arguments.progress if arguments.progress != "auto" else "none")
    for sentence in users_told([disk.path for disk in disks]):
        console.note(f"p2v: warning: {sentence}")
    chosen, keys = machine_options.acceleration_of(arguments), machine_options.keys_of(arguments)
    found = inspect(disks, Reading(arguments.reader), chosen, report, keys)
    found = replace(found, machine=machine)
    if arguments.json:
        console.out_json(jsontext.pretty(to_data(found)))
    else:
        console.out(render(found))
    return 0


def render(found: Inspection) -> str:
    """The inspection as text for people."""
    facts = found.facts
    lines = _machine(found.machine) if found.machine is not None else []
    lines += [line for source in found.sources for line in _image(source)]
    for disk in facts.disks:
        lines += _disk(disk, facts)
    if facts.volumes:
        lines += ["Volumes", *(_volume(volume, facts) for volume in facts.volumes)]
    lines += ["", *_guest(facts)]
    if facts.notes:
        lines += ["", "Notes:", *(f"  {note}" for note in facts.notes)]
    # a label or a name with a newline in it must not look like a line of ours
    return "\n".join(printable(line, keep="\t") for line in lines)


def _row(name: str, value: str) -> str:
    return f"  {name:<18}{value}"


def _machine(machine: Machine) -> list[str]:
    firmware = [machine.firmware.value.upper() if machine.firmware else "firmware not told"]
    firmware += ["secure boot"] if machine.secure_boot else []
    firmware += ["TPM"] if machine.tpm else []
    rows = [
        f"{machine.name}: {machine.described_by}",
        _row("CPUs", f"{machine.cpus}" + (f" ({_topology(machine.topology)})" if machine.topology else "")),
        _row("memory", format_bytes(machine.memory_bytes)),
        _row("firmware", ", ".join(firmware)),
    ]
    rows += [_row("UUID", machine.uuid)] if machine.uuid else []
    rows += [_row("said to run", machine.guest)] if machine.guest else []
    rows += [_row("disk", f"{disk.path.name}{_place(disk.attachment)}") for disk in machine.disks]
    for nic in machine.nics:
        state = "" if nic.connected else ", not connected"
        rows.append(_row("network card", f"{nic.mac or 'address not told'} {nic.model or 'card'} on {nic.network!r}{state}"))
    rows += [_row(drive.kind.value, drive.medium or "empty") for drive in machine.removable]
    rows += [_row("not told", ", ".join(machine.assumed))] if machine.assumed else []
    rows += [_row("warning", finding.message) for finding in machine.warnings]
    rows += [_row("blocker", finding.message) for finding in machine.blockers]
    return [*rows, ""]


def _topology(made: Topology) -> str:
    return f"{made.sockets} sockets, {made.cores} cores, {made.threads} threads each"


def _place(attachment: Attachment | None) -> str:
    if attachment is None:
        return ""
    model = f" {attachment.model}" if attachment.model else ""
    return f" on {attachment.place}{model}"


def _image(source: SourceDisk) -> list[str]:
    image = source.image
    rows = [
        f"{source.path}",
        _row("format", f"{image.format}, {image.variant}" if image.variant else image.format),
        _row("virtual size", f"{format_bytes(image.virtual_size)} ({image.virtual_size} bytes)"),
        _row("allocated size", f"{format_bytes(image.allocated_size)} in {format_bytes(image.file_size)} of files"),
    ]
    if (image.logical_sector_size, image.physical_sector_size) != (SECTOR_BYTES, SECTOR_BYTES):
        rows.append(_row("sectors", f"{image.logical_sector_size} bytes, physical {image.physical_sector_size}"))
    if image.creator:
        rows.append(_row("made by", f"{image.creator} {image.creator_version}".strip()))
    rows += [_row("over", parent) for parent in image.parents]
    rows += [_row("unfinished", sign) for sign in image.dirty]
    rows += [_row("note", note) for note in image.notes]
    return rows


def _disk(disk: Disk, facts: GuestFacts) -> list[str]:
    table = {"mbr": "MBR", "gpt": "GPT", "none": "no partition table"}.get(disk.table, disk.table)
    of_group = f" of a group of {disk.dynamic.disks}" if disk.dynamic is not None and disk.dynamic.disks else ""
    dynamic = f", dynamic disk{of_group}" if disk.dynamic is not None else ""
    rows = [f"Disk {disk.index + 1}: {table}{dynamic}" + (f", boot code: {disk.boot_code}" if disk.boot_code else "")]
    places: dict[tuple[int, int], str] = {}
    for mount in facts.mounts:
        if not mount.volume:
            place = (mount.disk, mount.partition)
            places[place] = f"{places.get(place, '')} {mount.mountpoint}".lstrip()
    rows += [_partition(p, places) for p in facts.partitions if p.disk == disk.index]
    return rows


def _partition(part: Partition, places: dict[tuple[int, int], str]) -> str:
    where = places.get((part.disk, part.number), "")
    number = str(part.number) if part.number else "whole"
    return f"  {number:<6}{_content(part.filesystem, part.length, where)}"


def _volume(volume: Volume, facts: GuestFacts) -> str:
    where = " ".join(m.mountpoint for m in facts.mounts if m.volume == volume.device)
    return f"  {volume.device} ({volume.kind})  {_content(volume.filesystem, volume.size_bytes, where)}"


def _content(system: FileSystem | None, size_bytes: int, where: str) -> str:
    what = system.kind if system else "nothing known"
    extra = [f"UUID {system.uuid}"] if system and system.uuid else []
    extra += [f"label {system.label}"] if system and system.label else []
    extra += [f"{format_bytes(system.free_bytes)} free"] if system and system.free_bytes is not None else []
    extra += [f"({system.why_not_host})"] if system and system.why_not_host else []
    gap = "" if len(where) < 8 else "  "
    return f"{format_bytes(size_bytes):<11}{what:<10}{where:<8}{gap}{', '.join(extra)}"


def _guest(facts: GuestFacts) -> list[str]:
    how = {
        ReadBy.HOST: "on this host, in a confined process",
        ReadBy.APPLIANCE: "in a read-only appliance",
    }[facts.read_by]
    if facts.os is None:
        return ["Guest: no operating system was found", _row("read", how)]
    system = facts.os
    if facts.windows is not None:
        told = inspect_windows.rows(system, facts.windows)
        shared = (("host name", system.hostname or "not set"), ("firmware", facts.firmware.upper()), ("read", how))
        return [f"Guest: {system.name}", *(_row(name, value) for name, value in (*told, *shared))]
    rows = [
        f"Guest: {system.name or system.id}",
        _row("system", f"{system.id} {system.version} ({system.family} family), {system.arch or 'unknown'}, "
                       f"{system.init or 'unknown init'}"),
        *([_row("image", f"{facts.image.kind} {facts.image.deployment}".rstrip())] if facts.image else []),
        _row("host name", system.hostname or "not set"),
        _row("firmware", facts.firmware.upper()),
        _row("boot loader", f"{facts.boot_loader.kind} {facts.boot_loader.config}".strip()),
        *(_row("kernel", line) for line in map(_kernel, facts.kernels)),
        *(_row("network", f"{i.name}: {i.method} {' '.join(i.addresses)}".rstrip() + f" ({i.source})")
          for i in facts.network.interfaces),
        *(_row("tools", f"{t.name} ({t.vendor}): {t.evidence}") for t in facts.tools),
        _row("SELinux", facts.selinux),
        _row("read", how),
    ]  # fmt: skip
    if not facts.kernels:
        rows.insert(6 if facts.image else 5, _row("kernel", "none found"))
    return rows


def _kernel(kernel: Kernel) -> str:
    verdict = "finds a root on virtio" if kernel.finds_virtio_root() else "does NOT find a root on virtio"
    return f"{kernel.version}: {verdict}; {_initramfs(kernel.initramfs)}"


def _initramfs(image: Initramfs | None) -> str:
    if image is None:
        return "no initramfs"
    if image.problem:
        return f"{image.path}: {image.problem}"
    present = [m for m in ("virtio_pci", "virtio_blk", "virtio_scsi") if m in image.modules]
    holds = ", ".join(present) or "no virtio module"
    return f"{image.path} ({image.builder}, {'+'.join(image.members)}, {format_bytes(image.size)}): {holds}"
