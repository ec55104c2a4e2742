"""The geometry in an NTFS volume's boot sector, which its boot code counts with.

Source: Microsoft, "NTFS boot sector" (Windows 2000 resource kit, "Disk concepts"): number of heads at 0x1A, hidden sectors at 0x1C.
"""

from __future__ import annotations

import struct

from drivers.changes import BootGeometry

FILE = "$Boot"
OFFSET = 0x1A
_SIGNATURE_OFFSET, _SIGNATURE = 3, b"NTFS    "
_GEOMETRY = struct.Struct("<HI")
HEAD_BYTES = OFFSET + _GEOMETRY.size


def read_geometry(head: bytes) -> BootGeometry | None:
    """The geometry by a volume's first bytes (``HEAD_BYTES`` at least); None when they are no NTFS volume's."""
    end = _SIGNATURE_OFFSET + len(_SIGNATURE)
    if len(head) < HEAD_BYTES or head[_SIGNATURE_OFFSET:end] != _SIGNATURE:
        return None
    return BootGeometry(*_GEOMETRY.unpack_from(head, OFFSET))


def geometry_bytes(geometry: BootGeometry) -> bytes | None:
    """What stands at ``OFFSET`` for a geometry; None for numbers that have no place there."""
    try:
        return _GEOMETRY.pack(geometry.heads, geometry.hidden_sectors)
    except struct.error:
        return None
