"""The log of a VHDX that was not closed cleanly, replayed in memory: the file itself is only read.

[MS-VHDX] 2.3: changes of metadata are written into a ring of log entries before they are made in place. What counts is the
newest complete sequence of entries; every reader that does not write must apply it to what it reads (appendix A, note 5).
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from converters import c_vhdx
from converters.c_vhdx import LOG_SECTOR_BYTES, MIB, LogDescriptor, LogEntryHeader, VhdxHeader
from converters.source_file import SourceFile
from p2v.core.disk import StoredAt
from p2v.core.errors import BadImage, UnsupportedImage

# Hyper-V and QEMU make logs of 1 MiB. All of it may be held in memory.
_MAX_LOG_BYTES = 64 * MIB
# A sound log's bytes are summed about once; torn entries repeat a part of that.
_SUMMED_BYTES_FOR_A_LOG_BYTE = 8
_REPAIR = (
    "Attach it once on its Hyper-V host (Mount-VHD, Dismount-VHD), or start and shut down the machine, then copy it again."
)


@dataclass
class Patches:
    """What the log writes, in the order in which it does: 4 KiB pages and ranges of zeroes, by file offset."""

    pages: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    zeroes: list[tuple[int, int, int]] = field(default_factory=list)
    last_file_offset: int = 0
    count: int = 0

    def add(self, descriptor: LogDescriptor, page: bytes | None) -> None:
        """Note one descriptor after all before it."""
        self.count += 1
        if page is None:
            self.zeroes.append((descriptor.file_offset, descriptor.file_offset + descriptor.length, self.count))
        else:
            self.pages[descriptor.file_offset] = (self.count, page)

    def lasting_pages(self) -> dict[int, bytes]:
        """The pages that no later zeroes cover."""
        lasting: dict[int, bytes] = {}
        begins = sorted(self.zeroes)
        covering: list[tuple[int, int]] = []
        number = 0
        for offset in sorted(self.pages):
            order, page = self.pages[offset]
            while number < len(begins) and begins[number][0] <= offset:
                heapq.heappush(covering, (-begins[number][2], begins[number][1]))
                number += 1
            while covering and covering[0][1] <= offset:
                heapq.heappop(covering)
            if not covering or -covering[0][0] < order:
                lasting[offset] = page
        return lasting


class ReplayedFile(SourceFile):
    """A source file as it would be after its log was replayed.

    Its ``path`` is a name of its own, so that bytes which stand in memory only are read through it; ``parts`` says which
    bytes still stand in the file.
    """

    def __init__(self, file: SourceFile, patches: Patches) -> None:
        size = max(file.size, patches.last_file_offset, *(o + LOG_SECTOR_BYTES for o in patches.pages), 0)
        name = file.path.with_name(file.path.name + "#replayed")
        super().__init__(name, -1, size, file.mtime_ns, is_block_device=file.is_block_device)
        self._file = file
        self._pages = patches.lasting_pages()
        self._page_offsets = sorted(self._pages)
        self._zeroes = _merged([(start, end) for start, end, _ in patches.zeroes])
        self._zero_begins = [start for start, _ in self._zeroes]

    @property
    def host_path(self) -> Path:
        """The file on the host: the archive, where the image stands in one."""
        return self._file.host_path

    @property
    def host_sources(self) -> tuple[SourceFile, ...]:
        """The file's."""
        return self._file.host_sources

    def places(self, offset: int, length: int) -> Iterator[tuple[int, StoredAt | None]]:
        """Nowhere: what has a place is handed out under the file's own name."""
        yield length, None

    def pread(self, length: int, offset: int) -> bytes:
        """See ``SourceFile.pread``."""
        parts = []
        for start, end, kind in self.parts(offset, min(offset + length, self.size)):
            if kind == "file":
                parts.append(self._file.pread(end - start, start).ljust(end - start, b"\0"))
            elif kind == "zero":
                parts.append(bytes(end - start))
            else:
                page = start // LOG_SECTOR_BYTES * LOG_SECTOR_BYTES
                parts.append(self._pages[page][start - page : end - page])
        return b"".join(parts)

    def parts(self, start: int, end: int) -> Iterator[tuple[int, int, str]]:
        """A range of the file as (start, end, kind) pieces: ``file``, ``zero``, or one ``page`` at most each."""
        while start < end:
            page = start // LOG_SECTOR_BYTES * LOG_SECTOR_BYTES
            if page in self._pages:
                stop = min(end, page + LOG_SECTOR_BYTES)
                yield start, stop, "page"
            else:
                index = bisect.bisect_right(self._page_offsets, start)
                stop = min(end, self._page_offsets[index]) if index < len(self._page_offsets) else end
                stop, kind = self._zero_until(start, stop)
                yield start, stop, kind
            start = stop

    def _zero_until(self, start: int, stop: int) -> tuple[int, str]:
        index = bisect.bisect_right(self._zero_begins, start) - 1
        if index >= 0 and self._zeroes[index][1] > start:
            return min(stop, self._zeroes[index][1]), "zero"
        if start >= self._file.size:
            return stop, "zero"
        if index + 1 < len(self._zeroes):
            stop = min(stop, self._zeroes[index + 1][0])
        return min(stop, self._file.size), "file"

    def close(self) -> None:
        """The file is closed by its owner."""
        self._pages = {}
        self._page_offsets, self._zeroes, self._zero_begins = [], [], []


