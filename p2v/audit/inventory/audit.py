"""The audit of an inventory: every machine of an export with its findings and its verdict. Nobody looked inside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path

from p2v.audit.catalogue_file import Rule
from p2v.audit.document import DiskAudit, MachineAudit, Origin, Signs, verdict
from p2v.audit.findings import AuditFinding
from p2v.audit.inventory import rules_devices, rules_disks, rules_network, rules_resources, rules_state, rules_system
from p2v.audit.inventory.machines import Inventory, MachineRows
from p2v.audit.inventory.reading import read_inventory
from p2v.audit.inventory.rows import DiskRow
from p2v.audit.inventory.seen import InventoryCheck, Neighbours, Seen, addresses_of, neighbours_of
from p2v.audit.inventory.systems import system_of
from p2v.audit.lifecycle import support_of
from p2v.audit.rules.support import support_findings

CHECKS: tuple[InventoryCheck, ...] = (
    *rules_state.CHECKS,
    *rules_disks.CHECKS,
    *rules_network.CHECKS,
    *rules_devices.CHECKS,
    *rules_resources.CHECKS,
    *rules_system.CHECKS,
)
_FIRMWARE = {"bios": "bios", "efi": "uefi", "uefi": "uefi"}


def audit_inventory(path: Path, rules: Mapping[str, Rule], as_of: date) -> tuple[MachineAudit, ...]:
    """The machines of an export. Raises what ``read_inventory`` raises."""
    return audit_machines(read_inventory(path), rules, as_of)


def audit_machines(inventory: Inventory, rules: Mapping[str, Rule], as_of: date) -> tuple[MachineAudit, ...]:
    """The machines of an inventory that was read. Pure."""
    near = neighbours_of(inventory)
    return tuple(_audited(machine, inventory, near, rules, as_of) for machine in inventory.machines)


def _audited(
    machine: MachineRows, inventory: Inventory, near: Neighbours, rules: Mapping[str, Rule], as_of: date
) -> MachineAudit:
    info = machine.info
    named = system_of(info.os_configured, info.os_tools, info.detail, info.dns_name)
    system = named.system if named is not None else None
    findings = tuple(_findings(Seen(machine, inventory, near, named, rules, as_of)))
    return MachineAudit(
        info.vm,
        Origin.INVENTORY,
        inventory.made_by,
        (str(inventory.path),),
        verdict(findings, rules),
        findings,
        system=system,
        support=support_of(system, as_of) if system is not None else None,
        firmware=_FIRMWARE.get(info.firmware.casefold(), ""),
        cpus=info.cpus if info.cpus is not None else machine.cpu.cpus if machine.cpu is not None else None,
        memory_bytes=info.memory
        if info.memory is not None
        else machine.memory.size
        if machine.memory is not None
        else None,
        disks=tuple(_disks(machine)),
        nics=len(machine.nics) if inventory.has("vNetwork") else info.nic_count or 0,
        signs=_signs(machine),
        read_by=inventory.made_by,
        powered_on=machine.runs if info.powerstate else None,
        host=machine.host,
        cluster=machine.cluster,
    )


def _findings(seen: Seen) -> Iterator[AuditFinding]:
    for check in CHECKS:
        yield from check(seen)
    if seen.system is not None:
        yield from support_findings(seen.system.system, seen.as_of, seen.rules)


def _disks(machine: MachineRows) -> Iterator[DiskAudit]:
    """Its disks. What thin ones have allocated is not in exports: they share what the machine has in use, by their sizes."""
    thick = sum(disk.capacity or 0 for disk in machine.disks if not disk.thin)
    thin = sum(disk.capacity or 0 for disk in machine.disks if disk.thin)
    in_use = machine.info.in_use
    left = max(0, in_use - thick) if in_use is not None else thin
    for disk in machine.disks:
        capacity = disk.capacity or 0
        allocated = min(capacity, left * capacity // thin) if disk.thin and thin else capacity
        yield DiskAudit(disk.file or disk.label, "vmdk", capacity, allocated, _used(disk, machine))


def _used(disk: DiskRow, machine: MachineRows) -> int | None:
    """What the file systems of a disk use; known where the export ties them to it, or where it is the only one."""
    if len(machine.disks) == 1:
        parts = machine.partitions
    elif disk.key is not None:
        parts = tuple(part for part in machine.partitions if part.disk_key == disk.key)
    else:
        return None
    used = [part.consumed for part in parts if part.consumed is not None]
    return min(sum(used), disk.capacity or sum(used)) if used else None


def _signs(machine: MachineRows) -> Signs:
    """What a fleet is compared by: nothing of templates and placeholders, which share it, and no name that an installer gave."""
    info = machine.info
    if info.template or info.placeholder:
        return Signs()
    return Signs(
        uuid=(info.smbios_uuid or info.vm_uuid).casefold(),
        hostname="" if info.dns_name.casefold() in rules_system.DEFAULT_NAMES else info.dns_name,
        macs=tuple(dict.fromkeys(nic.mac.casefold() for nic in machine.nics if nic.mac)),
        addresses=addresses_of(machine),
        files=tuple(disk.file for disk in machine.disks if disk.file),
    )
