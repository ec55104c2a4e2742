"""The guest's file systems of both sides, walked in one appliance, and what differs held against the plan.

Only file systems that the plan wrote to are walked: where no byte differs nothing can. An appliance cannot have two arrays or
volume groups of one name, so a guest on such gets an appliance for each side.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

from converters.allocation.left_out import LeftOut
from converters.qemu_img import QemuImg
from converters.references import DiskSpec
from converters.served_overlay import served_overlay
from drivers import ext4_layout, xfs
from drivers.appliance import Appliance
from drivers.appliance_launch import open_appliance
from drivers.appliance_values import ApplianceDisk
from drivers.byte_account import ByteAccount, Sides, account_ext4
from drivers.changes import Change, CopyFile, ExtendInitramfs
from drivers.differences import differences, to_read
from drivers.facts import FileSystem, GuestFacts, Mount, Segment, nearest_mount
from drivers.keys import Key
from drivers.linux import supplement_members
from drivers.listing import Listing, Runs
from drivers.plan import GuestPlan
from drivers.planned import Account, Accounting, Fate, Outcomes, Unexplained, outcomes
from drivers.rewrite import mounts_of
from drivers.subvolumes import subvolume_problems
from drivers.superblocks import superblock_problems
from drivers.volumes import MappedVolume
from drivers.walk import Walk, WalkedFileSystem
from p2v.core.acceleration import Acceleration
from p2v.core.disk import DiskReader
from p2v.core.events import Reporter
from p2v.core.run import SystemRunner
from p2v.core.workspace import socket_folder, temporary_folder
from p2v.documents import PlanDocument
from p2v.proof.disks import Run, inside
from p2v.proof.hives import edited_hives
from p2v.record.proof import FileSystemProof

_CANNOT_BE_THERE_TWICE = ("btrfs",)
_DAMAGED = "it is damaged, as the source could not be read there: some names cannot be listed, the same ones on both sides"
_CPUS = 2
"""Lists are made at the same time."""


@dataclass(frozen=True, slots=True)
class System:
    """A file system that was written to: its mounts (one or more folders of it), and where its bytes stand.

    ``segments``: empty where only the appliance can tell.
    """

    mounts: tuple[Mount, ...]
    kind: str
    size: int
    segments: tuple[Segment, ...]
    is_dirty: bool = False

    @property
    def device(self) -> str:
        """For people: the volume, or disk and partition."""
        mount = self.mounts[0]
        return mount.volume or f"disk {mount.disk + 1}, partition {mount.partition}"


def systems_of(facts: GuestFacts, plan: GuestPlan) -> tuple[System, ...]:
    """The file systems that carrying out a plan mounts."""
    if plan.is_idle:
        return ()
    found: dict[tuple[str, int, int, str], list[Mount]] = {}
    for mount in mounts_of(facts, plan.changes, with_system=bool(plan.programs)):
        found.setdefault((mount.volume, mount.disk, mount.partition, _subvolume(mount)), []).append(mount)
    return tuple(_system(facts, tuple(mounts)) for mounts in found.values())


def _subvolume(mount: Mount) -> str:
    return next((o for o in mount.options.split(",") if o.startswith(("subvol=", "subvolid="))), "")


def _system(facts: GuestFacts, mounts: tuple[Mount, ...]) -> System:
    known = facts.filesystem_of(mounts[0]) or FileSystem("unknown")
    if mounts[0].volume:
        volume = next(v for v in facts.volumes if v.device == mounts[0].volume)
        return System(mounts, known.kind, volume.size_bytes, volume.segments, known.dirty)
    part = next(p for p in facts.partitions if (p.disk, p.number) == (mounts[0].disk, mounts[0].partition))
    segments = (Segment(0, part.length, part.disk, part.offset),)
    return System(mounts, known.kind, part.length, segments, known.dirty)


def runs_in(system: System, runs: Sequence[Sequence[Run]]) -> tuple[Run, ...] | None:
    """The ranges of a file system's device in which bytes differ, of those of all disks; None where that cannot be told."""
    if not system.segments:
        return None
    found = [
        (start - segment.disk_offset + segment.offset, length)
        for segment in system.segments
        for start, length in inside(runs[segment.disk], [(segment.disk_offset, segment.length)])
    ]
    return tuple(sorted(found))


