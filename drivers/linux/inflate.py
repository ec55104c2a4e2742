"""The compressions a kernel knows for its initramfs, inflated in small pieces within a budget.

``inflated`` reads exactly one compressed member from a stream and leaves it behind its last byte, as the
kernel's decompressors do (lib/decompress_*.c); no piece is larger than a few MiB, whatever the input says.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import lz4.block
import zstandard

from drivers.linux.cpio import BadArchive, ByteStream
from p2v.core.units import GIB, MIB

# The first two bytes, as the kernel's lib/decompress.c tells them apart.
MAGICS = {
    b"\x1f\x8b": "gzip",
    b"\x1f\x9e": "gzip",
    b"BZ": "bzip2",
    b"\x5d\x00": "lzma",
    b"\xfd7": "xz",
    b"\x89L": "lzo",
    b"\x02!": "lz4",
    b"\x28\xb5": "zstd",
}

LZ4_LEGACY_MAGIC = 0x184C2102
LZ4_CHUNK_BYTES = 8 * MIB

_PIECE_BYTES = 1 * MIB
_WINDOW_BYTES = 128 * MIB  # the kernel's own limit for zstd; xz -9 needs half of it
_ZSTD_MAGIC = 0xFD2FB528
_ZSTD_BLOCK_BYTES = 128 * 1024
_ZSTD_BATCH_BYTES = 64 * 1024
_ZSTD_BATCH_BLOCKS = 8


@dataclass
class Budget:
    """How much may be inflated before an image counts as a bomb.

    Modules pack three or four to one, and no image was seen beyond ten to one. Zeroes pack a thousand to one.
    """

    left_bytes: int = 3 * GIB // 2
    highest_ratio: int = 100
    free_bytes: int = 64 * MIB

    def spend(self, inflated: int, total_inflated: int, total_read: int) -> None:
        """Account for a piece. Raises BadArchive when it is too much."""
        self.left_bytes -= inflated
        if self.left_bytes < 0:
            raise BadArchive("inflates to more than the limit of 1.5 GiB")
        if total_inflated > self.free_bytes + self.highest_ratio * total_read:
            raise BadArchive(f"inflates more than {self.highest_ratio} to 1")


def inflated(codec: str, source: ByteStream, budget: Budget, on_member: Callable[[], None]) -> Iterator[bytes]:
    """The contents of the member that begins here; ``on_member`` is called where another of its kind follows inside.

    Raises BadArchive when it is damaged, unknown, cut off or beyond the budget.
    """
    begin, total = source.position, 0
    try:
        for piece in _pieces(codec, source, on_member):
            total += len(piece)
            budget.spend(len(piece), total, source.position - begin)
            yield piece
    except (zlib.error, lzma.LZMAError, zstandard.ZstdError, lz4.block.LZ4BlockError, OSError, MemoryError) as e:
        raise BadArchive(f"the {codec} member at byte {begin} is damaged: {e}") from e


def _pieces(codec: str, source: ByteStream, on_member: Callable[[], None]) -> Iterator[bytes]:
    match codec:
        case "gzip":
            return _gzip(source)
        case "bzip2":
            return _stepwise(bz2.BZ2Decompressor(), source)
        case "xz":
            return _stepwise(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_WINDOW_BYTES), source)
        case "lzma":
            return _stepwise(lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_WINDOW_BYTES), source)
        case "zstd":
            return _zstd(source)
        case "lz4":
            return _lz4_legacy(source, on_member)
        case _:
            raise BadArchive(f"a member at byte {source.position} is packed with {codec}, which is not read here")


def _cut_off(source: ByteStream) -> BadArchive:
    return BadArchive(f"ends at byte {source.position}, inside a compressed member")


def _gzip(source: ByteStream) -> Iterator[bytes]:
    inflater = zlib.decompressobj(wbits=31)
    data = b""
    while not inflater.eof:
        at_end = not data and not (data := source.piece())
        piece = inflater.decompress(data, _PIECE_BYTES)
        data = inflater.unconsumed_tail
        if piece:
            yield piece
        elif at_end and not inflater.eof:
            raise _cut_off(source)
    source.unread(inflater.unused_data)


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def _stepwise(inflater: _Decompressor, source: ByteStream) -> Iterator[bytes]:
    while not inflater.eof:
        data = source.piece() if inflater.needs_input else b""
        if inflater.needs_input and not data:
            raise _cut_off(source)
        if piece := inflater.decompress(data, _PIECE_BYTES):
            yield piece
    source.unread(inflater.unused_data)


def _zstd(source: ByteStream) -> Iterator[bytes]:
    """Block by block: python-zstandard has no limit on a call's output, but a block gives 128 KiB at most."""
    inflater = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).decompressobj()
    batch = [_zstd_frame_header(source)]
    has_checksum = bool(batch[0][4] & 0x04)
    waiting = blocks = 0
    is_last = False
    while not is_last:
        head = source.take(3)
        word = int.from_bytes(head, "little")
        is_last, kind, size = bool(word & 1), word >> 1 & 3, word >> 3
        if size > _ZSTD_BLOCK_BYTES:
            raise BadArchive(f"a zstd block before byte {source.position} is {size} bytes long")
        body = source.take(1 if kind == 1 else size)
        batch += (head, body)
        waiting, blocks = waiting + len(body), blocks + 1
        if waiting >= _ZSTD_BATCH_BYTES or blocks >= _ZSTD_BATCH_BLOCKS:
            if piece := inflater.decompress(b"".join(batch)):
                yield piece
            batch, waiting, blocks = [], 0, 0
    batch.append(source.take(4) if has_checksum else b"")
    if piece := inflater.decompress(b"".join(batch)):
        yield piece
    if not inflater.eof:
        raise _cut_off(source)


