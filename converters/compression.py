"""Compressing clusters with the quickest library there is; ``inflate.py`` and ``decompress.py`` are the way back.

A qcow2 cluster that is deflated is a raw stream whose matches lie within 4 KiB: QEMU's own are made so, and inflated with a
window of that size. libdeflate always looks back 32 KiB, so it cannot make them. Measured on 64 KiB of programs, one
core: isal's level 3 270 MiB/s, zlib's level 1 65 MiB/s (both shrink it to 0.42), zstd's level 3 315 MiB/s (0.39). isal's
level 1 makes 440 MiB/s, but finds next to nothing in what repeats at 1 to 4 KiB. zstd, the used clusters of a Debian guest: level 3
358 MiB/s (0.320), level 2 446 MiB/s (0.324), level 1 492 MiB/s (0.331).

Source: QEMU, block/qcow2-threads.c (window bits -12) and docs/interop/qcow2.txt (compression type).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from importlib import import_module

from p2v.core.disk import Codec
from p2v.core.errors import ToolMissing

Compress = Callable[[memoryview], bytes]
"""One whole stream of what it is given; used by one thread at a time."""

_WINDOW_BITS = 12
_ISAL_LEVEL, _ZLIB_LEVEL, _ZSTD_LEVEL = 3, 1, 2
_ZLIB_MEMORY_LEVEL = 9


def deflate_by_zlib(data: memoryview) -> bytes:
    """``Compress`` by zlib, which is always there."""
    stream = zlib.compressobj(_ZLIB_LEVEL, zlib.DEFLATED, -_WINDOW_BITS, _ZLIB_MEMORY_LEVEL)
    return stream.compress(data) + stream.flush()


def compressor(codec: Codec) -> Compress:
    """How to make qcow2's streams of a codec (deflate, zstd), for one thread. Raises ToolMissing."""
    # libraries are imported here: only who compresses needs them
    if codec is Codec.DEFLATE:
        return _deflate_by_isal() or deflate_by_zlib
    if codec is not Codec.ZSTD:
        raise ValueError(f"a qcow2 image has no {codec.value} streams")
    try:
        zstandard = import_module("zstandard")
    except ImportError as error:
        raise ToolMissing("the Python module zstandard", "the PyPI package zstandard") from error
    compress: Compress = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress
    return compress


def _deflate_by_isal() -> Compress | None:
    try:
        igzip = import_module("isal.igzip_lib")
    except ImportError:
        return None
    compress: Compress = partial(igzip.compress, level=_ISAL_LEVEL, flag=igzip.COMP_DEFLATE, hist_bits=_WINDOW_BITS)
    return compress
