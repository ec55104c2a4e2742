"""What the firmware needs to start Windows from these disks: an active partition and its boot sector, or a loader for UEFI. Pure.

Sources: Microsoft, "Master Boot Record" and "NTFS boot sector" (Windows 2000 resource kit); UEFI specification, "Removable media
boot behavior"; for the heads the sizes from which libguestfs' conversion of XP and older gives a disk 64, 128 and 255.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from drivers import ntfs_boot
from drivers.changes import BootGeometry, CopyFile, EditBootSector
from drivers.facts import GuestFacts
from drivers.plan import Finding
from drivers.windows.boot_entries import named_boot
from drivers.windows.boot_facts import WindowsBoot
from drivers.windows.contribution import WindowsContribution
from drivers.windows.facts import WindowsFacts
from drivers.windows.places import disk_of, named, partition_of

WHY_HIDDEN = "its boot code looks for its own partition in another place of the disk"
WHY_HEADS = "its boot code counts with other heads than the BIOS of KVM gives a disk of that size"
WHY_FALLBACK = "a new machine's firmware has no boot entries, and starts what lies at this path"
_MODE = 0o755
_HEADS = "windows.boot-heads"
_OTHER_LOADERS = frozenset({"grub1", "grub2", "lilo", "syslinux"})
_FIRST_WITH_BOOTMGR = (6, 0)
_ACTIVATE = "Mark it where it runs: `diskpart`, `select partition`, `active`; or `sfdisk --activate DISK NUMBER` on a copy."


def contribute(facts: GuestFacts, windows: WindowsFacts) -> WindowsContribution:
    """The loader that a UEFI machine without boot entries starts, and what is wrong with the way from a BIOS."""
    if windows.boot is None:
        return WindowsContribution()
    if facts.firmware == "uefi":
        return _by_uefi(facts, windows.boot)
    edits = tuple(_geometry(facts, windows, windows.boot))
    problems = () if edits else tuple(_wrong_geometry(facts, windows, windows.boot))
    return WindowsContribution(
        changes=edits,
        warnings=(*_no_loader(facts, windows.boot), *(each for each in problems if each.id == _HEADS)),
        blockers=(*_bios_blockers(facts, windows.boot), *(each for each in problems if each.id != _HEADS)),
    )


def _by_uefi(facts: GuestFacts, boot: WindowsBoot) -> WindowsContribution:
    manager, where = boot.manager, named_boot(facts, boot)
    if manager is None:
        message = f"its boot manager (\\EFI\\Microsoft\\Boot\\bootmgfw.efi) is not on {where}"
        hint = "Start it where it is, and run `bcdboot C:\\Windows /f UEFI` there."
        return WindowsContribution(blockers=(Finding("windows.no-boot-manager", message, hint),))
    if boot.fallback is None:
        return _copied(facts, boot)
    if boot.fallback.sha256 != manager.sha256 and not boot.fallback.is_windows:
        message = f"{boot.fallback.path} on {where} is another system's loader, and what a firmware without boot entries starts"
        hint = "It stays as it is. Choose Windows Boot Manager once in the firmware's menu of the converted machine."
        return WindowsContribution(warnings=(Finding("windows.foreign-fallback", message, hint),))
    return WindowsContribution()


def _copied(facts: GuestFacts, boot: WindowsBoot) -> WindowsContribution:
    manager, where = boot.manager, named_boot(facts, boot)
    if manager is None or not boot.fallback_path or not manager.sha256 or not boot.mountpoint or boot.dirty:
        message = f"no loader is on {where} that a firmware without boot entries starts (\\EFI\\BOOT), and none can be put there"
        hint = "Copy \\EFI\\Microsoft\\Boot\\bootmgfw.efi to \\EFI\\BOOT\\BOOTX64.EFI where it runs (`mountvol S: /s`)."
        return WindowsContribution(blockers=(Finding("windows.no-fallback", message, hint),))
    copy = CopyFile(manager.path, manager.size, manager.sha256, boot.fallback_path, _MODE, WHY_FALLBACK)
    return WindowsContribution(changes=(copy,))


def _bios_blockers(facts: GuestFacts, boot: WindowsBoot) -> Iterator[Finding]:
    first = next(iter(facts.disks), None)
    if first is None or first.boot_code in _OTHER_LOADERS:
        return
    if boot.disk != first.index:
        message = f"a BIOS starts the first disk, and what starts Windows is on {named_boot(facts, boot)}"
        yield Finding("windows.boot-disk", message, "Name that disk first, as it was the first to its own firmware.")
        return
    if not first.boot_code:
        message = "there is no boot code at the beginning of its first disk, so no BIOS starts it"
        hint = "Write it where it runs: `bootsect /nt60 SYS /mbr`, or `fixmbr` of the recovery console on XP and older."
        yield Finding("windows.no-boot-code", message, hint)
    active = [p for p in facts.partitions if p.disk == first.index and p.bootable]
    start = partition_of(facts, boot.disk, boot.partition)
    if len(active) > 1:
        message = f"{len(active)} partitions of its first disk are active, and Windows' boot code takes that for a damaged table"
        yield Finding("windows.several-active", message, "Leave one of them active where it runs (`diskpart`, `inactive`).")
    elif start is not None and active != [start]:
        which = f"the active one is {named(active[0])}" if active else "none is active"
        yield Finding("windows.no-active-partition", f"a BIOS is to start {named(start)}, and {which}", _ACTIVATE)


def _no_loader(facts: GuestFacts, boot: WindowsBoot) -> Iterator[Finding]:
    start, first = partition_of(facts, boot.disk, boot.partition), next(iter(facts.disks), None)
    if boot.sector is None or boot.sector.loader or start is None or (first is not None and first.boot_code in _OTHER_LOADERS):
        return
    message = f"the boot sector of {named(start)} asks for neither BOOTMGR nor NTLDR"
    hint = "If it starts so today, it will on KVM; else repair it there (`bootrec /fixboot`)."
    yield Finding("windows.boot-sector", message, hint)


def _wanted(facts: GuestFacts, windows: WindowsFacts, boot: WindowsBoot) -> BootGeometry | None:
    """The geometry that a boot sector is to have; None where another system's loader starts it, or nothing is known of it.

    Boot code adds the sectors before its volume to what it reads: one that was moved still has the old number. Until Server 2003
    it reads by cylinder, head and sector too.
    """
    sector, start = boot.sector, partition_of(facts, boot.disk, boot.partition)
    disk = disk_of(facts, start) if start is not None else None
    if sector is None or not sector.kind or start is None or disk is None or disk.boot_code in _OTHER_LOADERS:
        return None
    counts_heads = (0, 0) < windows.version.number < _FIRST_WITH_BOOTMGR and sector.kind == "ntfs"
    heads = bios_heads(disk.size_bytes) if counts_heads else sector.heads
    return BootGeometry(heads, start.offset // disk.sector_bytes)


def _geometry(facts: GuestFacts, windows: WindowsFacts, boot: WindowsBoot) -> Iterator[EditBootSector]:
    """The edit of the boot sector, where it is NTFS' and can be written to."""
    sector, wanted = boot.sector, _wanted(facts, windows, boot)
    if sector is None or wanted is None or sector.kind != "ntfs" or not boot.mountpoint or boot.dirty:
        return
    found = BootGeometry(sector.heads, sector.hidden_sectors)
    if found != wanted:
        path = posixpath.join(boot.mountpoint, ntfs_boot.FILE)
        reasons = (
            *((WHY_HIDDEN,) if found.hidden_sectors != wanted.hidden_sectors else ()),
            *((WHY_HEADS,) if found.heads != wanted.heads else ()),
        )
        yield EditBootSector(path, found, wanted, "; ".join(reasons))


