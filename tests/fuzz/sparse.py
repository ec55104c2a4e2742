"""Inputs of the fuzzer: image files without their zeroes, so that a VHDX of 8 MiB is a few KiB to be mutated.

The encoding: the file's size (6 bytes, little-endian), then chunks, each a place (6 bytes), a length (2 bytes) and that
many bytes. A place with its top bit set counts back from the end of the file (the other 47 bits), so that a footer stays
where it belongs when the size changes. Later chunks win. Every byte string decodes: what is cut short is taken as
far as it goes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Sparse files cost nothing, so offsets beyond 32 bits of sectors can be reached.
MAX_FILE_BYTES = 1 << 42
_FROM_END = 1 << 47
_PLACE_BYTES, _LENGTH_BYTES = 6, 2
_LONGEST_CHUNK = (1 << 16) - 1
_GRANULE = 64
_TAIL_BYTES = 512


@dataclass
class Sparse:
    """A file as chunks (place, bytes); a place below zero counts back from the end."""

    size: int
    chunks: list[tuple[int, bytearray]] = field(default_factory=list)

    def offset_of(self, place: int) -> int:
        """The place as an offset from the begin; may lie outside the file."""
        return place if place >= 0 else self.size + place

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the file, zeroes where no chunk is."""
        raw = bytearray(length)
        for place, content in self.chunks:
            at = self.offset_of(place) - offset
            if at < length and at + len(content) > 0:
                start, end = max(at, 0), min(at + len(content), length)
                raw[start:end] = content[start - at : end - at]
        return bytes(raw)

    def write(self, offset: int, new: bytes) -> None:
        """Change bytes of the file: in the last chunk that has them all, or in a further one."""
        for place, content in reversed(self.chunks):
            at = offset - self.offset_of(place)
            if 0 <= at <= len(content) - len(new):
                content[at : at + len(new)] = new
                return
        self.chunks.append((offset, bytearray(new)))

    def encoded(self) -> bytes:
        """See the module's text."""
        parts = [self.size.to_bytes(_PLACE_BYTES, "little")]
        for place, content in self.chunks:
            number = place if place >= 0 else _FROM_END | -place
            for at in range(0, len(content), _LONGEST_CHUNK):
                part = content[at : at + _LONGEST_CHUNK]
                moved = number + at if place >= 0 else number - at
                parts += [moved.to_bytes(_PLACE_BYTES, "little"), len(part).to_bytes(_LENGTH_BYTES, "little"), bytes(part)]
        return b"".join(parts)

    def put(self, fd: int) -> None:
        """Make an open file this one."""
        os.ftruncate(fd, 0)
        os.ftruncate(fd, self.size)
        for place, content in self.chunks:
            at = self.offset_of(place)
            begin, end = max(0, -at), min(len(content), self.size - at)
            if begin < end:
                os.pwrite(fd, memoryview(content)[begin:end], at + begin)


def decoded(raw: bytes) -> Sparse:
    """The file that any byte string stands for."""
    size = min(int.from_bytes(raw[:_PLACE_BYTES], "little"), MAX_FILE_BYTES)
    found = Sparse(size)
    at = _PLACE_BYTES
    while at + _PLACE_BYTES + _LENGTH_BYTES <= len(raw):
        number = int.from_bytes(raw[at : at + _PLACE_BYTES], "little")
        at += _PLACE_BYTES
        length = int.from_bytes(raw[at : at + _LENGTH_BYTES], "little")
        at += _LENGTH_BYTES
        place = -(number & (_FROM_END - 1)) if number & _FROM_END else number
        found.chunks.append((place, bytearray(raw[at : at + length])))
        at += length
    return found


def from_file(path: Path) -> Sparse:
    """A file as an input: its stretches that are not zero, the last 512 bytes counted from the end."""
    raw = path.read_bytes()
    found = Sparse(len(raw))
    tail = max(0, len(raw) - _TAIL_BYTES)
    for start, end in _filled(raw[:tail]):
        found.chunks.append((start, bytearray(raw[start:end])))
    for start, end in _filled(raw[tail:]):
        found.chunks.append((tail + start - len(raw), bytearray(raw[tail + start : tail + end])))
    return found


def _filled(raw: bytes) -> Sequence[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    zeroes = bytes(1 << 20)
    at = 0
    while at < len(raw):
        # large stretches first: most of an image is zeroes
        step = next(s for s in (1 << 20, 1 << 12, _GRANULE) if s == _GRANULE or raw.startswith(zeroes[:s], at))
        end = min(at + step, len(raw))
        if any(raw[at:end]):
            if found and found[-1][1] == at and end - found[-1][0] <= _LONGEST_CHUNK:
                found[-1] = (found[-1][0], end)
            else:
                found.append((at, end))
        at = end
    return found
