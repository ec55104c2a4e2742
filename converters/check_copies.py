"""Structures that a format keeps twice, of which a reader needs only one: the other one's damage is a finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from converters import c_vhd, c_vhdx
from converters.layering import Link
from converters.source_file import SourceFile
from p2v.core.errors import BadImage

_ADVICE = "The disk reads well; make a sound copy of it (p2v disk convert) before its other structure is damaged too."


def damaged_copies(link: Link) -> Iterator[BadImage]:
    """Second copies of an image's structures that are damaged, or differ from the first. Raises ReadFailed."""
    check = _CHECKS.get(link.facts.format)
    if check is not None and link.sources:
        yield from check(link.sources[0])


def _vhd(file: SourceFile) -> Iterator[BadImage]:
    """A dynamic VHD begins with a copy of its footer."""
    end = file.pread(c_vhd.FOOTER_BYTES, file.size - c_vhd.FOOTER_BYTES)
    if len(end) < c_vhd.FOOTER_BYTES or not end.startswith(c_vhd.FOOTER_COOKIE):
        return  # of 511 bytes, or damaged: the reader says so
    if c_vhd.unpack_footer(end).disk_type == c_vhd.DISK_TYPE_FIXED:
        return
    copy = file.pread(c_vhd.FOOTER_BYTES, 0)
    if not copy.startswith(c_vhd.FOOTER_COOKIE):
        yield BadImage(file.path, "the copy of its footer at byte 0 is missing", _ADVICE)
    elif c_vhd.unpack_footer(copy).checksum != c_vhd.checksum(copy, c_vhd.FOOTER_CHECKSUM_OFFSET):
        yield BadImage(file.path, "the copy of its footer at byte 0 has a wrong checksum", _ADVICE)
    elif copy != end:
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
