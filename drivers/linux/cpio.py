"""The "newc" cpio format (070701, 070702), as the kernel's initramfs unpacker reads it.

Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst and init/initramfs.c. An
archive is hostile input: every length is checked before it is used, and nothing is kept that was not asked for.
"""

from __future__ import annotations

import binascii
import re
import stat
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

HEADER_BYTES = 110
TRAILER = "TRAILER!!!"
ALIGNMENT = 4
# GNU cpio ends its archives on this; so every archive seen in the wild does, and ours do.
ARCHIVE_BLOCK_BYTES = 512
# The kernel passes over entries with names longer than this (PATH_MAX, the NUL included).
LONGEST_NAME_BYTES = 4096

_MAGICS = (b"070701", b"070702")
_FIELDS = struct.Struct(">13I")
_NOT_ZERO = re.compile(rb"[^\0]")


class BadArchive(ValueError):
    """The bytes are no archive that the kernel would unpack; the text says what is wrong, and where."""


class ByteStream:
    """Bytes that come in pieces of any size, read forward only."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._piece = b""
        self._at = 0
        self._before = 0

    @property
    def position(self) -> int:
        """How many bytes were read so far."""
        return self._before + self._at

    def _has_more(self) -> bool:
        while self._at == len(self._piece):
            following = next(self._pieces, None)
            if following is None:
                return False
            self._before += len(self._piece)
            self._piece, self._at = following, 0
        return True

    def peek(self) -> bytes:
        """The next byte, which stays unread; empty at the end."""
        return self._piece[self._at : self._at + 1] if self._has_more() else b""

    def piece(self) -> bytes:
        """Whatever is at hand, at least a byte; empty at the end."""
        if not self._has_more():
            return b""
        data = self._piece[self._at :] if self._at else self._piece
        self._at = len(self._piece)
        return data

    def unread(self, data: bytes) -> None:
        """Give back the end of what was read last."""
        rest = self._piece[self._at :]
        self._before = self.position - len(data)
        self._piece, self._at = data + rest, 0

    def up_to(self, length: int) -> bytes:
        """``length`` bytes, fewer where the stream ends."""
        parts: list[bytes] = []
        missing = length
        while missing > 0 and self._has_more():
            part = self._piece[self._at : self._at + missing]
            parts.append(part)
            self._at += len(part)
            missing -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def take(self, length: int) -> bytes:
        """Exactly ``length`` bytes. Raises BadArchive where the stream ends before."""
        data = self.up_to(length)
        if len(data) != length:
            raise BadArchive(f"ends at byte {self.position}, in the middle of something")
        return data

    def skip(self, length: int) -> None:
        """Pass over ``length`` bytes without copying them. Raises BadArchive where the stream ends before."""
        while length > 0:
            if not self._has_more():
                raise BadArchive(f"ends at byte {self.position}, {length} bytes too early")
            step = min(length, len(self._piece) - self._at)
            self._at += step
            length -= step

    def skip_zeroes(self) -> int:
        """Pass over zero bytes; how many they were."""
        begin = self.position
        while self._has_more():
            found = _NOT_ZERO.search(self._piece, self._at)
            self._at = found.start() if found else len(self._piece)
            if found:
                break
        return self.position - begin


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry; ``name`` as it stands in the archive. The data is read from the stream before the next entry is."""

    name: str
    ino: int
    mode: int
    nlink: int
    size: int
    device: tuple[int, int]
    stream: ByteStream
    data_at: int

    def data(self, limit: int) -> bytes:
        """The contents. Raises BadArchive when they are longer than ``limit`` bytes, or cut off."""
        if self.size > limit:
            raise BadArchive(f"{self.name[:200]!r} has {self.size} bytes, more than the {limit} that are read")
        if self.stream.position != self.data_at:
            raise ValueError("an entry's data can be read once, before the next entry")
        return self.stream.take(self.size)

    def pieces(self) -> Iterator[bytes]:
        """The contents in pieces, for files that are too long to hold."""
        missing = self.size
        while missing:
            piece = self.stream.take(min(missing, 1 << 20))
            missing -= len(piece)
            yield piece

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)


def read_entries(stream: ByteStream) -> Iterator[Entry]:
    """The entries of one archive, up to its trailer, the end, or a byte that begins no entry (left unread).

    Zeroes before the archive and between its entries are passed over, as the kernel does.

    Raises BadArchive.
    """
    while True:
        stream.skip_zeroes()
        if stream.peek() != b"0":
            return
        if stream.position % ALIGNMENT:
            raise BadArchive(f"an entry begins at byte {stream.position}, which is no multiple of {ALIGNMENT}")
        entry = _read_header(stream)
        if entry.name == TRAILER:
            stream.skip(entry.size)
            return
        end = entry.data_at + entry.size
        yield entry
        stream.skip(end - stream.position)
        # The last entry's padding may be missing at the very end.
        stream.up_to(-end % ALIGNMENT)


def _read_header(stream: ByteStream) -> Entry:
    begin = stream.position
    header = stream.take(HEADER_BYTES)
    if header[:6] not in _MAGICS:
        raise BadArchive(f"byte {begin} begins no newc entry ({header[:6]!r})")
    try:
        # unhexlify is strict where int() takes signs, blanks and underscores.
        fields = _FIELDS.unpack(binascii.unhexlify(header[6:]))
    except binascii.Error:
        raise BadArchive(f"the entry at byte {begin} has a header that is not hexadecimal") from None
    ino, mode, _uid, _gid, nlink, _mtime, size, major, minor, _rmajor, _rminor, name_bytes, _sum = fields
    if not 0 < name_bytes <= LONGEST_NAME_BYTES:
        raise BadArchive(f"the entry at byte {begin} has a name of {name_bytes} bytes")
    name = stream.take(name_bytes).partition(b"\0")[0].decode("utf-8", "surrogateescape")
    stream.skip(-stream.position % ALIGNMENT)
    return Entry(name, ino, mode, nlink, size, (major, minor), stream, stream.position)


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry to write: owned by root, without a time."""

    name: str
    mode: int
    data: bytes = b""


def write_archive(entries: Iterable[NewEntry]) -> bytes:
    """An archive of ``entries`` in the order given, with its trailer, padded to ``ARCHIVE_BLOCK_BYTES``.

    The same entries give the same bytes.
    """
    parts: list[bytes] = []
    for number, entry in enumerate(entries, start=1):
        parts += _entry_bytes(entry, number)
    parts += _entry_bytes(NewEntry(TRAILER, 0), 0)
    length = sum(map(len, parts))
    parts.append(bytes(-length % ARCHIVE_BLOCK_BYTES))
    return b"".join(parts)


def _entry_bytes(entry: NewEntry, ino: int) -> tuple[bytes, ...]:
    name = entry.name.encode("utf-8", "surrogateescape") + b"\0"
    if len(name) > LONGEST_NAME_BYTES or b"\0" in name[:-1]:
        raise ValueError(f"{entry.name[:200]!r} cannot be an entry's name")
    if len(entry.data) >= 1 << 32:
        raise ValueError(f"{entry.name}: {len(entry.data)} bytes do not fit an entry")
    nlink = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (ino, entry.mode, 0, 0, nlink, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
    head = _MAGICS[0] + binascii.hexlify(_FIELDS.pack(*fields)).upper() + name
    return head, bytes(-len(head) % ALIGNMENT), entry.data, bytes(-len(entry.data) % ALIGNMENT)
