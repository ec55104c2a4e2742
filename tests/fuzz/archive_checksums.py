"""Checksums and sizes of tar, zip and gzip made right again after a mutation, wherever their signatures stand."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

from tests.fuzz.sparse import Sparse

_TAR_BYTES, _TAR_SIGN, _TAR_SIGN_AT, _TAR_SUM_AT = 512, rb"ustar", 257, 148
_GZIP_SIGN = rb"\x1f\x8b\x08"
_CENTRAL, _CENTRAL_SIGN = struct.Struct("<4s4xHH4xIIIHHH8xI"), rb"PK\x01\x02"
_ZIP = b"PK\3\4"
_LOCAL = struct.Struct("<4s22xHH")
_DEFLATED = 8
_LONGEST_PACKED, _LONGEST_INFLATED = 1 << 17, 1 << 22


def tar(file: Sparse) -> None:
    """The checksum of every header, then those of gzip members."""
    gzip(file)
    for sign in _found(file, _TAR_SIGN):
        at = sign - _TAR_SIGN_AT
        header = file.read(at, _TAR_BYTES) if at >= 0 else b""
        if header:
            total = sum(header) - sum(header[_TAR_SUM_AT : _TAR_SUM_AT + 8]) + 8 * ord(" ")
            file.write(at + _TAR_SUM_AT, b"%06o\0 " % total)


def zip_(file: Sparse) -> None:
    """The first signature; CRC and size of every deflated member in the central directory, where they are looked at."""
    if file.size >= len(_ZIP):
        # Else most inputs of a long run are no zip: libFuzzer likes what is short and ends soon.
        file.write(0, _ZIP)
    for at in _found(file, _CENTRAL_SIGN):
        entry = file.read(at, _CENTRAL.size)
        _, _, method, _, packed_bytes, size, *_, begin = _CENTRAL.unpack(entry)
        if method != _DEFLATED or begin + _LOCAL.size > file.size:
            continue
        _, name_bytes, extra_bytes = _LOCAL.unpack(file.read(begin, _LOCAL.size))
        stream = file.read(begin + _LOCAL.size + name_bytes + extra_bytes, min(packed_bytes, _LONGEST_PACKED))
        inflated, _ = _inflated(stream)
        if inflated is not None:
            file.write(at + 16, struct.pack("<I", zlib.crc32(inflated)))
            if size != 0xFFFFFFFF:
                file.write(at + 24, struct.pack("<I", len(inflated)))


def gzip(file: Sparse) -> None:
    """CRC-32 and size behind every member, and the CRC-16 of a header that has one."""
    for at in _found(file, _GZIP_SIGN):
        raw = file.read(at, min(_LONGEST_PACKED, max(0, file.size - at)))
        begin = _gzip_header_bytes(raw)
        if begin is None:
            continue
        if raw[3] & 2:
            file.write(at + begin - 2, struct.pack("<H", zlib.crc32(raw[: begin - 2]) & 0xFFFF))
        inflated, length = _inflated(raw[begin:])
        if inflated is not None and at + begin + length + 8 <= file.size:
            file.write(at + begin + length, struct.pack("<II", zlib.crc32(inflated), len(inflated) & 0xFFFFFFFF))


def _gzip_header_bytes(raw: bytes) -> int | None:
    if len(raw) < 18:
        return None
    flags, at = raw[3], 10
    if flags & 4:
        at += 2 + int.from_bytes(raw[at : at + 2], "little")
    for flag in (8, 16):
        if flags & flag:
            end = raw.find(b"\0", at)
            if end < 0:
                return None
            at = end + 1
    return at + 2 if flags & 2 else at


def _inflated(stream: bytes) -> tuple[bytes | None, int]:
    """What a raw deflate stream gives, and its length; None when it is damaged, does not end, or gives too much."""
    decompressor = zlib.decompressobj(-15)
    try:
        inflated = decompressor.decompress(stream, _LONGEST_INFLATED)
    except zlib.error:
        return None, 0
    return (inflated, len(stream) - len(decompressor.unused_data)) if decompressor.eof else (None, 0)


def _found(file: Sparse, sign: bytes) -> Iterator[int]:
    """Where a signature stands within a chunk, as an offset."""
    places = [
        file.offset_of(place) + match.start() for place, content in file.chunks for match in re.finditer(sign, content)
    ]
    return (at for at in places if 0 <= at < file.size)
