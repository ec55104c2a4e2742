"""qcow2 on disk: names, layouts and masks of the specification, versions 2 and 3.

Source: QEMU, docs/interop/qcow2.txt. Everything is big-endian. Only structures here: what they mean for
reading is in ``qcow2.py``, for writing in ``qcow2_writer.py``.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

QCOW_MAGIC = b"QFI\xfb"

HEADER_V2_BYTES = 72
HEADER_V3_BYTES = 104
COMPRESSION_TYPE_OFFSET = 104
HEADER_V3_WITH_COMPRESSION_BYTES = 112

MIN_CLUSTER_BITS = 9
# A subcluster has 512 bytes or more, and a cluster 32 of them.
MIN_SUBCLUSTERED_CLUSTER_BITS = 14
MAX_CLUSTER_BITS = 21
MAX_REFCOUNT_ORDER = 6
V2_REFCOUNT_ORDER = 4

# The specification's limit for a backing file's name.
MAX_BACKING_FILE_NAME = 1023
# QEMU's own limit; a 2 EiB disk at the largest cluster needs less.
MAX_L1_BYTES = 32 * 1024 * 1024
# These are QEMU's own limits too.
MAX_REFCOUNT_TABLE_BYTES = 8 * 1024 * 1024
MAX_SNAPSHOTS = 65536
MAX_SNAPSHOT_TABLE_BYTES = 64 * 1024 * 1024
MAX_BITMAPS = 65535
MAX_BITMAP_DIRECTORY_BYTES = 64 * 1024 * 1024

ENTRY_BYTES = 8
# The second half of an extended L2 entry is its subcluster allocation bitmap.
EXTENDED_L2_ENTRY_BYTES = 16
SUBCLUSTERS = 32

INCOMPAT_DIRTY = 1 << 0
INCOMPAT_CORRUPT = 1 << 1
INCOMPAT_DATA_FILE = 1 << 2
INCOMPAT_COMPRESSION = 1 << 3
INCOMPAT_EXTENDED_L2 = 1 << 4
INCOMPAT_KNOWN = INCOMPAT_DIRTY | INCOMPAT_CORRUPT | INCOMPAT_DATA_FILE | INCOMPAT_COMPRESSION | INCOMPAT_EXTENDED_L2

COMPAT_LAZY_REFCOUNTS = 1 << 0

AUTOCLEAR_BITMAPS = 1 << 0
AUTOCLEAR_DATA_FILE_RAW = 1 << 1

CRYPT_NONE = 0
CRYPT_AES = 1
CRYPT_LUKS = 2

COMPRESSION_DEFLATE = 0
COMPRESSION_ZSTD = 1

# L1 entry: bits 9-55 the L2 table's offset, bit 63 "refcount is exactly one".
L1E_OFFSET_MASK = 0x00FFFFFFFFFFFE00
L1E_RESERVED_MASK = 0x7F000000000001FF
# L2 entry: bit 62 compressed, bit 63 "refcount is exactly one"; the low 62 bits are the descriptor.
OFLAG_COPIED = 1 << 63
OFLAG_COMPRESSED = 1 << 62
# Standard cluster descriptor: bit 0 reads as zeroes (v3), bits 9-55 host offset.
L2E_ZERO = 1 << 0
L2E_OFFSET_MASK = 0x00FFFFFFFFFFFE00
L2E_STD_RESERVED_MASK = 0x3F000000000001FE
# Subcluster allocation bitmap of a standard cluster: bits 0-31 allocated, bits 32-63 read as zeroes. Both is invalid.
SUBCLUSTERS_MASK = 0xFFFFFFFF
# Refcount table entry: bits 9-63 the refcount block's offset.
REFT_OFFSET_MASK = 0xFFFFFFFFFFFFFE00

REFT_RESERVED_MASK = 0x1FF
# Bitmap table entry: bits 9-55 the offset of a cluster of bits.
BITMAP_TABLE_OFFSET_MASK = 0x00FFFFFFFFFFFE00

COMPRESSED_SECTOR_BYTES = 512

EXT_END = 0x00000000
EXT_BACKING_FORMAT = 0xE2792ACA
EXT_FEATURE_NAME_TABLE = 0x6803F857
EXT_BITMAPS = 0x23852875
EXT_FULL_DISK_ENCRYPTION = 0x0537BE77
EXT_EXTERNAL_DATA_FILE = 0x44415441

_V2 = struct.Struct(">4sIQIIQIIQQIIQ")
_V3 = struct.Struct(">QQQII")
_EXTENSION = struct.Struct(">II")
_SNAPSHOT = struct.Struct(">QIHHIIQII")
_BITMAPS_EXTENSION = struct.Struct(">IIQQ")
_BITMAP = struct.Struct(">QIIBBHI")
_REFCOUNT_TYPECODES = {2: "H", 4: "I", 8: "Q"}
SNAPSHOT_ENTRY_BYTES = _SNAPSHOT.size
BITMAP_ENTRY_BYTES = _BITMAP.size


@dataclass(frozen=True, slots=True)
class Qcow2Header:
    """The header's fields, by the specification's names; version 2 has the defaults for the rest."""

    version: int
    backing_file_offset: int
    backing_file_size: int
    cluster_bits: int
    size: int
    crypt_method: int
    l1_size: int
    l1_table_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    nb_snapshots: int = 0
    snapshots_offset: int = 0
    incompatible_features: int = 0
    compatible_features: int = 0
    autoclear_features: int = 0
    refcount_order: int = V2_REFCOUNT_ORDER
    header_length: int = HEADER_V2_BYTES
    compression_type: int = COMPRESSION_DEFLATE

    @property
    def cluster_bytes(self) -> int:
        """Bytes in a cluster."""
        return 1 << self.cluster_bits

    @property
    def has_subclusters(self) -> bool:
        """Whether L2 entries are extended ones."""
        return bool(self.incompatible_features & INCOMPAT_EXTENDED_L2)

    @property
    def l2_entries(self) -> int:
        """Entries in an L2 table, which fills one cluster."""
        return self.cluster_bytes // (EXTENDED_L2_ENTRY_BYTES if self.has_subclusters else ENTRY_BYTES)


def unpack_header(raw: bytes) -> Qcow2Header:
    """Read a header from the first bytes of a file (112 or more, 72 for version 2).

    Values are as stored: nothing is judged but the lengths. Raises ValueError when ``raw`` is too short
    or is no qcow2 header.
    """
    if len(raw) < HEADER_V2_BYTES or raw[:4] != QCOW_MAGIC:
        raise ValueError("no qcow2 header")
    (_, version, backing_offset, backing_size, cluster_bits, size, crypt, l1_size, l1_offset,
     refcount_offset, refcount_clusters, nb_snapshots, snapshots_offset) = _V2.unpack_from(raw)  # fmt: skip
    incompatible = compatible = autoclear = 0
    refcount_order, header_length, compression = V2_REFCOUNT_ORDER, HEADER_V2_BYTES, COMPRESSION_DEFLATE
    if version >= 3:
        if len(raw) < HEADER_V3_BYTES:
            raise ValueError("qcow2 header is cut short")
        incompatible, compatible, autoclear, refcount_order, header_length = _V3.unpack_from(raw, HEADER_V2_BYTES)
        # The field exists only where the header says it is long enough to hold it.
        if header_length > COMPRESSION_TYPE_OFFSET and len(raw) > COMPRESSION_TYPE_OFFSET:
            compression = raw[COMPRESSION_TYPE_OFFSET]
    return Qcow2Header(
        version, backing_offset, backing_size, cluster_bits, size, crypt, l1_size, l1_offset,
        refcount_offset, refcount_clusters, nb_snapshots, snapshots_offset,
        incompatible, compatible, autoclear, refcount_order, header_length, compression,
    )  # fmt: skip


def pack_header(header: Qcow2Header) -> bytes:
    """Write a header: 72 bytes for version 2, ``header_length`` (104 or 112) for version 3.

    Header extensions follow it and are the caller's (``pack_extension``).
    """
    packed = _V2.pack(
        QCOW_MAGIC, header.version, header.backing_file_offset, header.backing_file_size, header.cluster_bits,
        header.size, header.crypt_method, header.l1_size, header.l1_table_offset, header.refcount_table_offset,
        header.refcount_table_clusters, header.nb_snapshots, header.snapshots_offset,
    )  # fmt: skip
    if header.version < 3:
        return packed
    packed += _V3.pack(
        header.incompatible_features, header.compatible_features, header.autoclear_features,
        header.refcount_order, header.header_length,
    )  # fmt: skip
    if header.header_length > COMPRESSION_TYPE_OFFSET:
        packed += bytes([header.compression_type])
    return packed.ljust(header.header_length, b"\0")


def unpack_extension(raw: bytes, offset: int) -> tuple[int, int]:
    """Type and data length of the header extension at ``offset``; its data follows, padded to 8 bytes."""
    kind, length = _EXTENSION.unpack_from(raw, offset)
    return kind, length


def pack_extension(kind: int, data: bytes) -> bytes:
    """One header extension with its padding; ``pack_extension(EXT_END, b"")`` ends the list."""
    padding = -len(data) % 8
    return _EXTENSION.pack(kind, len(data)) + data + bytes(padding)


def subclusters(bitmap: int) -> Iterator[tuple[int, int, bool, bool]]:
    """The runs (first, count, allocated, zero) of equal subclusters in a subcluster allocation bitmap."""
    first = 0
    while first < SUBCLUSTERS:
        allocated, zero = bitmap >> first & 1, bitmap >> SUBCLUSTERS + first & 1
        stop = first + 1
        while stop < SUBCLUSTERS and (bitmap >> stop & 1, bitmap >> SUBCLUSTERS + stop & 1) == (allocated, zero):
            stop += 1
        yield first, stop - first, bool(allocated), bool(zero)
        first = stop


def compressed_range(entry: int, cluster_bits: int) -> tuple[int, int]:
    """Host offset and stored length (an upper bound) of a compressed cluster's L2 entry.

    The descriptor counts 512-byte sectors after the one the stream begins in; the stream may end
    anywhere in the last of them.
    """
    offset_bits = 62 - (cluster_bits - 8)
    descriptor = entry & ((1 << 62) - 1)
    offset = descriptor & ((1 << offset_bits) - 1)
    additional_sectors = descriptor >> offset_bits
    length = (additional_sectors + 1) * COMPRESSED_SECTOR_BYTES - offset % COMPRESSED_SECTOR_BYTES
    return offset, length


def compressed_entry(offset: int, length: int, cluster_bits: int) -> int:
    """The L2 entry for a compressed stream of ``length`` bytes at ``offset`` (inverse of the above)."""
    offset_bits = 62 - (cluster_bits - 8)
    last_sector = (offset + length - 1) // COMPRESSED_SECTOR_BYTES
    additional_sectors = last_sector - offset // COMPRESSED_SECTOR_BYTES
    return OFLAG_COMPRESSED | additional_sectors << offset_bits | offset


@dataclass(frozen=True, slots=True)
class SnapshotEntry:
    """What of a snapshot table's entry says where things are; ``entry_bytes`` is the whole entry with its padding."""

    l1_table_offset: int
    l1_size: int
    entry_bytes: int


