"""The size of a VHD's disk: two fields of the footer say it, and programs differ in which they believe.

Virtual PC and Virtual Server presented a disk by the footer's geometry, rounded down to whole cylinders; later programs
present every sector that ``current size`` counts. Taking the wrong one loses the last sectors of a disk (with them
a backup GPT), or shows sectors its guest never saw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from converters import c_vhd
from converters.c_vhd import VhdFooter
from converters.references import SizeBy
from converters.source_file import SourceFile, shown
from p2v.core.errors import BadImage
from p2v.core.units import SECTOR_BYTES


@dataclass(frozen=True, slots=True)
class Creator:
    """A program that makes VHDs, how it presents their size, and where that is known from."""

    name: str
    size_by: SizeBy
    source: str


_QEMU = "QEMU, block/vpc.c, which keeps the list of creators that mean the current size"
_SPECIFICATION = "VHD specification 1.0, appendix on CHS: its own products use the geometry"

CREATORS: Mapping[str, Creator] = {
    "vpc ": Creator("Virtual PC", SizeBy.GEOMETRY, _SPECIFICATION),
    "vs  ": Creator("Virtual Server", SizeBy.GEOMETRY, _SPECIFICATION),
    "qemu": Creator("QEMU", SizeBy.GEOMETRY, _QEMU),
    "qem2": Creator("QEMU with force_size", SizeBy.CURRENT_SIZE, _QEMU),
    "win ": Creator("Hyper-V", SizeBy.CURRENT_SIZE, _QEMU),
    "d2v ": Creator("disk2vhd", SizeBy.CURRENT_SIZE, _QEMU),
    "tap\0": Creator("XenServer (blktap)", SizeBy.CURRENT_SIZE, _QEMU),
    "CTXS": Creator("XenConverter", SizeBy.CURRENT_SIZE, _QEMU),
    "wa\0\0": Creator("Azure", SizeBy.CURRENT_SIZE, "Azure asks for disks of whole MiB by the current size"),
    "vbox": Creator("VirtualBox", SizeBy.CURRENT_SIZE, "VirtualBox, VHD.cpp, reads and writes the current size"),
}
"""By the footer's creator application; whoever is not in it is newer than the list and means the current size."""


def virtual_size(file: SourceFile, footer: VhdFooter, size_by: SizeBy) -> tuple[int, tuple[str, ...]]:
    """Bytes of the disk, and a note where the two fields differ.

    A geometry that is the largest possible means "too large for one"; by the creator it counts only where it is
    smaller than the current size. Raises BadImage for sizes that cannot be.
    """
    current = footer.current_size
    if current <= 0 or current > c_vhd.MAX_VIRTUAL_BYTES or current % SECTOR_BYTES:
        raise BadImage(file.path, f"its VHD footer says a disk of {current} bytes")
    geometry = footer.geometry_sectors * SECTOR_BYTES
    if size_by is SizeBy.GEOMETRY:
        if geometry == 0:
            raise BadImage(file.path, "its VHD footer has no geometry", "Leave --size-by away.")
        return geometry, () if geometry == current else (f"by its geometry, the disk has {geometry} bytes",)
    creator = CREATORS.get(footer.creator_application)
    counts = creator is not None and creator.size_by is SizeBy.GEOMETRY
    too_large = footer.geometry_sectors >= c_vhd.MAX_GEOMETRY_SECTORS
    if size_by is SizeBy.CURRENT_SIZE or not counts or too_large or not 0 < geometry < current:
        return current, ()
    assert creator is not None
    note = (
        f"the size is the footer's geometry ({geometry} bytes), as its creator {creator.name} presents it, not its "
        f"current size ({current}); --size-by current-size takes the other"
    )
    return geometry, (note,)


def creator_name(footer: VhdFooter) -> str:
    """The creator as the footer spells it, without padding."""
    return shown(footer.creator_application.rstrip(" \0"))[1:-1]
