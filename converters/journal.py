"""The resume record: which pieces of a partial target are on stable storage, and what was about to happen to it.

A file of records, appended only. It begins with ``MAGIC`` and a random number; each record is its payload's
length and CRC-32 (which starts from that number, so that nothing of an older journal passes), a letter for
its kind, and the payload. All numbers are little-endian. The first record that is cut short or damaged is
where the record ends: what was not recorded is copied again.

Records: ``H`` header (JSON); ``P`` finished pieces, each piece index, place, data map and CRC-32 as 32-bit numbers;
``U`` ranges of the disk that cannot be read and are zeroes in the pieces that the next ``P`` tells of, ``B`` such ranges that were
found and stopped the copy, both as pairs of 64-bit numbers (offset, length); ``C`` the copy is complete; ``N`` the target is about
to get its final name, its inode's number and its size as 64-bit numbers; ``W`` a commit is about to write into runs of pieces,
``F`` runs of pieces were made zero and are to be copied again, both as pairs of 64-bit numbers (first piece, count).
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from converters.host_file import read_part, resize, sync_data, write_all
from p2v.core.io_errors import close_written
from p2v.core.units import MIB
from p2v.core.workspace import sync_folder, take_lock

MAGIC = b"P2VRSUM\x01"
FORMAT_VERSION = 2
_START = struct.Struct("<8sI")
_RECORD = struct.Struct("<IIc")
_LONGEST_PAYLOAD = 4 * MIB
_HEADER, _PIECES, _COPIED, _NAMING, _COMMITTING, _FORGOTTEN = b"H", b"P", b"C", b"N", b"W", b"F"
_FILLED, _SEEN = b"U", b"B"
_RANGE = struct.Struct("<QQ")
_NUMBERS_A_PIECE = 4

PieceRuns = tuple[tuple[int, int], ...]
"""Runs of pieces as (first, count)."""


@dataclass(frozen=True, slots=True)
class JournalHeader:
    """What a journal is about; a journal with another header is of no use."""

    identity: str
    virtual_size: int
    format: str
    piece_bytes: int
    version: int = FORMAT_VERSION
    device: str = ""
    """Which device is written, where the target is no file."""


@dataclass(frozen=True, slots=True)
class PiecesDone:
    """Pieces that are on stable storage: index, place, data map, CRC-32 of each, flat; the last is 0 where the map is."""

    numbers: array[int]

    def __iter__(self) -> Iterator[tuple[int, int, int, int]]:
        flat = iter(self.numbers)
        return zip(flat, flat, flat, flat, strict=True)


@dataclass(frozen=True, slots=True)
class Copied:
    """Every piece was copied and the target finished."""


@dataclass(frozen=True, slots=True)
class Naming:
    """The finished target, this file, is about to get its final name."""

    inode: int
    size: int


@dataclass(frozen=True, slots=True)
class Committing:
    """These pieces may since have been overwritten."""

    runs: PieceRuns


@dataclass(frozen=True, slots=True)
class Forgotten:
    """These pieces read as zero and are to be copied again; the state is that of a copy."""

    runs: PieceRuns


@dataclass(frozen=True, slots=True)
class CannotRead:
    """Ranges of the disk (offset, length) that cannot be read. ``filled``: zeroes took their place in the target."""

    ranges: tuple[tuple[int, int], ...]
    filled: bool


Record = PiecesDone | Copied | Naming | Committing | Forgotten | CannotRead


class JournalFile:
    """An open, locked journal. One at a time for a target; the lock goes with the process."""

    def __init__(self, path: Path, target: Path) -> None:
        """Open or make ``path``. Raises TargetBusy when another run has it. ``locked``: False where there are no locks."""
        self.path = path
        self._handle: int | None
        self._handle, self.locked = take_lock(path, target)
        self._nonce = 0
        self._end = 0

    def close(self) -> None:
        """Unlock and close; closing twice is harmless."""
        handle, self._handle = self._handle, None
        if handle is not None:
            close_written(handle)

    def remove(self) -> None:
        """Delete the journal while it is still locked, then close it.

        One that cannot be deleted speaks of a file that is not there any more, or is complete.
        """
        with contextlib.suppress(OSError):
            self.path.unlink()
        self.close()

    def read_header(self) -> JournalHeader | None:
        """The header of what is there; None when there is no sound one."""
        start = self._read(_START.size, 0)
        if len(start) < _START.size:
            return None
        magic, self._nonce = _START.unpack(start)
        self._end = _START.size
        found = self._next_payload() if magic == MAGIC else None
        if found is None or found[0] != _HEADER:
            return None
        try:
            return JournalHeader(**json.loads(found[1]))
        except (ValueError, TypeError):
            return None  # another version's

    def records(self) -> Iterator[Record]:
        """The sound records behind the header; when they end, appending goes on right there."""
        while (found := self._next_payload()) is not None:
            yield _unpack(*found)

    def start(self, header: JournalHeader) -> None:
        """Begin anew. On return nothing of what was recorded before can come back, even by a power cut."""
        handle = self._open()
        resize(handle, self.path, 0)
        self._nonce = int.from_bytes(os.urandom(4), "little")
        write_all(handle, self.path, [memoryview(_START.pack(MAGIC, self._nonce))], 0)
        self._end = _START.size
        self._append(_HEADER, json.dumps(asdict(header), sort_keys=True).encode())
        self.sync()
        sync_folder(self.path.parent)

    def append(self, record: Record) -> None:
        """Add a record. It survives this process at once, and the host after ``sync``."""
        for kind, payload in _pack(record):
            self._append(kind, payload)

    def sync(self) -> None:
        """Wait until all records are on stable storage."""
        sync_data(self._open(), self.path)

    def _append(self, kind: bytes, payload: bytes) -> None:
        record = _RECORD.pack(len(payload), zlib.crc32(kind + payload, self._nonce), kind) + payload
        write_all(self._open(), self.path, [memoryview(record)], self._end)
        self._end += len(record)

    def _next_payload(self) -> tuple[bytes, bytes] | None:
        head = self._read(_RECORD.size, self._end)
        if len(head) == _RECORD.size:
            length, crc, kind = _RECORD.unpack(head)
            payload = self._read(length, self._end + _RECORD.size) if length <= _LONGEST_PAYLOAD else b""
            if len(payload) == length and zlib.crc32(kind + payload, self._nonce) == crc:
                self._end += _RECORD.size + length
                return kind, payload
        # Torn: cut off, so that no later record stands behind rubbish.
        resize(self._open(), self.path, self._end)
        return None

    def _read(self, length: int, offset: int) -> bytes:
        return read_part(self._open(), self.path, length, offset)

    def _open(self) -> int:
        if self._handle is None:
            raise ValueError(f"{self.path} is closed")
        return self._handle


def _pack(record: Record) -> Iterator[tuple[bytes, bytes]]:
    match record:
        case PiecesDone(numbers):
            step = _LONGEST_PAYLOAD // 4 // _NUMBERS_A_PIECE * _NUMBERS_A_PIECE
            for at in range(0, len(numbers), step):
                yield _PIECES, numbers[at : at + step].tobytes()
        case CannotRead(ranges, filled):
            step = _LONGEST_PAYLOAD // _RANGE.size
            for at in range(0, len(ranges), step):
                yield _FILLED if filled else _SEEN, b"".join(_RANGE.pack(*each) for each in ranges[at : at + step])
        case Copied():
            yield _COPIED, b""
        case Naming(inode, size):
            yield _NAMING, _RANGE.pack(inode, size)
        case Committing(runs):
            yield _COMMITTING, _pack_runs(runs)
        case Forgotten(runs):
            yield _FORGOTTEN, _pack_runs(runs)


def _unpack(kind: bytes, payload: bytes) -> Record:
    if kind == _PIECES:
        return PiecesDone(array("I", payload))
    if kind == _COMMITTING:
        return Committing(tuple(_RANGE.iter_unpack(payload)))
    if kind == _FORGOTTEN:
        return Forgotten(tuple(_RANGE.iter_unpack(payload)))
    if kind in (_FILLED, _SEEN):
        return CannotRead(tuple(_RANGE.iter_unpack(payload)), kind == _FILLED)
    if kind == _NAMING:
        return Naming(*_RANGE.unpack(payload))
    if kind == _COPIED:
        return Copied()
    raise ValueError(f"a journal has no records of the kind {kind!r}")


def _pack_runs(runs: Sequence[tuple[int, int]]) -> bytes:
    # At most every second piece of a 128 TiB disk; one record must hold all runs, or a torn one would hide some.
    packed = b"".join(_RANGE.pack(*run) for run in runs)
    if len(packed) > _LONGEST_PAYLOAD:
        return _RANGE.pack(runs[0][0], runs[-1][0] + runs[-1][1] - runs[0][0])
    return packed
