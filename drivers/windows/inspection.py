"""Finds the Windows on a machine's disks, and makes facts of it; see ``drivers.inspection``.

Only what stands on a partition is looked at: Windows' own volume managers (dynamic disks, Storage Spaces) and BitLocker are
not opened. An NTFS that Windows did not leave in order is read all the same, as its registry still tells which Windows it
is; ``WindowsFacts.dirty`` says so, and planning makes a blocker of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from drivers.confinement import confined_over_tree
from drivers.facts import GuestFacts, Mount, Partition, ReadBy
from drivers.layout import Device, Layout, firmware, mount_of, place
from drivers.notes import STAYS
from drivers.offline import OfflineTree, UnreadableVolume, Volume, open_device
from drivers.tree import GuestTree
from drivers.windows import c_regf as c
from drivers.windows.boot_reading import (
    SECTOR_BYTES_READ,
    FoundBoot,
    boot_partitions,
    holds_store,
    place_for,
    read_boot,
)
from drivers.windows.facts import BCD, SYSTEM
from drivers.windows.names import Names
from drivers.windows.places import started_by
from drivers.windows.reading import hive_notes, read_windows, windows_roots
from drivers.windows.start_files import Trees, read_start_files
from drivers.windows.state_reading import is_deduplicated
from p2v.core.disk import DiskReader

_FILE_SYSTEMS = frozenset({"ntfs", "vfat"})
_FIRST_MINOR = 3
"""Hives of Windows NT 4.0 begin here; what is older is among ``drivers.other``."""


@dataclass(frozen=True, slots=True)
class FoundWindows:
    """A Windows: the partition it is on, its folder there, and the partition's files."""

    device: Device
    root: str
    tree: GuestTree

    @property
    def where(self) -> str:
        """For notes: ``disk 1, partition 2, \\Windows``."""
        return f"{place(self.device)}, {self.root.replace('/', chr(92))}"

    @property
    def dirty(self) -> str:
        """Why its file system may not be as Windows would see it."""
        filesystem = self.device.filesystem
        return filesystem.why_not_host if filesystem is not None else ""


def find_windows(layout: Layout, readers: Sequence[DiskReader]) -> tuple[tuple[FoundWindows, ...], tuple[str, ...]]:
    """Every Windows on partitions that the host's readers open, and what they refuse."""
    found: list[FoundWindows] = []
    notes: list[str] = []
    for device in candidates(layout):
        try:
            tree = OfflineTree(open_device(device, readers))
        except UnreadableVolume as error:
            notes.append(f"{place(device)} was not looked into for Windows: {error}")
            continue
        found += [FoundWindows(device, root, tree) for root in _known_roots(tree)]
    return tuple(found), tuple(notes)


def deduplicated(layout: Layout, readers: Sequence[DiskReader]) -> tuple[str, ...]:
    """The partitions on which Windows keeps pieces of files once, by their places."""
    found = []
    for device in candidates(layout):
        try:
            if is_deduplicated(OfflineTree(open_device(device, readers))):
                found.append(place(device))
        except UnreadableVolume:
            continue  # it was said when a Windows was looked for
    return tuple(found)


def candidates(layout: Layout) -> Iterator[Partition]:
    """The partitions that a Windows may stand on."""
    return (each for each in layout.partitions if each.filesystem is not None and each.filesystem.kind in _FILE_SYSTEMS)


def _known_roots(tree: GuestTree) -> list[str]:
    names = Names(tree)
    return [root for root in windows_roots(names) if _is_known(names, root)]


def _is_known(names: Names, root: str) -> bool:
    path = names.file(f"{root}/system32/config/{SYSTEM}")
    try:
        base = c.BaseBlock.of(names.tree.read_range(path, c.LOG_SECTOR_BYTES, 0)) if path is not None else None
    except FileNotFoundError:
        return False
    # a base block that is no longer whole may be restored from a log
    return base is None or not base.is_sound or base.minor >= _FIRST_MINOR


def chosen(found: Sequence[FoundWindows]) -> tuple[FoundWindows | None, tuple[str, ...]]:
    """The one Windows there is; of several none, and the note that says so."""
    if len(found) > 1:
        where = "; ".join(each.where for each in found)
        return None, (f"{len(found)} systems were found ({where}), so none was chosen",)
    return (found[0], ()) if found else (None, ())


def default_of(layout: Layout, found: Sequence[FoundWindows], readers: Sequence[DiskReader]) -> FoundWindows | None:
    """The one of several that starts when nobody chooses, by the boot entries of the first partition that has any."""
    system = firmware(layout)
    for partition in boot_partitions(layout, system):
        own = next((each.tree for each in found if each.device == partition), None)
        try:
            tree = own if own is not None else OfflineTree(open_device(partition, readers))
        except UnreadableVolume:
            continue
        if holds_store(tree, "", system):
            boot = read_boot(tree, partition, "", system, b"", apart=True).boot
            place = started_by(layout, boot)
            return next((each for each in found if (each.device, each.root.lower()) == place), None) if place else None
    return None


def beside(found: Sequence[FoundWindows], one: FoundWindows) -> tuple[str, ...]:
    """Notes for a machine with several, of which one is what is converted."""
    others = (each for each in found if each is not one)
    return tuple(f"{each.where} holds another Windows, {STAYS}, and is not prepared for KVM" for each in others)


