"""What an audit says a machine is, from its description and the facts of its guest; pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from drivers.facts import FileSystem, GuestFacts, Partition
from p2v.audit.document import DiskAudit, Signs, SystemAudit
from p2v.core.text import printable
from p2v.documents import Inspection, PlanDocument
from p2v.machine import Machine

_LONGEST = 200
# made at every start, or by nobody yet
_NO_MACHINE_ID = ("", "uninitialized", "00000000000000000000000000000000")
_NO_HOSTNAME = ("", "localhost", "localhost.localdomain")


def system_of(facts: GuestFacts) -> SystemAudit | None:
    """The guest's system; None where none was found."""
    system = facts.os
    if system is None:
        return None
    version = facts.windows.version if facts.windows is not None else None
    return SystemAudit(
        kind=_cut(system.kind),
        id=_cut(system.id),
        version=_cut(system.version),
        name=_cut(system.name or system.id),
        arch=_cut(system.arch),
        family=_cut(system.family),
        edition=_cut(version.edition_id) if version is not None else "",
        hostname=_cut(system.hostname or ""),
    )


def disks_of(found: Inspection) -> tuple[DiskAudit, ...]:
    """The machine's disks, with what is used of each where its file systems tell."""
    return tuple(
        DiskAudit(
            str(source.path),
            source.image.format,
            source.image.virtual_size,
            source.image.allocated_size,
            used_bytes(found.facts, index),
        )
        for index, source in enumerate(found.sources)
    )


def used_bytes(facts: GuestFacts, disk: int) -> int | None:
    """What is used of a disk: of each partition what its file system uses, all of it where that is not known.

    None where nothing on the disk is known. What a volume over several disks uses is taken to lie evenly on them.
    """
    parts = [each for each in facts.partitions if each.disk == disk]
    if not any(each.filesystem is not None and each.filesystem.kind != "unknown" for each in parts):
        return None
    return sum(_used_of(part, facts) for part in parts)


def _used_of(part: Partition, facts: GuestFacts) -> int:
    carried = [volume for volume in facts.volumes if (part.disk, part.number) in volume.carriers]
    # a container inside a container (LVM in LUKS) stands on the same partition twice: the innermost tells
    opened = [
        volume for volume in carried if volume.filesystem is not None and volume.filesystem.free_bytes is not None
    ]
    if opened:
        unknown = sum(_share(v.size_bytes, v.carriers) for v in carried if v not in opened and v.kind == "lvm")
        return min(part.length, unknown + sum(_share(_used(v.filesystem, v.size_bytes), v.carriers) for v in opened))
    return min(part.length, _used(part.filesystem, part.length))


def _used(system: FileSystem | None, size: int) -> int:
    if system is None or system.free_bytes is None:
        return size
    return max(0, min(size, (system.size_bytes or size) - system.free_bytes))


def _share(size: int, carriers: tuple[tuple[int, int], ...]) -> int:
    return size // max(1, len(set(carriers)))


def signs_of(document: PlanDocument) -> Signs:
    """What no two machines should have in common."""
    machine, facts = document.machine, document.facts
    hostname = (facts.os.hostname or "").strip().lower() if facts.os is not None else ""
    return Signs(
        uuid=(machine.uuid or "").lower(),
        machine_id=_machine_id(facts),
        hostname="" if hostname in _NO_HOSTNAME else _cut(hostname),
        macs=tuple(dict.fromkeys(nic.source_mac or nic.mac or "" for nic in machine.nics if nic.source_mac or nic.mac)),
        disk_ids=tuple(_cut(each.disk_id) for each in facts.disks if each.disk_id and each.disk_id.strip("0-")),
        addresses=tuple(dict.fromkeys(_addresses(facts))),
        files=tuple(dict.fromkeys(file for source in document.sources for file in source.image.files)),
    )


def _machine_id(facts: GuestFacts) -> str:
    text = facts.texts.get("/etc/machine-id")
    found = text.text.strip().lower() if text is not None else ""
    return "" if found in _NO_MACHINE_ID else _cut(found)


def _addresses(facts: GuestFacts) -> Iterator[str]:
    stated = [address for each in facts.network.interfaces for address in each.addresses]
    if facts.windows is not None:
        stated += [address for each in facts.windows.network for address in each.addresses]
    for each in stated:
        try:
            found = ipaddress.ip_interface(each).ip
        except ValueError:
            continue
        if not (found.is_loopback or found.is_link_local or found.is_unspecified):
            yield str(found)


def known_cpus(machine: Machine) -> int | None:
    """The CPUs, where the source tells."""
    return None if "cpus" in machine.assumed else machine.cpus


def known_memory(machine: Machine) -> int | None:
    """The memory in bytes, where the source tells."""
    return None if "memory" in machine.assumed else machine.memory_bytes


def _cut(text: str) -> str:
    return printable(text[:_LONGEST], keep="")