def unpack_snapshot(raw: bytes) -> SnapshotEntry:
    """Read the fixed part (40 bytes) of a snapshot table's entry."""
    l1_offset, l1_size, id_size, name_size, _, _, _, _, extra_size = _SNAPSHOT.unpack_from(raw)
    return SnapshotEntry(l1_offset, l1_size, _padded(SNAPSHOT_ENTRY_BYTES + extra_size + id_size + name_size))


def unpack_bitmaps_extension(raw: bytes) -> tuple[int, int, int]:
    """Number of bitmaps, bytes of their directory, and where that is. Raises ValueError where ``raw`` is too short."""
    if len(raw) < _BITMAPS_EXTENSION.size:
        raise ValueError("bitmaps extension is cut short")
    bitmaps, _, size, offset = _BITMAPS_EXTENSION.unpack_from(raw)
    return bitmaps, size, offset


@dataclass(frozen=True, slots=True)
class BitmapEntry:
    """What of a bitmap directory's entry says where things are; ``entry_bytes`` is the whole entry with its padding."""

    table_offset: int
    table_size: int
    entry_bytes: int


def unpack_bitmap(raw: bytes) -> BitmapEntry:
    """Read the fixed part (24 bytes) of a bitmap directory's entry."""
    offset, size, _, _, _, name_size, extra_size = _BITMAP.unpack_from(raw)
    return BitmapEntry(offset, size, _padded(BITMAP_ENTRY_BYTES + extra_size + name_size))


def unpack_refcounts(raw: bytes, order: int) -> bytes | array[int]:
    """The refcounts in (a part of) a refcount block, ``2 ** order`` bits each; bytes where none of them needs more.

    Refcounts of less than a byte begin at its least significant bits.
    """
    if order < 3:
        bits = 1 << order
        values = bytearray(len(raw) * 8 // bits)
        for place in range(8 // bits):
            values[place :: 8 // bits] = raw.translate(bytes(byte >> place * bits & (1 << bits) - 1 for byte in range(256)))
        return bytes(values)
    width = 1 << order - 3
    low = raw[width - 1 :: width]
    if raw.count(0) - low.count(0) == len(raw) - len(low):
        return low
    wide = array(_REFCOUNT_TYPECODES[width], raw)
    if sys.byteorder == "little":
        wide.byteswap()
    return wide


def _padded(length: int) -> int:
    return -(-length // 8) * 8
