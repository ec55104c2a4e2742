"""How a disk that is in use is copied: the ways there are, and which of them a disk can have; pure.

From the best to the worst: a snapshot of the logical volume, a freeze of its file systems for the time of the copy, a copy of what
runs. A snapshot by Btrfs is none of them: it is a second tree in the same file system on the same device, and a copy of the device
takes the tree that is being written along just so. docs/live.md says what each is worth.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2v.core.device_use import Mounted, Use, UseKind
from p2v.core.units import GIB, MIB, format_bytes

# Those whose kernel modules can freeze them (super_operations.freeze_fs or freeze_super).
_FREEZABLE = frozenset(
    ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "jfs", "nilfs2", "reiserfs", "gfs2", "ocfs2", "bcachefs")
)
_LEAST_SNAPSHOT_BYTES = 64 * MIB

FREEZE_SECONDS = 60.0
"""How long file systems are frozen at most, unless the user says otherwise."""


@dataclass(frozen=True, slots=True)
class LiveWish:
    """Whether disks in use may be copied, and for how many seconds their file systems may be frozen (0: not at all).

    ``writes``: folders that the run writes to, and what for.
    """

    allowed: bool = False
    freeze_seconds: float = FREEZE_SECONDS
    writes: tuple[tuple[Path, str], ...] = ()


class Way(enum.Enum):
    """How a disk in use is copied."""

    SNAPSHOT = "lvm-snapshot"
    """From a snapshot of the logical volume that it is: all of one moment."""
    FREEZE = "freeze"
    """While its file systems are frozen: all of one moment."""
    AS_IT_RUNS = "as-it-runs"
    """While it is written: of no one moment. Journals are replayed and file systems checked in the copy."""


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    """A logical volume as ``lvs`` tells of it; sizes in bytes. ``origin``: of what it is a snapshot; ``pool``: of a thin one."""

    group: str
    name: str
    size: int
    free_in_group: int
    origin: str = ""
    pool: str = ""


@dataclass(frozen=True, slots=True)
class LiveSource:
    """How one disk of a plan is copied that is in use. ``disk``: its number from 0.

    ``device``: what the kernel knows the device by; ``size`` in bytes: with these it is known again, as its contents change.
    ``users``: who uses it, in words. ``not_better``: why no better way is possible, one sentence each. ``freezes``: mount points,
    in the order in which they are frozen. ``volume``: what a snapshot is taken of, as ``group/name``; ``snapshot_bytes``: room for
    what is written meanwhile, 0 for a thin one.
    """

    disk: int
    device: str
    size: int
    way: Way
    users: tuple[str, ...]
    not_better: tuple[str, ...] = ()
    freezes: tuple[str, ...] = ()
    volume: str = ""
    snapshot_bytes: int = 0

    @property
    def sentence(self) -> str:
        """What will be done."""
        match self.way:
            case Way.SNAPSHOT:
                return f"copied from a snapshot of the logical volume {self.volume}, which is removed again"
            case Way.FREEZE:
                return f"copied while nothing can be written to {', '.join(self.freezes)}: who writes there waits"
            case Way.AS_IT_RUNS:
                return "copied while it is written, so that the copy is not of one moment"


@dataclass(frozen=True, slots=True)
class LiveRecord:
    """What was done about one disk in use, and undone, in that order (``done``); ``seconds``: how long it was kept still."""

    disk: int
    way: Way
    users: tuple[str, ...]
    done: tuple[str, ...]
    seconds: float


def choose(
    disk: int,
    device: str,
    size: int,
    uses: Sequence[Use],
    volume: LogicalVolume | str,
    needed: Mapping[str, str],
    freeze_seconds: float,
) -> LiveSource:
    """The best way for a disk in use.

    ``volume``: the logical volume that the disk is, or a sentence why there can be no snapshot. ``needed``: file systems, by the
    kernel's numbers, that must not be frozen, and why. ``freeze_seconds``: 0 forbids freezing.
    """
    users = tuple(use.words for use in uses)
    against = volume if isinstance(volume, str) else _against_snapshot(volume)
    if isinstance(volume, LogicalVolume) and not against:
        room = 0 if volume.pool else snapshot_room(volume)
        named = f"{volume.group}/{volume.name}"
        return LiveSource(disk, device, size, Way.SNAPSHOT, users, volume=named, snapshot_bytes=room)
    not_better = [f"no LVM snapshot: {against}"]
    problem = _against_freeze(uses, needed, freeze_seconds)
    if not problem:
        return LiveSource(disk, device, size, Way.FREEZE, users, tuple(not_better), _in_order(uses))
    not_better.append(f"no freeze: {problem}")
    return LiveSource(disk, device, size, Way.AS_IT_RUNS, users, tuple(not_better))


def snapshot_room(volume: LogicalVolume) -> int:
    """Room for what changes meanwhile: a fifth of the volume, at least 1 GiB; never more than all of it, or than is free."""
    # what describes the changes takes room as well
    everything = volume.size + max(volume.size // 64, 16 * MIB)
    return min(everything, max(volume.size // 5, GIB), volume.free_in_group)


def _against_snapshot(volume: LogicalVolume) -> str:
    if volume.pool:
        return ""
    if volume.origin:
        return f"{volume.group}/{volume.name} is a snapshot itself"
    least = min(volume.size, max(volume.size // 50, _LEAST_SNAPSHOT_BYTES))
    if volume.free_in_group < least:
        free = format_bytes(volume.free_in_group)
        return f"the volume group {volume.group} has {free} free, and {format_bytes(least)} are the least"
    return ""


def _against_freeze(uses: Sequence[Use], needed: Mapping[str, str], freeze_seconds: float) -> str:
    """Why its file systems cannot be frozen, or why that would not do; empty where it would."""
    if freeze_seconds <= 0:
        return "--freeze-limit 0 forbids it"
    for use in uses:
        if use.kind is UseKind.OPEN:
            return f"{use.words}: a freeze would not stop that"
        if use.kind is UseKind.MOUNTED and use.mounted is not None:
            problem = _against_freezing(use.mounted, needed)
            if problem:
                return problem
    if not _in_order(uses):
        return "there is no file system on it to freeze"
    return ""


def _against_freezing(mounted: Mounted, needed: Mapping[str, str]) -> str:
    if mounted.mountpoint == "/":
        return "it carries this system's root, which is needed to thaw it again"
    if mounted.number in needed:
        return f"{mounted.mountpoint} must stay writable: {needed[mounted.number]}"
    if mounted.kind not in _FREEZABLE:
        return f"{mounted.mountpoint} is {mounted.kind}, which the kernel cannot freeze"
    return ""


def _in_order(uses: Sequence[Use]) -> tuple[str, ...]:
    """Mount points to freeze, one a file system; what stands on others comes behind them in ``uses``, and before them here."""
    places: dict[str, str] = {}
    for use in reversed(uses):
        if use.kind is UseKind.MOUNTED and use.mounted is not None:
            places.setdefault(use.mounted.number, use.mounted.mountpoint)
    return tuple(places.values())
