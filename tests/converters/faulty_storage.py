"""Files in memory that die at a chosen operation, and lose what was not synced: the worst a host may do, made repeatable.

Every operation that changes something is a step. ``kill_at`` raises ``Killed`` instead of that step. ``after_power_cut`` gives
what a host may find then: of the writes that were not synced each is there, gone, or torn in either half; of the names that
were not synced each is there or gone.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from converters.storage import FileState
from converters.undo_journal import JournalHeader
from p2v.core.errors import NoSource, NoSpace, TargetExists

_TEAR_BYTES = 512
_EXHAUSTIVE = 256
_SAMPLES = 40


class Killed(BaseException):
    """The process is gone; nothing may catch this."""


class Fate(Enum):
    """What becomes of something that was not synced."""

    KEPT = "kept"
    LOST = "lost"
    TORN_HEAD = "only its beginning kept"
    TORN_TAIL = "only its end kept"


@dataclass(frozen=True)
class Change:
    """A write (``data``), or a new size, of one file; or a name that begins to mean a file (None: nothing)."""

    inode: int = 0
    offset: int = 0
    data: bytes | None = None
    size: int | None = None
    names: tuple[tuple[Path, int | None], ...] = ()

    def fates(self) -> tuple[Fate, ...]:
        if self.data is not None and len(self.data) > _TEAR_BYTES:
            return tuple(Fate)
        return Fate.KEPT, Fate.LOST

    def parts(self, fate: Fate) -> tuple[int, bytes]:
        assert self.data is not None
        half = (len(self.data) // 2 + _TEAR_BYTES - 1) // _TEAR_BYTES * _TEAR_BYTES
        if fate is Fate.TORN_HEAD:
            return self.offset, self.data[:half]
        if fate is Fate.TORN_TAIL:
            return self.offset + half, self.data[half:]
        return self.offset, self.data


@dataclass
class FaultyStorage:
    """A ``Storage`` in memory; ``files``: contents by inode; ``names``: inodes by name."""

    files: dict[int, bytearray] = field(default_factory=dict)
    names: dict[Path, int] = field(default_factory=dict)
    kill_at: int | None = None
    fail_writes_after: int | None = None
    steps: int = 0
    writes: int = 0
    synced_files: dict[int, bytes] = field(default_factory=dict)
    synced_names: dict[Path, int] = field(default_factory=dict)
    pending: list[Change] = field(default_factory=list)
    clock: int = 1000
    times: dict[int, int] = field(default_factory=dict)

    def step(self) -> None:
        if self.kill_at is not None and self.steps >= self.kill_at:
            raise Killed
        self.steps += 1

    def put(self, path: Path, data: bytes) -> None:
        """A file that is there and synced."""
        inode = len(self.files) + 1
        self.files[inode], self.synced_files[inode] = bytearray(data), data
        self.names[path] = self.synced_names[path] = inode
        self.times[inode] = self.clock

    def data(self, path: Path) -> bytes:
        return bytes(self.files[self.names[path]])

    def create(self, path: Path) -> FaultyFile:
        if path in self.names:
            raise TargetExists(path)
        self.step()
        inode = len(self.files) + 1
        self.files[inode], self.synced_files[inode], self.times[inode] = bytearray(), b"", self.clock
        self.rename_to(((path, inode),))
        return FaultyFile(self, path, inode)

    def open(self, path: Path) -> FaultyFile:
        if path not in self.names:
            raise NoSource(str(path), "does not exist")
        return FaultyFile(self, path, self.names[path])

    def exists(self, path: Path) -> bool:
        return path in self.names

    def rename(self, old: Path, new: Path) -> None:
        self.step()
        self.rename_to(((new, self.names[old]), (old, None)))

    def unlink(self, path: Path) -> None:
        if path in self.names:
            self.step()
            self.rename_to(((path, None),))

    def sync_folder(self, folder: Path) -> None:
        self.step()
        for change in [c for c in self.pending if c.names and c.names[0][0].parent == folder]:
            _rename(self.synced_names, change)
            self.pending.remove(change)

    def sync(self, inode: int) -> None:
        self.step()
        self.synced_files[inode] = bytes(self.files[inode])
        self.pending = [c for c in self.pending if c.names or c.inode != inode]

    def change(self, change: Change) -> None:
        self.step()
        if change.data is not None:
            self.writes += 1
            if self.fail_writes_after is not None and self.writes > self.fail_writes_after:
                raise NoSpace(Path("/disks"), len(change.data), 0)
        _apply(self.files[change.inode], change, Fate.KEPT)
        self.clock += 1
        self.times[change.inode] = self.clock
        self.pending.append(change)

    def rename_to(self, names: tuple[tuple[Path, int | None], ...]) -> None:
        """Names that begin to mean other files, all at once."""
        change = Change(names=names)
        _rename(self.names, change)
        self.pending.append(change)

    def after_kill(self) -> FaultyStorage:
        """The process is gone, the host goes on: nothing is lost, and what was not synced still is not."""
        found = self._copy({i: bytes(data) for i, data in self.files.items()}, dict(self.names), dict(self.times))
        found.synced_files, found.synced_names = dict(self.synced_files), dict(self.synced_names)
        found.pending = list(self.pending)
        return found

    def after_power_cut(self, fates: Sequence[Fate]) -> FaultyStorage:
        """One of the things a host may find when it starts again."""
        files = {inode: bytearray(data) for inode, data in self.synced_files.items()}
        names = dict(self.synced_names)
        for change, fate in zip(self.pending, fates, strict=True):
            if fate is Fate.LOST:
                continue
            if change.names:
                _rename(names, change)
            else:
                _apply(files[change.inode], change, fate)
        return self._copy({i: bytes(data) for i, data in files.items()}, names, dict(self.times))

    def fates(self, seed: int) -> Iterator[tuple[Fate, ...]]:
        """All there are of what a power cut may do, or of too many the extremes, each alone, and some by a seed."""
        choices = [change.fates() for change in self.pending]
        total = 1
        for each in choices:
            total *= len(each)
        if total <= _EXHAUSTIVE:
            yield from itertools.product(*choices)
            return
        for fate in Fate:
            yield tuple(fate if fate in each else Fate.KEPT for each in choices)
        for base, other in ((Fate.KEPT, Fate.LOST), (Fate.LOST, Fate.KEPT)):
            for index in range(len(choices)):
                yield tuple(other if i == index else base for i in range(len(choices)))
        dice = random.Random(seed)
        for _ in range(_SAMPLES):
            yield tuple(dice.choice(each) for each in choices)

    def _copy(self, files: dict[int, bytes], names: dict[Path, int], times: dict[int, int]) -> FaultyStorage:
        return FaultyStorage(
            files={i: bytearray(data) for i, data in files.items()},
            names=dict(names),
            synced_files=dict(files),
            synced_names=dict(names),
            clock=self.clock,
            times=times,
        )


@dataclass
class FaultyFile:
    """A ``StoredFile`` of it."""

    storage: FaultyStorage
    path: Path
    inode: int

    def state(self) -> FileState:
        times, data = self.storage.times, self.storage.files[self.inode]
        return FileState(len(data), 1, self.inode, times[self.inode], is_block_device=False)

    def pread(self, length: int, offset: int) -> bytes:
        return bytes(self.storage.files[self.inode][offset : offset + length])

    def pwrite(self, data: bytes, offset: int) -> None:
        self.storage.change(Change(self.inode, offset, data))

    def truncate(self, size: int) -> None:
        self.storage.change(Change(self.inode, size=size))

    def allocate(self, offset: int, length: int) -> None:
        self.storage.step()

    def sync(self) -> None:
        self.storage.sync(self.inode)

    def close(self) -> None:
        """Nothing to give back."""


@contextmanager
def opened(storage: FaultyStorage, header: JournalHeader) -> Iterator[list[FaultyFile]]:
    """The files of a journal, as ``OpenFiles`` wants it."""
    yield [storage.open(file.path) for file in header.files]


def _apply(data: bytearray, change: Change, fate: Fate) -> None:
    if change.size is not None:
        del data[change.size :]
        data.extend(bytes(change.size - len(data)))
        return
    offset, part = change.parts(fate)
    data.extend(bytes(max(0, offset - len(data))))
    data[offset : offset + len(part)] = part


def _rename(names: dict[Path, int], change: Change) -> None:
    for path, inode in change.names:
        if inode is None:
            names.pop(path, None)
        else:
            names[path] = inode
