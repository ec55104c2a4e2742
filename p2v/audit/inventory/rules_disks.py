"""Rules about a machine's disks: how they are attached, shared and stored, and what is free on them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from p2v.audit.findings import AuditFinding
from p2v.audit.inventory.rows import DiskRow, PartitionRow, datastore_of
from p2v.audit.inventory.seen import HasLine, Seen, datastores_of
from p2v.core.units import MIB, format_bytes

DISKS_AT_MOST = 165
"""More than this no management of KVM's takes in one machine without a question."""
LOW_SHARE = 0.05
# what a conversion needs to write its files: what Forklift asks for, by place in the guest
_NEEDED = {"/": 100 * MIB, "/boot": 50 * MIB, "c:": 100 * MIB}
_NEEDED_ELSEWHERE = 10 * MIB
_NO_SHARING = frozenset({"", "sharingnone", "nosharing", "none"})
# file systems that are full by nature, or are no place of their own
_ALWAYS_FULL = ("/snap/", "/run/", "/dev", "/proc", "/sys", "/mnt/cdrom", "/media/")


def attachment(seen: Seen) -> Iterator[AuditFinding]:
    """Disks that are in no snapshot, forget, are LUNs, or were held back."""
    disks, vm = seen.machine.disks, seen.machine.info.vm
    modes = [(disk, disk.mode.casefold()) for disk in disks]
    yield from seen.of_rows(
        "inventory.disk-independent",
        f"Disks of {vm} are independent, so that no snapshot holds them still: {{}}.",
        _rows([disk for disk, mode in modes if mode == "independent_persistent"], "mode"),
    )
    yield from seen.of_rows(
        "inventory.disk-nonpersistent",
        f"Disks of {vm} forget what was written when the machine is switched off: {{}}.",
        _rows(
            [disk for disk, mode in modes if mode in ("independent_nonpersistent", "nonpersistent", "undoable")], "mode"
        ),
    )
    raw = [disk for disk in disks if disk.raw]
    physical = [disk for disk in raw if "physical" in disk.raw_mode.casefold()]
    yield from seen.of_rows(
        "inventory.disk-rdm-physical",
        f"Disks of {vm} are LUNs of the storage in physical mode, in no file: {{}}.",
        _rows(physical, "raw_mode"),
    )
    yield from seen.of_rows(
        "inventory.disk-rdm",
        f"Disks of {vm} are LUNs of the storage (raw device mappings): {{}}.",
        _rows([disk for disk in raw if disk not in physical], "raw_mode"),
    )
    yield from seen.of_rows(
        "inventory.disk-limit",
        f"Disks of {vm} are held to a number of operations a second: {{}}.",
        [(disk, disk.name, f"{disk.limit} a second") for disk in disks if (disk.limit or 0) > 0],
    )


def sharing(seen: Seen) -> Iterator[AuditFinding]:
    """Disks that other machines write too."""
    disks, vm = seen.machine.disks, seen.machine.info.vm
    yield from seen.of_rows(
        "inventory.disk-shared",
        f"Disks of {vm} may be written by several machines at once: {{}}.",
        _rows([disk for disk in disks if disk.sharing.casefold() not in _NO_SHARING], "sharing"),
    )
    yield from seen.of_rows(
        "inventory.bus-sharing",
        f"Controllers of {vm} share their disks with other machines, as clusters have it: {{}}.",
        _rows([disk for disk in disks if disk.bus_sharing.casefold() not in _NO_SHARING], "bus_sharing"),
    )