def beside_linux(found: Sequence[FoundWindows]) -> tuple[str, ...]:
    """Notes for a machine whose Linux is what is converted."""
    return tuple(f"{each.where} holds Windows as well, {STAYS}" for each in found)


def facts_of_windows(
    layout: Layout,
    device: Device,
    root: str,
    tree: GuestTree,
    read_by: ReadBy,
    notes: Sequence[str] = (),
    starting: Starting | None = None,
) -> GuestFacts:
    """All facts about a Windows in the tree of its partition. ``starting``: what starts it, as far as it was found."""
    guest = read_windows(tree, root, FoundWindows(device, root, tree).dirty)
    boot = starting.read() if starting is not None else None
    windows, more = guest.facts, tuple[str, ...]()
    mounts: tuple[Mount, ...] = (mount_of(device, "/"),)
    if boot is not None:
        registry = {**windows.registry, **({BCD: boot.hive} if boot.hive is not None else {})}
        windows = replace(windows, boot=boot.boot, registry=registry)
        more = tuple(hive_notes(boot.hive)) if boot.hive is not None else ()
    trees = Trees(Names(tree), device)
    if starting is not None:
        trees = replace(trees, boot=Names(starting.tree), prefix=starting.prefix)
    if starting is not None and starting.mountpoint not in ("", "/"):
        mounts = (*mounts, mount_of(starting.partition, starting.mountpoint))
    return GuestFacts(
        read_by,
        layout.disks,
        layout.partitions,
        os=guest.system,
        root=mounts[0],
        mounts=mounts,
        firmware=firmware(layout),
        notes=tuple(dict.fromkeys((*layout.notes, *notes, *guest.notes, *more))),
        volumes=layout.volumes,
        windows=windows,
        start_files=read_start_files(layout, windows, trees, firmware(layout)),
    )


@dataclass(frozen=True, slots=True)
class Starting:
    """The partition that starts a Windows. ``tree``: what to read it in, with it at ``mountpoint`` unless it is ``apart``.

    ``mountpoint``: its place in the tree of Windows' own partition; ``/`` for that itself, empty where there is none.
    """

    partition: Partition
    tree: GuestTree
    mountpoint: str
    firmware: str
    apart: bool = False
    head: bytes = b""

    @property
    def prefix(self) -> str:
        """Where its files begin in ``tree``."""
        return "" if self.apart or self.mountpoint == "/" else self.mountpoint

    def read(self) -> FoundBoot:
        """What is on it."""
        return read_boot(self.tree, self.partition, self.mountpoint, self.firmware, self.head, apart=self.apart)


def find_starting(layout: Layout, found: FoundWindows, readers: Sequence[DiskReader]) -> tuple[Starting | None, tuple[str, ...]]:
    """The partition that starts a Windows, and notes of what could not be read; it is put into Windows' tree where it has a place.

    Of several that may, the first with boot entries counts.
    """
    system, notes = firmware(layout), list[str]()
    chosen: tuple[Partition, GuestTree, Volume | None] | None = None
    for partition in boot_partitions(layout, system):
        try:
            volume = open_device(partition, readers) if partition != found.device else None
        except UnreadableVolume as error:
            notes.append(f"{place(partition)}, which may start it, was not read: {error}")
            continue
        tree = OfflineTree(volume) if volume is not None else found.tree
        has_entries = holds_store(tree, "", system)
        if chosen is None or has_entries:
            chosen = (partition, tree, volume)
        if has_entries:
            break
    if chosen is None:
        return None, tuple(notes)
    partition, tree, volume = chosen
    head = readers[partition.disk].pread(SECTOR_BYTES_READ, partition.offset)
    mountpoint = place_for(found.tree, found.root, found.device, partition)
    if volume is not None and mountpoint and isinstance(found.tree, OfflineTree):
        found.tree.mount(mountpoint, volume)
        return Starting(partition, found.tree, mountpoint, system, head=head), tuple(notes)
    return Starting(partition, tree, mountpoint, system, apart=volume is not None, head=head), tuple(notes)


def starting_at(layout: Layout, boot: Mount, tree: GuestTree, head: bytes) -> Starting | None:
    """The partition of a mount, in the tree that it is mounted in; ``head``: its first bytes."""
    partition = next((p for p in layout.partitions if (p.disk, p.number) == (boot.disk, boot.partition)), None)
    return Starting(partition, tree, boot.mountpoint, firmware(layout), head=head) if partition is not None else None


def boot_mount(layout: Layout, found: FoundWindows) -> Mount | None:
    """Where the likeliest partition that starts a Windows belongs in its tree; None where it has no place, or there is none."""
    for partition in boot_partitions(layout, firmware(layout)):
        mountpoint = place_for(found.tree, found.root, found.device, partition)
        if mountpoint:
            return mount_of(partition, mountpoint)
    return None


def roots_confined(tree: GuestTree) -> tuple[str, ...]:
    """The folders in which a Windows stands, found in a child without privileges. Raises ReaderCrashed."""
    found = confined_over_tree(_known_roots, tree)
    return tuple(str(root) for root in found) if isinstance(found, list) else ()
