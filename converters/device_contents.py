"""What a block device holds that is about to be written over, by its first and last MiB.

Signatures at the end are those of what keeps its own there (RAIDs, GPT's copy); whatever else is not zero is told too.
Sources: UEFI 2.10 5.3.2 (GPT), Linux md_p.h and the md(4) page, SNIA DDF 2.0, mdadm's super-intel.c, cryptsetup's LUKS2 format.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from converters.signatures import HEAD_BYTES, disk_contents
from p2v.core.io_errors import read_problem
from p2v.core.units import KIB, MIB, SECTOR_BYTES

END_BYTES = MIB

_MD_MAGIC = b"\xfc\x4e\x2b\xa9"
# at the start, where ``converters.signatures`` does not look: they are no disks a guest had
_AT_START: tuple[tuple[str, int, bytes], ...] = (
    ("a Linux RAID member", 0, _MD_MAGIC),
    ("a Linux RAID member", 4096, _MD_MAGIC),
    ("a bcache device", 4096 + 24, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca"),
    ("an F2FS file system", 1024, b"\x10\x20\xf5\xf2"),
    ("a qcow2 image", 0, b"QFI\xfb"),
)


@dataclass(frozen=True, slots=True)
class Ends:
    """The first and the last MiB of a device of ``size`` bytes (less where it is smaller); the end begins at ``tail_at``."""

    size: int
    head: bytes
    tail: bytes

    @property
    def tail_at(self) -> int:
        """Where the tail begins."""
        return self.size - len(self.tail)


def read_ends(handle: int, path: Path, size: int) -> Ends:
    """Raises ReadFailed, NotPermitted."""
    try:
        length = min(size, END_BYTES)
        return Ends(size, os.pread(handle, length, 0), os.pread(handle, length, size - length))
    except OSError as error:
        raise read_problem(error, path) from error


def contents_of(ends: Ends) -> tuple[str, ...]:
    """What is there, in words; nothing where both ends are zero."""
    found = dict.fromkeys((*_at_start(ends.head), *_at_end(ends)))
    if not found:
        if any(ends.head):
            found[f"data from byte {_first_byte(ends.head)} on"] = None
        elif any(ends.tail):
            found[f"data near its end, from byte {ends.tail_at + _first_byte(ends.tail)} on"] = None
    return tuple(found)


def _at_start(head: bytes) -> Iterator[str]:
    known = disk_contents(head[:HEAD_BYTES])
    if known is not None:
        yield known
    for words, at, sign in _AT_START:
        if head.startswith(sign, at):
            yield words


def _at_end(ends: Ends) -> Iterator[str]:
    size = ends.size
    places = (
        ("the copy of a GUID partition table", size - SECTOR_BYTES, b"EFI PART"),
        ("the copy of a GUID partition table", size - 4096, b"EFI PART"),
        ("a Linux RAID member", (size - 8 * KIB) // (4 * KIB) * (4 * KIB), _MD_MAGIC),
        ("a Linux RAID member", size // (64 * KIB) * (64 * KIB) - 64 * KIB, _MD_MAGIC),
        ("a DDF RAID member", size - SECTOR_BYTES, b"\xde\x11\xde\x11"),
        ("an Intel RAID member", size - 2 * SECTOR_BYTES, b"Intel Raid ISM Cfg Sig. "),
    )
    for words, at, sign in places:
        if at >= ends.tail_at and ends.tail.startswith(sign, at - ends.tail_at):
            yield words


def _first_byte(data: bytes) -> int:
    return len(data) - len(data.lstrip(b"\0"))
