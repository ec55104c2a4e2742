"""VMDK on disk: sparse extent header, markers, grain tables' entries, extent lines of the descriptor.

Source: VMware, "Virtual Disk Format 5.0" (technical note, 2011). Everything is little-endian, in sectors of
512 bytes where the specification says so. Behaviour is in ``vmdk.py``, ``vmdk_sparse.py`` and ``vmdk_descriptor.py``;
the extents only ESX writes are in ``c_vmdk_esx.py``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

SPARSE_MAGIC = b"KDMV"
# Those two are told from the first here, and described in ``c_vmdk_esx``.
COWD_MAGIC = b"COWD"
SESPARSE_MAGIC = b"\xbe\xba\xfe\xca\x00\x00\x00\x00"
DESCRIPTOR_FIRST_LINE = "# Disk DescriptorFile"

HEADER_BYTES = 512
# Header, footer and markers are each padded to a sector; a stream ends with marker, footer, end marker.
MARKER_BYTES = 512
FOOTER_FROM_END = 1024

MARKER_END_OF_STREAM = 0
MARKER_GRAIN_TABLE = 1
MARKER_GRAIN_DIRECTORY = 2
MARKER_FOOTER = 3

FLAG_VALID_NEW_LINE = 1 << 0
FLAG_REDUNDANT_TABLE = 1 << 1
FLAG_ZEROED_GRAIN = 1 << 2
FLAG_COMPRESSED = 1 << 16
FLAG_MARKERS = 1 << 17

COMPRESSION_NONE = 0
COMPRESSION_DEFLATE = 1

GD_AT_END = 0xFFFFFFFFFFFFFFFF
GTE_UNALLOCATED = 0
GTE_ZEROED = 1
TABLE_ENTRY_BYTES = 4
MAX_GTES_PER_GT = 512

# In front of each compressed grain: its sector in the disk, and the length of its stream.
GRAIN_MARKER_BYTES = 12

NO_PARENT_CID = 0xFFFFFFFF

_HEADER = struct.Struct("<4sIIQQQQIQQQBccccH")
_GRAIN_MARKER = struct.Struct("<QI")
_METADATA_MARKER = struct.Struct("<QII")


@dataclass(frozen=True, slots=True)
class SparseHeader:
    """The sparse extent header's fields; sizes and places in sectors."""

    version: int
    flags: int
    capacity_sectors: int
    grain_sectors: int
    descriptor_sector: int
    descriptor_sectors: int
    gtes_per_gt: int
    rgd_sector: int
    gd_sector: int
    overhead_sectors: int
    unclean_shutdown: bool
    end_of_lines: bytes
    compress_algorithm: int


def unpack_header(raw: bytes) -> SparseHeader:
    """Read a sparse extent header or a stream's footer (512 bytes) without judging it."""
    (_, version, flags, capacity, grain, descriptor, descriptor_size, gtes, rgd, gd, overhead, unclean,
     single, non, double1, double2, algorithm) = _HEADER.unpack_from(raw)  # fmt: skip
    return SparseHeader(version, flags, capacity, grain, descriptor, descriptor_size, gtes, rgd, gd, overhead,
                        bool(unclean), single + non + double1 + double2, algorithm)  # fmt: skip


def unpack_grain_marker(raw: bytes) -> tuple[int, int]:
    """Sector of the disk a compressed grain belongs to, and the bytes of its stream."""
    sector, length = _GRAIN_MARKER.unpack_from(raw)
    return sector, length


def unpack_metadata_marker(raw: bytes) -> tuple[int, int, int]:
    """Sectors that follow, a size that is 0 (a grain's marker has its stream's length there), and the marker's type."""
    sectors, size, kind = _METADATA_MARKER.unpack_from(raw)
    return sectors, size, kind
