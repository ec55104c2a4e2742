"""Applies a plan's changes to a guest mounted read-write: acts, and decides nothing.

All expectations are looked at first; when one does not hold, nothing at all has been written. What happens to a file:

* edited or extended: the same inode, so owner, mode, extended attributes (the SELinux label among them) and hard links
  stay. It gets a new modification time: a backup program that goes by size and time must see the change.
* a registry hive: only the pages that differ are written, in place.
* a boot sector: only the six bytes of its geometry are, on the volume itself.
* new: root:root, the mode of the change, and the SELinux label that the plan has for it from the guest's own policy, else
  the one of its folder. A folder without a label is on a file system that has none, or in a guest that never
  labelled its files: there nothing gets one.
* parents that are missing: directories of root:root, mode 0755, labelled likewise.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, ClassVar

from drivers.changes import (
    CARRIED_BYTES_AT_MOST,
    COPY_BYTES_AT_MOST,
    CarryFile,
    Change,
    CopyFile,
    DeleteFile,
    DeleteSymlink,
    DiscardHibernation,
    EditBootSector,
    EditFile,
    EditHive,
    ExtendInitramfs,
    MakeSymlink,
    Member,
    NewName,
    WriteFile,
    summary,
)
from drivers.expectations import Expectations, Verdict, encoded, file_digest, parents
from drivers.ntfs_boot import HEAD_BYTES, OFFSET, geometry_bytes, read_geometry
from drivers.windows.edits import SetValue, repeated
from drivers.windows.hive_edit import edit_confined, patched, problems_confined
from drivers.windows.regf import HIVE_BYTES_AT_MOST, BadHive
from drivers.writable import GuestFull, Space, WritableGuest
from p2v.core.errors import P2vError, PlanStale
from p2v.core.events import ChangeApplied, Reporter, silent
from p2v.core.units import KIB, round_up

_FOLDER_MODE = 0o755
# File systems give out whole blocks, and a new name may take one more of its folder's.
_BLOCK_BYTES = 4 * KIB
_HIVE_GROWTH_BYTES = 256 * KIB
_PROBLEMS_SHOWN = 5
# more than any file system takes as a place in a file is no place
_OFFSET_AT_MOST = 1 << 62


@dataclass(frozen=True, slots=True)
class AppliedChange:
    """What became of one change; ``skipped``: the guest already was so; ``note``: what the record says besides."""

    summary: str
    skipped: bool
    note: str = ""


@dataclass(eq=False)
class NotWritten(P2vError):
    """A file in the guest does not hold what was written to it."""

    path: str
    problem: str
    exit_code: ClassVar[int] = 74
    code: ClassVar[str] = "not-written"

    def sentence(self) -> str:
        return f"the guest's {self.path}: {self.problem}"

    def hint(self) -> str:
        return "Try again; if it stays so, the disk that holds the scratch folder may be failing."


def apply_changes(
    guest: WritableGuest,
    changes: Sequence[Change],
    supplements: Mapping[str, bytes],
    report: Reporter = silent,
    labels: Mapping[str, str] | None = None,
    made: Collection[Change] = (),
) -> tuple[AppliedChange, ...]:
    """Make the changes in order; one result for each.

    ``supplements``: what to append to each initramfs that an ``ExtendInitramfs`` names, by its path. ``labels``: SELinux
    labels for what is new, by path (``GuestPlan.labels``). ``made``: changes that were made while the guest was not mounted.

    Raises PlanStale and GuestFull before anything is written, NotWritten, and what ``guest`` raises.
    """
    missing = [c.path for c in changes if isinstance(c, ExtendInitramfs) and c.path not in supplements]
    if missing:
        raise ValueError(f"no supplements for {', '.join(missing)}")
    for change in changes:
        if isinstance(change, EditHive) and (twice := repeated(change.edits)) is not None:
            raise ValueError(f"two edits of {twice.key} in {change.path}")
    verdicts = Expectations(guest, supplements).verdicts(changes)
    to_make = [change for change, verdict in zip(changes, verdicts, strict=True) if verdict is Verdict.MAKE]
    for change in to_make:
        if isinstance(change, CarryFile):
            carried(change)
    _require_space(guest, to_make, supplements)
    applied = []
    for change, verdict in zip(changes, verdicts, strict=True):
        is_there = verdict is Verdict.SKIP
        skipped = is_there and change not in made
        note = "" if is_there else _make(guest, change, supplements, labels or {})
        applied.append(AppliedChange(summary(change), skipped, note))
        report(ChangeApplied(summary(change), skipped))
    guest.sync()
    return tuple(applied)


def _require_space(guest: WritableGuest, changes: Sequence[Change], supplements: Mapping[str, bytes]) -> None:
    needed: dict[str, int] = {}
    inodes: dict[str, int] = {}
    spaces = {}
    of_folders = dict[str, Space]()
    for change in changes:
        folder = change.path.rpartition("/")[0]
        space = of_folders.get(folder) or of_folders.setdefault(folder, guest.space(change.path))
        spaces[space.mountpoint] = space
        needed[space.mountpoint] = needed.get(space.mountpoint, 0) + _growth(change, supplements)
        inodes[space.mountpoint] = inodes.get(space.mountpoint, 0) + isinstance(change, NewName)
    for mountpoint, space in spaces.items():
        if needed[mountpoint] > space.free_bytes:
            raise GuestFull(mountpoint, needed[mountpoint], space.free_bytes)
        if space.free_inodes is not None and inodes[mountpoint] > space.free_inodes:
            raise GuestFull(mountpoint, needed[mountpoint], 0)


def _growth(change: Change, supplements: Mapping[str, bytes]) -> int:
    match change:
        case WriteFile():
            return round_up(len(encoded(change.content)), _BLOCK_BYTES) + _BLOCK_BYTES
        case CopyFile() | CarryFile():
            return round_up(change.size, _BLOCK_BYTES) + _BLOCK_BYTES
        case EditFile():
            grown = len(encoded(change.after)) - len(encoded(change.before))
            return round_up(max(0, grown), _BLOCK_BYTES)
        case ExtendInitramfs():
            return round_up(len(supplements[change.path]), _BLOCK_BYTES)
        case MakeSymlink():
            return _BLOCK_BYTES
        case EditHive():
            added = sum(len(edit.data) for edit in change.edits if isinstance(edit, SetValue))
            return round_up(_HIVE_GROWTH_BYTES + added, _BLOCK_BYTES)
        case DeleteFile() | DeleteSymlink() | EditBootSector() | DiscardHibernation():
            return 0


def _make(
    guest: WritableGuest, change: Change, supplements: Mapping[str, bytes], labels: Mapping[str, str]
) -> str:
    match change:
        case WriteFile():
            _make_parents(guest, change.path, labels)
            guest.create(change.path, encoded(change.content), change.mode)
            return set_new_label(guest, change.path, labels)
        case CopyFile():
            _copy(guest, change, labels)
            return set_new_label(guest, change.target, labels)
        case CarryFile():
            _make_parents(guest, change.path, labels)
            guest.create(change.path, carried(change), change.mode)
            return set_new_label(guest, change.path, labels)
        case EditFile():
            guest.write(change.path, encoded(change.after))
        case EditHive():
            _edit_hive(guest, change)
        case EditBootSector():
            _edit_boot_sector(guest, change)
        case DeleteFile() | DeleteSymlink() | DiscardHibernation():
            guest.remove(change.path)
        case MakeSymlink():
            _make_parents(guest, change.path, labels)
            if change.replaces is not None:
                guest.remove(change.path)
            guest.make_symlink(change.path, change.target)
            return set_new_label(guest, change.path, labels)
        case ExtendInitramfs():
            _extend(guest, change, supplements[change.path])
    return ""


def _copy(guest: WritableGuest, change: CopyFile, labels: Mapping[str, str]) -> None:
    _make_parents(guest, change.target, labels)
    guest.create(change.target, guest.read(change.source, COPY_BYTES_AT_MOST), change.mode)
    if file_digest(guest, change.target, change.size) != change.sha256:
        raise NotWritten(change.target, f"differs from {change.source}, which it was copied from")


def carried(change: CarryFile) -> bytes:
    """The contents of a file of this host that goes into the guest. Raises PlanStale when it is not the planned one."""
    expected = f"a file of {change.size} bytes with SHA-256 {change.sha256}"
    where = f"{change.member.name} of {change.source}" if change.member is not None else change.source
    if not 0 <= change.size <= CARRIED_BYTES_AT_MOST:
        raise PlanStale(where, f"a file of at most {CARRIED_BYTES_AT_MOST} bytes", f"{change.size} in the plan")
    try:
        with open(os.open(change.source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            data = _member(file, change.member, change.size) if change.member is not None else file.read(change.size + 1)
    except OSError as error:
        raise PlanStale(where, expected, error.strerror or "nothing that can be read") from error
    found = hashlib.sha256(data).hexdigest()
    if (len(data), found) != (change.size, change.sha256):
        raise PlanStale(where, expected, f"another one ({len(data)} bytes or more, SHA-256 {found})")
    return data


def _member(file: BinaryIO, member: Member, size: int) -> bytes:
    """The bytes of a file within a file; fewer where it ends before."""
    if not 0 <= member.offset <= _OFFSET_AT_MOST:
        return b""
    file.seek(member.offset)
    return file.read(size)


def _make_parents(guest: WritableGuest, path: str, labels: Mapping[str, str]) -> None:
    above = parents(path)
    if above and guest.exists(above[-1]):
        return  # those above it are there as well, and were looked at before
    for folder in above:
        if not guest.exists(folder):
            guest.make_folder(folder, _FOLDER_MODE)
            set_new_label(guest, folder, labels)


def set_new_label(guest: WritableGuest, path: str, labels: Mapping[str, str]) -> str:
    """Label what was just made at a path, where its folder has a label; what the record says of it."""
    of_folder = guest.label(path.rpartition("/")[0] or "/")
    if of_folder is None:
        return ""
    if path in labels:
        # as libselinux stores them, with a NUL
        guest.set_label(path, labels[path].encode("ascii") + b"\0")
        return f"SELinux label by the guest's policy: {labels[path]}"
    guest.set_label(path, of_folder)
    return f"SELinux label of its folder: {of_folder.rstrip(bytes(1)).decode('ascii', 'replace')}"


def _extend(guest: WritableGuest, change: ExtendInitramfs, supplement: bytes) -> None:
    guest.append(change.path, supplement)
    # Neither the bytes before nor the ones added may differ: a kernel with half an initramfs does not start.
    size = guest.lstat(change.path).size
    if size != change.size + len(supplement):
        raise NotWritten(change.path, f"has {size} bytes instead of {change.size + len(supplement)}")
    if file_digest(guest, change.path, change.size) != change.sha256:
        raise NotWritten(change.path, f"its first {change.size} bytes changed while {len(supplement)} were appended")
    if guest.read_range(change.path, len(supplement), change.size) != supplement:
        raise NotWritten(change.path, f"the {len(supplement)} bytes appended read back differently")


def _edit_hive(guest: WritableGuest, change: EditHive) -> None:
    before = guest.read(change.path, HIVE_BYTES_AT_MOST)
    logs = [guest.read(log.path, max(log.size, 1)) for log in change.logs]
    try:
        written = edit_confined(change.path, before, logs, change.edits)
    except BadHive as error:
        raise NotWritten(change.path, f"cannot be edited: {error}") from error
    after = patched(before, written)
    # another child than the one that made it looks at it, before anything of it is in the guest
    if problems := problems_confined(before, logs, after, change.edits):
        raise NotWritten(change.path, f"would not be as planned: {'; '.join(problems[:_PROBLEMS_SHOWN])}")
    for patch in written:
        guest.patch(change.path, patch.data, patch.offset)
    size = guest.lstat(change.path).size
    if size != len(after) or file_digest(guest, change.path, size) != hashlib.sha256(after).hexdigest():
        raise NotWritten(change.path, f"reads back differently ({size} bytes instead of {len(after)})")


def _edit_boot_sector(guest: WritableGuest, change: EditBootSector) -> None:
    data = geometry_bytes(change.after)
    if data is None:
        raise NotWritten(change.path, f"has no place for {change.after.heads} heads, {change.after.hidden_sectors} hidden sectors")
    guest.patch_volume(change.path, data, OFFSET)
    if read_geometry(guest.read_range(change.path, HEAD_BYTES, 0)) != change.after:
        raise NotWritten(change.path, "reads back differently")
