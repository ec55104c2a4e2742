"""NTFS on disk, as far as finding a file's clusters takes: boot sector, records of the master file table, attributes, runs.

Source: the Linux-NTFS project's documentation of NTFS ("File Record", "Attribute Header", "Data Runs", "$ATTRIBUTE_LIST").
Everything is little-endian; the last word of every 512 bytes of a record stands elsewhere in it (fixups).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from p2v.core.doubt import NotUnderstood
from p2v.core.units import KIB, MIB

OEM_NAME = b"NTFS    "
ATTRIBUTE_LIST, FILE_NAME, VOLUME_INFORMATION, DATA = 0x20, 0x30, 0x70, 0x80
_END = 0xFFFFFFFF
_FIXUP_STRIDE = 512
_IN_USE = 0x1
_LARGEST_CLUSTER = 2 * MIB
_LARGEST_RECORD = 64 * KIB
_LARGEST_LIST = MIB
_RUNS_AT_MOST = 1024 * KIB
_READ_BYTES = MIB


class Stretch(Protocol):
    """Where an NTFS stands."""

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    def read(self, length: int, offset: int) -> bytes:
        """Exactly ``length`` bytes at ``offset``. Raises NotUnderstood when they do not lie in it."""
        ...


Run = tuple[int, int]
"""First cluster and count; the first is -1 where nothing is stored."""


class Attribute(NamedTuple):
    """One attribute of a record: ``value`` of a resident one, otherwise ``runs`` of it (raw) with sizes in bytes.

    ``flags``: 1 compressed, 0x4000 encrypted, 0x8000 sparse.
    """

    kind: int
    name: bytes
    value: bytes | None
    first_vcn: int
    last_vcn: int
    runs: bytes
    size: int
    initialised: int
    flags: int = 0


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A record whose fixups are undone."""

    raw: bytes

    @property
    def is_used(self) -> bool:
        """Whether it belongs to a file."""
        return bool(struct.unpack_from("<H", self.raw, 22)[0] & _IN_USE)

    @property
    def sequence(self) -> int:
        """How often it was given out."""
        return int(struct.unpack_from("<H", self.raw, 16)[0])

    @property
    def base(self) -> int:
        """The number of the record that it goes on from; 0: it begins a file."""
        return int(struct.unpack_from("<Q", self.raw, 32)[0]) & (1 << 48) - 1

    def attributes(self) -> Iterator[Attribute]:
        """Every attribute of it. Raises NotUnderstood for a damaged one."""
        raw = self.raw
        used = min(struct.unpack_from("<I", raw, 24)[0], len(raw))
        at = struct.unpack_from("<H", raw, 20)[0]
        while at + 4 <= used:
            kind = struct.unpack_from("<I", raw, at)[0]
            if kind == _END:
                return
            yield _attribute(raw, at, used, kind)
            at += struct.unpack_from("<I", raw, at + 4)[0]
        raise NotUnderstood("a file record has no end")


def _attribute(raw: bytes, at: int, used: int, kind: int) -> Attribute:
    length, is_elsewhere, name_length, name_at = struct.unpack_from("<IBBH", raw, at + 4) if at + 24 <= used else (0, 0, 0, 0)
    if length < 24 or at + length > used or name_at + 2 * name_length > length:
        raise NotUnderstood("a file record is damaged")
    name, flags = raw[at + name_at : at + name_at + 2 * name_length], struct.unpack_from("<H", raw, at + 12)[0]
    if not is_elsewhere:
        size, value_at = struct.unpack_from("<IH", raw, at + 16)
        if value_at + size > length:
            raise NotUnderstood("a file record is damaged")
        return Attribute(kind, name, raw[at + value_at : at + value_at + size], 0, -1, b"", size, size, flags)
    if length < 64:
        raise NotUnderstood("a file record is damaged")
    first, last, runs_at, _, _, size, initialised = struct.unpack_from("<QQHH4x3Q", raw, at + 16)
    if not 64 <= runs_at <= length:
        raise NotUnderstood("a file record is damaged")
    return Attribute(kind, name, None, first, last, raw[at + runs_at : at + length], size, initialised, flags)


