"""A guest's facts through a read-only appliance: journals replayed, containers opened, volumes as the kernel sees them.

The layout comes from the host, which sees partitions, mirrors and linear volumes; what only the kernel understands is
added to it here. Files are parsed in the confined child, never in this process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from drivers import deployments
from drivers.appliance import Appliance
from drivers.appliance_tree import ApplianceTree
from drivers.appliance_values import ApplianceFailed, FoundFileSystem
from drivers.confinement import confined_over_tree
from drivers.deployments import is_physical_root
from drivers.facts import FileSystem, GuestFacts, Mount, Partition, ReadBy, Volume
from drivers.inspection import facts_confined, windows_confined
from drivers.keys import Key
from drivers.layout import CARRIERS, Device, Layout, mount_of, place
from drivers.linux.bootloader import read_boot_loader
from drivers.linux.image_based import image_of_partitions
from drivers.linux.paths import TEXT_BYTES_AT_MOST
from drivers.mounting import mounts_from_fstab
from drivers.systems import Likeness, root_likeness
from drivers.tree import GuestTree, text_of
from drivers.windows import inspection as windows
from drivers.windows.boot_reading import SECTOR_BYTES_READ

_HOLDS_FILES = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "reiserfs", "jfs", "f2fs"})
_MOUNTED_TOO = _HOLDS_FILES | {"vfat"}
_SUBVOLUMES_AT_MOST = 64
_ROUNDS_AT_MOST = 4
# Where distributions put the root: Ubuntu and Debian, Debian's installer, Fedora.
_USUAL_SUBVOLUMES = ("@", "@rootfs", "root")
_SUBVOLUME = re.compile(r"(?:^|,)subvol=/?([^,]+)")


def facts_by_appliance(appliance: Appliance, layout: Layout, why: str, keys: Sequence[Key] = ()) -> GuestFacts:
    """Everything about the guest in an appliance's disks, which are in the layout's order.

    ``why``: what kept the host's own readers out, for the notes. Raises ApplianceFailed, ReaderCrashed.
    """
    layout, notes = _completed(appliance, layout, keys)
    notes = [f"read in an appliance: {why}", *notes]
    tree = ApplianceTree(appliance)
    roots = list(_roots(appliance, tree, layout))
    if not roots and (all_windows := list(_windows(appliance, tree, layout))):
        one, several = windows.chosen(all_windows)
        if one is None:
            return _without_system(layout, (*notes, *several))
        appliance.mount([mount_of(one.device, "/")], read_only=True)
        boot, head = windows.boot_mount(layout, one), b""
        try:
            if boot is not None and boot.mountpoint != "/":
                appliance.mount([boot], read_only=True)
            head = appliance.beginning_of(boot, SECTOR_BYTES_READ) if boot is not None else b""
        except ApplianceFailed as error:
            notes.append(f"what may start it was not read: {error.message}")
            boot = None
        return windows_confined(layout, tree, one.device, one.root, notes, boot, head)
    if len(roots) != 1:
        what = "; ".join(_where(mount) for mount in roots)
        found = f"{len(roots)} systems were found ({what}), so none was chosen" if roots else "no system was found"
        return _without_system(layout, (*notes, found))
    first: tuple[Mount, ...] = (roots[0],)
    appliance.mount(first, read_only=True)
    if is_physical_root(tree):
        first, problem = _deployed(appliance, tree, layout, roots[0])
        if problem:
            return _without_system(layout, (*notes, problem))
    layout = _with_guest_names(layout, text_of(tree, "/etc/crypttab", TEXT_BYTES_AT_MOST) or "")
    table = text_of(tree, "/etc/fstab", TEXT_BYTES_AT_MOST) or ""
    mounts, problems = _fstab_mounts(appliance, layout, first, table)
    return facts_confined(layout, tree, ReadBy.APPLIANCE, root=mounts[0], mounts=mounts, notes=(*notes, *problems))


def _without_system(layout: Layout, notes: Sequence[str]) -> GuestFacts:
    return GuestFacts(
        ReadBy.APPLIANCE,
        layout.disks,
        layout.partitions,
        notes=(*layout.notes, *notes),
        volumes=layout.volumes,
        image=image_of_partitions(layout.partitions),
    )


def _where(mount: Mount) -> str:
    device = mount.volume or place(Partition(mount.disk, mount.partition, 0, 0, ""))
    return f"{device} {mount.options}".strip()


# --- what there is -------------------------------------------------------------------------------------------------------


def _completed(appliance: Appliance, layout: Layout, keys: Sequence[Key]) -> tuple[Layout, list[str]]:
    """The layout with everything that the appliance sees, encrypted containers opened where a key fits."""
    notes: list[str] = []
    tried: set[str] = set()
    appliance.activate(layout.volumes)
    for _ in range(_ROUNDS_AT_MOST):
        layout = _with_seen(appliance, layout)
        closed = [d for d in layout.devices if d.filesystem and d.filesystem.kind == "luks" and place(d) not in tried]
        if not closed:
            break
        for device in closed:
            tried.add(place(device))
            container = _container(device)
            try:
                appliance.activate([container], keys)
            except ApplianceFailed as error:
                notes.append(f"{place(device)} is encrypted and was not opened: {error.message}")
                continue
            inner = appliance.device_of_volume(container.device)
            size = int(appliance.call("blockdev_getsize64", inner))
            kind = appliance.kind_of(inner)
            why = "it is in an encrypted container"
            system = FileSystem(_named(kind), appliance.uuid_of(inner), None, size, why_not_host=why)
            layout = replace(layout, volumes=(*layout.volumes, replace(container, size_bytes=size, filesystem=system)))
    return layout, notes


def _named(kind: str) -> str:
    return {"LVM2_member": "lvm2", "crypto_LUKS": "luks", "linux_raid_member": "md"}.get(kind, kind)


def _container(device: Device) -> Volume:
    """What an encrypted device will be once it is open."""
    uuid = (device.filesystem.uuid if device.filesystem else None) or ""
    carriers = device.carriers if isinstance(device, Volume) else ((device.disk, device.number),)
    inside = device.device if isinstance(device, Volume) else ""
    return Volume(f"/dev/mapper/luks-{uuid}", "luks", uuid, 0, carriers=carriers, inside=inside)


def _with_seen(appliance: Appliance, layout: Layout) -> Layout:
    """Volumes that only the kernel found, and what stands on those that the host could not map."""
    known = {name: volume for volume in layout.volumes for name in _appliance_names(appliance, volume)}
    volumes = {volume.device: volume for volume in layout.volumes}
    for found in appliance.explore():
        if found.disk is not None or not found.size_bytes:
            continue
        why = "only the kernel sees it"
        system = FileSystem(_named(found.kind), found.uuid, found.label, found.size_bytes, why_not_host=why)
        volume = known.get(found.device)
        if volume is None:
            volume = _seen(appliance, layout, found)
            appliance.activate([volume])
        elif volume.filesystem is not None and volume.filesystem.kind != "unknown":
            continue
        volumes[volume.device] = replace(volume, filesystem=system, size_bytes=found.size_bytes)
    return replace(layout, volumes=tuple(volumes.values()))


def _appliance_names(appliance: Appliance, volume: Volume) -> tuple[str, ...]:
    return (appliance.device_of_volume(volume.device), volume.device, *volume.aliases)


def _seen(appliance: Appliance, layout: Layout, found: FoundFileSystem) -> Volume:
    """A volume by the name that the kernel gives it. Its carriers: all that could carry it, as nothing finer is known."""
    carriers = tuple(
        (p.disk, p.number) for p in layout.partitions if p.filesystem is not None and p.filesystem.kind in CARRIERS
    )
    parts = found.device.split("/")
    if len(parts) == 4 and parts[2] not in ("mapper", "md", "disk"):
        group, name = parts[2].replace("-", "--"), parts[3].replace("-", "--")
        return Volume(f"/dev/mapper/{group}-{name}", "lvm", "", found.size_bytes, (found.device,), carriers)
    if found.device.startswith("/dev/md"):
        return Volume(found.device, "md", appliance.array_uuid(found.device), found.size_bytes, (), carriers)
    return Volume(found.device, "other", "", found.size_bytes, (), carriers)


def _with_guest_names(layout: Layout, crypttab: str) -> Layout:
    """Opened containers also by the names that the guest's crypttab(5) gives them."""
    names: dict[str, str] = {}
    for line in crypttab.splitlines():
        words = line.split()
        if len(words) >= 2 and not words[0].startswith("#"):
            names[words[1].removeprefix("UUID=").strip("\"'").lower()] = f"/dev/mapper/{words[0]}"
    opened = [volume for volume in layout.volumes if volume.kind == "luks"]

    def named(volume: Volume) -> Volume:
        if volume.kind != "luks":
            return volume
        name = names.get(volume.uuid.lower())
        # a device name says little; with one container and one line there is no doubt
        name = name or (next(iter(names.values())) if len(opened) == 1 and len(names) == 1 else None)
        return replace(volume, aliases=(*volume.aliases, name)) if name else volume

    return replace(layout, volumes=tuple(named(volume) for volume in layout.volumes))