@dataclass(frozen=True, slots=True)
class WalkedSide:
    """One side in a running appliance: ``first_disk`` is the appliance's number of its first disk."""

    appliance: Appliance
    first_disk: int

    @property
    def walk(self) -> Walk:
        """Its walks."""
        return Walk(self.appliance)

    def system(self, system: System) -> WalkedFileSystem:
        """A file system as the appliance knows it."""
        mount = system.mounts[0]
        device = self.appliance.device_of(replace(mount, disk=mount.disk + self.first_disk))
        return WalkedFileSystem(device, system.kind, _subvolume(mount), system.is_dirty)


@contextmanager
def sides(
    document: PlanDocument,
    specs: tuple[Sequence[DiskSpec], Sequence[DiskSpec]],
    systems: Sequence[System],
    acceleration: Acceleration,
    keys: Sequence[Key],
    report: Reporter,
    unreadable: Sequence[LeftOut],
) -> Iterator[tuple[WalkedSide, WalkedSide]]:
    """Both sides' disks under throw-away overlays, in one appliance where that can be.

    ``unreadable``: what of each source is zeroes in its copy, for it could not be read.
    """
    with ExitStack() as stack:
        scratch = stack.enter_context(temporary_folder())
        sockets = stack.enter_context(socket_folder())
        qemu_img = QemuImg(SystemRunner())
        sizes = [source.image.virtual_size for source in document.sources]
        overlays: list[list[ApplianceDisk]] = [[], []]
        for side, disks in enumerate(overlays):
            for number, (spec, size) in enumerate(zip(specs[side], sizes, strict=True)):
                path = scratch / f"{side}{number}.qcow2"
                gone = unreadable[number] if side == 0 else None
                overlay = stack.enter_context(served_overlay(spec, path, size, sockets, qemu_img, gone))
                sectors = document.facts.sector_bytes(number)
                disks.append(ApplianceDisk(overlay, "qcow2", read_only=False, sector_bytes=sectors))
        alone = any(system.mounts[0].volume or system.kind in _CANNOT_BE_THERE_TWICE for system in systems)
        groups = [overlays[0], overlays[1]] if alone else [overlays[0] + overlays[1]]
        appliances = []
        for group in groups:
            appliance = stack.enter_context(open_appliance(group, acceleration, cpus=_CPUS, scratch=scratch, report=report))
            appliance.activate(document.facts.volumes if alone else (), keys)
            appliances.append(appliance)
        yield WalkedSide(appliances[0], 0), WalkedSide(appliances[-1], 0 if alone else len(overlays[0]))


