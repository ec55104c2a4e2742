"""One compressed block to its bytes, with the size it must have known beforehand."""

from __future__ import annotations

import zlib
from importlib import import_module
from pathlib import Path

from p2v.core.disk import Codec, CompressedAt
from p2v.core.errors import BadImage, ToolMissing

_DEFLATE_WINDOW_BITS = 15


def decompress(where: CompressedAt, stored: bytes) -> bytes:
    """What a block inflates to, at most ``where.inflated_length`` bytes; what follows its stream is not looked at.

    ``where.length`` may be an upper bound (qcow2 counts whole sectors), so a stream that ends early is not noticed
    here: the caller sees fewer bytes than it needs. Raises BadImage when the stream is damaged.
    """
    size = where.inflated_length
    try:
        if where.codec is Codec.ZSTD:
            data = _unzstd(where.file, stored, size)
        else:
            bits = _DEFLATE_WINDOW_BITS if where.codec is Codec.ZLIB else -_DEFLATE_WINDOW_BITS
            data = zlib.decompressobj(bits).decompress(stored, size)
    except zlib.error as error:
        raise BadImage(where.file, f"the compressed block at byte {where.offset} is damaged: {error}") from error
    return data


def _unzstd(file: Path, stored: bytes, size: int) -> bytes:
    try:
        # Only images written with compression_type=zstd need it, so it is no import of every start.
        zstandard = import_module("zstandard")
    except ImportError as error:
        raise ToolMissing("the Python module zstandard", "the PyPI package zstandard") from error
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(stored) as stream:
            data: bytes = stream.read(size)
            return data
    except zstandard.ZstdError as error:
        raise BadImage(file, f"a zstd block is damaged: {error}") from error
