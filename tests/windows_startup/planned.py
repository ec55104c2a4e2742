"""Sample guests planned for and rewritten in memory: our readers, our plan, our editor."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import astuple
from typing import cast

from drivers.apply import carried
from drivers.changes import CarryFile, Change, CopyFile, EditBootSector, EditFile, EditHive, WriteFile
from drivers.facts import GuestFacts, ReadBy
from drivers.layout import firmware, lay_out
from drivers.ntfs_boot import OFFSET, geometry_bytes
from drivers.plan import GuestPlan, PlanOptions
from drivers.planning import plan_guest
from drivers.windows.hive_edit import edit
from drivers.windows.inspection import Starting, facts_of_windows
from p2v.core.disk import DiskReader
from tests.drivers.memory_tree import InMemoryTree, Node
from tests.windows_startup.guests import Sample
from tests.windows_startup.machine import Partition

_OF_SYSTEM = ("system32/config/SYSTEM", "system32/config/SOFTWARE", "system32/ntoskrnl.exe", "system32/cmd.exe")
_OF_BOOT = (
    "Boot/BCD", "bootmgr", "boot.ini", "NTLDR", "EFI/Microsoft/Boot/BCD", "EFI/Microsoft/Boot/bootmgfw.efi",
    "EFI/Boot/bootx64.efi", "EFI/Boot/bootaa64.efi", "EFI/Boot/bootia32.efi",
)  # fmt: skip
_HEAD_BYTES = 8192

Kept = Callable[[str], bool]
"""Whether an edit or a change is made, by what it is about: ``KEY: NAME`` for a value, else the path."""


def facts_of(found: Sample) -> GuestFacts:
    """Facts as conversions read them, of files as the sample has them now."""
    readers = [cast(DiskReader, disk.reader) for disk in found.machine.disks]
    layout = lay_out(readers)
    mountpoint, root = _mountpoint(found), f"/{found.guest.version.folder}"
    files = dict[str, Node](_files(found, found.system, "", tuple(found.path(name) for name in _OF_SYSTEM)))
    files |= _files(found, found.boot, "" if mountpoint == "/" else mountpoint, _OF_BOOT)
    tree = InMemoryTree(files)
    by_place = {(p.disk, p.number): p for p in layout.partitions}
    boot, system = by_place[found.boot.disk, found.boot.number], by_place[found.system.disk, found.system.number]
    head = readers[boot.disk].pread(_HEAD_BYTES, boot.offset)
    starting = Starting(boot, tree, mountpoint, firmware(layout), head=head)
    return facts_of_windows(layout, system, root, tree, ReadBy.HOST, starting=starting)


def plan_of(found: Sample, options: PlanOptions | None = None) -> GuestPlan:
    """The plan of a sample."""
    return plan_guest(facts_of(found), options or PlanOptions())


def rewritten(found: Sample, plan: GuestPlan, kept: Kept = lambda _: True) -> Sample:
    """The sample as its plan leaves it, but for what is not kept."""
    for change in plan.changes:
        found = _made(found, change, kept)
    return found


def _made(found: Sample, change: Change, kept: Kept) -> Sample:
    partition, path = _placed(found, change.path)
    match change:
        case EditHive():
            edits = tuple(each for each in change.edits if kept(f"{each.key}: {getattr(each, 'name', '')}"))
            return found.with_files({path: edit(found.read(path, partition), (), edits)}, partition)
        case CopyFile() if kept(change.path):
            return found.with_files({path: found.read(_placed(found, change.source)[1], partition)}, partition)
        case CarryFile() if kept(change.path):
            return found.with_files({path: carried(change)}, partition)
        case WriteFile() if kept(change.path):
            return found.with_files({path: change.content.encode("utf-8", "surrogateescape")}, partition)
        case EditFile() if kept(change.path):
            text = found.read(path, partition).decode("utf-8", "surrogateescape")
            assert text == change.before
            return found.with_files({path: change.after.encode("utf-8", "surrogateescape")}, partition)
        case EditBootSector() if kept(change.path):
            data = geometry_bytes(change.after)
            assert data is not None
            at = partition.offset + OFFSET
            assert struct.unpack("<HI", found.machine.disks[partition.disk].reader.pread(6, at)) == astuple(change.before)
            return found.with_bytes({at: data})
    return found


def _placed(found: Sample, path: str) -> tuple[Partition, str]:
    mountpoint = _mountpoint(found)
    if mountpoint != "/" and path.startswith(f"{mountpoint}/"):
        return found.boot, path.removeprefix(f"{mountpoint}/")
    return found.system, path.lstrip("/")


def _mountpoint(found: Sample) -> str:
    return "/" if found.boot == found.system else f"/{found.guest.version.folder}/Boot"


def _files(found: Sample, partition: Partition, prefix: str, names: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    volume = found.machine.volume(partition)
    for name in names:
        data = volume.read(name)
        if data is not None:
            yield f"{prefix}/{name}", data