@dataclass
class GuestProof:
    """Walks file systems of both sides and accounts for what differs. ``runs``: of each disk, where bytes differ."""

    facts: GuestFacts
    plan: GuestPlan
    both: tuple[WalkedSide, WalkedSide]
    runs: Sequence[Sequence[Run]]
    readers: tuple[Sequence[DiskReader], Sequence[DiskReader]]
    unreadable: Sequence[LeftOut] = ()
    """Of each disk: what could not be read of the source, and is zeroes on both sides."""

    @cached_property
    def _systems(self) -> tuple[System, ...]:
        return systems_of(self.facts, self.plan)

    @cached_property
    def _mounts(self) -> tuple[Mount, ...]:
        """What was mounted for the rewriting."""
        return tuple(mount for system in self._systems for mount in system.mounts)

    def prove(self, system: System) -> FileSystemProof:
        """One file system. Raises BadListing, ApplianceFailed."""
        touched = runs_in(system, self.runs)
        walked = [side.system(system) for side in self.both]
        same_inodes = walked[0].keeps_inodes
        is_damaged = self._is_damaged(system)
        sides = zip(self.both, walked, strict=True)
        before, after = (side.walk.listing(w, is_damaged=is_damaged) for side, w in sides)
        planned = outcomes(self._changes(system), before, self._labels(system))
        runs = Runs(touched) if touched is not None and walked[0].tells_places else None
        read = to_read(before, after, runs, same_inodes=same_inodes)
        ours = [path for path in planned.of if _is_file(after, path)]
        digests = (
            self.both[0].walk.digests(walked[0], read),
            self.both[1].walk.digests(walked[1], sorted({*read, *ours})),
        )
        odd = self._extended(system, walked, planned, after)
        shown = (digests[0], {path: digest for path, digest in digests[1].items() if path in digests[0] or path in read})
        found = tuple(differences(before, after, shown, same_inodes=same_inodes))
        walks = (self.both[0].walk, self.both[1].walk)
        hives = edited_hives(walks, walked, planned, (before, after), system.mounts[0])
        stands = frozenset(odd.stands), frozenset(hives.stands)
        accounting = Accounting(planned, before, after, digests[1], *stands, has_owners=same_inodes)
        account = accounting.account(found)
        others = self._other_subvolumes(system, before, after)
        kinds = self._bytes(system, touched, (before, after), account)
        return FileSystemProof(
            device=system.device,
            kind=system.kind,
            mountpoints=tuple(mount.mountpoint for mount in system.mounts),
            names=len(after.entries),
            files_read=len(read),
            read_all=runs is None,
            explained=account.explained,
            unexplained=(
                *account.unexplained, *odd.problems, *hives.problems, *kinds.unexplained, *others, *_unread(read, digests),
                *_not_listed(before, after),
            ),
            kinds=kinds.kinds,
            notes=(*kinds.notes, *((_DAMAGED,) if after.not_listed else ())),
        )  # fmt: skip

    def _is_damaged(self, system: System) -> bool:
        """Whether something of a file system could not be read, so that names in it may not be listed."""
        if not system.segments:
            return any(map(len, self.unreadable))
        return any(
            True
            for segment in system.segments
            for disk in self.unreadable[segment.disk : segment.disk + 1]
            for _ in disk.within(segment.disk_offset, segment.disk_offset + segment.length)
        )

    def _other_subvolumes(self, system: System, before: Listing, after: Listing) -> Iterator[Unexplained]:
        """Those that the plan writes to are systems of their own."""
        place = system.mounts[0].volume, system.mounts[0].disk, system.mounts[0].partition
        written = [
            _subvolume(other.mounts[0]) for other in self._systems
            if (other.mounts[0].volume, other.mounts[0].disk, other.mounts[0].partition) == place
        ]  # fmt: skip
        for problem in subvolume_problems(before.subvolumes, after.subvolumes, after.subvolume, written):
            yield Unexplained("/", problem)

    def _changes(self, system: System) -> Iterator[Change]:
        """Those to a file system, with the paths that it has itself."""
        for change in self.plan.changes:
            mount = nearest_mount(self._mounts, change.path)
            if mount is not None and mount in system.mounts:
                yield _moved(change, _inner(change.path, mount))

    def _labels(self, system: System) -> Mapping[str, str]:
        found = {}
        for path, label in self.plan.labels.items():
            mount = nearest_mount(self._mounts, path)
            if mount is not None and mount in system.mounts:
                found[_inner(path, mount)] = label
        return found

    def _bytes(
        self,
        system: System,
        touched: tuple[Run, ...] | None,
        listings: tuple[Listing, Listing],
        account: Account,
    ) -> ByteAccount:
        if touched is None:
            return ByteAccount({}, (), ("what its bytes are cannot be told from here; its names and contents were compared",))
        before, after = (
            MappedVolume(system.segments, system.size, readers) for readers in self.readers
        )
        planned = {each.path: each.is_new for each in account.explained}
        for each in account.explained:
            if each.is_new or each.what == Fate.GONE.value:
                # its times show nothing where they have seconds only and all was done in one
                planned.setdefault(posixpath.dirname(each.path), False)
        if system.kind in ext4_layout.KINDS:
            try:
                return account_ext4(Sides(before.pread, after.pread, system.size), touched, listings, planned)
            except ext4_layout.NotUnderstood as error:
                note = f"its structures are not understood ({error}); its names and contents were compared"
                return ByteAccount({f"{system.kind}, not told apart": sum(n for _, n in touched)}, (), (note,))
        note = "of its own structures only what they mean (names and contents) was compared"
        problems = [*superblock_problems(system.kind, before.pread, after.pread, system.size), *_log_to_replay(system, after)]
        told = tuple(Unexplained("/", problem) for problem in problems)
        return ByteAccount({f"{system.kind}, not told apart": sum(n for _, n in touched)}, told, (note,))

    def _extended(
        self, system: System, walked: Sequence[WalkedFileSystem], planned: Outcomes, after: Listing
    ) -> _Extended:
        """What was appended to each initramfs."""
        found = _Extended()
        for path, outcome in planned.of.items():
            change = outcome.extends
            if change is None or not _is_file(after, path):
                continue
            walk = self.both[1].walk
            beginning = walk.digest_of_beginning(walked[1], path, change.size)
            texts = []
            if beginning != change.sha256:
                texts.append("does not begin with what it was before")
            added = after.entries[path].size - change.size
            if not 0 <= added <= supplement_members.CONTENTS_BYTES:
                texts.append(f"has {change.size + added} bytes, and had {change.size}")
            else:
                appended = walk.read(walked[1], path, change.size, added)
                texts += supplement_members.problems(change, appended, self._modules(change))
            found.problems += [Unexplained(path, text) for text in texts]
            if not texts:
                found.stands.add(path)
        return found

    def _modules(self, change: ExtendInitramfs) -> Mapping[str, str]:
        """Digests of the guest's own files for the modules that a change adds."""
        paths = {f"{change.modules_folder}/{module}": module for module in change.modules}
        found: dict[str, str] = {}
        # they were read from a file system that nothing was written to, as /usr of its own is
        mounts = tuple(dict.fromkeys(filter(None, (self.facts.root, *self.facts.mounts))))
        for mount in mounts:
            inner = {
                _inner(path, mount): module for path, module in paths.items() if nearest_mount(mounts, path) == mount
            }
            if inner:
                system = self.both[1].system(_system(self.facts, (mount,)))
                digests = self.both[1].walk.digests(system, sorted(inner))
                found |= {inner[path]: digest for path, digest in digests.items()}
        return {module: found.get(module, "") for module in change.modules}


