"""What room copies of disks take where they go."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from converters.pieces import stored_bytes
from converters.reflink import unshared_bytes
from converters.target_formats import Preallocation, TargetOptions
from p2v.core.disk import DiskReader
from p2v.core.workspace import allocated_bytes


def still_to_write(copies: Iterable[tuple[DiskReader, Path]], layout: TargetOptions, *, shares: bool, fresh: bool = False) -> int:
    """Bytes at most that copies of disks still take, each with the file it goes to, of which a run before may have left some.

    ``shares``: blocks may be the source's; ``fresh``: what was left is not gone on with. Nothing is counted of what is compressed:
    nobody knows what that comes to, and a run that finds no space can go on. Raises what the readers raise.
    """
    needed = there = 0
    for reader, partial in copies:
        needed += _bytes_of(reader, partial.parent, layout, shares=shares)
        there += 0 if fresh else allocated_bytes(partial)
    return max(needed - there, 0)


def _bytes_of(reader: DiskReader, folder: Path, layout: TargetOptions, *, shares: bool) -> int:
    if layout.preallocation is Preallocation.FALLOC:
        return reader.virtual_size
    if layout.compression is not None:
        return 0
    return unshared_bytes(reader, folder) if shares else stored_bytes(reader)
