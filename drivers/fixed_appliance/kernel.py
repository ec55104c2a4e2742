"""A kernel that is not compressed, out of a distribution's bzImage.

QEMU loads an ELF kernel at once where it says by a note where a PVH guest begins; an emulated CPU needs seconds to unpack
a bzImage. Header: Documentation/arch/x86/boot.rst of Linux; note: XEN_ELFNOTE_PHYS32_ENTRY of Xen's public/elfnote.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from drivers.linux.cpio import BadArchive, ByteStream
from drivers.linux.inflate import MAGICS, Budget, inflated
from p2v.core.units import MIB

_SETUP_SECTORS_AT = 0x1F1
_MAGIC_AT, _MAGIC = 0x202, b"HdrS"
_PAYLOAD_AT = 0x248  # offset and length, since protocol 2.08
_SECTOR_BYTES = 512
_LARGEST_BYTES = 512 * MIB
_ELF_64_LITTLE = b"\x7fELF\x02\x01"
_MACHINE_X86_64 = 62
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_NOTE = 4
_PHYS32_ENTRY = 18
_MOST_NOTE_BYTES = 1 * MIB


class Unsuitable(ValueError):
    """What is installed here cannot be made into a quicker appliance; the text says why."""


@dataclass(frozen=True, slots=True)
class _Segment:
    kind: int
    offset: int
    length: int


def plain_kernel(image: bytes) -> bytes:
    """The ELF kernel inside of a bzImage. Raises Unsuitable where there is none that QEMU can start at once."""
    if image[_MAGIC_AT : _MAGIC_AT + 4] != _MAGIC:
        raise Unsuitable("the kernel is no bzImage")
    offset, length = struct.unpack_from("<II", image, _PAYLOAD_AT)
    begin = ((image[_SETUP_SECTORS_AT] or 4) + 1) * _SECTOR_BYTES + offset
    if not length or begin + length > len(image):
        raise Unsuitable("the kernel's compressed part lies outside of its file")
    elf = _unpacked(image[begin : begin + length])
    if not _has_pvh_entry(elf):
        raise Unsuitable("the kernel was built without CONFIG_PVH: QEMU cannot start it unpacked")
    return elf


def _unpacked(payload: bytes) -> bytes:
    codec = MAGICS.get(payload[:2])
    if codec is None:
        raise Unsuitable("the kernel is compressed in a way that is not known here")
    try:
        # only the first member: all but gzip are followed by the unpacked size
        return b"".join(inflated(codec, ByteStream([payload]), Budget(left_bytes=_LARGEST_BYTES), lambda: None))
    except BadArchive as error:
        raise Unsuitable(f"the kernel cannot be unpacked: {error}") from error


def _has_pvh_entry(elf: bytes) -> bool:
    notes = (elf[part.offset : part.offset + part.length] for part in _segments(elf) if part.kind == _NOTE)
    return any(name == b"Xen\0" and kind == _PHYS32_ENTRY for part in notes for name, kind in _notes(part))


def _segments(elf: bytes) -> Iterator[_Segment]:
    if elf[:6] != _ELF_64_LITTLE or len(elf) < 64 or struct.unpack_from("<H", elf, 18)[0] != _MACHINE_X86_64:
        raise Unsuitable("the kernel is no ELF file of an x86-64")
    table, (entry_bytes, count) = struct.unpack_from("<Q", elf, 32)[0], struct.unpack_from("<HH", elf, 54)
    if entry_bytes != _PROGRAM_HEADER.size or table + count * entry_bytes > len(elf):
        raise Unsuitable("the kernel's program headers lie outside of its file")
    for index in range(count):
        kind, _flags, offset, _virtual, _physical, length, _memory, _align = _PROGRAM_HEADER.unpack_from(
            elf, table + index * entry_bytes
        )
        if offset + length > len(elf):
            raise Unsuitable("a part of the kernel lies outside of its file")
        yield _Segment(kind, offset, min(length, _MOST_NOTE_BYTES) if kind == _NOTE else length)


def _notes(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Names and types of the notes, as far as they are whole."""
    at = 0
    while at + 12 <= len(data):
        name_bytes, content_bytes, kind = struct.unpack_from("<III", data, at)
        yield data[at + 12 : at + 12 + name_bytes], kind
        at += 12 + name_bytes + -name_bytes % 4 + content_bytes + -content_bytes % 4