# --- which is the root ---------------------------------------------------------------------------------------------------


def _roots(appliance: Appliance, tree: ApplianceTree, layout: Layout) -> Iterator[Mount]:
    seen: set[str] = set()
    for device in layout.devices:
        if device.filesystem is None or device.filesystem.kind not in _HOLDS_FILES or layout.is_opened(device):
            continue
        if device.filesystem.kind == "btrfs" and device.filesystem.uuid:
            # a further member of the same Btrfs is no further system
            if device.filesystem.uuid in seen:
                continue
            seen.add(device.filesystem.uuid)
        if _is_root(appliance, tree, mount_of(device, "/")):
            yield mount_of(device, "/")
        elif device.filesystem.kind == "btrfs":
            yield from _root_subvolume(appliance, tree, device)


def _windows(appliance: Appliance, tree: ApplianceTree, layout: Layout) -> Iterator[windows.FoundWindows]:
    for device in windows.candidates(layout):
        try:
            appliance.mount([mount_of(device, "/")], read_only=True)
        except ApplianceFailed:
            continue
        try:
            yield from [windows.FoundWindows(device, root, tree) for root in windows.roots_confined(tree)]
        finally:
            appliance.umount()


def _root_subvolume(appliance: Appliance, tree: ApplianceTree, device: Device) -> Iterator[Mount]:
    """The subvolume that holds a system: one of the usual names, else the only one there is (snapshots are many)."""
    paths = _subvolumes(appliance, device)
    usual = [path for path in _USUAL_SUBVOLUMES if path in paths]
    for path in usual:
        mount = mount_of(device, "/", f"subvol={path}")
        if _is_root(appliance, tree, mount):
            yield mount
            return
    others = [path for path in paths if path not in usual and not _is_snapshot(path)][:_SUBVOLUMES_AT_MOST]
    for path in others:
        mount = mount_of(device, "/", f"subvol={path}")
        if _is_root(appliance, tree, mount):
            yield mount


