"""What a guest mounts from its disks: by its fstab, and what its system mounts without."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from drivers.facts import Mount
from drivers.layout import Device, Layout, Sources, is_esp, mount_of, place
from drivers.linux.fstab import FstabEntry, named_devices, parse_fstab
from drivers.linux.paths import TEXT_BYTES_AT_MOST
from drivers.offline import OfflineTree, UnreadableVolume, open_device
from drivers.systems import Likeness
from drivers.tree import FileType, GuestTree, text_of
from p2v.core.disk import DiskReader

MOUNTS_AT_MOST = 64
FSTAB = "/etc/fstab"
LINUX_KINDS = frozenset({"ext2", "ext3", "ext4", "xfs"})
"""What the readers of this host mount."""

_ESP_MOUNTPOINTS = ("/boot/efi", "/efi", "/boot")
# facts are read from these; the guest's other file systems are only named
_NEEDED_MOUNTPOINTS = ("/", "/boot", "/boot/efi", "/efi", "/usr", "/var", "/etc", "/lib", "/opt")
# not looked for among the disks
_REMOVABLE = ("iso9660", "udf", "udf,iso9660", "iso9660,udf")
_DRIVES = ("/dev/sr", "/dev/scd", "/dev/cdrom", "/dev/dvd", "/dev/fd", "/dev/floppy")


@dataclass(frozen=True, slots=True)
class System:
    """A system's root on a device, with its files."""

    device: Device
    tree: OfflineTree
    likeness: Likeness
    mounts: tuple[Mount, ...] = ()
    """What is mounted before fstab says anything, the root first."""


@dataclass(frozen=True, slots=True)
class Mounting:
    """What is mounted; the layout says of what its reader refused."""

    layout: Layout
    root: Mount
    mounts: tuple[Mount, ...]
    notes: tuple[str, ...]


def mounts_from_fstab(
    text: str, layout: Layout, root: Device | None
) -> tuple[tuple[tuple[FstabEntry, Device], ...], tuple[str, ...]]:
    """The entries of an fstab that stand on these disks, in mounting order, and what was not found."""
    entries = parse_fstab(text)[: 16 * MOUNTS_AT_MOST]
    sources = Sources(layout, root, named_devices(entries))
    found: list[tuple[FstabEntry, Device]] = []
    notes: list[str] = []
    for entry in entries:
        if not entry.mountpoint.startswith("/") or entry.fstype in _REMOVABLE or entry.spec.startswith(_DRIVES):
            continue
        device, problem = sources.find(entry.spec)
        if device is not None:
            found.append((entry, device))
        elif problem:
            notes.append(f"{FSTAB} line {entry.line_number}: {entry.spec} for {entry.mountpoint}: {problem}")
    found.sort(key=lambda pair: plain(pair[0].mountpoint).count("/") if pair[0].mountpoint != "/" else 0)
    return tuple(found[:MOUNTS_AT_MOST]), tuple(notes)


def mount_all(system: System, layout: Layout, readers: Sequence[DiskReader]) -> Mounting:
    """Mount into a system's tree what belongs there and can be read; what cannot is a fact too."""
    text = text_of(system.tree, FSTAB, TEXT_BYTES_AT_MOST) or ""
    found, notes = mounts_from_fstab(text, layout, system.device)
    first = system.mounts or (mount_of(system.device, "/"),)
    root = replace(first[0], options=_root_options(found))
    mounting = Mounting(layout, root, (root, *first[1:]), notes)
    for entry, device in found:
        if plain(entry.mountpoint) != "/":
            mounting = _mounted(mounting, system, device, entry.mountpoint, entry.options, readers)
    return _with_esp(mounting, system, readers)


def _root_options(found: Iterable[tuple[FstabEntry, Device]]) -> str:
    return next((entry.options for entry, _ in found if plain(entry.mountpoint) == "/"), "")


def _mounted(
    mounting: Mounting,
    system: System,
    device: Device,
    mountpoint: str,
    options: str,
    readers: Sequence[DiskReader],
) -> Mounting:
    """The mount is a fact in any case; its files are read when facts may be in them and the host can."""
    mountpoint = plain(mountpoint)
    filesystem = device.filesystem
    # fstab has the last word on what was mounted before it
    others = (mount for mount in mounting.mounts if mount.mountpoint != mountpoint or not system.mounts)
    mounting = replace(mounting, mounts=(*others, mount_of(device, mountpoint, options)))
    if filesystem is None or not is_needed(mountpoint):
        return mounting
    problem, layout = filesystem.why_not_host, mounting.layout
    if not problem:
        try:
            system.tree.mount(mountpoint, open_device(device, readers))
        except UnreadableVolume as error:
            problem, layout = str(error), refused(layout, device, error)
    if not problem:
        return mounting
    note = f"{mountpoint} ({place(device)}, {filesystem.kind}) was not read: {problem}"
    return replace(mounting, layout=layout, notes=(*mounting.notes, note))


def _with_esp(mounting: Mounting, system: System, readers: Sequence[DiskReader]) -> Mounting:
    """systemd mounts the EFI system partition without fstab, and some systems leave it unmounted."""
    esps = [p for p in mounting.layout.partitions if is_esp(p) and p.filesystem and p.filesystem.kind == "vfat"]
    taken = {(mount.disk, mount.partition) for mount in mounting.mounts if not mount.volume}
    if len(esps) != 1 or (esps[0].disk, esps[0].number) in taken:
        return mounting
    for mountpoint in _ESP_MOUNTPOINTS:
        if any(mount.mountpoint == mountpoint for mount in mounting.mounts):
            continue
        if _is_folder(system.tree, mountpoint) and not system.tree.list(mountpoint):
            return _mounted(mounting, system, esps[0], mountpoint, "", readers)
    return mounting


def _is_folder(tree: GuestTree, path: str) -> bool:
    try:
        return tree.lstat(path).type is FileType.DIRECTORY
    except FileNotFoundError:
        return False


def is_needed(mountpoint: str) -> bool:
    """Whether facts are read from it."""
    return mountpoint in _NEEDED_MOUNTPOINTS or mountpoint.startswith(("/usr/", "/var/lib", "/boot/"))


def plain(mountpoint: str) -> str:
    """Without what is said twice or means nothing."""
    return "/" + "/".join(part for part in mountpoint.split("/") if part not in ("", "."))


def refused(layout: Layout, device: Device, error: UnreadableVolume) -> Layout:
    """The layout with the reason why the host cannot read a device."""
    if device.filesystem is None:
        return layout
    return layout.with_filesystem(
        device, replace(device.filesystem, why_not_host=f"the host reader refuses it: {error}")
    )
