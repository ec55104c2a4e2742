"""Structures that a format keeps twice, of which a reader needs only one: the other one's damage is a finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from converters import c_vhd, c_vhdx
from converters.layering import Link
from converters.source_file import SourceFile
from converters.vmdk import JoinedLayout
from converters.vmdk_sparse import SparseLayout
from p2v.core.errors import BadImage

_ADVICE = "The disk reads well; make a sound copy of it (p2v disk convert) before its other structure is damaged too."


_BOTH_CANNOT_BE_RIGHT = "Look at what of the guest's files is damaged (p2v disk convert, then a file system check), or at a backup."


def damaged_copies(link: Link) -> Iterator[BadImage]:
    """Second copies of an image's structures that are damaged, or differ from the first. Raises ReadFailed."""
    for extent in _sparse_extents(link):
        for problem in extent.differences():
            yield BadImage(extent.file.path, problem, _BOTH_CANNOT_BE_RIGHT)
    check = _CHECKS.get(link.facts.format)
    if check is not None and link.sources and not (link.facts.format == "vhdx" and link.facts.dirty):
        # what a VHDX's log holds may stand in one of two copies only, and is no damage
        yield from check(link.sources[0])


def uncompared_copies(link: Link) -> Iterator[tuple[Path, str]]:
    """Second copies that are too large to look at: of which file, and what."""
    for extent in _sparse_extents(link):
        if extent.uncompared_tables:
            yield extent.file.path, f"the last {extent.uncompared_tables} of its redundant grain tables were not compared"


def _sparse_extents(link: Link) -> Iterator[SparseLayout]:
    parts = link.layout.parts if isinstance(link.layout, JoinedLayout) else (link.layout,)
    for part in parts:
        if isinstance(part, SparseLayout):
            yield part


def _vhd(file: SourceFile) -> Iterator[BadImage]:
    """A dynamic or differencing VHD begins with a copy of the footer at its end."""
    copy = file.pread(c_vhd.FOOTER_BYTES, 0)
    offset = c_vhd.find_footer_offset(file.size, file.pread(c_vhd.FOOTER_BYTES, max(0, file.size - c_vhd.FOOTER_BYTES)))
    end = b"" if offset is None else file.pread(c_vhd.FOOTER_BYTES, offset)
    if not c_vhd.is_sound_footer(end):
        yield BadImage(file.path, "the footer at its end is damaged or missing", _ADVICE)
    elif c_vhd.unpack_footer(end).disk_type == c_vhd.DISK_TYPE_FIXED:
        return
    elif not c_vhd.is_sound_footer(copy):
        yield BadImage(file.path, "the copy of its footer at byte 0 is damaged or missing", _ADVICE)
    elif not copy.startswith(end):  # before Virtual PC 2004 the footer was 511 bytes long
        yield BadImage(file.path, "the copy of its footer at byte 0 differs from the footer", _ADVICE)


def _vhdx(file: SourceFile) -> Iterator[BadImage]:
    """Both region tables are to be the same; of the two headers one may be torn, which is what the other is for."""
    tables = [file.pread(c_vhdx.REGION_TABLE_BYTES, offset) for offset in c_vhdx.REGION_TABLE_OFFSETS]
    sound = [
        table.startswith(c_vhdx.REGION_SIGNATURE) and int.from_bytes(table[4:8], "little") == c_vhdx.checksum(table)
        for table in tables
    ]
    for offset, is_sound in zip(c_vhdx.REGION_TABLE_OFFSETS, sound, strict=True):
        if not is_sound:
            yield BadImage(file.path, f"the region table at byte {offset} is damaged", _ADVICE)
    if all(sound) and tables[0] != tables[1]:
        yield BadImage(file.path, "its two region tables differ", _ADVICE)


_CHECKS: Mapping[str, Callable[[SourceFile], Iterator[BadImage]]] = {"vhd": _vhd, "vhdx": _vhdx}
