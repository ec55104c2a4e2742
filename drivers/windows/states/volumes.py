"""Volumes that only Windows puts together or opens: BitLocker, dynamic disks, Storage Spaces, deduplication, ReFS. Pure.

Sources: Microsoft, "manage-bde off", "BitLocker: suspend and resume", "Basic and dynamic disks" ("Foreign" disks),
"PARTITION_INFORMATION_GPT" (the types of partitions), "Storage Spaces overview", "Data Deduplication interoperability".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from drivers import ldm
from drivers.bitlocker import BitLocker
from drivers.facts import Disk, GuestFacts, Partition
from drivers.layout import place
from drivers.plan import Finding
from drivers.windows.facts import WindowsFacts
from drivers.windows.places import is_root

_SPACES = "e75caf8f-f680-4cee-afa3-b001e56efc2d"
_DECRYPT = (
    "Decrypt it where it runs (`manage-bde -off C:`), wait until `manage-bde -status` says \"Fully Decrypted\", "
    "and copy its disks anew."
)
_BASIC = "Make its disks basic ones where it runs, or back it up onto basic ones."


def without_system(facts: GuestFacts) -> Finding | None:
    """The blocker for disks on which no system was found, where one of these volumes may be what hides it."""
    locked = [each for each in facts.partitions if _bitlocker(each) is not None]
    if locked:
        states = "; ".join(f"{place(each)}: {_bitlocker(each)}" for each in locked)
        message = f"no operating system was found, and BitLocker keeps it from being read ({states})"
        return Finding("windows.bitlocker", message, _DECRYPT)
    if dynamic := _dynamic(facts):
        message = f"no operating system was found, and {_disks(dynamic)}: only Windows knows where the volumes are"
        return Finding("windows.dynamic-disk", message, _BASIC)
    if spaces := _with_type(facts, {_SPACES}):
        message = f"no operating system was found, and a pool of Storage Spaces, which is not opened, is on {_numbers(spaces)}"
        hint = "Windows starts from no such pool: one of the machine's disks may be missing."
        return Finding("windows.storage-spaces", message, hint)
    return None


def blockers(facts: GuestFacts, windows: WindowsFacts) -> Iterator[Finding]:
    """What keeps the guest from being changed."""
    if any(is_root(facts, each) and each.type_id in ldm.TYPES for each in facts.partitions):
        where = windows.system_root.replace("/", "\\")
        message = f"{where} is on a dynamic disk: what is written to it may belong to a mirror or a part that is elsewhere too"
        yield Finding("windows.dynamic-disk", message, _BASIC)


def warnings(facts: GuestFacts, windows: WindowsFacts) -> Iterator[Finding]:
    """What is to be known of its further volumes, which are copied as they are."""
    yield from _locked_data(facts)
    yield from _dynamic_data(facts)
    if spaces := _with_type(facts, {_SPACES}):
        message = f"{_numbers(spaces)}: part of a pool of Storage Spaces, which comes back only with every disk of the pool"
        hint = "See that `Get-PhysicalDisk` lists no other disk there; on KVM, `Connect-VirtualDisk` where a space stays detached."
        yield Finding("windows.storage-spaces", message, hint)
    for where in windows.deduplicated:
        message = f"the files of {where} are deduplicated: they are copied with their chunk store, and read by Windows alone"
        hint = "Nothing has to be done. Its jobs (`Get-DedupJob`) are best not running while it is copied."
        yield Finding("windows.deduplicated", message, hint)
    for partition in facts.partitions:
        if partition.filesystem is not None and partition.filesystem.kind == "refs":
            message = f"{place(partition)} holds ReFS, which is copied whole: nobody here can tell whether it was left in order"
            hint = "Shut the machine down before it is copied; ReFS repairs itself at its first mount."
            yield Finding("windows.refs", message, hint)
    yield from _unclean_data(facts, windows)


def _locked_data(facts: GuestFacts) -> Iterator[Finding]:
    for partition in facts.partitions:
        found = _bitlocker(partition)
        if found is None:
            continue
        message = f"{place(partition)} is copied locked ({found}): no TPM and no automatic unlock of before opens it on KVM"
        hint = "Have its recovery password at hand, or decrypt it where it runs (`manage-bde -off`)."
        if found.is_suspended:
            message = f"{place(partition)} is copied as it is ({found}): whoever has the copy opens it"
            hint = "Resume its protection on KVM (`manage-bde -protectors -enable`), or decrypt it before."
        yield Finding("windows.bitlocker-data", message, hint)


def _dynamic_data(facts: GuestFacts) -> Iterator[Finding]:
    found = [disk for disk in _dynamic(facts) if not _holds_root(facts, disk)]
    if not found:
        return
    message = f"{_disks(found)}: what is on it is copied byte by byte, and only Windows makes volumes of it"
    hint = "If Disk Management shows them as \"Foreign\" on KVM, import them there, all of a group at once."
    yield Finding("windows.dynamic-data", message, hint)
    groups = {disk.dynamic.group: disk.dynamic.disks for disk in _dynamic(facts) if disk.dynamic is not None and disk.dynamic.group}
    for group, wanted in groups.items():
        given = [disk for disk in _dynamic(facts) if disk.dynamic is not None and disk.dynamic.group == group]
        if wanted > len(given):
            message = f"dynamic disks are missing: the group of {_numbers(given)} has {wanted}, and {len(given)} of it are given"
            hint = "Give all of its disks: volumes that span several are lost without, mirrors come up incomplete."
            yield Finding("windows.dynamic-incomplete", message, hint)


def _unclean_data(facts: GuestFacts, windows: WindowsFacts) -> Iterator[Finding]:
    """Other NTFS than Windows' own and the one that starts it: those have findings of their own."""
    boot = windows.boot
    start = (boot.disk, boot.partition) if boot is not None else None
    for partition in facts.partitions:
        system = partition.filesystem
        if system is None or system.kind != "ntfs" or not system.why_not_host or is_root(facts, partition):
            continue
        if (partition.disk, partition.number) != start:
            message = f"{place(partition)} was not left in order ({system.why_not_host}); it is copied so"
            yield Finding("windows.dirty-data", message, "Windows checks it at its first start, which may take long.")


def _bitlocker(partition: Partition) -> BitLocker | None:
    system = partition.filesystem
    if system is None or system.kind != "bitlocker":
        return None
    return system.bitlocker or BitLocker("unknown")


def _dynamic(facts: GuestFacts) -> tuple[Disk, ...]:
    return _with_type(facts, ldm.TYPES)


def _with_type(facts: GuestFacts, types: Iterable[str]) -> tuple[Disk, ...]:
    wanted = set(types)
    numbers = {each.disk for each in facts.partitions if each.type_id in wanted}
    return tuple(disk for disk in facts.disks if disk.index in numbers)


def _holds_root(facts: GuestFacts, disk: Disk) -> bool:
    return any(each.disk == disk.index and is_root(facts, each) for each in facts.partitions)


def _numbers(disks: Iterable[Disk]) -> str:
    return ", ".join(f"disk {disk.index + 1}" for disk in disks)


def _disks(disks: tuple[Disk, ...] | list[Disk]) -> str:
    return f"{_numbers(disks)} {'is a dynamic disk' if len(disks) == 1 else 'are dynamic disks'}"
