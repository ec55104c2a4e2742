"""Shadow copies of NTFS ("previous versions", restore points): whether a volume has any.

A shadow copy keeps only what was overwritten since; all else it reads from the volume, from clusters that are free by now as
well. Without these it would look whole and be wrong.

Source: libvshadow's "Volume Shadow Snapshot (VSS) format", "Volume header" and "Catalog".
"""

from __future__ import annotations

import struct

from converters.allocation.volume import NotUnderstood, Volume
from p2v.core.units import KIB

_HEADER_OFFSET, _HEADER_BYTES = 0x1E00, 128
_IDENTIFIER = bytes.fromhex("6b870838 76c1 484e b7ae 04046e6cc752")
_CATALOG_RECORD = 2
_BLOCK_BYTES, _ENTRY_BYTES = 16 * KIB, 128
_BLOCKS_AT_MOST = 1024
_EMPTY = (0, 1)
"""Types of catalog entries that tell of no shadow copy."""


def check_none(volume: Volume) -> None:
    """Raise NotUnderstood where there is a shadow copy, or a catalog of them that is not understood."""
    header = volume.peek(_HEADER_BYTES, _HEADER_OFFSET)
    if header[:16] != _IDENTIFIER:
        return
    place, seen = struct.unpack_from("<Q", header, 48)[0], set[int]()
    while place:
        block = volume.peek(_BLOCK_BYTES, place)
        record = struct.unpack_from("<I", block, 20)[0] if block else 0
        if block[:16] != _IDENTIFIER or record != _CATALOG_RECORD or place in seen or len(seen) > _BLOCKS_AT_MOST:
            raise NotUnderstood("its catalog of shadow copies is not understood")
        seen.add(place)
        entries = range(_ENTRY_BYTES, _BLOCK_BYTES, _ENTRY_BYTES)
        if any(struct.unpack_from("<Q", block, at)[0] not in _EMPTY for at in entries):
            raise NotUnderstood("it has shadow copies (restore points), which read what is free now as well")
        place = struct.unpack_from("<Q", block, 40)[0]
