"""Damaging copies of images, and reading through the damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from converters import c_vhd, c_vhdx
from converters.image import describe, identity, open_disk


def patched(image: Path, target: Path, *patches: tuple[int, bytes]) -> Path:
    """A copy with bytes replaced; negative offsets count from the end."""
    raw = bytearray(image.read_bytes())
    for offset, new in patches:
        begin = offset if offset >= 0 else len(raw) + offset
        raw[begin : begin + len(new)] = new
    target.write_bytes(raw)
    return target


def truncated(image: Path, target: Path, size: int) -> Path:
    """A copy of only the first ``size`` bytes."""
    target.write_bytes(image.read_bytes()[:size])
    return target


def read_all(image: Path, input_format: str | None = None) -> bytes:
    """Everything a conversion does with a source: open, describe, know again, extents, bytes."""
    with open_disk(image, input_format) as disk:
        describe(disk)
        identity(disk)
        parts = [disk.pread(min(extent.length, 1 << 20), extent.offset) for extent in disk.extents()]
    return b"".join(parts)


def vhd_footer(offset: int, new: bytes) -> Callable[[bytearray], None]:
    """A change of the footer at the end, and of its copy where there is one, with right checksums."""

    def change(raw: bytearray) -> None:
        begins = [len(raw) - c_vhd.FOOTER_BYTES]
        if raw.startswith(c_vhd.FOOTER_COOKIE):
            begins.append(0)
        for begin in begins:
            raw[begin + offset : begin + offset + len(new)] = new
            total = c_vhd.checksum(bytes(raw[begin : begin + c_vhd.FOOTER_BYTES]), c_vhd.FOOTER_CHECKSUM_OFFSET)
            at = begin + c_vhd.FOOTER_CHECKSUM_OFFSET
            raw[at : at + 4] = total.to_bytes(4, "big")

    return change


def right_checksums(raw: bytearray) -> None:
    """Make the checksums of a changed VHD or VHDX right again, so that the change reaches the reader."""
    if raw.startswith(c_vhdx.FILE_SIGNATURE):
        for begin in c_vhdx.HEADER_OFFSETS:
            vhdx_structures(0, b"", (begin,), c_vhdx.HEADER_BYTES)(raw)
        vhdx_structures(0, b"", c_vhdx.REGION_TABLE_OFFSETS[:1], c_vhdx.REGION_TABLE_BYTES)(raw)
    elif raw[-c_vhd.FOOTER_BYTES :].startswith(c_vhd.FOOTER_COOKIE):
        vhd_footer(0, b"")(raw)
        if raw.startswith(c_vhd.FOOTER_COOKIE):
            vhd_dynamic_header(0, b"")(raw)


def rewrite(image: Path, target: Path, *changes: Callable[[bytearray], None]) -> Path:
    """A copy after some changes of its bytes."""
    raw = bytearray(image.read_bytes())
    for change in changes:
        change(raw)
    target.write_bytes(raw)
    return target


def vhd_dynamic_header(offset: int, new: bytes) -> Callable[[bytearray], None]:
    """A change of the dynamic disk header (at byte 512 in QEMU's images), with a right checksum."""

    def change(raw: bytearray) -> None:
        raw[512 + offset : 512 + offset + len(new)] = new
        total = c_vhd.checksum(bytes(raw[512 : 512 + c_vhd.HEADER_BYTES]), c_vhd.HEADER_CHECKSUM_OFFSET)
        at = 512 + c_vhd.HEADER_CHECKSUM_OFFSET
        raw[at : at + 4] = total.to_bytes(4, "big")

    return change


def vhdx_structures(offset: int, new: bytes, begins: tuple[int, ...], length: int) -> Callable[[bytearray], None]:
    """A change ``offset`` bytes into each structure that begins at ``begins``, with right checksums."""

    def change(raw: bytearray) -> None:
        for begin in begins:
            raw[begin + offset : begin + offset + len(new)] = new
            total = c_vhdx.checksum(bytes(raw[begin : begin + length]))
            raw[begin + 4 : begin + 8] = total.to_bytes(4, "little")

    return change
