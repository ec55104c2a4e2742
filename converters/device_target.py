"""A block device as the target of a disk: taken for oneself, looked at, and written in place.

Nothing is written before every device of a machine was claimed. The journal stands in the folder of the results. A device has
its name from the start: so what makes it look like a disk (its first and last piece) is written last, and an unfinished one
looks empty. Before an earlier run's pieces are believed they are read again: anybody may have written to the device since.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from converters.checkpoints import CHECKPOINT_BYTES, CHECKPOINT_SECONDS, Checkpoints
from converters.device_contents import Ends, contents_of, read_ends
from converters.device_writer import DeviceWriter
from converters.host_file import open_in_qemu
from converters.journal import JournalFile, JournalHeader
from converters.pieces import PIECE_BYTES, PieceBuffer, piece_count, piece_length
from converters.resumed import Resumed
from converters.target import RecordedWriter, Target, TargetFormat, difference, journal_path
from p2v.core.block_devices import THIS_HOST, BlockDevice, HostFiles, users_of
from p2v.core.errors import DeviceInUse, DeviceNotEmpty, NotPermitted, ReadFailed, UnfitDevice


@dataclass
class ClaimedDevice:
    """A device that is ours alone, and what an earlier run left on it; nothing was written yet."""

    device: BlockDevice
    writer: DeviceWriter
    journal: JournalFile
    header: JournalHeader
    checkpoint_bytes: int
    checkpoint_seconds: float
    found: JournalHeader | None = None
    """Of the journal that was there, whatever it is about."""
    resumed: Resumed | None = None
    restart_reason: str = ""
    discards: bool = True
    """Whether the device took the word that nothing of it is needed, where it was given."""
    _started: bool = False

    def start(self, *, discard: bool = False) -> Target:
        """Begin to write, or go on. The target owns the device from here on.

        ``discard``: tell the device first that nothing of it is needed, where it takes that. Raises ReadFailed, NotPermitted.
        """
        resumed = self.resumed or Resumed(self.writer)
        if self.resumed is None:
            self.journal.start(self.header)
            if discard:
                self.discards = self.writer.discard(self.device.size)
            self.writer.clear_ends(self.device.size)
        else:
            resumed.tidy(self.journal)
        checkpoints = Checkpoints(self.writer, self.journal, self.checkpoint_bytes, self.checkpoint_seconds)
        ends = self.writer.end_pieces(self.device.size)
        recorded = RecordedWriter(resumed, checkpoints, ends)
        self._started = True
        return Target(
            self.device.path,
            TargetFormat.RAW,
            recorded,
            self.journal,
            resumed.done_bytes,
            self.restart_reason,
            is_device=True,
            unreadable=resumed.unreadable,
            lost=resumed.lost,
        )

    def close(self) -> None:
        """Give the device back, unless a target was started."""
        if not self._started:
            self.writer.close()
            if self.found is None:
                self.journal.remove()
            else:
                self.journal.close()


@contextmanager
def claimed_device(
    device: BlockDevice,
    record: Path,
    virtual_size: int,
    identity: str,
    *,
    overwrite: bool = False,
    skip_unreadable: bool = False,
    host: HostFiles = THIS_HOST,
    checkpoint_bytes: int = CHECKPOINT_BYTES,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Iterator[ClaimedDevice]:
    """Take a device for a disk of ``virtual_size`` bytes. What is on it is refused unless ``overwrite``, or it is this disk.

    ``record``: the name beside which the journal stands, as a partial file's would. ``identity``, ``skip_unreadable``: as for
    ``open_target``.

    Raises DeviceInUse, DeviceNotEmpty, UnfitDevice (too small, read-only, another device by now), TargetBusy, NotPermitted,
    ReadFailed.
    """
    handle = _open_exclusively(device, host)
    try:
        _require_fit(handle, device, virtual_size)
        writer = DeviceWriter(handle, device.path, virtual_size)
        journal = JournalFile(journal_path(record), device.path)
    except BaseException:
        os.close(handle)
        raise
    header = JournalHeader(identity, virtual_size, "device", PIECE_BYTES, device=f"{device.identity} size={device.size}")
    claimed = ClaimedDevice(device, writer, journal, header, checkpoint_bytes, checkpoint_seconds)
    try:
        claimed.found = journal.read_header()
        claimed.resumed, claimed.restart_reason = _resumed(claimed, skip_unreadable=skip_unreadable)
        ends = read_ends(handle, device.path, device.size)
        others = _not_ours(claimed, ends)
        if others and not overwrite:
            raise DeviceNotEmpty(device.path, others)
        yield claimed
    finally:
        claimed.close()


def _open_exclusively(device: BlockDevice, host: HostFiles) -> int:
    users = users_of(device.number, host)
    if users:
        raise DeviceInUse(device.path, users)
    try:
        handle = os.open(device.path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError as error:
        raise NotPermitted(str(device.path), "write") from error
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise DeviceInUse(device.path, ("something on this host holds it",)) from error
        raise ReadFailed(str(device.path), f"cannot be opened: {error.strerror}") from error
    return handle


def _require_fit(handle: int, device: BlockDevice, virtual_size: int) -> None:
    """What was looked at by its name is what is open, and the disk fits."""
    status = os.fstat(handle)
    if f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}" != device.number:
        raise UnfitDevice(device.path, "became another device while it was looked at")
    size = os.lseek(handle, 0, os.SEEK_END)
    if size < virtual_size or size != device.size:
        raise UnfitDevice(device.path, f"has {size} bytes; the disk has {virtual_size}")
    if open_in_qemu(handle):
        raise DeviceInUse(device.path, ("open in QEMU",))


def _resumed(claimed: ClaimedDevice, *, skip_unreadable: bool) -> tuple[Resumed | None, str]:
    """What an earlier run left, as its journal says; None and the reason when there is nothing to go on with."""
    if claimed.found is None:
        return None, ""
    if claimed.found != claimed.header:
        return None, difference(claimed.found, claimed.header)
    resumed = Resumed(claimed.writer)
    try:
        resumed.replay(claimed.journal, skip_unreadable=skip_unreadable)
    except ValueError as error:
        return None, str(error)
    return resumed, ""


def _not_ours(claimed: ClaimedDevice, ends: Ends) -> tuple[str, ...]:
    """What is on the device and was not written by an earlier run of this one, in words."""
    resumed = claimed.resumed
    if resumed is None:
        return contents_of(ends)
    committed = {index for first, count in resumed.dirty for index in range(first, first + count)}
    changed = _changed_since(claimed, resumed, committed)
    # to be made zero and copied again
    resumed.dirty.extend((index, 1) for index in changed)
    ours = committed.union(index for index in claimed.writer.end_pieces(ends.size) if index in resumed.done)
    others = replace(ends, head=_without(claimed, ours, ends.head, 0), tail=_without(claimed, ours, ends.tail, ends.tail_at))
    found = contents_of(others)
    if changed:
        found = (f"it was written to since a run began on it, at byte {changed[0] * PIECE_BYTES} among others", *found)
    return found


def _changed_since(claimed: ClaimedDevice, resumed: Resumed, committed: set[int]) -> list[int]:
    """Pieces that were recorded and are others now, but for those which a commit was writing."""
    buffer = PieceBuffer()
    changed = []
    for index in range(piece_count(claimed.header.virtual_size)):
        if index in resumed.done and index not in committed:
            resumed.seen(index)
            if not resumed.is_intact(index, buffer):
                changed.append(index)
    return changed


def _without(claimed: ClaimedDevice, ours: set[int], data: bytes, at: int) -> bytes:
    """The bytes of the device from ``at`` on, with zeroes for the pieces that are ours."""
    kept = bytearray(data)
    size = claimed.header.virtual_size
    for index in range(at // PIECE_BYTES, piece_count(min(at + len(data), size))):
        if index in ours:
            start = max(index * PIECE_BYTES, at) - at
            stop = min(index * PIECE_BYTES + piece_length(index, size), at + len(data)) - at
            kept[start:stop] = bytes(stop - start)
    return bytes(kept)
