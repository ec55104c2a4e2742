"""Sparse extents only ESX writes, on disk: COWD (vmfsSparse) and seSparse, both for snapshots.

Sources: COWD is the "ESXi Host Sparse Extent" of VMware, "Virtual Disk Format 5.0" (technical note, 2011). seSparse has no
public specification; names and meaning of its fields are those QEMU's developers found (block/vmdk.c, since QEMU 4.1).
Everything is little-endian, sizes and places in sectors of 512 bytes. Behaviour is in ``vmdk_esx.py``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

COWD_HEADER_BYTES = 2048
COWD_VERSION = 1
COWD_GTES_PER_GT = 4096

SESPARSE_HEADER_BYTES = 512
SESPARSE_VOLATILE_MAGIC = 0xCAFECAFE
SESPARSE_VERSION = 0x200000001
SESPARSE_GRAIN_SECTORS = 8
SESPARSE_TABLE_SECTORS = 64
SESPARSE_ENTRY_BYTES = 8
SESPARSE_GTES_PER_GT = SESPARSE_TABLE_SECTORS * 512 // SESPARSE_ENTRY_BYTES

# A grain directory's entry: 0, or this with the grain table's number in its lower half.
GDE_ALLOCATED = 0x1000000000000000
GDE_TYPE_MASK = 0xFFFFFFFF00000000
# The kind of a grain is in the highest four bits of its entry.
GTE_TYPE_SHIFT = 60
GTE_TYPE_UNALLOCATED = 0
GTE_TYPE_UNMAPPED = 1
GTE_TYPE_ZERO = 2
GTE_TYPE_ALLOCATED = 3
# The next grain's number in an entry: its lowest twelve bits stand above the others.
GTE_NEXT_GRAIN = 1 << 48

_COWD = struct.Struct("<4sIIIIIII")
_COWD_UNCLEAN_SHUTDOWN = struct.Struct("<I")
_COWD_UNCLEAN_SHUTDOWN_OFFSET = 1648
_SESPARSE = struct.Struct("<26Q")
_VOLATILE = struct.Struct("<4Q")


@dataclass(frozen=True, slots=True)
class CowdHeader:
    """The fields of COWDisk_Header that count once a descriptor names the parent."""

    version: int
    flags: int
    num_sectors: int
    grain_size: int
    gd_offset: int
    num_gd_entries: int
    free_sector: int
    unclean_shutdown: bool


@dataclass(frozen=True, slots=True)
class SeSparseHeader:
    """The constant header: written once."""

    version: int
    capacity: int
    grain_size: int
    grain_table_size: int
    flags: int
    reserved: tuple[int, int, int, int]
    volatile_header_offset: int
    volatile_header_size: int
    journal_header_offset: int
    journal_header_size: int
    journal_offset: int
    journal_size: int
    grain_dir_offset: int
    grain_dir_size: int
    grain_tables_offset: int
    grain_tables_size: int
    free_bitmap_offset: int
    free_bitmap_size: int
    backmap_offset: int
    backmap_size: int
    grains_offset: int
    grains_size: int


@dataclass(frozen=True, slots=True)
class SeSparseVolatileHeader:
    """The header that changes while a disk is in use."""

    magic: int
    free_gt_number: int
    next_txn_seq_number: int
    replay_journal: int


def unpack_cowd_header(raw: bytes) -> CowdHeader:
    """Read COWDisk_Header (2048 bytes) without judging it."""
    (_, version, flags, sectors, grain, directory, entries, free) = _COWD.unpack_from(raw)
    (unclean,) = _COWD_UNCLEAN_SHUTDOWN.unpack_from(raw, _COWD_UNCLEAN_SHUTDOWN_OFFSET)
    return CowdHeader(version, flags, sectors, grain, directory, entries, free, bool(unclean))


def unpack_sesparse_header(raw: bytes) -> SeSparseHeader:
    """Read an seSparse constant header (512 bytes) without judging it."""
    _, version, capacity, grain, table, flags, r1, r2, r3, r4, *places = _SESPARSE.unpack_from(raw)
    return SeSparseHeader(version, capacity, grain, table, flags, (r1, r2, r3, r4), *places)


def unpack_sesparse_volatile(raw: bytes) -> SeSparseVolatileHeader:
    """Read an seSparse volatile header (512 bytes) without judging it."""
    return SeSparseVolatileHeader(*_VOLATILE.unpack_from(raw))


def grain_number(entry: int) -> int:
    """Which stored grain an entry of the type "allocated" names."""
    return (entry >> 48 & 0xFFF) | (entry & 0xFFFFFFFFFFFF) << 12
