"""From power on to the boot manager: BIOS with an MBR, or UEFI with a system partition."""

from __future__ import annotations

import struct

from tests.windows_startup import programs
from tests.windows_startup.machine import ESP, SECTOR, Machine, Partition, Volume
from tests.windows_startup.verdict import Reason, Stopped, Target, Trace

_CODE_BYTES = 440
_LOADERS = ("BOOTMGR", "NTLDR")


def by_bios(machine: Machine, target: Target, trace: Trace) -> tuple[Volume, str]:
    """The volume that is started, and the loader its boot sector asks for: ``BOOTMGR`` or ``NTLDR``."""
    first = machine.disks[0]
    record = first.boot_record
    # The BIOS starts what ends in 55 AA; zeroes are no code (BIOS Boot Specification, "IPL").
    if record[510:] != b"\x55\xaa" or not any(record[:_CODE_BYTES]):
        raise Stopped(Reason.NO_BOOT_CODE, "the first sector of disk 0")
    partition = _active(first.partitions)
    volume = machine.volume(partition)
    _check_boot_sector(volume)
    wanted = _asked_for(volume)
    if not wanted:
        raise Stopped(Reason.NO_BOOT_SECTOR, f"the boot sector of {partition} asks for no loader of Windows'")
    if wanted == "NTLDR":
        _check_heads(volume, target)
    if volume.read(wanted) is None:
        raise Stopped(Reason.NO_BOOT_MANAGER, f"{wanted} on {partition}")
    trace.step(f"BIOS: {partition} is active, {wanted} is there")
    return volume, wanted


def _active(partitions: tuple[Partition, ...]) -> Partition:
    """The active partition. Windows' MBR code stops at a table with more than one (Microsoft, "Master Boot Record")."""
    active = [partition for partition in partitions if partition.active]
    if not active:
        raise Stopped(Reason.NO_ACTIVE_PARTITION, "disk 0")
    if len(active) > 1:
        raise Stopped(Reason.SEVERAL_ACTIVE_PARTITIONS, " and ".join(str(partition) for partition in active))
    return active[0]


def _check_boot_sector(volume: Volume) -> None:
    """A boot sector is signed, and its "hidden sectors" are the sectors before the partition: its code adds them to what it
    reads.

    Microsoft, "NTFS boot sector" and "Default cluster size" in the Windows 2000 resource kit; a wrong value is the known
    cause of "A disk read error occurred" after a move of the partition.
    """
    head, partition = volume.head, volume.partition
    if head[510:512] != b"\x55\xaa" or not volume.kind:
        raise Stopped(Reason.NO_BOOT_SECTOR, str(partition))
    hidden = struct.unpack_from("<I", head, 28)[0]
    if volume.kind in ("ntfs", "fat") and hidden * SECTOR != partition.offset:
        begins = partition.offset // SECTOR
        raise Stopped(Reason.HIDDEN_SECTORS, f"{partition} begins at sector {begins}, its boot sector says {hidden}")


def _check_heads(volume: Volume, target: Target) -> None:
    """Boot code of Windows 2000 to 2003 reads by cylinder, head and sector, counting with the boot sector's own heads.

    "A disk read error occurred" after a move to a disk with another geometry; libguestfs' conversion corrects the value for these.
    """
    heads = struct.unpack_from("<H", volume.head, 26)[0]
    if target.heads is not None and volume.kind == "ntfs" and heads != target.heads:
        raise Stopped(Reason.GEOMETRY, f"{volume.partition}: {heads} heads, the firmware has {target.heads}")


def _asked_for(volume: Volume) -> str:
    """The loader's name in the boot code: UTF-16 after its length in NTFS' boot code, an 11-byte directory name in FAT's."""
    for name in _LOADERS:
        in_ntfs = struct.pack("<H", len(name)) + name.encode("utf-16-le")
        in_fat = name.ljust(11).encode()
        if (in_ntfs if volume.kind == "ntfs" else in_fat) in volume.head:
            return name
    return ""


def by_uefi(machine: Machine, target: Target, trace: Trace) -> tuple[Volume, str]:
    """The system partition and the loader that is started: what a boot variable names, else the fallback for removable media.

    UEFI specification, "Boot manager" and "Removable media boot behavior": \\EFI\\BOOT\\BOOT{processor}.EFI of a FAT
    partition.
    """
    partitions = [partition for partition in machine.partitions if partition.kind == ESP]
    volumes = [volume for volume in map(machine.volume, partitions) if volume.kind == "fat"]
    if not volumes:
        raise Stopped(Reason.NO_ESP, "no GPT partition of that type with FAT")
    fallback = f"EFI/BOOT/BOOT{target.efi_suffix}.EFI"
    for path in (*target.efi_entries, fallback):
        for volume in volumes:
            program = volume.read(path)
            if program is not None:
                programs.check(program, path, programs.EFI_MACHINES[target.efi_suffix])
                trace.step(f"UEFI: {path} on {volume.partition}")
                return volume, path
    raise Stopped(Reason.NO_EFI_LOADER, f"no {fallback}")
