"""A disk in memory with extents of every kind, for tests of copying: what it holds is known byte for byte."""

from __future__ import annotations

import random
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from p2v.core.disk import Codec, CompressedAt, Extent, StoredAt


class Kind(Enum):
    """How a stretch of the disk is stored."""

    HOLE = "hole"
    ZERO = "allocated zeroes"
    STORED = "stored"
    STORED_ZEROES = "stored, all zero"
    ZLIB = "zlib"
    DEFLATE = "deflate"
    PREAD = "by pread only"


@dataclass
class MemoryDisk:
    """A ``DiskReader`` whose contents are ``data``; stored extents stand in ``file``."""

    data: bytes
    layout: list[Extent]
    file: Path
    seconds_a_read: float = 0.0
    fail_at: int | None = None
    reads: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def virtual_size(self) -> int:
        return len(self.data)

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    def pread(self, length: int, offset: int) -> bytes:
        with self._lock:
            self.reads += 1
        if self.seconds_a_read:
            time.sleep(self.seconds_a_read)
        if self.fail_at is not None and offset <= self.fail_at < offset + length:
            raise OSError(5, "Input/output error", str(self.file))
        return self.data[offset : offset + length]

    def extents(self) -> Iterator[Extent]:
        yield from self.layout

    def close(self) -> None:
        """Nothing to close."""


def cancelled_at(disk: MemoryDisk, reads: int) -> threading.Event:
    """What is set as soon as so many reads of a disk were made."""
    cancelled, pread = threading.Event(), disk.pread

    def read(length: int, offset: int) -> bytes:
        if disk.reads >= reads:
            cancelled.set()
        return pread(length, offset)

    disk.pread = read  # type: ignore[method-assign]
    return cancelled


def content(length: int, seed: int) -> bytes:
    """Bytes that are not zero, compressible by half, the same for the same seed."""
    block = random.Random(seed).randbytes(4096).replace(b"\0", b"\1") + b"\xaa" * 4096
    return (block * (length // len(block) + 1))[:length]


def build(file: Path, stretches: list[tuple[Kind, int]], seed: int = 1) -> MemoryDisk:
    """A disk of the given stretches (kind, length), with its stored bytes in ``file``."""
    data, layout = bytearray(), []
    with file.open("wb") as out:
        out.write(b"front matter")
        for number, (kind, length) in enumerate(stretches):
            here = content(length, seed * 1000 + number)
            if kind in (Kind.HOLE, Kind.ZERO, Kind.STORED_ZEROES):
                here = bytes(length)
            layout.append(_extent(kind, len(data), here, file, out.tell()))
            if kind in (Kind.STORED, Kind.STORED_ZEROES):
                out.write(here)
            elif kind in (Kind.ZLIB, Kind.DEFLATE):
                out.write(compress(kind, here))
            data += here
    return MemoryDisk(bytes(data), layout, file)


def compress(kind: Kind, data: bytes) -> bytes:
    """One stream of the kind's codec."""
    stream = zlib.compressobj(1, zlib.DEFLATED, 15 if kind is Kind.ZLIB else -15)
    return stream.compress(data) + stream.flush()


def _extent(kind: Kind, offset: int, data: bytes, file: Path, at: int) -> Extent:
    match kind:
        case Kind.HOLE | Kind.ZERO:
            return Extent(offset, len(data), zero=True, allocated=kind is Kind.ZERO)
        case Kind.STORED | Kind.STORED_ZEROES:
            return Extent(offset, len(data), zero=False, allocated=True, stored=StoredAt(file, at))
        case Kind.PREAD:
            return Extent(offset, len(data), zero=False, allocated=True)
        case _:
            codec = Codec.ZLIB if kind is Kind.ZLIB else Codec.DEFLATE
            where = CompressedAt(file, at, len(compress(kind, data)), codec, len(data))
            return Extent(offset, len(data), zero=False, allocated=True, compressed=where)
