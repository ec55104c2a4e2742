"""``p2v disk convert --used-blocks``: what the file systems on a disk call free is not copied; and what is said of that."""

from __future__ import annotations

from typing import Any

from converters.allocation.findings import Unused
from converters.allocation.left_out import LeftOut
from converters.mapped import MappedDisk
from converters.sparse_view import SparseView
from p2v.core import events
from p2v.core.disk import DiskReader
from p2v.core.events import Reporter
from p2v.core.text import printable
from p2v.core.units import format_bytes

HELP = (
    "leave out what the disk's file systems call free and what is in its swap areas: such bytes read as zero in DST "
    "(not byte for byte any more; deleted files do not travel)"
)
NOTHING = Unused((LeftOut(),), ())


def view_of(disk: MappedDisk, report: Reporter, *, used_blocks: bool) -> tuple[DiskReader, Unused]:
    """The disk as it is to be copied, and what of it is not. Raises what the reader raises."""
    if not used_blocks:
        return disk, NOTHING
    # what knows file systems is loaded by those who need it
    from converters.allocation.unused import find_unused

    with events.phase(report, "allocation", "Reading which blocks are in use"):
        found = find_unused([disk])
    return SparseView(disk, found.disks[0]), found


def told(found: Unused) -> list[str]:
    """Lines for people."""
    (left_out,) = found.disks
    lines = [f"not copied: {format_bytes(length)} ({kind})" for kind, length in left_out.by_kind().items()]
    for volume in found.volumes:
        if volume.why_whole:
            what = f"{volume.kind}, {format_bytes(volume.size_bytes)}"
            lines.append(f"{volume.name} ({what}) was copied whole: {volume.why_whole}")
    return [printable(line, keep="") for line in lines]


def document(found: Unused) -> dict[str, Any]:
    """For a program: bytes by kind, and why volumes were copied whole."""
    whole = {volume.name: volume.why_whole for volume in found.volumes if volume.why_whole}
    return {"left_out": found.disks[0].by_kind(), "copied_whole": whole}
