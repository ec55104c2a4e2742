"""Reads registry hives (versions 1.2 to 1.6), as Windows NT 3.5 and all later ones write them.

A hive from a guest is hostile: every offset must lead to the start of an allocated cell, found by walking its bin from
the front, so cells never overlap; every count is held against the cell it stands in. A key counts only below the key that
it names as its parent, so there are no cycles. What is damaged is left out, and ``Hive.remarks`` says so; where nothing can be
told any more, ``BadHive``. How much may be read of one hive altogether is limited in proportion to its size, which keeps
structures that share lists from being read a million times.

Source: see ``c_regf``.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from drivers.windows import c_regf as c
from p2v.core.units import MIB

HIVE_BYTES_AT_MOST = 256 * MIB
DEPTH_AT_MOST = 512
"""Windows makes no key deeper than this ("Registry element size limits", learn.microsoft.com)."""
REMARKS_AT_MOST = 20
_READ_BYTES_BESIDES = 16 * MIB
_READ_TIMES = 4
_START_OF_BIN = "<4sII"
_CELL_SIZE = struct.Struct("<i")
_SHOWN_CHARACTERS = 80


class BadHive(Exception):
    """A hive that cannot be read; the text says what is wrong with it, and where."""


class Damaged(BadHive):
    """A key, a value or a list that cannot be read; what stands elsewhere in the hive may be sound."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value: its name (empty for the default value), its type (``c_regf.REG_SZ``, ...) and its bytes."""

    name: str
    type: int
    data: bytes

    def text(self) -> str | None:
        """The text of a REG_SZ, REG_EXPAND_SZ or REG_LINK, up to its NUL; None for other types."""
        if self.type not in (c.REG_SZ, c.REG_EXPAND_SZ, c.REG_LINK):
            return None
        return _utf16(self.data).partition("\0")[0]

    def number(self) -> int | None:
        """The number of a REG_DWORD (either order) or REG_QWORD; None for other types and other lengths."""
        order: dict[int, tuple[str, int]] = {c.REG_DWORD: ("<I", 4), c.REG_DWORD_BIG_ENDIAN: (">I", 4), c.REG_QWORD: ("<Q", 8)}
        form, length = order.get(self.type, ("", -1))
        if len(self.data) != length:
            return None
        number: int = struct.unpack(form, self.data)[0]
        return number

    def texts(self) -> tuple[str, ...] | None:
        """The texts of a REG_MULTI_SZ; None for other types. An empty text ends them, as it does for Windows."""
        if self.type != c.REG_MULTI_SZ:
            return None
        found: list[str] = []
        for text in _utf16(self.data).split("\0"):
            if not text:
                break
            found.append(text)
        return tuple(found)


def _utf16(data: bytes | memoryview) -> str:
    """UTF-16 with whatever is in it; an odd byte at the end is left out."""
    return bytes(data[: len(data) & ~1]).decode("utf-16-le", "surrogatepass")