def _unread(wanted: Iterable[str], digests: tuple[Mapping[str, str], Mapping[str, str]]) -> Iterator[Unexplained]:
    """Files whose contents had to be compared and could not be: that nothing is known of them is no proof."""
    for path in wanted:
        if path not in digests[0] and path not in digests[1]:
            yield Unexplained(path, "cannot be read on either side, so its contents were not compared")


def _not_listed(before: Listing, after: Listing) -> Iterator[Unexplained]:
    """What could not be read of a damaged file system must be the same on both sides."""
    if before.not_listed != after.not_listed:
        yield Unexplained("/", "other names than before cannot be listed, for the file system is damaged")


@dataclass
class _Extended:
    """What is wrong with images that were extended, and those of which nothing is (``stands``)."""

    problems: list[Unexplained] = field(default_factory=list)
    stands: set[str] = field(default_factory=set)


def _log_to_replay(system: System, after: DiskReader) -> Iterator[str]:
    found = xfs.recognise(after, 0, system.size) if system.kind == "xfs" else None
    if found is not None and found.dirty:
        yield "its log is to be replayed: what it holds is not what the next mount shows"


def _inner(path: str, mount: Mount) -> str:
    """A path of the guest's tree as the file system itself has it."""
    rest = path if mount.mountpoint == "/" else path.removeprefix(mount.mountpoint.rstrip("/"))
    folder = mount.folder.rstrip("/")
    return (f"{folder}/{rest.lstrip('/')}" if folder else rest).rstrip("/") or "/"


def _moved(change: Change, path: str) -> Change:
    """The same change at another path."""
    return replace(change, target=path) if isinstance(change, CopyFile) else replace(change, path=path)


def _is_file(listing: Listing, path: str) -> bool:
    entry = listing.entries.get(path)
    return entry is not None and entry.type == "f"