def replayed(file: SourceFile, header: VhdxHeader) -> tuple[SourceFile, tuple[str, ...], tuple[str, ...]]:
    """The file to read structures from, signs that a writer did not finish, and notes.

    Raises BadImage when the log names no complete sequence or the file was cut, UnsupportedImage for other versions.
    """
    if header.log_guid == c_vhdx.NO_GUID:
        return file, (), ()
    if header.log_version != c_vhdx.LOG_VERSION:
        raise UnsupportedImage(file.path, f"has a log of version {header.log_version}", _REPAIR)
    if header.log_length > _MAX_LOG_BYTES:
        raise UnsupportedImage(file.path, f"has a log of {header.log_length} bytes", _REPAIR)
    if header.log_length == 0 or header.log_length % MIB or header.log_offset % MIB:
        raise BadImage(file.path, f"its log has {header.log_length} bytes at {header.log_offset}, where none can be")
    log = file.read_exactly(header.log_length, header.log_offset, "the log")
    ring = _Ring(log, header)
    if not ring.has_entries():
        return file, ("log not empty",), ("its header names a log, but the log holds no entries; nothing is missing",)
    sequence = ring.active_sequence(file)
    patches = Patches()
    for at, entry in sequence:
        ring.apply(file, at, entry, patches)
    head = sequence[-1][1]
    if file.size < head.flushed_file_offset:
        problem = f"has {file.size} bytes, but its log says that {head.flushed_file_offset} were written"
        raise BadImage(file.path, problem)
    patches.last_file_offset = max(head.last_file_offset, file.size)
    note = f"it was not closed cleanly; the {len(sequence)} entries of its log were applied in memory"
    return ReplayedFile(file, patches), ("log not empty",), (note,)