class Key:
    """A key. Two are the same when they stand at the same place of the same hive."""

    __slots__ = ("_hive", "_node", "depth", "name", "offset")

    def __init__(self, hive: Hive, offset: int, depth: int) -> None:
        """Raises Damaged when there is no key."""
        cell = hive.cell(offset)
        if len(cell) < c.KEY_NODE.size or cell[:2] != c.KEY_NODE_SIGNATURE:
            raise Damaged(f"there is no key at {offset:#x}")
        self._hive = hive
        self._node = c.KeyNode(*c.KEY_NODE.unpack_from(cell))
        self.offset = offset
        self.depth = depth
        self.name = _name(cell[c.KEY_NODE.size :], self._node.name_bytes, bool(self.flags & c.KEY_COMP_NAME), offset)

    def __repr__(self) -> str:
        return f"Key({self.name!r}, {self.offset:#x})"

    @property
    def flags(self) -> int:
        """``c_regf.KEY_COMP_NAME`` and others."""
        return self._node.flags

    @property
    def written(self) -> int:
        """When it was last written to, in 100 ns since 1601 (FILETIME)."""
        return self._node.written

    @property
    def parent_offset(self) -> int:
        """Where the key above stands; of no meaning for the root."""
        return self._node.parent

    @property
    def subkeys_offset(self) -> int:
        """Where the list of its subkeys stands; ``c_regf.NOWHERE`` without any."""
        return self._node.subkeys_list if self._node.subkeys else c.NOWHERE

    @property
    def security_offset(self) -> int:
        """Where its security descriptor stands."""
        return self._node.security

    @property
    def class_offset(self) -> int:
        """Where its class name stands; of no meaning without one."""
        return self._node.class_name

    @property
    def value_list(self) -> tuple[int, int]:
        """How many values it has, and where their list stands."""
        # the count of a predefined key is a handle
        return (0, c.NOWHERE) if self.flags & c.KEY_PREDEF_HANDLE else (self._node.values, self._node.value_list)

    def class_name(self) -> bytes:
        """Its class name as it stands there, empty without one. Raises Damaged."""
        offset, length = self._node.class_name, self._node.class_bytes
        if offset == c.NOWHERE or not length:
            return b""
        return bytes(self._hive.cell(offset, length)[:length])

    def security(self) -> bytes:
        """Its security descriptor (self-relative). Raises Damaged."""
        offset = self._node.security
        if offset == c.NOWHERE:
            return b""
        cell = self._hive.cell(offset)
        if len(cell) < c.KEY_SECURITY.size or cell[:2] != c.KEY_SECURITY_SIGNATURE:
            raise Damaged(f"there is no security descriptor at {offset:#x}")
        length = c.KEY_SECURITY.unpack_from(cell)[5]
        if c.KEY_SECURITY.size + length > len(cell):
            raise Damaged(f"the security descriptor at {offset:#x} is cut off")
        return bytes(cell[c.KEY_SECURITY.size : c.KEY_SECURITY.size + length])

    def subkeys(self) -> Iterator[Key]:
        """The keys below, in the order of the list."""
        hive, seen = self._hive, set[int]()
        if self.depth >= DEPTH_AT_MOST and self.subkeys_offset != c.NOWHERE:
            hive.remark(f"keys more than {DEPTH_AT_MOST} deep are left out")
            return
        for offset in hive.list_of_keys(self.subkeys_offset):
            try:
                if offset in seen:
                    raise Damaged(f"the key at {offset:#x} is listed twice")
                seen.add(offset)
                key = Key(hive, offset, self.depth + 1)
                if key.parent_offset != self.offset:
                    raise Damaged(f"the key at {offset:#x} belongs to another key than the one that lists it")
            except Damaged as error:
                hive.remark(f"below {_shown(self.name)}: {error}")
                continue
            yield key
        if len(seen) != (self._node.subkeys if self.subkeys_offset != c.NOWHERE else 0):
            hive.remark(f"{_shown(self.name)} counts {self._node.subkeys} subkeys and lists {len(seen)}")

    def subkey(self, name: str) -> Key | None:
        """The key below of this name, in any case."""
        wanted = c.upper(name)
        return next((key for key in self.subkeys() if c.upper(key.name) == wanted), None)

    def values(self) -> Iterator[Value]:
        """Its values in their order."""
        return (value for _, value in self._hive.value_places(self))

    def value(self, name: str) -> Value | None:
        """Its value of this name, in any case; the default value for an empty name."""
        wanted = c.upper(name)
        return next((value for value in self.values() if c.upper(value.name) == wanted), None)


