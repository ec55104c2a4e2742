"""One compressed block to its bytes, with the size it must have known beforehand."""

from __future__ import annotations

from importlib import import_module

from converters.inflate import FASTEST, Inflate
from p2v.core.disk import Codec, CompressedAt
from p2v.core.errors import BadImage, ToolMissing


def decompress(where: CompressedAt, stored: bytes, inflate: Inflate = FASTEST) -> bytes | bytearray:
    """What a block inflates to, at most ``where.inflated_length`` bytes; what follows its stream is not looked at.

    ``where.length`` may be an upper bound (qcow2 counts whole sectors), and a block may hold the end of the disk: the
    caller sees to it that it got the bytes it needs. Raises BadImage when the stream is damaged or longer.
    """
    if where.codec is Codec.ZSTD:
        return _unzstd(where, stored)
    try:
        return inflate(stored, where.codec, where.inflated_length)
    except ValueError as error:
        raise _damaged(where, error) from error


def _damaged(where: CompressedAt, error: Exception) -> BadImage:
    return BadImage(where.file, f"the compressed data at byte {where.offset} are damaged: {error}")


def _unzstd(where: CompressedAt, stored: bytes) -> bytes:
    try:
        # Only images written with compression_type=zstd need it, so it is no import of every start.
        zstandard = import_module("zstandard")
    except ImportError as error:
        raise ToolMissing("the Python module zstandard", "the PyPI package zstandard") from error
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(stored) as stream:
            data: bytes = stream.read(where.inflated_length)
            return data
    except zstandard.ZstdError as error:
        raise _damaged(where, error) from error
