"""Sample guests planned for and rewritten in memory: our readers, our plan, our editor."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import cast

from drivers.changes import CarryFile, Change, CopyFile, DeleteFile, EditBootSector, EditFile, EditHive, WriteFile
from drivers.facts import GuestFacts, ReadBy
from drivers.layout import firmware, lay_out
from drivers.ntfs_boot import OFFSET, geometry_bytes
from drivers.plan import GuestPlan, PlanOptions
from drivers.planning import plan_guest
from drivers.windows.edits import HiveEdit
from drivers.windows.hive_edit import edit
from drivers.windows.inspection import Starting, facts_of_windows
from p2v.core.disk import DiskReader
from tests.drivers.memory_tree import InMemoryTree, Node
from tests.fixtures import virtio_win
from tests.fixtures.windows import pe
from tests.windows_startup.guests import Sample
from tests.windows_startup.machine import Partition

_ARCHITECTURES = {"x86": pe.Arch.X86, "i386": pe.Arch.X86, "amd64": pe.Arch.X64, "arm64": pe.Arch.ARM64}
_OF_SYSTEM = (
    "system32/config/SYSTEM", "system32/config/SYSTEM.LOG", "system32/config/SYSTEM.LOG1", "system32/config/SYSTEM.LOG2",
    "system32/config/SOFTWARE", "system32/ntoskrnl.exe", "system32/cmd.exe",
)  # fmt: skip
_OF_BOOT = (
    "Boot/BCD", "bootmgr", "boot.ini", "NTLDR", "EFI/Microsoft/Boot/BCD", "EFI/Microsoft/Boot/bootmgfw.efi",
    "EFI/Boot/bootx64.efi", "EFI/Boot/bootaa64.efi", "EFI/Boot/bootia32.efi",
)  # fmt: skip
_HEAD_BYTES = 8192

Kept = Callable[[str], bool]
"""Whether an edit or a change is made, by what it is about: ``KEY: NAME`` for a value, else the path."""


@functools.cache
def medium() -> Mapping[str, bytes]:
    """The files of the CD that guests are planned for with."""
    return virtio_win.medium().files


def facts_of(found: Sample) -> GuestFacts:
    """Facts as conversions read them, of files as the sample has them now."""
    readers = [cast(DiskReader, disk.reader) for disk in found.machine.disks]
    layout = lay_out(readers)
    mountpoint, root = _mountpoint(found), f"/{found.guest.version.folder}"
    drivers = found.path("system32/drivers")
    files: dict[str, Node] = {f"/{drivers}/{name}": b"" for name in found.machine.volume(found.system).names(drivers)}
    files |= _files(found, found.system, "", ("hiberfil.sys", *(found.path(name) for name in _OF_SYSTEM)))
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
        if isinstance(change, EditHive):
            found = made(found, change, tuple(each for each in change.edits if kept(described(each))))
        elif kept(change.path):
            found = made(found, change)
    return found


def described(edit_: HiveEdit) -> str:
    """An edit's key and the value's name."""
    return f"{edit_.key}: {getattr(edit_, 'name', '')}"


def made(found: Sample, change: Change, edits: Sequence[HiveEdit] = ()) -> Sample:
    """The sample with one change made; ``edits``: of a hive, those that are."""
    partition, path = placed(found, change.path)
    if isinstance(change, EditBootSector):
        data = geometry_bytes(change.after)
        assert data is not None
        at = partition.offset + OFFSET
        assert struct.unpack("<HI", found.machine.disks[partition.disk].reader.pread(6, at)) == astuple(change.before)
        return found.with_bytes({at: data})
    if isinstance(change, DeleteFile):
        return found.with_files({path: None}, partition)
    return found.with_files({path: _content(found, change, edits)}, partition)


def _content(found: Sample, change: Change, edits: Sequence[HiveEdit]) -> bytes:
    partition, path = placed(found, change.path)
    match change:
        case EditHive():
            logs = [found.read(placed(found, log.path)[1], partition) for log in change.logs]
            return edit(found.read(path, partition), logs, edits)
        case CopyFile():
            return found.read(placed(found, change.source)[1], partition)
        case EditFile():
            assert found.read(path, partition).decode("utf-8", "surrogateescape") == change.before
            return change.after.encode("utf-8", "surrogateescape")
        case WriteFile():
            return change.content.encode()
        case CarryFile():
            return _carried(change)
    raise AssertionError(f"nobody plans this for Windows: {change}")


def _carried(change: CarryFile) -> bytes:
    """A file of this host, or of the medium: its programs are stand-ins for the processor that they are for."""
    on_medium = medium().get(change.source)
    if on_medium is None:
        data, member = Path(change.source).read_bytes(), change.member
        return data if member is None else data[member.offset : member.offset + change.size]
    if not change.path.lower().endswith(".sys"):
        return on_medium
    arch = next(_ARCHITECTURES[part] for part in reversed(change.source.split("/")) if part in _ARCHITECTURES)
    return pe.program(arch, pe.Subsystem.NATIVE, change.source)


def placed(found: Sample, path: str) -> tuple[Partition, str]:
    """The partition that a path of a plan is on, and the path there."""
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
