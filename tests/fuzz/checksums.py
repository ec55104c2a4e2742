"""Checksums made right again after a mutation, so that it reaches the code behind them."""

from __future__ import annotations

from converters import c_vhd, c_vhdx
from tests.fuzz.sparse import Sparse

_HEADER_COOKIE_AT = 16
_LONGEST_LOG_ENTRY = 1 << 20


def vhd(file: Sparse) -> None:
    """The footer, its copy, and the dynamic header that either of them names."""
    for at in (file.size - c_vhd.FOOTER_BYTES, 0):
        footer = file.read(at, c_vhd.FOOTER_BYTES) if at >= 0 else b""
        if not footer.startswith(c_vhd.FOOTER_COOKIE):
            continue
        total = c_vhd.checksum(footer, c_vhd.FOOTER_CHECKSUM_OFFSET)
        file.write(at + c_vhd.FOOTER_CHECKSUM_OFFSET, total.to_bytes(4, "big"))
        begin = int.from_bytes(footer[_HEADER_COOKIE_AT : _HEADER_COOKIE_AT + 8], "big")
        header = file.read(begin, c_vhd.HEADER_BYTES) if begin < file.size else b""
        if header.startswith(c_vhd.HEADER_COOKIE):
            total = c_vhd.checksum(header, c_vhd.HEADER_CHECKSUM_OFFSET)
            file.write(begin + c_vhd.HEADER_CHECKSUM_OFFSET, total.to_bytes(4, "big"))


def vhdx(file: Sparse) -> None:
    """Both headers, both region tables, and every log entry that begins with a chunk's page."""
    for at in c_vhdx.HEADER_OFFSETS:
        _crc(file, at, c_vhdx.HEADER_BYTES, c_vhdx.HEADER_SIGNATURE)
    for at in c_vhdx.REGION_TABLE_OFFSETS:
        _crc(file, at, c_vhdx.REGION_TABLE_BYTES, c_vhdx.REGION_SIGNATURE)
    for place, content in list(file.chunks):
        for within in range(0, len(content), 4096):
            if content.startswith(c_vhdx.LOG_ENTRY_SIGNATURE, within):
                length = int.from_bytes(content[within + 8 : within + 12], "little")
                if 16 <= length <= _LONGEST_LOG_ENTRY:
                    _crc(file, file.offset_of(place) + within, length, c_vhdx.LOG_ENTRY_SIGNATURE)


def _crc(file: Sparse, at: int, length: int, signature: bytes) -> None:
    raw = file.read(at, length)
    if raw.startswith(signature):
        file.write(at + c_vhdx.CHECKSUM_OFFSET, c_vhdx.checksum(raw).to_bytes(4, "little"))
