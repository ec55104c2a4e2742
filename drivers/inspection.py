"""From disks to facts: find the system, mount what belongs to it, and ask every reader.

The same readers serve both ways in: over the host-side tree (``inspect_disks``, inside ``confined``) and over
an appliance's tree (``facts_from_tree``). Planning sees no difference but ``read_by``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from drivers import deployments
from drivers.confinement import DEFAULT_LIMITS, Limits, confined, confined_over_tree, disks_name
from drivers.facts import GuestFacts, Mount, Partition, ReadBy, Volume
from drivers.keys import Key
from drivers.layout import Device, Layout, firmware, lay_out, locked, mount_of, place
from drivers.linux.bootloader import read_boot_loader
from drivers.linux.efi_programs import read_efi_programs
from drivers.linux.fstab import FstabEntry, parse_fstab
from drivers.linux.image_based import image_of_partitions, read_image
from drivers.linux.kernels import find_kernels
from drivers.linux.network import read_network
from drivers.linux.reading import collect_digests, collect_texts
from drivers.linux.rebuild import find_builders
from drivers.linux.selinux import read_label_policy
from drivers.linux.start_files import read_start_files
from drivers.linux.tools import find_tools
from drivers.mounting import FSTAB, LINUX_KINDS, System, is_needed, mount_all, plain, refused
from drivers.offline import OfflineTree, UnreadableVolume, open_device
from drivers.other.signs import recognise_other, system_by_type
from drivers.systems import Likeness, read_selinux, read_system, root_likeness
from drivers.tree import GuestTree
from drivers.windows import inspection as windows
from p2v.core import jsonio
from p2v.core.disk import DiskReader
from p2v.core.errors import ReaderCrashed

NOTES_AT_MOST = 100
# An appliance without KVM hands out an initramfs at a few MB a second.
_OVER_TREE = Limits(seconds=900.0)

_MAY_HOLD_A_SYSTEM = LINUX_KINDS | {"btrfs", "lvm2", "md", "luks", "zfs", "reiserfs", "jfs", "f2fs", "bcache"}


def inspect_confined(
    readers: Sequence[DiskReader], limits: Limits = DEFAULT_LIMITS, keep_fds: Sequence[int] = ()
) -> GuestFacts:
    """``inspect_disks`` in a child without privileges (see ``confined``). Raises ReaderCrashed."""
    data = confined(lambda disks: facts_encoded(inspect_disks(disks)), readers, limits=limits, keep_fds=keep_fds)
    return facts_decoded(data, disks_name(readers))


def facts_encoded(facts: GuestFacts) -> Any:
    """Plain JSON data."""
    return jsonio.encode(jsonio.converter(), facts)


def inspect_disks(readers: Sequence[DiskReader]) -> GuestFacts:
    """Read everything about a guest from its disks, in the guest's order, by the readers of this host.

    Without one clear root, or where it cannot be read on the host, ``os`` and ``root`` are None and the notes
    say what was seen; ``needs_appliance`` tells whether an appliance could see more.
    """
    return facts_and_tree(readers)[0]


def facts_and_tree(readers: Sequence[DiskReader]) -> tuple[GuestFacts, OfflineTree | None]:
    """What ``inspect_disks`` gives, and the files of the one Linux on these disks; None where it found none."""
    systems, layout, notes = _found(readers)
    if len(systems) > 1:
        return _without_system(layout, notes), None
    if not systems:
        return _without_linux(layout, notes, readers), None
    system = systems[0]
    mounting = mount_all(system, layout, readers)
    facts = facts_from_tree(
        mounting.layout,
        system.tree,
        ReadBy.HOST,
        root=mounting.root,
        mounts=mounting.mounts,
        notes=(*notes, *mounting.notes),
    )
    damage = (f"{place(system.device)}: {problem}" for problem in system.tree.problems)
    beside = windows.beside_linux(windows.find_windows(layout, readers)[0])
    return replace(facts, notes=_limited((*facts.notes, *beside, *damage))), system.tree


def open_linux(readers: Sequence[DiskReader]) -> OfflineTree | None:
    """The files of the one Linux on these disks, mounted as ``inspect_disks`` reads them; None where that finds none."""
    systems, layout, _ = _found(readers)
    if len(systems) != 1:
        return None
    mount_all(systems[0], layout, readers)
    return systems[0].tree


def facts_from_tree(
    layout: Layout,
    tree: GuestTree,
    read_by: ReadBy,
    *,
    root: Mount | None,
    mounts: Sequence[Mount],
    notes: Sequence[str] = (),
) -> GuestFacts:
    """All facts about the system in a tree whose file systems are mounted already."""
    loader = read_boot_loader(tree)
    texts, links, folders = collect_texts(tree)
    os = read_system(tree)
    label_policy, label_notes = read_label_policy(tree)
    all_notes = [*layout.notes, *notes, *label_notes]
    if os is None:
        all_notes.append("the system does not say what it is (no os-release and no release file)")
    return GuestFacts(
        read_by=read_by,
        disks=layout.disks,
        partitions=layout.partitions,
        os=os,
        root=root,
        mounts=tuple(mounts),
        firmware=firmware(layout),
        boot_loader=loader,
        efi_programs=read_efi_programs(tree),
        kernels=find_kernels(tree, loader, os.arch if os is not None else ""),
        network=read_network(tree),
        tools=find_tools(tree, links),
        selinux=read_selinux(tree),
        label_policy=label_policy,
        texts=texts,
        links=links,
        folders=folders,
        digests=collect_digests(tree),
        notes=_limited(all_notes),
        volumes=layout.volumes,
        programs=find_builders(tree),
        image=read_image(tree, loader, root) or image_of_partitions(layout.partitions),
        start_files=read_start_files(tree, loader),
    )


def facts_confined(
    layout: Layout,
    tree: GuestTree,
    read_by: ReadBy,
    *,
    root: Mount | None,
    mounts: Sequence[Mount],
    notes: Sequence[str] = (),
    limits: Limits = _OVER_TREE,
) -> GuestFacts:
    """``facts_from_tree`` in a child without privileges that has this process read the tree. Raises ReaderCrashed."""

    def read(remote: GuestTree) -> Any:
        facts = facts_from_tree(layout, remote, read_by, root=root, mounts=mounts, notes=notes)
        return jsonio.encode(jsonio.converter(), facts)

    return facts_decoded(confined_over_tree(read, tree, limits=limits), "the guest in the appliance")


def windows_confined(
    layout: Layout,
    tree: GuestTree,
    device: Device,
    root: str,
    notes: Sequence[str],
    boot: Mount | None = None,
    head: bytes = b"",
    limits: Limits = _OVER_TREE,
) -> GuestFacts:
    """The facts of the Windows in a folder of a tree that only this process can read. Raises ReaderCrashed.

    ``boot``: the partition that starts it, mounted in that tree; ``head``: its first bytes.
    """

    def read(remote: GuestTree) -> Any:
        starting = windows.starting_at(layout, boot, remote, head) if boot is not None else None
        facts = windows.facts_of_windows(layout, device, root, remote, ReadBy.APPLIANCE, notes, starting)
        return jsonio.encode(jsonio.converter(), facts)

    return facts_decoded(confined_over_tree(read, tree, limits=limits), "the guest in the appliance")


def facts_decoded(data: Any, name: str) -> GuestFacts:
    """The facts in JSON data. Raises ReaderCrashed where it is none: a child may have been taken over."""
    try:
        return jsonio.decode(jsonio.converter(), data, GuestFacts)
    except jsonio.BadDocument as error:
        raise ReaderCrashed(name, f"gave facts that are none: {str(error)[:200]}") from error


def needs_appliance(layout: Layout, facts: GuestFacts | None = None, keys: Sequence[Key] = ()) -> str:
    """Why only an appliance can read this guest; empty when the host's readers can, or when neither helps.

    By the layout alone: the first file system that might hold the system and that the host may not read. With
    the host's facts: once a root was found, only what is mounted into its tree matters. An encrypted container that none
    of the keys is for stays closed in an appliance as well (``layout.locked``).
    """
    unread = _unread_device(layout, keys)
    if facts is not None and facts.windows is not None:
        return ""  # an NTFS that is not in order is no better to be read there: only Windows replays its log
    if facts is not None and facts.root is not None:
        return _unread_mount(facts) or (_unseen_mount(facts) if unread or not locked(layout, keys) else "")
    return unread


def _unread_device(layout: Layout, keys: Sequence[Key]) -> str:
    closed = locked(layout, keys)
    for device in layout.devices:
        filesystem = device.filesystem
        if filesystem is None or not filesystem.why_not_host or layout.is_opened(device) or device in closed:
            continue
        # FreeBSD's ZFS, OS/2's JFS: the appliance knows nothing of those systems
        if isinstance(device, Partition) and system_by_type(device) is not None:
            continue
        # only the kernel knows what stands on a volume that could not be mapped
        if filesystem.kind in _MAY_HOLD_A_SYSTEM or (isinstance(device, Volume) and not device.segments):
            return f"{place(device)} ({filesystem.kind}): {filesystem.why_not_host}"
    return ""


# --- finding the system ----------------------------------------------------------------------------------


def _found(readers: Sequence[DiskReader]) -> tuple[list[System], Layout, tuple[str, ...]]:
    """The systems on these disks; of a single one with deployments its root is that of the one that starts."""
    systems, layout, notes = _find_systems(lay_out(readers), readers)
    if len(systems) == 1 and systems[0].likeness is Likeness.DEPLOYMENTS:
        system, problem = _deployed(systems[0], layout, readers)
        systems, notes = ([system] if system is not None else []), (*notes, problem) if problem else notes
    return systems, layout, notes


def _find_systems(layout: Layout, readers: Sequence[DiskReader]) -> tuple[list[System], Layout, tuple[str, ...]]:
    """The roots; file systems that their reader refuses are marked so in the layout."""
    systems: list[System] = []
    notes: list[str] = []
    for device in layout.devices:
        filesystem = device.filesystem
        if filesystem is None or filesystem.kind not in _MAY_HOLD_A_SYSTEM or layout.is_opened(device):
            continue
        if filesystem.why_not_host:
            notes.append(f"{place(device)} ({filesystem.kind}) was not looked into: {filesystem.why_not_host}")
            continue
        try:
            tree = OfflineTree(open_device(device, readers))
        except UnreadableVolume as error:
            layout = refused(layout, device, error)
            notes.append(f"{place(device)} ({filesystem.kind}) was not looked into: {error}")
            continue
        likeness = root_likeness(tree)
        if likeness is not Likeness.NONE:
            systems.append(System(device, tree, likeness))
        elif unread := deployments.unread_kind(tree):
            notes.append(f"{place(device)} holds {unread}")
        elif tree.problems:
            notes.extend(f"{place(device)}: {problem}" for problem in tree.problems)
    # one that merely says what it is does not rival a whole system
    best = max((system.likeness for system in systems), default=Likeness.NONE)
    systems = [system for system in systems if system.likeness >= min(best, Likeness.DEPLOYMENTS)]
    if len(systems) > 1:
        where = "; ".join(place(system.device) for system in systems)
        notes.append(f"{len(systems)} systems were found ({where}), so none was chosen")
    return systems, layout, tuple(notes)


def _deployed(system: System, layout: Layout, readers: Sequence[DiskReader]) -> tuple[System | None, str]:
    """An ostree system with the deployment that starts as its root, or why there is none."""
    boot = _boot_of_deployments(system, layout, readers)
    if boot is not None:
        system.tree.mount("/boot", open_device(boot, readers))
    deployment, problem = deployments.booted(system.tree, read_boot_loader(system.tree))
    if deployment is None:
        return None, problem
    at_boot = mount_of(boot, "/boot") if boot is not None else None
    mounts = deployments.mounts(deployment, mount_of(system.device, "/"), at_boot)
    try:
        tree = OfflineTree(open_device(system.device, readers, deployment.path))
        for mount in mounts[1:]:
            device = boot if boot is not None and mount is at_boot else system.device
            tree.mount(mount.mountpoint, open_device(device, readers, mount.folder))
    except UnreadableVolume as error:
        return None, f"{place(system.device)}: the deployment {deployment.name} cannot be read: {error}"
    return System(system.device, tree, Likeness.LINUX, mounts), ""


def _boot_of_deployments(system: System, layout: Layout, readers: Sequence[DiskReader]) -> Device | None:
    """The partition that is /boot: which one it is, only fstab inside a deployment says, or nothing but a label."""
    for device in layout.devices:
        filesystem = device.filesystem
        if device is system.device or filesystem is None or filesystem.kind not in LINUX_KINDS or filesystem.why_not_host:
            continue
        try:
            tree = OfflineTree(open_device(device, readers))
        except UnreadableVolume:
            continue
        if deployments.is_boot(tree):
            return device
    return None


def _without_linux(layout: Layout, notes: Sequence[str], readers: Sequence[DiskReader]) -> GuestFacts:
    """Windows, or another system, where something tells which; nothing of the latter is ever written."""
    # where a Linux may hide that only the appliance can read, nothing else is guessed
    is_guessed = not needs_appliance(layout)
    if is_guessed:
        all_windows, refused = windows.find_windows(layout, readers)
        one, several = windows.chosen(all_windows)
        if one is None and several:
            one = windows.default_of(layout, all_windows, readers)
        if one is not None:
            return _of_windows(one, layout, (*notes, *windows.beside(all_windows, one)), readers)
        notes = (*notes, *refused, *several)
    found = _without_system(layout, notes)
    other = recognise_other(layout, readers) if is_guessed and not all_windows else None
    if other is None:
        return found
    notes = _limited((*layout.notes, *notes, f"{other.system.name}, told by {other.why}"))
    return replace(found, os=other.system, texts=other.texts, notes=notes)


def _of_windows(
    one: windows.FoundWindows, layout: Layout, notes: Sequence[str], readers: Sequence[DiskReader]
) -> GuestFacts:
    starting, unread = windows.find_starting(layout, one, readers)
    notes = (*notes, *unread)
    facts = windows.facts_of_windows(layout, one.device, one.root, one.tree, ReadBy.HOST, notes, starting)
    damage = one.tree.problems if isinstance(one.tree, OfflineTree) else ()
    if facts.windows is not None:
        facts = replace(facts, windows=replace(facts.windows, deduplicated=windows.deduplicated(layout, readers)))
    return replace(facts, notes=_limited((*facts.notes, *(f"{place(one.device)}: {problem}" for problem in damage))))


def _without_system(layout: Layout, notes: Iterable[str]) -> GuestFacts:
    seen = []
    for device in layout.devices:
        filesystem = device.filesystem
        if filesystem is not None:
            label = f" {filesystem.label!r}" if filesystem.label else ""
            seen.append(f"{place(device)} holds {filesystem.kind}{label}")
    found = tuple(seen) or ("the disks have no partitions",)
    return GuestFacts(
        ReadBy.HOST,
        layout.disks,
        layout.partitions,
        firmware=firmware(layout),
        notes=_limited((*layout.notes, *notes, "no operating system was found on the host's way", *found)),
        volumes=layout.volumes,
        image=image_of_partitions(layout.partitions),
    )


def _unread_mount(facts: GuestFacts) -> str:
    """The first mount that facts should have been read from, and were not."""
    for mount in facts.mounts:
        filesystem = facts.filesystem_of(mount)
        if filesystem and filesystem.why_not_host and is_needed(mount.mountpoint):
            where = mount.volume or place(Partition(mount.disk, mount.partition, 0, 0, ""))
            return f"{mount.mountpoint} ({where}, {filesystem.kind}): {filesystem.why_not_host}"
    return ""


def _unseen_mount(facts: GuestFacts) -> str:
    """The first mount of fstab that facts should have been read from, and that stands on nothing the host sees."""
    known = {mount.mountpoint for mount in facts.mounts}
    text = facts.texts[FSTAB].text if FSTAB in facts.texts else ""
    for entry in parse_fstab(text):
        mountpoint = plain(entry.mountpoint) if entry.mountpoint.startswith("/") else ""
        is_missing = mountpoint not in known and is_needed(mountpoint) and not _is_elsewhere(entry)
        if is_missing and "noauto" not in entry.options.split(","):
            return f"{mountpoint} is on {entry.spec}, which the host's readers do not see"
    return ""


def _is_elsewhere(entry: FstabEntry) -> bool:
    """Memory, network and bind mounts, which no reader of disks can see."""
    tag = entry.spec.partition("=")[0]
    return not entry.spec.startswith("/dev/") and tag not in ("UUID", "LABEL", "PARTUUID", "PARTLABEL")


def _limited(notes: Iterable[Any]) -> tuple[str, ...]:
    kept = list(dict.fromkeys(str(note)[:500] for note in notes))
    return tuple(kept[:NOTES_AT_MOST])
