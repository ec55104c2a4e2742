"""The host's own files, with faults: killed at a chosen step, an error at a chosen step, and what a power cut leaves.

Every call of the ``os`` module (and the few that Python lacks) that changes something below the watched folder, or a watched
device, is a step. The calls are carried out on real files; beside them a ``FaultyStorage`` keeps what of it was synced.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from converters import checkpoints, host_file
from p2v.core import workspace
from tests.converters.faulty_storage import Change, Fate, FaultyStorage, Killed

_REAL: dict[str, Any] = {
    name: getattr(os, name)
    for name in ("open", "close", "pwritev", "pwrite", "write", "ftruncate", "fdatasync", "fsync", "link", "rename", "unlink")
}
_PUNCH, _NOREPLACE, _IOCTL = host_file.punch_hole, workspace.rename_noreplace, fcntl.ioctl
_BLKZEROOUT = 0x127F
_DESCRIPTORS = Path("/proc/self/fd")
# FICLONE and FICLONERANGE
_SHARING = (0x40049409, 0x4020940D)


class Kind(Enum):
    """What sort of operation a step is."""

    WRITE = "write"
    SIZE = "size"
    SYNC = "sync"
    NAME = "name"


@dataclass(frozen=True)
class Fault:
    """What happens at a step instead of it. ``number``: an errno; 0: a write is cut short. ``lasts``: at all later ones too.

    ``loses``: with a sync that fails, what was written to the file since the last one is gone, as an NFS client has it whose
    server does not take it; and each file that was written to says so again when it is closed.
    """

    step: int
    number: int
    lasts: bool = False
    loses: bool = False


def same_steps_every_time(patch: pytest.MonkeyPatch, every: int) -> None:
    """Checkpoints every so many bytes, in the copying thread; and no waiting for disks, as the model knows what is synced."""
    noted = checkpoints.Checkpoints.note

    def note(self: checkpoints.Checkpoints, *numbers: int) -> None:
        self._stopping = True  # its own thread is not started
        noted(self, *numbers)
        if self._pending_bytes >= every:
            self.flush()

    patch.setattr(checkpoints.Checkpoints, "note", note)
    for name in ("fsync", "fdatasync"):
        patch.setattr(os, name, lambda handle: None)


@dataclass
class FaultyHost:
    """Watches a folder (and devices) while it is installed."""

    folder: Path
    devices: tuple[Path, ...] = ()
    kill_at: int | None = None
    fault: Fault | None = None
    lacks: frozenset[str] = frozenset()
    """Of "noreplace" and "link": what this host's file system cannot do."""
    steps: list[Kind] = field(default_factory=list)
    model: FaultyStorage = field(default_factory=FaultyStorage)
    _open: dict[int, Path] = field(default_factory=dict)
    _inodes: dict[int, int] = field(default_factory=dict)
    _written_to: set[int] = field(default_factory=set)
    _struck: bool = False
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        for path in (*self.folder.iterdir(), *self.devices):
            if path.is_file() or path.is_block_device():
                self.model.put(path, path.read_bytes())

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Take the calls' places."""
        for name in ("open", "close", "pwritev", "pwrite", "write", "ftruncate", "fdatasync", "fsync", "link", "rename", "unlink"):
            patch.setattr(os, name, getattr(self, f"_{name}" if name != "open" else "_opened"))
        for module in list(sys.modules.values()):
            # wherever it was imported by its name
            for name, real, ours in (("punch_hole", _PUNCH, self._punch), ("rename_noreplace", _NOREPLACE, self._noreplace)):
                if vars(module).get(name) is real and module.__name__ != __name__:
                    patch.setattr(module, name, ours)
        patch.setattr(fcntl, "ioctl", self._ioctl)

    def gone(self) -> None:
        """The process is gone: what it had open is closed, so its locks are free."""
        self._written_to.clear()
        for handle in list(self._open):
            self._close(handle)

    def is_true(self) -> bool:
        """Whether the model holds what the host's files do: no change has passed by."""
        return all(path.read_bytes() == self.model.data(path) for path in self.model.names) and {
            path for path in self.folder.iterdir() if path.is_file()
        } <= set(self.model.names)

    def cut_power(self, fates: Sequence[Fate]) -> None:
        """Make the host's files what a power cut may leave of them. A file keeps its inode as long as it had a name."""
        crashed = self.model.after_power_cut(fates)
        kept: dict[int, Path] = {}
        for number, (path, inode) in enumerate(self.model.names.items()):
            if path in self.devices:
                continue
            if inode in kept:
                path.unlink()
            else:
                kept[inode] = path.rename(path.with_name(f".kept-{number}"))
        for path, inode in crashed.names.items():
            if inode in kept and path not in self.devices:
                os.link(kept[inode], path)
            with path.open("r+b" if path.exists() else "wb") as file:
                if path not in self.devices:
                    file.truncate(0)
                file.write(crashed.data(path))
        for path in kept.values():
            path.unlink()

    def _step(self, kind: Kind) -> Fault | None:
        """The fault to come in place of this step."""
        if self.kill_at is not None and len(self.steps) >= self.kill_at:
            raise Killed
        at = len(self.steps)
        self.steps.append(kind)
        fault = self.fault
        if fault is None or not (at == fault.step or (fault.lasts and at > fault.step)):
            return None
        if fault.number == 0:
            return fault if kind is Kind.WRITE else None
        if fault.lasts and fault.number == errno.ENOSPC and kind is Kind.SYNC:
            return None
        self._struck = True
        raise OSError(fault.number, os.strerror(fault.number))

    def _watched(self, path: Any) -> Path | None:
        found = Path(os.fsdecode(path))
        if found.parent == _DESCRIPTORS and found.name.isdigit():
            return self._open.get(int(found.name))
        return found if found.parent == self.folder or found in self.devices else None

    def _opened(self, path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        with self._lock:
            watched = None if more else self._watched(path)
            if watched is None and not more and Path(os.fsdecode(path)) == self.folder:
                handle: int = _REAL["open"](path, flags, mode)
                self._open[handle] = self.folder
                return handle
            if watched is None:
                return int(_REAL["open"](path, flags, mode, **more))
            is_new = flags & os.O_CREAT and not os.path.lexists(watched)
            is_cut = flags & os.O_TRUNC and not is_new
            if is_new or is_cut:
                self._step(Kind.NAME if is_new else Kind.SIZE)
            # what is written here comes from memory of our own, which does not suit a direct write
            handle = _REAL["open"](path, flags & ~os.O_DIRECT, mode)
            if is_new:
                self.model.create(watched)
            self._open[handle] = watched
            self._inodes[handle] = self.model.names[watched]
            if is_cut:
                self.model.change(Change(self._inodes[handle], size=0))
            return handle

    def _close(self, handle: int) -> None:
        with self._lock:
            self._open.pop(handle, None)
            self._inodes.pop(handle, None)
            is_refused = self._struck and handle in self._written_to
            self._written_to.discard(handle)
        _REAL["close"](handle)
        if is_refused and self.fault is not None and self.fault.loses:
            raise OSError(self.fault.number, os.strerror(self.fault.number))

    def _written(self, handle: int, data: bytes, offset: int, real: Callable[[bytes], int]) -> int:
        with self._lock:
            if self._step(Kind.WRITE) is not None:
                data = data[: len(data) // 2]
            count = real(data)
            self._written_to.add(handle)
            self.model.change(Change(self._inodes[handle], offset, data[:count]))
            return count

    def _pwritev(self, handle: int, parts: Sequence[Any], offset: int) -> int:
        if handle not in self._inodes:
            return int(_REAL["pwritev"](handle, parts, offset))
        return self._written(handle, b"".join(parts), offset, lambda data: int(_REAL["pwrite"](handle, data, offset)))

    def _pwrite(self, handle: int, data: Any, offset: int) -> int:
        return self._pwritev(handle, [data], offset)

    def _write(self, handle: int, data: Any) -> int:
        if handle not in self._inodes:
            return int(_REAL["write"](handle, data))
        at = os.lseek(handle, 0, os.SEEK_CUR)
        return self._written(handle, bytes(data), at, lambda part: int(_REAL["write"](handle, part)))

    def _ftruncate(self, handle: int, size: int) -> None:
        with self._lock:
            if handle in self._inodes:
                self._step(Kind.SIZE)
                self.model.change(Change(self._inodes[handle], size=size))
            _REAL["ftruncate"](handle, size)

    def _fsync(self, handle: int) -> None:
        with self._lock:
            if handle in self._open:
                try:
                    self._step(Kind.SYNC)
                except OSError:
                    self._lose(handle)
                    raise
                if self._open[handle] == self.folder:
                    self.model.sync_folder(self.folder)
                else:
                    self.model.sync(self._inodes[handle])

    def _lose(self, handle: int) -> None:
        """Sizes are set at the server, and stay."""
        if self.fault is None or not self.fault.loses or handle not in self._inodes:
            return
        inode = self._inodes[handle]
        size = len(self.model.files[inode])
        left = self.model.synced_files[inode][:size].ljust(size, b"\0")
        self.model.files[inode], self.model.synced_files[inode] = bytearray(left), left
        self.model.pending = [each for each in self.model.pending if each.names or each.inode != inode]
        _REAL["pwrite"](handle, left, 0)

    def _fdatasync(self, handle: int) -> None:
        self._fsync(handle)

    def _zeroed(self, handle: int, offset: int, length: int) -> None:
        inode = self._inodes[handle]
        length = min(offset + length, len(self.model.files[inode])) - offset
        if length > 0:
            self.model.change(Change(inode, offset, bytes(length)))

    def _punch(self, handle: int, offset: int, length: int) -> bool:
        with self._lock:
            if handle in self._inodes:
                self._step(Kind.WRITE)
                self._zeroed(handle, offset, length)
            return _PUNCH(handle, offset, length)

    def _ioctl(self, handle: int, request: int, argument: Any = 0, *more: Any) -> Any:
        with self._lock:
            if handle in self._inodes and request in _SHARING:
                # what it shares with the source would pass the model by
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            if handle in self._inodes and request == _BLKZEROOUT:
                self._step(Kind.WRITE)
                self._zeroed(handle, *struct.unpack("=QQ", argument))
            return _IOCTL(handle, request, argument, *more)

    def _noreplace(self, source: Path, final: Path) -> bool:
        with self._lock:
            if "noreplace" in self.lacks:
                return False
            if self._watched(source) is None:
                return _NOREPLACE(source, final)
            self._step(Kind.NAME)
            done = _NOREPLACE(source, final)
            if done:
                self._named(((final, self.model.names[source]), (source, None)))
            return done

    def _link(self, source: Any, final: Any, **more: Any) -> None:
        with self._lock:
            if "link" in self.lacks:
                raise OSError(errno.EPERM, os.strerror(errno.EPERM))
            watched = None if more else self._watched(source)
            if watched is not None:
                self._step(Kind.NAME)
            _REAL["link"](source, final, **more)
            if watched is not None:
                self._named(((Path(final), self.model.names[watched]),))

    def _rename(self, source: Any, final: Any, **more: Any) -> None:
        with self._lock:
            watched = None if more else self._watched(source)
            if watched is not None:
                self._step(Kind.NAME)
            _REAL["rename"](source, final, **more)
            if watched is not None:
                self._named(((Path(final), self.model.names[watched]), (watched, None)))

    def _unlink(self, path: Any, **more: Any) -> None:
        with self._lock:
            watched = None if more else self._watched(path)
            if watched is not None and os.path.lexists(watched):
                self._step(Kind.NAME)
                _REAL["unlink"](path)
                self._named(((watched, None),))
                return
        _REAL["unlink"](path, **more)

    def _named(self, names: tuple[tuple[Path, int | None], ...]) -> None:
        self.model.rename_to(names)