def storage(seen: Seen) -> Iterator[AuditFinding]:
    """Disks without a size or a file that can be reached; what their datastores are."""
    disks, vm = seen.machine.disks, seen.machine.info.vm
    yield from seen.of_rows(
        "inventory.disk-empty",
        f"Disks of {vm} have no size: {{}}.",
        _rows([disk for disk in disks if disk.capacity == 0], "label"),
    )
    lost = [disk for disk in disks if not disk.raw and not datastore_of(disk.file)]
    yield from seen.of_rows(
        "inventory.disk-without-datastore", f"Disks of {vm} are in no datastore: {{}}.", _rows(lost, "file")
    )
    for name in datastores_of(seen.machine):
        store = seen.neighbours.datastores.get(name)
        if store is None:
            continue
        if store.accessible is False:
            yield seen.of_info(
                "inventory.datastore-lost", f"The datastore {name}, which {vm} has disks in, cannot be reached.", name
            )
        if store.kind.casefold() in ("vsan", "vvol", "vsand"):
            yield seen.of_info(
                "inventory.datastore-objects",
                f"The datastore {name} ({store.kind}) keeps the disks of {vm} as objects, not as files to be copied.",
                store.kind,
            )
    thick = [disk for disk in disks if disk.thin is False and not disk.raw]
    yield from seen.of_rows(
        "inventory.disk-thick", f"Disks of {vm} take up their whole size: {{}}.", _rows(thick, "label")
    )


def counts(seen: Seen) -> Iterator[AuditFinding]:
    """Very many disks, and disks that the export does not list."""
    info, disks = seen.machine.info, seen.machine.disks
    if max(len(disks), info.disk_count or 0) > DISKS_AT_MOST:
        yield seen.of_info(
            "inventory.disk-count",
            f"{info.vm} has {max(len(disks), info.disk_count or 0)} disks, more than {DISKS_AT_MOST}.",
        )
    if info.disk_count is not None and seen.inventory.has("vDisk") and info.disk_count != len(disks):
        yield seen.of_info(
            "inventory.disks-unknown",
            f"The export says that {info.vm} has {info.disk_count} disks, and lists {len(disks)}.",
            f"Disks: {info.disk_count}",
        )
    if not seen.inventory.has("vDisk"):
        yield seen.of_info("inventory.disks-unknown", f"The export does not list the disks of {info.vm}.")


def tracking(seen: Seen) -> Iterator[AuditFinding]:
    """Changed blocks, and serial numbers of disks."""
    info = seen.machine.info
    if info.cbt is False:
        yield seen.of_info("inventory.cbt-off", f"Changed blocks of {info.vm} are not tracked.", "CBT: False")
    scsi = [disk for disk in seen.machine.disks if "scsi" in disk.controller.casefold()]
    if info.disk_uuids and scsi:
        yield seen.of_info(
            "inventory.disk-uuid",
            f"{info.vm} sees the UUIDs of its SCSI disks as their serial numbers.",
            "EnableUUID: True",
        )


def free_space(seen: Seen) -> Iterator[AuditFinding]:
    """File systems that a conversion has no room on."""
    vm = seen.machine.info.vm
    parts = [
        part
        for part in seen.machine.partitions
        if part.capacity and part.free is not None and not _is_always_full(part)
    ]
    short = [part for part in parts if (part.free or 0) < _needed(part)]
    yield from seen.of_rows(
        "inventory.free-space", f"A conversion has no room to write on file systems of {vm}: {{}}.", _free(short)
    )
    low = [part for part in parts if part not in short and (part.free or 0) < LOW_SHARE * (part.capacity or 0)]
    yield from seen.of_rows("inventory.free-space-low", f"File systems of {vm} are nearly full: {{}}.", _free(low))
    if seen.machine.runs and seen.inventory.has("vPartition") and not seen.machine.partitions:
        yield seen.of_info(
            "inventory.partitions-unseen",
            f"{vm} runs, and the export has none of its file systems: what they use, and what is free, is unknown.",
        )


def _is_always_full(part: PartitionRow) -> bool:
    place = part.place.casefold()
    return place.startswith(_ALWAYS_FULL) or "/snap/" in place


def _needed(part: PartitionRow) -> int:
    place = part.place.casefold().rstrip("\\") or "/"
    return _NEEDED.get(place, _NEEDED_ELSEWHERE)


def _rows(disks: Sequence[DiskRow], says: str) -> list[tuple[HasLine, str, str]]:
    return [(disk, disk.name, str(getattr(disk, says))) for disk in disks]


def _free(parts: Sequence[PartitionRow]) -> list[tuple[HasLine, str, str]]:
    return [(part, f"{part.place} ({format_bytes(part.free or 0)} free)", part.place) for part in parts]


CHECKS = (attachment, sharing, storage, counts, tracking, free_space)