class _Ring:
    """The log region as a ring of entries, each beginning at a multiple of 4 KiB."""

    def __init__(self, log: bytes, header: VhdxHeader) -> None:
        self._log = log
        self._header = header
        self._sums_left = _SUMMED_BYTES_FOR_A_LOG_BYTE * len(log) + 64 * MIB

    def has_entries(self) -> bool:
        """Whether anything in it bears this log's id, sound or not."""
        return any(self._signed(at) for at in range(0, len(self._log), LOG_SECTOR_BYTES))

    def active_sequence(self, file: SourceFile) -> list[tuple[int, LogEntryHeader]]:
        """The newest complete sequence, the oldest entry first ([MS-VHDX] 2.3.3). Raises BadImage."""
        best: list[tuple[int, LogEntryHeader]] = []
        tail = 0
        while tail < len(self._log):
            sequence, head = self._sequence_at(file, tail)
            if sequence and any(at == sequence[-1][1].tail for at, _ in sequence):
                if not best or sequence[-1][1].sequence_number > best[-1][1].sequence_number:
                    best = sequence
                # wrapped round: everything was seen
                tail = head if head > tail else len(self._log)
            else:
                tail += LOG_SECTOR_BYTES
        if not best:
            raise BadImage(file.path, "its log holds entries, but no complete sequence of them", _REPAIR)
        begin = next(index for index, (at, _) in enumerate(best) if at == best[-1][1].tail)
        return best[begin:]

    def apply(self, file: SourceFile, at: int, entry: LogEntryHeader, patches: Patches) -> None:
        """Apply a valid entry's descriptors. Raises BadImage."""
        raw = self._bytes(at, entry.entry_length)
        sector = _descriptor_bytes(entry)
        for number in range(entry.descriptor_count):
            offset = c_vhdx.LOG_ENTRY_HEADER_BYTES + number * c_vhdx.LOG_DESCRIPTOR_BYTES
            descriptor = c_vhdx.unpack_log_descriptor(raw, offset)
            if descriptor is None or not _plausible(descriptor, entry):
                problem = f"descriptor {number} of the log entry at byte {self._header.log_offset + at} is damaged"
                raise BadImage(file.path, problem, _REPAIR)
            if descriptor.ends is None:
                patches.add(descriptor, None)
                continue
            found = c_vhdx.unpack_log_sector(raw, sector) if sector + LOG_SECTOR_BYTES <= len(raw) else None
            if found is None or found[1] != entry.sequence_number:
                problem = f"a data sector of the log entry at byte {self._header.log_offset + at} is damaged"
                raise BadImage(file.path, problem, _REPAIR)
            patches.add(descriptor, descriptor.ends[0] + found[0] + descriptor.ends[1])
            sector += LOG_SECTOR_BYTES

    def _sequence_at(self, file: SourceFile, tail: int) -> tuple[list[tuple[int, LogEntryHeader]], int]:
        """The entries that follow each other from ``tail`` on, and the offset after them."""
        sequence: list[tuple[int, LogEntryHeader]] = []
        at, left = tail, len(self._log)
        while left > 0:
            entry = self._valid_entry(file, at, left)
            if entry is None or (sequence and entry.sequence_number != sequence[-1][1].sequence_number + 1):
                break
            sequence.append((at, entry))
            left -= entry.entry_length
            at = (at + entry.entry_length) % len(self._log)
        return sequence, at

    def _valid_entry(self, file: SourceFile, at: int, room: int) -> LogEntryHeader | None:
        if not self._signed(at):
            return None
        entry = c_vhdx.unpack_log_entry_header(self._bytes(at, c_vhdx.LOG_ENTRY_HEADER_BYTES))
        length = entry.entry_length
        if not LOG_SECTOR_BYTES <= length <= room or length % LOG_SECTOR_BYTES or entry.sequence_number == 0:
            return None
        if entry.tail >= len(self._log) or entry.tail % LOG_SECTOR_BYTES or _descriptor_bytes(entry) > length:
            return None
        self._sums_left -= length
        if self._sums_left < 0:
            raise BadImage(file.path, "its log is damaged in more places than a log can be", _REPAIR)
        raw = self._bytes(at, length)
        return entry if c_vhdx.checksum(raw) == entry.checksum else None

    def _signed(self, at: int) -> bool:
        # An entry's header lies in one sector, so it never wraps.
        signed = self._log.startswith(c_vhdx.LOG_ENTRY_SIGNATURE, at)
        return signed and self._log[at + 32 : at + 48] == self._header.log_guid.bytes_le

    def _bytes(self, at: int, length: int) -> bytes:
        return self._log[at : at + length] + self._log[: max(0, at + length - len(self._log))]


def _descriptor_bytes(entry: LogEntryHeader) -> int:
    needed = c_vhdx.LOG_ENTRY_HEADER_BYTES + entry.descriptor_count * c_vhdx.LOG_DESCRIPTOR_BYTES
    return -(-needed // LOG_SECTOR_BYTES) * LOG_SECTOR_BYTES


def _plausible(descriptor: LogDescriptor, entry: LogEntryHeader) -> bool:
    whole = descriptor.file_offset % LOG_SECTOR_BYTES == 0 and descriptor.length % LOG_SECTOR_BYTES == 0
    inside = descriptor.length > 0 and descriptor.file_offset + descriptor.length <= 1 << 62
    return whole and inside and descriptor.sequence_number == entry.sequence_number


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
