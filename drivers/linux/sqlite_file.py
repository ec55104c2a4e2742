"""The rows of a table in an SQLite file, read a page at a time: no more of the file is looked at than that table has.

"Database File Format" (sqlite.org/fileformat2.html): the header, table B-trees, records, and the write-ahead log, whose last
committed pages stand for those in the file. Files may be hostile: walks are bounded, and what makes no sense is a ValueError.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from drivers.tree import GuestTree
from p2v.core.units import KIB, MIB

PAGES_AT_MOST = 20_000
_DEPTH_AT_MOST = 20
_MAGIC = b"SQLite format 3\0"
_FILE_HEADER = 100
_INTERIOR, _LEAF = 5, 13
_SCHEMA_PAGE = 1
_WAL_MAGICS = frozenset({0x377F0682, 0x377F0683})
_WAL_HEADER, _FRAME_HEADER = 32, 24
_WAL_BYTES_AT_MOST = 64 * MIB

Value = int | bytes | None


def first_column(tree: GuestTree, path: str, table: str) -> Iterator[bytes]:
    """The first column of every row of a table, where it is a text or a blob.

    Raises FileNotFoundError, ValueError when it is no such file or has no such table, and struct.error where it is damaged.
    """
    pages = _Pages.open(tree, path)
    for row in pages.rows(_SCHEMA_PAGE, 5):
        kind, name, _, root, _ = row
        if kind == b"table" and isinstance(name, bytes) and name.decode("utf-8", "replace") == table and isinstance(root, int):
            for found in pages.rows(root, 1):
                if isinstance(found[0], bytes):
                    yield found[0]
            return
    raise ValueError(f"{path}: no table {table}")


@dataclass
class _Pages:
    tree: GuestTree
    path: str
    page_bytes: int
    usable_bytes: int
    logged: dict[int, int]
    """Where in the write-ahead log a page's last committed contents stand."""
    left: int = field(default=PAGES_AT_MOST)

    @classmethod
    def open(cls, tree: GuestTree, path: str) -> _Pages:
        header = tree.read_range(path, _FILE_HEADER, 0)
        if len(header) < _FILE_HEADER or header[:16] != _MAGIC:
            raise ValueError(f"{path}: no SQLite file")
        (size,) = struct.unpack_from(">H", header, 16)
        size = 64 * KIB if size == 1 else size
        if not 512 <= size <= 64 * KIB or size & (size - 1):
            raise ValueError(f"{path}: pages of {size} bytes")
        return cls(tree, path, size, size - header[20], _logged(tree, f"{path}-wal", size))

    def page(self, number: int) -> bytes:
        self.left -= 1
        if self.left < 0 or number < 1:
            raise ValueError(f"{self.path}: more pages than a table has")
        if (at := self.logged.get(number)) is not None:
            data = self.tree.read_range(f"{self.path}-wal", self.page_bytes, at)
        else:
            data = self.tree.read_range(self.path, self.page_bytes, (number - 1) * self.page_bytes)
        if len(data) != self.page_bytes:
            raise ValueError(f"{self.path}: page {number} is not there")
        return data

    def rows(self, number: int, columns: int, depth: int = 0) -> Iterator[list[Value]]:
        """The first ``columns`` values of every row below a page, as far as they stand in the page itself."""
        if depth > _DEPTH_AT_MOST:
            raise ValueError(f"{self.path}: a tree of more than {_DEPTH_AT_MOST} pages' depth")
        page = self.page(number)
        start = _FILE_HEADER if number == _SCHEMA_PAGE else 0
        kind, _, cells = struct.unpack_from(">BHH", page, start)
        head = start + (12 if kind == _INTERIOR else 8)
        if kind not in (_INTERIOR, _LEAF):
            raise ValueError(f"{self.path}: page {number} is none of a table")
        for at in struct.unpack_from(f">{cells}H", page, head):
            if kind == _INTERIOR:
                yield from self.rows(struct.unpack_from(">I", page, at)[0], columns, depth + 1)
            else:
                yield self._record(page, at, columns)
        if kind == _INTERIOR:
            yield from self.rows(struct.unpack_from(">I", page, start + 8)[0], columns, depth + 1)

    def _record(self, page: bytes, at: int, columns: int) -> list[Value]:
        size, at = _varint(page, at)
        _, at = _varint(page, at)
        record = page[at : at + self._local(size)]
        header_bytes, cursor = _varint(record, 0)
        data, values = header_bytes, list[Value]()
        while len(values) < columns and cursor < header_bytes:
            kind, cursor = _varint(record, cursor)
            value, length = _value(record, kind, data)
            values.append(value)
            data += length
        return values + [None] * (columns - len(values))

    def _local(self, size: int) -> int:
        """How much of a record stands in its page, before what overflows."""
        usable = self.usable_bytes
        if size <= usable - 35:
            return size
        least = (usable - 12) * 32 // 255 - 23
        local = least + (size - least) % (usable - 4)
        return local if local <= usable - 35 else least


def _value(record: bytes, kind: int, at: int) -> tuple[Value, int]:
    """A value by its serial type, and its length."""
    if kind >= 12:
        length = (kind - 12) // 2
        return record[at : at + length], length
    length = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0)[kind]
    if kind in (8, 9):
        return kind - 8, 0
    return (int.from_bytes(record[at : at + length], "big", signed=True) if 0 < kind < 7 else None), length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for count in range(9):
        if at + count >= len(data):
            raise ValueError("a number runs over the end of its page")
        byte = data[at + count]
        if count == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + count + 1
    raise AssertionError("the ninth byte ends it")


def _logged(tree: GuestTree, path: str, page_bytes: int) -> dict[int, int]:
    """Pages whose newest committed contents are in the log: of a file that was in use, or whose program was killed."""
    try:
        header = tree.read_range(path, _WAL_HEADER, 0)
    except FileNotFoundError:
        return {}
    if len(header) < _WAL_HEADER:
        return {}
    magic, _, size = struct.unpack_from(">III", header)
    if magic not in _WAL_MAGICS or size != page_bytes:
        return {}
    committed: dict[int, int] = {}
    pending: dict[int, int] = {}
    for at in range(_WAL_HEADER, _WAL_BYTES_AT_MOST, _FRAME_HEADER + page_bytes):
        frame = tree.read_range(path, _FRAME_HEADER, at)
        # frames of an older round of the log have other salts
        if len(frame) < _FRAME_HEADER or frame[8:16] != header[16:24]:
            break
        number, pages_after = struct.unpack_from(">II", frame)
        pending[number] = at + _FRAME_HEADER
        if pages_after:
            committed |= pending
            pending.clear()
    return committed
