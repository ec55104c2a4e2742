"""A deflated file (gzip, a zip's member) as a source file that can be read at any offset.

Deflate can only be read from its begin. So the stream is read through once when it is opened, which also finds its size
and proves its checksum, and the state of the decompressor is kept at places not too far apart: a read goes on from the
nearest one before it. Reading forward costs what gunzip costs.
"""

from __future__ import annotations

import enum
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.source_file import SourceFile
from p2v.core.disk import StoredAt
from p2v.core.errors import BadImage, ReadFailed
from p2v.core.units import MIB, TIB

_INPUT_BYTES = 256 * 1024
_BLOCK_BYTES = 1 * MIB
_BLOCKS_KEPT = 16
# A state takes about 45 KiB; when there are too many, every second one goes.
_STATES_KEPT = 512
_FIRST_SPACING_BLOCKS = 4
_LARGEST_BYTES = 64 * TIB


class Wrapping(enum.Enum):
    """What surrounds the deflate stream; the value is zlib's ``wbits``."""

    GZIP = 31
    NONE = -15


@dataclass(frozen=True, slots=True)
class _State:
    """A decompressor that has given ``output`` bytes; its next input stands at ``input``."""

    output: int
    input: int
    stream: Any

    def copied(self) -> _State:
        return _State(self.output, self.input, self.stream.copy())


@dataclass(frozen=True, slots=True)
class Promise:
    """What a zip's directory says a member inflates to."""

    size: int
    crc: int

    def __str__(self) -> str:
        return f"{self.size} bytes with the CRC {self.crc:08x}"


class InflatedFile(SourceFile):
    """What a deflated source file inflates to; owns that file. Safe to read from several threads, one at a time.

    Raises BadImage when it is opened and the stream is cut, damaged, endless, or not what was promised.
    """

    def __init__(self, inner: SourceFile, wrapping: Wrapping, path: Path, promise: Promise | None = None) -> None:
        super().__init__(path, -1, 0, inner.mtime_ns, is_block_device=False)
        self._inner = inner
        self._wrapping = wrapping
        self._lock = threading.Lock()
        self._closed = False
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._spacing = _FIRST_SPACING_BLOCKS * _BLOCK_BYTES
        self._states = [self._begin(0, 0)]
        self._cursor = self._states[0].copied()
        self.size = self._read_through(promise)

    @property
    def host_path(self) -> Path:
        """The compressed file on the host."""
        return self._inner.host_path

    @property
    def host_sources(self) -> tuple[SourceFile, ...]:
        """The compressed file's."""
        return self._inner.host_sources

    def next_data(self, offset: int) -> tuple[int, int] | None:
        """Not told: there is nothing on the host to ask."""
        return None

    def places(self, offset: int, length: int) -> Iterator[tuple[int, StoredAt | None]]:
        """Nowhere: the bytes stand in no file as they are."""
        yield length, None

    def pread(self, length: int, offset: int) -> bytes:
        """See ``SourceFile.pread``."""
        end = min(offset + length, self.size)
        parts = []
        while offset < end:
            number, within = divmod(offset, _BLOCK_BYTES)
            part = self._block(number)[within : within + end - offset]
            if not part:
                raise ReadFailed(str(self.path), f"changed while it was read, at byte {offset}")
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def close(self) -> None:
        """Close the compressed file."""
        with self._lock:
            self._closed = True
            self._blocks.clear()
            self._states.clear()
        self._inner.close()

    def _block(self, number: int) -> bytes:
        with self._lock:
            if self._closed:
                raise ReadFailed(str(self.path), "was read after it was closed")
            known = self._blocks.get(number)
            if known is not None:
                self._blocks.move_to_end(number)
                return known
            start = number * _BLOCK_BYTES
            nearest = next(state for state in reversed(self._states) if state.output <= start)
            # Going on from where the last read ended copies no state.
            if not nearest.output <= self._cursor.output <= start:
                self._cursor = nearest.copied()
            while True:
                at = self._cursor.output
                block = self._next_block()
                self._blocks[at // _BLOCK_BYTES] = block
                while len(self._blocks) > _BLOCKS_KEPT:
                    self._blocks.popitem(last=False)
                if at == start or not block:
                    return block

    def _read_through(self, promise: Promise | None) -> int:
        largest, crc = min(promise.size if promise else _LARGEST_BYTES, _LARGEST_BYTES), 0
        while True:
            if self._cursor.output >= self._states[-1].output + self._spacing:
                self._keep()
            block = self._next_block()
            if self._cursor.output > largest:
                raise BadImage(self._inner.path, f"inflates to more than {largest} bytes")
            if promise is not None:
                crc = zlib.crc32(block, crc)
            if not block:
                break
        found = Promise(self._cursor.output, crc)
        if promise not in (None, found):
            raise BadImage(self._inner.path, f"inflates to {found} instead of {promise}")
        return found.size

    def _keep(self) -> None:
        self._states.append(self._cursor.copied())
        if len(self._states) > _STATES_KEPT:
            self._states = self._states[::2]
            self._spacing *= 2

    def _begin(self, output: int, at: int) -> _State:
        return _State(output, at, zlib.decompressobj(self._wrapping.value))

    def _next_block(self) -> bytes:
        """The next block from the cursor on; shorter at the end only, then empty."""
        parts: list[bytes] = []
        missing, state = _BLOCK_BYTES, self._cursor
        stream, at = state.stream, state.input
        while missing:
            if stream.eof:
                following = self._following_member(at)
                if following is None:
                    break
                stream = following
            raw = self._inner.pread(_INPUT_BYTES, at)
            try:
                part = stream.decompress(raw, missing)
            except zlib.error as error:
                raise BadImage(self._inner.path, f"its compressed data are damaged near byte {at}: {error}") from error
            at += len(raw) - len(stream.unused_data if stream.eof else stream.unconsumed_tail)
            if not raw and not part and not stream.eof:
                raise BadImage(self._inner.path, f"its compressed data end at byte {at}, before their end was said")
            parts.append(part)
            missing -= len(part)
        block = b"".join(parts)
        self._cursor = _State(state.output + len(block), at, stream)
        return block

    def _following_member(self, at: int) -> Any:
        """gzip files may stand one behind the other; anything else behind the end is padding, or damage."""
        rest = self._inner.pread(4096, at)
        if not rest.strip(b"\0"):
            return None
        if self._wrapping is Wrapping.GZIP and rest.startswith(b"\x1f\x8b"):
            return self._begin(0, at).stream
        raise BadImage(self._inner.path, f"something that is no gzip member follows its compressed data at byte {at}")
