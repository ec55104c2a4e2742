"""Finds and reads what starts a Windows guest; to be used inside ``confined``, over any ``GuestTree``.

What the firmware is told by its variables stays with the old machine, so only what lies on the disks is looked at: with UEFI
``\\EFI\\Microsoft\\Boot`` and ``\\EFI\\BOOT`` of the EFI system partition, with a BIOS the active partition of the first disk.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from drivers.changes import COPY_BYTES_AT_MOST
from drivers.facts import Partition
from drivers.layout import Device, Layout, is_esp
from drivers.tree import FileType, GuestTree
from drivers.windows import bcd, boot_ini
from drivers.windows.boot_facts import BootSector, LoaderFile, WindowsBoot
from drivers.windows.facts import BCD, HiveFile
from drivers.windows.hives import read_hive
from drivers.windows.names import Names
from drivers.windows.programs import machine_of

SECTOR_BYTES_READ = 8192
"""How much of a volume's beginning is looked at: its boot code."""
_PLACE = "Boot"
"""A folder that every Windows has below its own, Vista and later: the partition that starts it is shown there."""
_EFI_NAMES = {"x86_64": "bootx64.efi", "i386": "bootia32.efi", "aarch64": "bootaa64.efi"}
_LOADERS = ("BOOTMGR", "NTLDR")
_HEAD_BYTES = 4096
_MARKS = ("bootmgr".encode("utf-16-le"), "bootmgfw".encode("utf-16-le"))
"""Names in the version of Windows' boot manager, which its copies keep whatever they are called."""


@dataclass(frozen=True, slots=True)
class FoundBoot:
    """What starts it, and its store's hive where there is one."""

    boot: WindowsBoot
    hive: HiveFile | None


def boot_partitions(layout: Layout, firmware: str) -> tuple[Partition, ...]:
    """The partitions that may start it, the likeliest first."""
    if firmware == "uefi":
        return tuple(p for p in layout.partitions if is_esp(p) and p.filesystem is not None and p.filesystem.kind == "vfat")
    # those that are not active count where another system's boot loader chooses
    known = [p for p in layout.partitions if p.filesystem is not None and p.filesystem.kind in ("ntfs", "vfat")]
    return tuple(sorted(known, key=lambda p: (not p.bootable, p.disk, p.number)))


def place_for(tree: GuestTree, root: str, windows: Device, partition: Partition) -> str:
    """Where a partition is shown in the tree of the partition that Windows is on; empty where there is no place for it."""
    if partition == windows:
        return "/"
    found = Names(tree).find(f"{root}/{_PLACE}")
    return found if found is not None and tree.lstat(found).type is FileType.DIRECTORY else ""


def holds_store(tree: GuestTree, prefix: str, firmware: str) -> bool:
    """Whether there is a boot configuration, or boot.ini, below a path of a tree."""
    names, wanted = Names(tree), (_store_path(firmware), "boot.ini") if firmware != "uefi" else (_store_path(firmware),)
    return any(names.file(f"{prefix}/{each}") is not None for each in wanted)


def read_boot(tree: GuestTree, partition: Partition, mountpoint: str, firmware: str, head: bytes, *, apart: bool) -> FoundBoot:
    """What lies on a partition that starts Windows. ``head``: its first bytes; empty where they cannot be had.

    ``apart``: the tree is the partition's own, and not Windows' with the partition at ``mountpoint`` in it.
    """
    names = Names(tree)
    prefix = "" if apart or mountpoint == "/" else mountpoint
    store = names.file(f"{prefix}/{_store_path(firmware)}")
    hive = read_hive(names, store, BCD) if store is not None else None
    text, ini = _boot_ini(names, prefix) if firmware != "uefi" else (None, "")
    manager = _loader(names, f"{prefix}/EFI/Microsoft/Boot/bootmgfw.efi") if firmware == "uefi" else None
    fallback, place = _fallback(names, prefix, manager) if firmware == "uefi" else (None, "")
    filesystem = partition.filesystem
    return FoundBoot(
        WindowsBoot(
            partition.disk,
            partition.number,
            mountpoint,
            filesystem.why_not_host if filesystem is not None else "",
            bcd.read_store(hive) if hive is not None and hive.state != "unreadable" else None,
            text,
            ini,
            manager,
            fallback,
            place,
            read_sector(partition, head) if head else None,
        ),
        hive,
    )


def read_sector(partition: Partition, head: bytes) -> BootSector:
    """What a volume's first bytes say. NTFS and FAT have heads at 26 and hidden sectors at 28 (Windows 2000 resource kit)."""
    kind = "ntfs" if head[3:11] == b"NTFS    " else "fat" if head[54:59] in (b"FAT12", b"FAT16") or head[82:87] == b"FAT32" else ""
    if len(head) < 512 or not kind:
        return BootSector(partition.disk, partition.number, "")
    heads, hidden = struct.unpack_from("<HI", head, 26)
    return BootSector(partition.disk, partition.number, kind, heads, hidden, _asked_for(kind, head))


def _asked_for(kind: str, head: bytes) -> str:
    """The loader's name in boot code: UTF-16 after its length in NTFS', an 11-byte name of a directory in FAT's."""
    for name in _LOADERS:
        wanted = struct.pack("<H", len(name)) + name.encode("utf-16-le") if kind == "ntfs" else name.ljust(11).encode()
        if wanted in head:
            return name
    return ""


def _store_path(firmware: str) -> str:
    return "EFI/Microsoft/Boot/BCD" if firmware == "uefi" else "Boot/BCD"


def _boot_ini(names: Names, prefix: str) -> tuple[str | None, str]:
    path = names.file(f"{prefix}/boot.ini")
    if path is None:
        return None, ""
    try:
        return names.tree.read(path, boot_ini.TEXT_BYTES_AT_MOST).decode("utf-8", "surrogateescape"), path
    except (FileNotFoundError, ValueError):
        return None, path


def _fallback(names: Names, prefix: str, manager: LoaderFile | None) -> tuple[LoaderFile | None, str]:
    """What firmware without entries starts on the manager's processor, and where it belongs."""
    name = _EFI_NAMES.get(manager.arch if manager is not None else "", "")
    if not name:
        return None, ""
    efi = names.find(f"{prefix}/EFI") or f"{prefix}/EFI"
    folder = names.find(f"{efi}/Boot") or f"{efi}/Boot"
    found = _loader(names, f"{folder}/{name}")
    return found, found.path if found is not None else f"{folder}/{name}"


def _loader(names: Names, path: str) -> LoaderFile | None:
    spelt = names.file(path)
    if spelt is None:
        return None
    try:
        data = names.tree.read(spelt, COPY_BYTES_AT_MOST)
    except FileNotFoundError:
        return None
    except ValueError:
        # too large to be such a program
        return LoaderFile(spelt, names.tree.lstat(spelt).size, "")
    digest = hashlib.sha256(data).hexdigest()
    return LoaderFile(spelt, len(data), digest, machine_of(data[:_HEAD_BYTES]), any(mark in data for mark in _MARKS))