class Hive:
    """A hive in memory. Logs are not looked at (see ``hive_log``): ``base.is_dirty`` tells whether they should have been."""

    def __init__(self, data: bytes | memoryview) -> None:
        """Raises BadHive when there is no root key to be found."""
        base = c.BaseBlock.of(data)
        if base is None or data[:4] != c.BASE_BLOCK_SIGNATURE:
            raise BadHive("it does not begin as a hive does")
        if base.major != c.MAJOR_VERSION or base.minor not in c.MINOR_VERSIONS:
            raise BadHive(f"hives of version {base.major}.{base.minor} are not known")
        if (base.file_type, base.file_format) != (c.PRIMARY_FILE, c.DIRECT_MEMORY_LOAD):
            raise BadHive("it is no primary file of a hive")
        if len(data) > HIVE_BYTES_AT_MOST:
            raise BadHive(f"it has {len(data)} bytes, at most {HIVE_BYTES_AT_MOST} are read")
        end = c.BASE_BLOCK_BYTES + base.bins_bytes
        if not base.bins_bytes or base.bins_bytes % c.BIN_UNIT_BYTES or end > len(data):
            raise BadHive(f"its bins are said to have {base.bins_bytes} bytes, and the file has {len(data)}")
        self.base = base
        self._bins = memoryview(data)[c.BASE_BLOCK_BYTES : end]
        self._bin_at: dict[int, int] = {}
        """The start of the bin of each 4096 bytes."""
        self._cells: dict[int, array[int]] = {}
        """Where the allocated cells of a bin stand, for each bin that was looked into."""
        self._left = _READ_BYTES_BESIDES + _READ_TIMES * len(data)
        self.remarks: list[str] = []
        self._find_bins()
        Key(self, base.root_offset, 0)

    @property
    def root(self) -> Key:
        """The key above all others, as it is now."""
        return Key(self, self.base.root_offset, 0)

    def key(self, path: str) -> Key | None:
        """The key at a path from the root (``ControlSet001\\Services``), in any case; the root for an empty one."""
        found: Key | None = self.root
        for part in path.split("\\") if path else ():
            found = found.subkey(part) if found is not None else None
        return found

    def walk(self) -> Iterator[tuple[tuple[str, ...], Key]]:
        """Every key with the names from the root to it, each key before what is below it."""
        return walk(self.root)

    def remark(self, text: str) -> None:
        """Keep what is wrong with the hive, within limits."""
        if len(self.remarks) < REMARKS_AT_MOST and text not in self.remarks:
            self.remarks.append(text)

    # --- cells -------------------------------------------------------------------------------------------

    def _find_bins(self) -> None:
        at, total = 0, len(self._bins)
        while at < total:
            signature, offset, size = struct.unpack_from(_START_OF_BIN, self._bins, at)
            if signature != c.BIN_SIGNATURE or offset != at or not size or size % c.BIN_UNIT_BYTES or at + size > total:
                raise BadHive(f"there is no bin at {at:#x}")
            for page in range(at, at + size, c.BIN_UNIT_BYTES):
                self._bin_at[page] = at
            at += size

    def cells_of(self, start: int) -> array[int]:
        """Where the allocated cells of a bin stand, in order, found by walking it."""
        known = self._cells.get(start)
        if known is not None:
            return known
        cells = array("I")
        at, end = start + c.BIN_HEADER_BYTES, start + struct.unpack_from("<I", self._bins, start + 8)[0]
        unpack = _CELL_SIZE.unpack_from
        while at < end:
            (length,) = unpack(self._bins, at)
            step = abs(length)
            if step < c.CELL_UNIT_BYTES or step % c.CELL_UNIT_BYTES or at + step > end:
                self.remark(f"the cell at {at:#x} has the size {length}; the rest of its bin is left out")
                break
            if length < 0:
                cells.append(at)
            at += step
        self._cells[start] = cells
        return cells

    def cell(self, offset: int, needed: int = 0) -> memoryview:
        """What an allocated cell holds, which is ``needed`` bytes at least. Raises Damaged."""
        start = self._bin_at.get(offset - offset % c.BIN_UNIT_BYTES)
        cells = self.cells_of(start) if start is not None else array("I")
        index = bisect_left(cells, offset)
        if index == len(cells) or cells[index] != offset:
            raise Damaged(f"there is no cell at {offset:#x}")
        size = -_CELL_SIZE.unpack_from(self._bins, offset)[0]
        if size - 4 < needed:
            raise Damaged(f"the cell at {offset:#x} has {size - 4} bytes, and {needed} are needed")
        self._spend(min(size, max(needed, c.KEY_NODE.size)))
        return self._bins[offset + 4 : offset + size]

    def bins(self) -> Iterator[tuple[int, int]]:
        """Where each bin starts, and its size in bytes."""
        return (self.bin_at(start) for start in dict.fromkeys(self._bin_at.values()))

    def bin_at(self, start: int) -> tuple[int, int]:
        """The bin that starts at a place, and its size in bytes; a size of 0 where none does."""
        if self._bin_at.get(start) != start:
            return start, 0
        return start, struct.unpack_from("<I", self._bins, start + 8)[0]

    def bin_bytes(self, start: int) -> bytes:
        """All of the bin that starts at a place."""
        return bytes(self._bins[start : start + self.bin_at(start)[1]])

    def changed(self, offset: int) -> None:
        """What cells there are in the bin of an offset has changed (see ``hive_editor``)."""
        self._cells.pop(self._bin_at[offset - offset % c.BIN_UNIT_BYTES], None)
        self._left += _READ_BYTES_BESIDES - min(self._left, _READ_BYTES_BESIDES)

    def grown(self, bins: memoryview, start: int, length: int) -> None:
        """A bin was added at the end."""
        self._bins = bins
        for page in range(start, start + length, c.BIN_UNIT_BYTES):
            self._bin_at[page] = start

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise BadHive("it refers to the same contents too many times")

    # --- lists and values --------------------------------------------------------------------------------

    def list_of_keys(self, offset: int) -> Iterator[int]:
        """The places of the keys in a list of subkeys."""
        if offset == c.NOWHERE:
            return
        for leaf in self.leaves(offset):
            try:
                _, element, count = self.leaf(leaf)
            except Damaged as error:
                self.remark(f"a list of subkeys is left out: {error}")
                continue
            cell = self.cell(leaf, 4 + element * count)
            for at in range(4, 4 + element * count, element):
                yield struct.unpack_from("<I", cell, at)[0]

    def leaves(self, offset: int) -> tuple[int, ...]:
        """Where the leaves of a list of subkeys stand: the list itself, or what an index root names, each once."""
        try:
            cell = self.cell(offset, c.LIST_HEADER.size)
            signature, count = c.LIST_HEADER.unpack_from(cell)
            if signature != c.INDEX_ROOT:
                return (offset,)
            cell = self.cell(offset, 4 + 4 * count)
        except Damaged as error:
            self.remark(f"a list of subkeys is left out: {error}")
            return ()
        found = dict.fromkeys(at for (at,) in struct.iter_unpack("<I", cell[4 : 4 + 4 * count]))
        return tuple(found)

    def leaf(self, offset: int) -> tuple[bytes, int, int]:
        """A leaf's signature, the bytes of each of its elements, and how many there are. Raises Damaged."""
        cell = self.cell(offset, c.LIST_HEADER.size)
        signature, count = c.LIST_HEADER.unpack_from(cell)
        element = c.LEAF_ELEMENT_BYTES.get(signature, 0)
        if not element:
            raise Damaged(f"there is no list of subkeys at {offset:#x}")
        self.cell(offset, 4 + element * count)
        return signature, element, count

    def value_offsets(self, key: Key) -> tuple[int, ...]:
        """The places of a key's values. Raises Damaged."""
        count, offset = key.value_list
        return struct.unpack(f"<{count}I", self.cell(offset, 4 * count)[: 4 * count]) if count else ()

    def value_places(self, key: Key) -> Iterator[tuple[int, Value]]:
        """The places of a key's values, and the values."""
        try:
            offsets = self.value_offsets(key)
        except Damaged as error:
            self.remark(f"the values of {_shown(key.name)} are left out: {error}")
            return
        for offset in offsets:
            try:
                yield offset, self.value(offset)
            except Damaged as error:
                self.remark(f"a value of {_shown(key.name)} is left out: {error}")

    def value(self, offset: int) -> Value:
        """The value at a place. Raises Damaged."""
        cell = self.cell(offset, c.KEY_VALUE.size)
        signature, name_bytes, size, at, kind, flags, _ = c.KEY_VALUE.unpack_from(cell)
        if signature != c.KEY_VALUE_SIGNATURE:
            raise Damaged(f"there is no value at {offset:#x}")
        name = _name(cell[c.KEY_VALUE.size :], name_bytes, bool(flags & c.VALUE_COMP_NAME), offset)
        if not size & c.DATA_IS_INLINE:
            return Value(name, kind, self._data(at, size))
        size &= ~c.DATA_IS_INLINE
        if size > c.INLINE_BYTES_AT_MOST:
            raise Damaged(f"the value at {offset:#x} is said to hold {size} bytes in four")
        return Value(name, kind, bytes(cell[8 : 8 + size]))

    def _data(self, offset: int, size: int) -> bytes:
        if not size:
            return b""
        if size <= c.SEGMENT_BYTES or self.base.minor < c.BIG_DATA_SINCE_MINOR:
            return bytes(self.cell(offset, size)[:size])
        signature, count, at = c.BIG_DATA.unpack_from(self.cell(offset, c.BIG_DATA.size))
        if signature != c.BIG_DATA_SIGNATURE or count != -(-size // c.SEGMENT_BYTES):
            raise Damaged(f"there are no {size} bytes of data at {offset:#x}")
        pieces, left = [], size
        for (segment,) in struct.iter_unpack("<I", self.cell(at, 4 * count)[: 4 * count]):
            length = min(left, c.SEGMENT_BYTES)
            pieces.append(self.cell(segment, length)[:length])
            left -= length
        return b"".join(pieces)


def walk(start: Key) -> Iterator[tuple[tuple[str, ...], Key]]:
    """A key and every key below it with the names that lead there from it, each key before what is below it."""
    path: list[str] = []
    yield (), start
    open_lists = [start.subkeys()]
    while open_lists:
        key = next(open_lists[-1], None)
        if key is None:
            open_lists.pop()
            if open_lists:
                path.pop()
            continue
        path.append(key.name)
        yield tuple(path), key
        open_lists.append(key.subkeys())


def _name(rest: memoryview, length: int, is_compressed: bool, offset: int) -> str:
    if length > len(rest):
        raise Damaged(f"the name at {offset:#x} is cut off")
    if is_compressed:
        return str(rest[:length], "latin-1")
    if length % 2:
        raise Damaged(f"the name at {offset:#x} has {length} bytes, and is of UTF-16")
    return _utf16(rest[:length])


def _shown(name: str) -> str:
    return ascii(name[:_SHOWN_CHARACTERS])
