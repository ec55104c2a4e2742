"""Whether a guest is as a change expects it, or as the change would leave it.

Only looks. Each change has two predicates, "stands before" and "stands after"; ``verdicts`` puts those of a whole plan
together.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from drivers.changes import (
    COPY_BYTES_AT_MOST,
    HIBERNATED,
    BootGeometry,
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
    WriteFile,
)
from drivers.ntfs_boot import HEAD_BYTES, read_geometry
from drivers.tree import FileType, GuestTree, Stat
from drivers.windows.hive_edit import holds_confined
from drivers.windows.regf import HIVE_BYTES_AT_MOST
from p2v.core.errors import PlanStale
from p2v.core.units import MIB

_CHUNK_BYTES = 2 * MIB
_DIGEST_SHOWN = 12


class Verdict(enum.Enum):
    """What is to be done about a change."""

    MAKE = "make"
    SKIP = "skip"


def encoded(text: str) -> bytes:
    """A change's text as the file's bytes."""
    return text.encode("utf-8", "surrogateescape")


def file_digest(tree: GuestTree, path: str, length: int) -> str:
    """SHA-256 (hex) of a file's first ``length`` bytes, read in pieces."""
    total = hashlib.sha256()
    for start in range(0, length, _CHUNK_BYTES):
        total.update(tree.read_range(path, min(_CHUNK_BYTES, length - start), start))
    return total.hexdigest()


def parents(path: str) -> tuple[str, ...]:
    """The folders above a path, outermost first, without the root."""
    parts = path.strip("/").split("/")[:-1]
    return tuple("/" + "/".join(parts[: n + 1]) for n in range(len(parts)))