def _is_snapshot(path: str) -> bool:
    return "snapshot" in path.lower() or path.startswith("timeshift")


def _subvolumes(appliance: Appliance, device: Device) -> tuple[str, ...]:
    appliance.mount([mount_of(device, "/", "subvolid=5")], read_only=True)
    try:
        found = appliance.call("btrfs_subvolume_list", "/")
    except ApplianceFailed:
        return ()
    finally:
        appliance.umount()
    # a name with a comma cannot be told to mount(8)
    paths = [str(each["btrfssubvolume_path"]) for each in found]
    return tuple(sorted((path for path in paths if "," not in path), key=lambda path: (path.count("/"), path)))


def _is_root(appliance: Appliance, tree: ApplianceTree, mount: Mount) -> bool:
    try:
        appliance.mount([mount], read_only=True)
    except ApplianceFailed:
        return False
    try:
        return root_likeness(tree) >= Likeness.DEPLOYMENTS
    finally:
        appliance.umount()


def _deployed(appliance: Appliance, tree: ApplianceTree, layout: Layout, root: Mount) -> tuple[tuple[Mount, ...], str]:
    """An ostree system's mounts, its root first and all of them mounted; or why nothing starts. ``root`` is mounted."""
    appliance.umount()
    boot = next((mount for mount in _possible_boots(layout, root) if _is_boot(appliance, tree, mount)), None)
    appliance.mount([root, *([boot] if boot else [])], read_only=True)
    path, problem = confined_over_tree(_booted, tree)
    appliance.umount()
    deployment = deployments.at(path)
    if deployment is None:
        return (), problem or "no deployment was found"
    mounts = deployments.mounts(deployment, root, boot)
    appliance.mount(mounts, read_only=True)
    return mounts, ""


