"""Partition tables as they stand: a GPT's two copies and the MBR in front of it.

Source: UEFI specification 2.10, section 5.3 ("GUID Partition Table Disk Layout"): the primary header is in sector 1, its copy
in the last one; each says where the other is.
"""

from __future__ import annotations

from drivers.partitions import GPT_SIGNATURE, PROTECTIVE_TYPE, GptHeader, gpt_header, mbr_entries
from drivers.sights.edges import Edges
from drivers.sights.values import GptCopy, GptSight, Protection
from p2v.core.units import SECTOR_BYTES

_SECTOR_SIZES = (512, 4096)


def look_at_gpt(disk: Edges, sector_bytes: int) -> GptSight | None:
    """The GPT of a disk whose sectors have so many bytes, or what is left of one; None where there is nothing of it."""
    protection = _protection(disk.pread(SECTOR_BYTES, 0))
    signed = {size: _is_signed(disk, size) for size in sorted(_SECTOR_SIZES, key=lambda size: size != sector_bytes)}
    size = next((size for size, is_there in signed.items() if is_there), sector_bytes)
    if protection is Protection.NONE and not signed[size]:
        return None
    last = disk.virtual_size // size - 1
    primary, backup = gpt_header(disk, 1, size), gpt_header(disk, last, size)
    return GptSight(
        size,
        protection,
        _copy(primary, size),
        _copy(backup, last * size),
        _stated(disk, primary, last),
        isinstance(primary, GptHeader) and isinstance(backup, GptHeader) and primary.entries != backup.entries,
    )


def _protection(sector: bytes) -> Protection:
    if len(sector) < SECTOR_BYTES or sector[510:512] != b"\x55\xaa":
        return Protection.NONE
    types = [entry.type_id for entry in mbr_entries(sector)]
    if PROTECTIVE_TYPE not in types:
        return Protection.NONE
    return Protection.PROTECTIVE if set(types) == {PROTECTIVE_TYPE} else Protection.HYBRID


def _is_signed(disk: Edges, sector_bytes: int) -> bool:
    places = (sector_bytes, (disk.virtual_size // sector_bytes - 1) * sector_bytes)
    return any(disk.pread(len(GPT_SIGNATURE), at) == GPT_SIGNATURE for at in places if at > 0)


def _copy(outcome: GptHeader | str, offset: int) -> GptCopy:
    return GptCopy(offset, outcome if isinstance(outcome, str) else "")


def _stated(disk: Edges, primary: GptHeader | str, last: int) -> GptCopy | None:
    if isinstance(primary, str) or primary.alternate_lba == last:
        return None
    size = primary.sector_bytes
    return _copy(gpt_header(disk, primary.alternate_lba, size), primary.alternate_lba * size)
