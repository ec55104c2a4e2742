"""What a virtual disk is to every other part: a size, bytes at offsets, and extents.

This is the one vocabulary that ``converters`` (which implement it) and ``drivers`` (which read guests
through it) share. All numbers are bytes of the virtual disk unless a name says otherwise.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from p2v.core.units import SECTOR_BYTES


class Codec(enum.Enum):
    """How a compressed extent is stored."""

    ZLIB = "zlib"
    """RFC 1950 stream (VMDK grains)."""
    DEFLATE = "deflate"
    """RFC 1951 stream without header (qcow2 clusters)."""
    ZSTD = "zstd"


@dataclass(frozen=True, slots=True)
class StoredAt:
    """Uncompressed bytes of an extent stand in ``file`` from ``offset`` on, contiguously."""

    file: Path
    offset: int


@dataclass(frozen=True, slots=True)
class CompressedAt:
    """The bytes of an extent begin ``skip`` bytes into what a compressed stream inflates to.

    The stream is the ``length`` stored bytes at ``offset`` of ``file`` (an upper bound where a format knows no
    better) and inflates to ``inflated_length`` bytes, or to fewer where it holds the end of the disk.
    """

    file: Path
    offset: int
    length: int
    codec: Codec
    inflated_length: int
    skip: int = 0


@dataclass(frozen=True, slots=True)
class Extent:
    """A range of the virtual disk with one story.

    ``zero`` and ``allocated`` are two facts: a preallocated zero block is both, a hole is zero and not
    allocated. An extent that is neither zero nor has ``stored`` or ``compressed`` is read by ``pread``.
    ``length`` is positive; the extents of a disk are in order, without gaps or overlap, from 0 to the
    virtual size.
    """

    offset: int
    length: int
    zero: bool
    allocated: bool
    stored: StoredAt | None = None
    compressed: CompressedAt | None = None

    @property
    def end(self) -> int:
        """First byte after the extent."""
        return self.offset + self.length


@runtime_checkable
class SectorTold(Protocol):
    """A disk of which is known in what its addresses count."""

    @property
    def logical_sector_size(self) -> int:
        """Bytes of a sector as the disk's guest sees it: 512, or 4096 (4Kn)."""
        ...


def told_sector_size(disk: object) -> int:
    """Bytes of a disk's sectors, where it tells; 512 as nearly all have, where it does not."""
    return disk.logical_sector_size if isinstance(disk, SectorTold) else SECTOR_BYTES


@runtime_checkable
class DiskReader(Protocol):
    """A source disk, open for reading only.

    ``pread`` may be called from several threads at once. Closing twice is harmless.
    """

    @property
    def virtual_size(self) -> int:
        """Size of the disk as its guest sees it, in bytes."""
        ...

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file the disk's bytes come from (the image, its extents, its parents)."""
        ...

    def pread(self, length: int, offset: int) -> bytes:
        """Read up to ``length`` bytes at ``offset``; short only at the end of the disk."""
        ...

    def extents(self) -> Iterator[Extent]:
        """Walk the whole virtual disk in order (see ``Extent``); lazily, in bounded memory."""
        ...

    def close(self) -> None:
        """Give back every handle."""
        ...
