"""Whether the guest's file systems have room for a plan's changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from drivers.changes import CarryFile, Change, CopyFile, EditFile, ExtendInitramfs, MakeSymlink, NewName, WriteFile
from drivers.facts import FileSystem, GuestFacts, nearest_mount
from drivers.plan import Finding
from p2v.core.units import MIB, format_bytes, round_up

BLOCK_BYTES = 4096
SUPPLEMENT_BYTES = 2 * MIB
"""Room for one supplementary archive; measured with Debian's kernels they are about 1 MiB."""


def contribute(facts: GuestFacts, changes: Iterable[Change]) -> tuple[Finding, ...]:
    """A blocker for each file system that is too full for what is planned in it.

    Where free space is not known nothing is said. What deletions give back is not counted.
    """
    needed: Counter[str] = Counter()
    inodes: Counter[str] = Counter()
    for change in changes:
        mountpoint = _mountpoint(facts, change.path)
        needed[mountpoint] += bytes_needed(change)
        inodes[mountpoint] += isinstance(change, NewName)
    return tuple(finding for at in sorted(needed) for finding in _findings(facts, at, needed[at], inodes[at]))


def bytes_needed(change: Change) -> int:
    """What a change takes from its file system at most, in bytes."""
    match change:
        case WriteFile():
            # the folder may need a block for the name
            return round_up(_size(change.content), BLOCK_BYTES) + BLOCK_BYTES
        case CopyFile() | CarryFile():
            return round_up(change.size, BLOCK_BYTES) + BLOCK_BYTES
        case EditFile():
            return max(0, round_up(_size(change.after), BLOCK_BYTES) - round_up(_size(change.before), BLOCK_BYTES))
        case MakeSymlink():
            return 0 if change.replaces is not None else BLOCK_BYTES
        case ExtendInitramfs():
            return SUPPLEMENT_BYTES
        case _:
            return 0


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


def _mountpoint(facts: GuestFacts, path: str) -> str:
    mount = nearest_mount(facts.mounts, path)
    return mount.mountpoint if mount is not None else "/"


def _findings(facts: GuestFacts, mountpoint: str, needed: int, inodes: int) -> Iterator[Finding]:
    system = _file_system(facts, mountpoint)
    if system is None:
        return
    if system.free_bytes is not None and system.free_bytes < needed:
        yield Finding(
            "linux.space.bytes",
            f"the file system at {mountpoint} has {format_bytes(system.free_bytes)} free, "
            f"and the changes need {format_bytes(needed)}",
            "Delete something there in the guest, then try again.",
        )
    if system.free_inodes is not None and system.free_inodes < inodes:
        yield Finding(
            "linux.space.inodes",
            f"the file system at {mountpoint} has room for {system.free_inodes} more files, "
            f"and the changes make {inodes}",
            "Delete some files there in the guest, then try again.",
        )


def _file_system(facts: GuestFacts, mountpoint: str) -> FileSystem | None:
    mounts = [mount for mount in (*facts.mounts, facts.root) if mount is not None and mount.mountpoint == mountpoint]
    return next((system for mount in mounts if (system := facts.filesystem_of(mount)) is not None), None)
