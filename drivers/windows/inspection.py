"""Finds the Windows on a machine's disks, and makes facts of it; see ``drivers.inspection``.

Only what stands on a partition is looked at: Windows' own volume managers (dynamic disks, Storage Spaces) and BitLocker are
not opened. An NTFS that Windows did not leave in order is read all the same, as its registry still tells which Windows it
is; ``WindowsFacts.dirty`` says so, and planning makes a blocker of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from drivers.confinement import confined_over_tree
from drivers.facts import GuestFacts, Mount, Partition, ReadBy
from drivers.layout import Device, Layout, firmware, mount_of, place
from drivers.offline import OfflineTree, UnreadableVolume, open_device
from drivers.tree import GuestTree
from drivers.windows import c_regf as c
from drivers.windows.facts import SYSTEM
from drivers.windows.names import Names
from drivers.windows.reading import read_windows, windows_roots
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


def beside_linux(found: Sequence[FoundWindows]) -> tuple[str, ...]:
    """Notes for a machine whose Linux is what is converted."""
    return tuple(f"{each.where} holds Windows as well, which stays as it is" for each in found)


def facts_of_windows(
    layout: Layout, device: Device, root: str, tree: GuestTree, read_by: ReadBy, notes: Sequence[str] = ()
) -> GuestFacts:
    """All facts about a Windows in the tree of its partition."""
    guest = read_windows(tree, root, FoundWindows(device, root, tree).dirty)
    mount: Mount = mount_of(device, "/")
    return GuestFacts(
        read_by,
        layout.disks,
        layout.partitions,
        os=guest.system,
        root=mount,
        mounts=(mount,),
        firmware=firmware(layout),
        notes=tuple(dict.fromkeys((*layout.notes, *notes, *guest.notes))),
        volumes=layout.volumes,
        windows=guest.facts,
    )


def roots_confined(tree: GuestTree) -> tuple[str, ...]:
    """The folders in which a Windows stands, found in a child without privileges. Raises ReaderCrashed."""
    found = confined_over_tree(_known_roots, tree)
    return tuple(str(root) for root in found) if isinstance(found, list) else ()


def is_locked(partition: Partition) -> bool:
    """Whether BitLocker keeps what is on a partition from being read."""
    return partition.filesystem is not None and partition.filesystem.kind == "bitlocker"