def _zstd_frame_header(source: ByteStream) -> bytes:
    """RFC 8878 section 3.1.1.1: magic, descriptor, window, dictionary id, content size."""
    head = source.take(5)
    if int.from_bytes(head[:4], "little") != _ZSTD_MAGIC:
        raise BadArchive(f"byte {source.position - 5} begins no zstd frame")
    descriptor = head[4]
    is_single_segment = bool(descriptor & 0x20)
    content_size_bytes = (int(is_single_segment), 2, 4, 8)[descriptor >> 6]
    dictionary_bytes = (0, 1, 2, 4)[descriptor & 3]
    return head + source.take(int(not is_single_segment) + dictionary_bytes + content_size_bytes)


def _lz4_legacy(source: ByteStream, on_member: Callable[[], None]) -> Iterator[bytes]:
    """The "legacy" frame, the only one the kernel takes: a magic, then chunks of 8 MiB, each led by its length.

    It ends at the end of the file or before zeroes; another magic just goes on with the same member.
    """
    source.take(4)
    chunk_limit = LZ4_CHUNK_BYTES + LZ4_CHUNK_BYTES // 255 + 16
    while True:
        head = source.up_to(4)
        if not head.strip(b"\0"):
            source.unread(head)
            return
        if len(head) < 4:
            raise _cut_off(source)
        (length,) = struct.unpack("<I", head)
        if length == LZ4_LEGACY_MAGIC:
            on_member()
            continue
        if length > chunk_limit:
            raise BadArchive(f"an lz4 chunk before byte {source.position} is {length} bytes long")
        yield lz4.block.decompress(source.take(length), uncompressed_size=LZ4_CHUNK_BYTES)


def lz4_legacy(data: bytes) -> bytes:
    """``data`` as ``lz4 -l`` packs it."""
    parts = [struct.pack("<I", LZ4_LEGACY_MAGIC)]
    for at in range(0, len(data), LZ4_CHUNK_BYTES):
        chunk = lz4.block.compress(data[at : at + LZ4_CHUNK_BYTES], mode="default", store_size=False)
        parts += (struct.pack("<I", len(chunk)), chunk)
    return b"".join(parts)
