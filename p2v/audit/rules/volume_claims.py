"""File systems and volumes that say of their place what is not so: longer than it, of other sectors, elsewhere on the disk."""

from __future__ import annotations

from collections.abc import Iterator

from drivers.disk_sights import DiskSight
from drivers.sights.values import PlaceSight
from p2v.audit.catalogue_file import found
from p2v.audit.examined import Check, Examined
from p2v.audit.findings import AuditFinding
from p2v.audit.rules.disk_places import at, named, places, starts_by_bios
from p2v.core.units import SECTOR_BYTES, format_bytes

_BOOTED_BY_BIOS = frozenset({"ntfs", "fat"})
_OWN_LOADERS = frozenset({"grub1", "grub2", "lilo"})


def longer_than_place(examined: Examined) -> Iterator[AuditFinding]:
    """What is longer than the partition it stands in, or than the disk it fills."""
    for disk, place in places(examined):
        for signature in place.signatures:
            stated = signature.stated_bytes
            if stated is None or stated <= place.length:
                continue
            evidence = at(examined, disk.index, signature.stated_at, f"{stated} bytes")
            is_volume = signature.kind == "lvm2"
            what = "the physical volume of LVM" if is_volume else f"the {signature.kind}"
            more = format_bytes(stated - place.length)
            message = f"{what} on {named(disk, place)} is {stated} bytes long, {more} more than its place"
            rule = "disk.physical-volume-longer" if is_volume else "disk.file-system-longer"
            yield found(examined.rules[rule], message, evidence)


def sector_sizes(examined: Examined) -> Iterator[AuditFinding]:
    """File systems that count in less than a sector of the disk as it will be on KVM: no system mounts one of them there."""
    hardware = examined.document.hardware.disks
    for disk, place in places(examined):
        sector = hardware[disk.index].logical_sector_bytes if disk.index < len(hardware) else disk.sector_bytes
        for signature in place.signatures:
            if signature.unit_bytes is not None and signature.unit_bytes < sector:
                message = (
                    f"the {signature.kind} on {named(disk, place)} counts in {signature.unit_bytes} bytes, "
                    f"and the disk has sectors of {sector}"
                )
                yield found(examined.rules["disk.sector-size"], message, at(examined, disk.index, signature.offset))


def hidden_sectors(examined: Examined) -> Iterator[AuditFinding]:
    """The active partition's boot sector, where it looks for itself elsewhere. Of Windows the plan tells it, and mends it."""
    first = next(iter(examined.sights), None)
    if first is None or first.table != "mbr" or not starts_by_bios(examined):
        return
    # GRUB and LILO start no boot sector of a partition's
    if first.boot_code in _OWN_LOADERS or first.sector_bytes != SECTOR_BYTES:
        return
    for place in first.partitions:
        if place.bootable and place.number <= 4:
            yield from _elsewhere(examined, first, place)


def _elsewhere(examined: Examined, disk: DiskSight, place: PlaceSight) -> Iterator[AuditFinding]:
    starts = place.offset // disk.sector_bytes
    for signature in place.signatures:
        hidden = signature.hidden_sectors
        if signature.kind in _BOOTED_BY_BIOS and hidden is not None and hidden != starts:
            message = (
                f"{named(disk, place)} begins at sector {starts}, and its boot sector looks for it at sector {hidden}"
            )
            evidence = at(examined, disk.index, signature.offset + 28, str(hidden))
            yield found(examined.rules["disk.hidden-sectors"], message, evidence)


CHECKS: tuple[Check, ...] = (longer_than_place, sector_sizes, hidden_sectors)