def decode_runs(raw: bytes) -> Iterator[Run]:
    """The runs of a list of them. Raises NotUnderstood."""
    at = cluster = 0
    while at < len(raw) and raw[at]:
        length_bytes, offset_bytes = raw[at] & 0xF, raw[at] >> 4
        offset_at = at + 1 + length_bytes
        at = offset_at + offset_bytes
        if not 1 <= length_bytes <= 8 or offset_bytes > 8 or at > len(raw):
            raise NotUnderstood("a list of runs is damaged")
        count = int.from_bytes(raw[offset_at - length_bytes : offset_at], "little")
        if not 0 < count < 1 << 62:
            raise NotUnderstood("a list of runs is damaged")
        if not offset_bytes:
            yield -1, count
            continue
        cluster += int.from_bytes(raw[offset_at:at], "little", signed=True)
        if cluster < 0:
            raise NotUnderstood("a list of runs is damaged")
        yield cluster, count


@dataclass(frozen=True, slots=True)
class FileData:
    """Where a stream's contents stand: ``resident``, or runs. Sizes in bytes; ``flags``: see ``Attribute``."""

    resident: bytes | None
    runs: tuple[Run, ...]
    size: int
    initialised: int
    flags: int = 0


class NtfsVolume:
    """The master file table of a volume. Raises NotUnderstood."""

    def __init__(self, volume: Stretch) -> None:
        self._volume = volume
        boot = volume.read(512, 0)
        if boot[3:11] != OEM_NAME or boot[510:512] != b"\x55\xaa":
            raise NotUnderstood("it has no boot sector")
        sector_bytes, per_cluster = struct.unpack_from("<HB", boot, 11)
        self.sector_bytes = sector_bytes
        # beyond 64 KiB the number of sectors is a power of two, its negative exponent stored
        cluster_sectors = per_cluster if per_cluster <= 0x80 else 1 << (256 - per_cluster)
        self.cluster_bytes = sector_bytes * cluster_sectors
        self.sectors, self._mft_cluster, self.mirror_cluster = struct.unpack_from("<3Q", boot, 40)
        per_record = struct.unpack_from("<b", boot, 64)[0]
        self.record_bytes = per_record * self.cluster_bytes if per_record > 0 else 1 << -per_record
        self._check()
        self.clusters = self.sectors // cluster_sectors
        self._mft_runs: tuple[Run, ...] = ((self._mft_cluster, -(-16 * self.record_bytes // self.cluster_bytes)),)
        self._mft_runs = self._begin_of_table()
        self.table = self.data_of(0)
        self._mft_runs = self.table.runs
        self.records = min(self.table.size, self.table.initialised) // self.record_bytes

    def _check(self) -> None:
        sector, cluster, record = self.sector_bytes, self.cluster_bytes, self.record_bytes
        if sector not in (512, 1024, 2048, 4096) or not sector <= cluster <= _LARGEST_CLUSTER or cluster & (cluster - 1):
            raise NotUnderstood(f"its clusters have {cluster} bytes, its sectors {sector}")
        if not 1024 <= record <= _LARGEST_RECORD or record & (record - 1):
            raise NotUnderstood(f"its file records have {record} bytes")
        if not self.sectors or self.sectors * sector > self._volume.size:
            raise NotUnderstood(f"it is {self.sectors * sector} bytes long, in a place of {self._volume.size}")

    def _begin_of_table(self) -> tuple[Run, ...]:
        """The runs of the table that its own first record has: enough to find the others, where there are more."""
        for attribute in self.record(0).attributes():
            if attribute.kind == DATA and not attribute.name and attribute.value is None and attribute.first_vcn == 0:
                return tuple(decode_runs(attribute.runs))
        raise NotUnderstood("its master file table has no contents")

    def read_runs(self, runs: tuple[Run, ...], length: int, offset: int) -> bytes:
        """Bytes of what stands in runs; holes are zeroes. Raises NotUnderstood when they end before."""
        parts: list[bytes] = []
        for first, count in runs:
            size = count * self.cluster_bytes
            if offset >= size:
                offset -= size
                continue
            here = min(length, size - offset)
            if here > 64 * MIB:
                raise NotUnderstood("one of its structures is too large")
            parts.append(bytes(here) if first < 0 else self._volume.read(here, first * self.cluster_bytes + offset))
            length, offset = length - here, 0
            if not length:
                return b"".join(parts)
        if length:
            raise NotUnderstood("a file is shorter than its size")
        return b""

    def record(self, number: int) -> FileRecord:
        """A record of the table. Raises NotUnderstood when it is none, or torn."""
        found = undo_fixups(self.read_runs(self._mft_runs, self.record_bytes, number * self.record_bytes))
        if found is None:
            raise NotUnderstood(f"its file record {number} is none")
        return found

    def each_record(self) -> Iterator[tuple[int, FileRecord]]:
        """All that are in use, in order, with their numbers. Raises NotUnderstood for a torn one."""
        step = _READ_BYTES // self.record_bytes
        for first in range(0, self.records, step):
            count = min(step, self.records - first)
            raw = self.read_runs(self._mft_runs, count * self.record_bytes, first * self.record_bytes)
            for index in range(count):
                found = undo_fixups(raw[index * self.record_bytes : (index + 1) * self.record_bytes])
                if found is not None and found.is_used:
                    yield first + index, found

    def data_of(self, number: int, kind: int = DATA, name: bytes = b"") -> FileData:
        """A stream of a file, put together where it is in several records. ``name``: in UTF-16; empty for the file's contents."""
        base = self.record(number)
        attributes = list(base.attributes())
        listed = next((attribute for attribute in attributes if attribute.kind == ATTRIBUTE_LIST), None)
        pieces = [a for a in attributes if a.kind == kind and a.name == name]
        if listed is not None:
            pieces = list(self._listed(number, base, self._list(listed), (kind, name)))
        if not pieces:
            raise NotUnderstood(f"the file record {number} has no contents")
        if pieces[0].value is not None:
            return FileData(pieces[0].value, (), pieces[0].size, pieces[0].initialised, pieces[0].flags)
        runs: list[Run] = []
        vcn = 0
        for piece in sorted(pieces, key=lambda piece: piece.first_vcn):
            if piece.first_vcn != vcn or piece.value is not None:
                raise NotUnderstood(f"the parts of the file {number} do not follow each other")
            here = list(decode_runs(piece.runs))
            vcn += sum(count for _, count in here)
            runs += here
            if vcn != piece.last_vcn + 1 or len(runs) > _RUNS_AT_MOST:
                raise NotUnderstood(f"the parts of the file {number} do not follow each other")
        first = min(pieces, key=lambda piece: piece.first_vcn)
        return FileData(None, tuple(runs), first.size, first.initialised, first.flags)

    def _list(self, attribute: Attribute) -> bytes:
        if attribute.value is not None:
            return attribute.value
        if attribute.size > _LARGEST_LIST:
            raise NotUnderstood("a list of attributes is too long")
        return self.read_runs(tuple(decode_runs(attribute.runs)), attribute.size, 0)

    def _listed(self, number: int, base: FileRecord, raw: bytes, wanted: tuple[int, bytes]) -> Iterator[Attribute]:
        """The pieces of a stream (its kind and name) that a list of attributes names."""
        at = 0
        while at + 26 <= len(raw):
            kind, length, name_length, name_at = struct.unpack_from("<IHBB", raw, at)
            vcn, reference = struct.unpack_from("<QQ", raw, at + 8)
            if length < 26:
                raise NotUnderstood("a list of attributes is damaged")
            name = raw[at + name_at : at + name_at + 2 * name_length]
            at += length
            if (kind, name) != wanted:
                continue
            holder = reference & (1 << 48) - 1
            record = base if holder == number else self.record(holder)
            if record.sequence != reference >> 48:
                raise NotUnderstood("a list of attributes is damaged")
            yield from (a for a in record.attributes() if (a.kind, a.name) == wanted and a.first_vcn == vcn)


def undo_fixups(raw: bytes, magic: bytes = b"FILE") -> FileRecord | None:
    """A record with the last words of its sectors put back; None for what is no record. Raises NotUnderstood when it is torn.

    ``magic``: of what is looked for; blocks of indexes (``INDX``) are protected in the same way.
    """
    if raw[:4] == b"BAAD":
        raise NotUnderstood("a file record is marked as damaged")
    if raw[:4] != magic:
        return None
    array, count = struct.unpack_from("<HH", raw, 4)
    if count != len(raw) // _FIXUP_STRIDE + 1 or array + 2 * count > _FIXUP_STRIDE - 2:
        raise NotUnderstood("a file record is damaged")
    record, mark = bytearray(raw), raw[array : array + 2]
    for index in range(1, count):
        at = index * _FIXUP_STRIDE - 2
        if record[at : at + 2] != mark:
            raise NotUnderstood("a file record was written in part")
        record[at : at + 2] = raw[array + 2 * index : array + 2 * index + 2]
    return FileRecord(bytes(record))