def _booted(tree: GuestTree) -> list[str]:
    """In the confined child: the deployment's path, and why there is none."""
    deployment, problem = deployments.booted(tree, read_boot_loader(tree))
    return [deployment.path, ""] if deployment is not None else ["", problem]


def _possible_boots(layout: Layout, root: Mount) -> Iterator[Mount]:
    for device in layout.devices:
        kind = device.filesystem.kind if device.filesystem is not None else ""
        if kind in _HOLDS_FILES and not layout.is_opened(device) and not _stands_on(root, device):
            yield mount_of(device, "/boot")


def _is_boot(appliance: Appliance, tree: ApplianceTree, mount: Mount) -> bool:
    try:
        appliance.mount([replace(mount, mountpoint="/")], read_only=True)
    except ApplianceFailed:
        return False
    try:
        return deployments.is_boot(tree)
    finally:
        appliance.umount()


def _fstab_mounts(
    appliance: Appliance, layout: Layout, first: Sequence[Mount], text: str
) -> tuple[tuple[Mount, ...], tuple[str, ...]]:
    """Mounts what the root's fstab mounts from these disks; ``first``, which is mounted, comes first."""
    root = first[0]
    root_device = next(d for d in layout.devices if _stands_on(root, d))
    found, notes = mounts_from_fstab(text, layout, root_device)
    problems = list(notes)
    mounts = list(first)
    for entry, device in found:
        mount = mount_of(device, entry.mountpoint, entry.options)
        if any(_is_same(mount, known) for known in first[1:]):
            continue
        if entry.mountpoint == "/":
            if _stands_on(root, device):
                mounts[0] = replace(root, options=_joined(entry.options, root.options))
            continue
        system = device.filesystem
        if system is not None and system.kind == "unknown" and system.why_not_host:
            problems.append(f"{entry.mountpoint} ({place(device)}) cannot be mounted: {system.why_not_host}")
        is_known = system is not None and system.kind in _MOUNTED_TOO
        if not is_known or (_stands_on(root, device) and not _SUBVOLUME.search(entry.options)):
            continue
        try:
            appliance.mount([mount], read_only=True)
        except ApplianceFailed as error:
            problems.append(f"{entry.mountpoint} ({place(device)}) cannot be mounted: {error.message}")
            continue
        # fstab has the last word on what ostree mounted before it
        mounts = [known for known in mounts if known not in first[1:] or known.mountpoint != mount.mountpoint]
        mounts.append(mount)
    return tuple(mounts), tuple(problems)


def _is_same(mount: Mount, known: Mount) -> bool:
    """Whether something is mounted already, by whatever options."""
    return replace(mount, options=known.options) == known


def _joined(of_fstab: str, found: str) -> str:
    """fstab's options, with the subvolume that was found where they name none."""
    return of_fstab if _SUBVOLUME.search(of_fstab) or not found else f"{of_fstab},{found}".strip(",")


def _stands_on(mount: Mount, device: Device) -> bool:
    other = mount_of(device, "/")
    return (mount.volume, mount.disk, mount.partition) == (other.volume, other.disk, other.partition)