def _wrong_geometry(facts: GuestFacts, windows: WindowsFacts, boot: WindowsBoot) -> Iterator[Finding]:
    """What is wrong with a boot sector that cannot be edited here."""
    sector, wanted, start = boot.sector, _wanted(facts, windows, boot), partition_of(facts, boot.disk, boot.partition)
    if sector is None or wanted is None or start is None:
        return
    if sector.hidden_sectors != wanted.hidden_sectors:
        message = f"{named(start)} begins at sector {wanted.hidden_sectors}, its boot code looks at sector {sector.hidden_sectors}"
        hint = "Repair its boot sector where it runs (`bootrec /fixboot`, `fixboot` of the recovery console on XP and older)."
        yield Finding("windows.hidden-sectors", message, hint)
    if sector.heads != wanted.heads:
        message = f"the boot code of {named(start)} counts with {sector.heads} heads, and the BIOS of KVM with {wanted.heads}"
        hint = "If it stops at \"A disk read error occurred\", give its disk that number: lheads, lcyls, lsecs of QEMU's ide-hd."
        yield Finding(_HEADS, message, hint)


def bios_heads(size_bytes: int) -> int:
    """How many heads the BIOS of KVM gives a disk."""
    return 64 if size_bytes < 2_114_445_312 else 128 if size_bytes < 4_228_374_780 else 255
