"""Brings a hive up to date from its transaction logs, as Windows does before it reads one that was not written to its end.

Two kinds: up to Windows 8 a log is a bitmap of dirty pages and the pages (``DIRT``); from 8.1 on it is a row of
entries with a sequence number and two hashes each (``HvLE``), divided between .LOG1 and .LOG2. A hive whose base block
is sound and whose two sequence numbers are equal is clean, whatever its logs hold: Windows ignores them then ("Dirty state of
a hive"). So what is recovered here gets equal sequence numbers beyond those of every entry seen, which leaves nothing in the logs
that could be taken for newer than it.

Source: see ``c_regf``, sections "Format of transaction log files" and "Multiple transaction log files".
"""

from __future__ import annotations

import enum
import itertools
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from drivers.windows import c_regf as c
from drivers.windows.regf import HIVE_BYTES_AT_MOST, BadHive
from p2v.core.units import MIB, round_up

LOG_BYTES_AT_MOST = 64 * MIB
LOG_SUFFIXES = (".LOG", ".LOG1", ".LOG2")
_WORD = 0xFFFFFFFF


class LogState(enum.Enum):
    """How a hive stands to its logs."""

    CLEAN = "clean"
    REPLAYED = "replayed"
    """It was dirty, and what the logs hold is in it now."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """A hive as Windows would see it. ``applied``: which of the logs (by number) were applied, in that order."""

    data: bytes
    state: LogState
    applied: tuple[int, ...] = ()


def recover(data: bytes, logs: Sequence[bytes]) -> Recovered:
    """The hive with its logs applied where it is dirty. ``logs``: contents of .LOG (or .LOG1) first.

    Raises BadHive where it is dirty and the logs do not tell how it is meant to be.
    """
    base = c.BaseBlock.of(data)
    if base is None or len(data) < c.BASE_BLOCK_BYTES + c.BIN_HEADER_BYTES:
        raise BadHive("it is shorter than a hive can be")
    if not base.is_dirty:
        return Recovered(data, LogState.CLEAN)
    blocks = [(number, block) for number, log in enumerate(logs) if (block := _valid(log)) is not None]
    new = [number for number, block in blocks if block.file_type == c.NEW_LOG]
    old = [number for number, block in blocks if block.file_type in c.OLD_LOGS and _belongs(block, base, data)]
    entries = {number: tuple(_entries(logs[number])) for number in new}
    if new:
        applied, result = _apply_entries(base, data, logs, entries)
    elif old:
        applied, result = _apply_pages(base, data, {number: logs[number] for number in old})
    else:
        raise BadHive("it was not written to its end, and no log of it can be applied")
    seen = {base.primary_sequence, base.secondary_sequence, *(block.primary_sequence for _, block in blocks)}
    finish(result, max(seen.union(entry.sequence for row in entries.values() for entry in row)))
    return Recovered(bytes(result), LogState.REPLAYED, tuple(applied))


def _valid(log: bytes) -> c.BaseBlock | None:
    """The base block of a log that was written to its end."""
    block = c.BaseBlock.of(log)
    if block is None or block.is_dirty or len(log) > LOG_BYTES_AT_MOST:
        return None
    return block


def _belongs(block: c.BaseBlock, base: c.BaseBlock, data: bytes) -> bool:
    timestamp = base.timestamp
    if not base.is_sound:
        (timestamp,) = struct.unpack_from("<Q", data, c.BASE_BLOCK_BYTES + c.BIN_TIMESTAMP_OFFSET)
    return block.timestamp == timestamp


def finish(result: bytearray, sequence: int) -> None:
    """Make a hive clean: equal sequence numbers, the ones after all others, of which ``sequence`` is the last. Raises BadHive."""
    if sequence >= _WORD:
        raise BadHive("its sequence numbers leave none that follows them")
    struct.pack_into("<II", result, 4, sequence + 1, sequence + 1)
    struct.pack_into("<I", result, 28, c.PRIMARY_FILE)
    c.seal(result)


def _with_base(data: bytes, base: c.BaseBlock, log: bytes) -> bytearray:
    """The hive, whose base block comes from the log when its own is not sound."""
    result = bytearray(data)
    if not base.is_sound:
        result[: c.LOG_SECTOR_BYTES] = log[: c.LOG_SECTOR_BYTES]
    return result


def _grow(result: bytearray, bins_bytes: int, log: bytes) -> None:
    # whatever a hive grows by is dirty, so it stands in the log as well
    most = min(len(result) + len(log), HIVE_BYTES_AT_MOST) - c.BASE_BLOCK_BYTES
    if not bins_bytes or bins_bytes % c.BIN_UNIT_BYTES or bins_bytes > most:
        raise BadHive(f"its log says that it has {bins_bytes} bytes of bins")
    result.extend(bytes(max(0, c.BASE_BLOCK_BYTES + bins_bytes - len(result))))
    struct.pack_into("<I", result, 40, bins_bytes)


# --- the old format --------------------------------------------------------------------------------------


def _apply_pages(base: c.BaseBlock, data: bytes, logs: dict[int, bytes]) -> tuple[list[int], bytearray]:
    results = {number: _with_pages(base, data, log) for number, log in logs.items()}
    first = min(results)
    # Which of two that fit Windows takes depends on its version, and on whether its loader or its kernel reads the hive.
    if any(result[c.BASE_BLOCK_BYTES :] != results[first][c.BASE_BLOCK_BYTES :] for result in results.values()):
        raise BadHive("it was not written to its end, and two logs that fit it disagree")
    return [first], results[first]


def _with_pages(base: c.BaseBlock, data: bytes, log: bytes) -> bytearray:
    block = c.BaseBlock.of(log)
    assert block is not None
    result = _with_base(data, base, log)
    _grow(result, block.bins_bytes, log)
    sector = c.LOG_SECTOR_BYTES * min(max(1, block.clustering_factor), 8)
    if log[sector : sector + 4] != c.DIRTY_VECTOR_SIGNATURE:
        raise BadHive("its log has no list of dirty pages")
    bitmap_bytes = -(-block.bins_bytes // (8 * c.DIRTY_PAGE_BYTES))
    bitmap = log[sector + 4 : sector + 4 + bitmap_bytes]
    at = round_up(sector + 4 + bitmap_bytes, sector)
    for index, bits in enumerate(bitmap):
        for bit in range(8):
            if not bits >> bit & 1:
                continue
            target = c.BASE_BLOCK_BYTES + (8 * index + bit) * c.DIRTY_PAGE_BYTES
            page = log[at : at + c.DIRTY_PAGE_BYTES]
            if len(page) < c.DIRTY_PAGE_BYTES or target + len(page) > len(result):
                raise BadHive("its log ends before the pages that it lists")
            result[target : target + len(page)] = page
            at += c.DIRTY_PAGE_BYTES
    if len(bitmap) < bitmap_bytes:
        raise BadHive("its log ends before the list of its pages")
    return result


# --- the new format --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Entry:
    sequence: int
    bins_bytes: int
    flags: int
    pages: tuple[tuple[int, int, int], ...]
    """Offset in the bins, length in bytes, and where it stands in the log."""


def _apply_entries(
    base: c.BaseBlock, data: bytes, logs: Sequence[bytes], entries: Mapping[int, Sequence[_Entry]]
) -> tuple[list[int], bytearray]:
    rows = {number: _following(logs[number], row, base) for number, row in entries.items()}
    filled = [number for number in rows if rows[number]]
    if not filled:
        raise BadHive("it was not written to its end, and its logs hold no entry that follows it")
    if base.is_sound:
        order = sorted(filled, key=lambda number: rows[number][0].sequence)
    else:
        order = [max(filled, key=lambda number: rows[number][-1].sequence)]
    result = _with_base(data, base, logs[order[0]])
    applied: list[int] = []
    last: int | None = None
    for number in order:
        if last is not None and rows[number][0].sequence != last + 1:
            continue
        for entry in rows[number]:
            _apply(result, entry, logs[number])
            last = entry.sequence
        applied.append(number)
    return applied, result


def _following(log: bytes, entries: Sequence[_Entry], base: c.BaseBlock) -> list[_Entry]:
    """The entries of a log that follow the hive, each by one more than the one before."""
    block = c.BaseBlock.of(log)
    assert block is not None
    expected = block.primary_sequence
    if base.is_sound and expected < base.secondary_sequence:
        return []
    pairs = zip(entries, itertools.count(expected), strict=False)
    return [entry for entry, _ in itertools.takewhile(lambda pair: pair[0].sequence == pair[1], pairs)]


def _entries(log: bytes) -> Iterator[_Entry]:
    """The entries of a log up to the first that is none, or has another hash than it says."""
    at = c.LOG_SECTOR_BYTES
    while at + c.LOG_ENTRY.size <= len(log):
        signature, size, flags, sequence, bins_bytes, count, body_hash, header_hash = c.LOG_ENTRY.unpack_from(log, at)
        end = at + size
        if signature != c.LOG_ENTRY_SIGNATURE or size < c.LOG_ENTRY.size or size % c.LOG_SECTOR_BYTES or end > len(log):
            return
        pages = _pages(log, at, end, count, bins_bytes)
        if pages is None or not bins_bytes or bins_bytes % c.BIN_UNIT_BYTES:
            return
        if header_hash != marvin32(log[at : at + c.HASHED_HEADER_BYTES]):
            return
        if body_hash != marvin32(log[at + c.LOG_ENTRY.size : end]):
            return
        yield _Entry(sequence, bins_bytes, flags, pages)
        at = end


def _pages(log: bytes, start: int, end: int, count: int, bins_bytes: int) -> tuple[tuple[int, int, int], ...] | None:
    at = start + c.LOG_ENTRY.size
    contents = at + count * c.PAGE_REFERENCE.size
    if contents > end:
        return None
    found = []
    for offset, length in c.PAGE_REFERENCE.iter_unpack(log[at:contents]):
        if contents + length > end or offset + length > bins_bytes:
            return None
        found.append((offset, length, contents))
        contents += length
    return tuple(found)


def _apply(result: bytearray, entry: _Entry, log: bytes) -> None:
    _grow(result, entry.bins_bytes, log)
    for offset, length, at in entry.pages:
        target = c.BASE_BLOCK_BYTES + offset
        result[target : target + length] = log[at : at + length]
    (flags,) = struct.unpack_from("<I", result, c.FLAGS_OFFSET)
    mask = c.FLAGS_IN_LOG_ENTRIES
    struct.pack_into("<I", result, c.FLAGS_OFFSET, flags & ~mask | entry.flags & mask)


def marvin32(data: bytes, seed: int = c.MARVIN32_SEED) -> int:
    """Marvin32 of some bytes, both halves of its state (published in Microsoft's .NET runtime and SymCrypt)."""
    low, high = seed & _WORD, seed >> 32
    padded = data + b"\x80" + bytes(3 - len(data) % 4)
    for (word,) in itertools.chain(struct.iter_unpack("<I", padded), ((0,),)):
        low = (low + word) & _WORD
        high ^= low
        low = ((low << 20 | low >> 12) + high) & _WORD
        high = (high << 9 | high >> 23) & _WORD ^ low
        low = ((low << 27 | low >> 5) + high) & _WORD
        high = (high << 19 | high >> 13) & _WORD
    return high << 32 | low