@dataclass(frozen=True, slots=True)
class Expectations:
    """Looks at a guest for a plan; ``supplements`` holds what is appended to each initramfs, by path."""

    tree: GuestTree
    supplements: Mapping[str, bytes]
    _folders: set[str] = field(default_factory=set)
    """Those that were seen to be folders: in an appliance every look takes its time."""

    def verdicts(self, changes: Sequence[Change]) -> tuple[Verdict, ...]:
        """Make or skip, one for each change.

        Changes of one path build on each other: what stands there is looked for from the last one's result back to the
        first one's expectation. Raises PlanStale for the first path where nothing fits; ValueError for a path that is
        not absolute and normal.
        """
        by_path: dict[str, list[int]] = {}
        for index, change in enumerate(changes):
            by_path.setdefault(change.path, []).append(index)
        found = [Verdict.MAKE] * len(changes)
        for path, indexes in by_path.items():
            self._require_real_parents(path)
            for index in indexes[: self._already_made(path, [changes[i] for i in indexes])]:
                found[index] = Verdict.SKIP
        return tuple(found)

    def _already_made(self, path: str, chain: Sequence[Change]) -> int:
        stat = self._lstat(path)
        if self._stands_after(chain[-1], stat):
            return len(chain)
        for made in reversed(range(len(chain))):
            if self._stands_before(chain[made], stat):
                return made
        raise PlanStale(path, _expected(chain[0]), self._described(path, stat))

    def _require_real_parents(self, path: str) -> None:
        parts = path.split("/")
        if parts[0] or len(parts) < 2 or any(part in ("", ".", "..") for part in parts[1:]):
            raise ValueError(f"{path!r} is no absolute path in its normal form")
        for folder in parents(path):
            if folder in self._folders:
                continue
            stat = self._lstat(folder)
            if stat is None:
                return  # nothing below it either; making the parents is part of the change, or it expects something
            if stat.type is not FileType.DIRECTORY:
                # a plan's paths are resolved: a link here would lead the write somewhere else
                raise PlanStale(path, f"{folder} to be a directory", self._described(folder, stat))
            self._folders.add(folder)

    def _lstat(self, path: str) -> Stat | None:
        try:
            return self.tree.lstat(path)
        except FileNotFoundError:
            return None

    def _stands_before(self, change: Change, stat: Stat | None) -> bool:
        match change:
            case WriteFile():
                return stat is None
            case CopyFile():
                return stat is None and self._is_source(change)
            case CarryFile():
                return stat is None
            case EditFile():
                return self._holds(change.path, stat, encoded(change.before))
            case DeleteFile():
                return self._has_digest(change.path, stat, change.sha256)
            case MakeSymlink():
                return stat is None if change.replaces is None else self._leads_to(change.path, stat, change.replaces)
            case DeleteSymlink():
                return self._leads_to(change.path, stat, change.target)
            case ExtendInitramfs():
                return self._is_the_file(change.path, stat, change.size, change.sha256)
            case EditHive():
                logs = (self._is_the_file(log.path, self._lstat(log.path), log.size, log.sha256) for log in change.logs)
                return self._is_the_file(change.path, stat, change.size, change.sha256) and all(logs)
            case EditBootSector():
                return self._geometry(change.path, stat) == change.before
            case DiscardHibernation():
                return self._holds_session(change, stat)

    def _stands_after(self, change: Change, stat: Stat | None) -> bool:
        match change:
            case WriteFile():
                ours = stat is not None and (stat.mode, stat.uid, stat.gid) == (change.mode, 0, 0)
                return ours and self._holds(change.path, stat, encoded(change.content))
            case CopyFile():
                # FAT keeps neither owner nor mode
                return self._is_copy(change, stat, change.target)
            case CarryFile():
                ours = stat is not None and (stat.size, stat.uid, stat.gid) == (change.size, 0, 0)
                return ours and self._has_digest(change.path, stat, change.sha256)
            case EditFile():
                return self._holds(change.path, stat, encoded(change.after))
            case DeleteFile() | DeleteSymlink() | DiscardHibernation():
                return stat is None
            case MakeSymlink():
                return self._leads_to(change.path, stat, change.target)
            case ExtendInitramfs():
                return self._is_extended(change, stat)
            case EditHive():
                return self._is_edited(change, stat)
            case EditBootSector():
                return self._geometry(change.path, stat) == change.after

    def _is_source(self, change: CopyFile) -> bool:
        self._require_real_parents(change.source)
        return self._is_copy(change, self._lstat(change.source), change.source)

    def _is_copy(self, change: CopyFile, stat: Stat | None, path: str) -> bool:
        sized = stat is not None and stat.size == change.size <= COPY_BYTES_AT_MOST
        return sized and self._has_digest(path, stat, change.sha256)

    def _holds(self, path: str, stat: Stat | None, data: bytes) -> bool:
        if stat is None or stat.type is not FileType.FILE or stat.size != len(data):
            return False
        return self.tree.read(path, limit=len(data)) == data

    def _has_digest(self, path: str, stat: Stat | None, sha256: str) -> bool:
        if stat is None or stat.type is not FileType.FILE:
            return False
        return file_digest(self.tree, path, stat.size) == sha256

    def _leads_to(self, path: str, stat: Stat | None, target: str) -> bool:
        return stat is not None and stat.type is FileType.SYMLINK and self.tree.readlink(path) == target

    def _is_extended(self, change: ExtendInitramfs, stat: Stat | None) -> bool:
        supplement = self.supplements[change.path]
        if stat is None or stat.type is not FileType.FILE or stat.size != change.size + len(supplement):
            return False
        if self.tree.read_range(change.path, len(supplement), change.size) != supplement:
            return False
        return file_digest(self.tree, change.path, change.size) == change.sha256

    def _is_the_file(self, path: str, stat: Stat | None, size: int, sha256: str) -> bool:
        return stat is not None and stat.size == size and self._has_digest(path, stat, sha256)

    def _is_edited(self, change: EditHive, stat: Stat | None) -> bool:
        if stat is None or stat.type is not FileType.FILE or stat.size > HIVE_BYTES_AT_MOST:
            return False
        return holds_confined(self.tree.read(change.path, limit=stat.size), change.edits)

    def _geometry(self, path: str, stat: Stat | None) -> BootGeometry | None:
        is_file = stat is not None and stat.type is FileType.FILE
        return read_geometry(self.tree.read_range(path, HEAD_BYTES, 0)) if is_file else None

    def _holds_session(self, change: DiscardHibernation, stat: Stat | None) -> bool:
        if stat is None or stat.type is not FileType.FILE or stat.size != change.size:
            return False
        head = self.tree.read_range(change.path, len(HIBERNATED[0]), 0)
        return head.lower() in HIBERNATED or not any(head)

    def _described(self, path: str, stat: Stat | None) -> str:
        if stat is None:
            return "nothing there"
        if stat.type is FileType.SYMLINK:
            return f"a symbolic link to {self.tree.readlink(path)}"
        if stat.type is not FileType.FILE:
            return "a directory" if stat.type is FileType.DIRECTORY else "a special file"
        digest = file_digest(self.tree, path, stat.size)[:_DIGEST_SHOWN]
        return f"a file of {stat.size} bytes, mode {stat.mode:04o}, owner {stat.uid}:{stat.gid}, SHA-256 {digest}..."


def _expected(change: Change) -> str:
    match change:
        case WriteFile() | CarryFile() | MakeSymlink(replaces=None):
            return "nothing there"
        case CopyFile():
            return f"nothing there, and {change.source} with SHA-256 {change.sha256[:_DIGEST_SHOWN]}..."
        case EditFile():
            before = encoded(change.before)
            return f"a file of {len(before)} bytes, SHA-256 {hashlib.sha256(before).hexdigest()[:_DIGEST_SHOWN]}..."
        case DeleteFile():
            return f"a file with SHA-256 {change.sha256[:_DIGEST_SHOWN]}..."
        case EditBootSector():
            geometry = change.before
            return f"a boot sector with {geometry.heads} heads and {geometry.hidden_sectors} hidden sectors"
        case MakeSymlink():
            return f"a symbolic link to {change.replaces}"
        case DeleteSymlink():
            return f"a symbolic link to {change.target}"
        case DiscardHibernation():
            return f"a file of {change.size} bytes that holds the session of a hibernated Windows"
        case ExtendInitramfs() | EditHive():
            return f"a file of {change.size} bytes, SHA-256 {change.sha256[:_DIGEST_SHOWN]}..."
