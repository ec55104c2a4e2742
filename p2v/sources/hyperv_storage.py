"""HyperVStorage: the store of keys and values that .vmcx and .vmrs files are, read as a tree of elements.

Sources: the document "HyperV Storage File Format", published with a writer of .vmrs files, and the structures that other
published readers agree on with it. Structures are packed and little-endian, sums are CRC-32. The header stands twice, the newer
sound one counts; object tables, the first at 8192, name key tables; a key table is a row of entries, each with the table and
the offset of its parent. Names are UTF-8, strings UTF-16.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from p2v.sources.description import Description

SIGNATURE = b"\x14\x20\x28\x01"
_HEADER = struct.Struct("<4sIHIQIQQI")
_HEADERS_AT = (0, 4096)
_OBJECT_TABLES_AT = 8192
_OBJECT_TABLE, _OBJECT_TABLE_SIGNATURE = struct.Struct("<II"), 0x01110001
_OBJECT = struct.Struct("<BIQIB")
_OBJECT_IS_TABLE, _OBJECT_IS_KEYS = 1, 2
_KEY_TABLE, _KEY_TABLE_SIGNATURE = struct.Struct("<HHHI"), 2
_KEY = struct.Struct("<BBIHIIIB")
_LOG, _LOG_SIGNATURE = struct.Struct("<III"), 0x01110003
_FREE, _INT, _UINT, _DOUBLE, _STRING, _ARRAY, _BOOL, _NODE = 1, 3, 4, 5, 6, 7, 8, 9
_IN_A_FILE_OBJECT = 1
_FIRST_VERSION = 0x0101
# A real .vmcx has about a thousand keys.
_KEYS_AT_MOST = 100_000
_DEEPEST = 64
_ROOT = (0, 0)
# A key's table and its offset there.
_Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Store:
    """``root`` has the top-level keys as children; ``pending`` is how many changes of its log were not applied."""

    root: Element
    pending: int


@dataclass(frozen=True, slots=True)
class _Key:
    parent: _Place
    order: int
    element: Element
    is_node: bool


def read_store(description: Description, data: bytes) -> Store:
    """The tree of a store. Raises BadDescription: damaged, of a version or a shape that is not known."""
    version, log_at = _header(description, data)
    if version < _FIRST_VERSION:
        raise description.error(f"is a store of version {version >> 8}.{version & 255}, which is not known")
    keys: dict[_Place, _Key] = {}
    for index, at, size in _key_tables(description, data):
        for place, key in _keys(description, data[at : at + size]):
            keys[index, place] = key
            if len(keys) > _KEYS_AT_MOST:
                raise description.error(f"has more than {_KEYS_AT_MOST} keys")
    return Store(_tree(description, keys), _pending(data, log_at))


def _header(description: Description, data: bytes) -> tuple[int, int]:
    """The version and where the log is, of the newer sound header."""
    best: tuple[int, int, int] | None = None
    for at in _HEADERS_AT:
        raw = data[at : at + _HEADER.size]
        if len(raw) < _HEADER.size or not raw.startswith(SIGNATURE):
            continue
        _, checksum, sequence, version, _, _, log_at, _, _ = _HEADER.unpack(raw)
        if zlib.crc32(raw[:4] + bytes(4) + raw[8:]) == checksum and (best is None or sequence > best[0]):
            best = sequence, version, log_at
    if best is None:
        raise description.error("has no sound header")
    return best[1], best[2]


def _key_tables(description: Description, data: bytes) -> Iterator[tuple[int, int, int]]:
    """Index, offset and size of every key table, of two with an index the newer one."""
    found: dict[int, tuple[int, int, int]] = {}
    seen: set[int] = set()
    waiting = [_OBJECT_TABLES_AT]
    looked_at = 0
    while waiting:
        at = waiting.pop()
        if at in seen:
            continue
        seen.add(at)
        for kind, offset, size in _objects(description, data, at):
            looked_at += _OBJECT.size
            if looked_at > len(data):
                raise description.error("has tables of objects that overlap")
            if kind not in (_OBJECT_IS_TABLE, _OBJECT_IS_KEYS):
                continue
            if offset + size > len(data):
                raise description.error(f"names an object at byte {offset}, past its end ({len(data)}); it may be incomplete")
            if kind == _OBJECT_IS_TABLE:
                waiting.append(offset)
                continue
            signature, index, sequence, _ = _KEY_TABLE.unpack_from(data, offset) if size >= _KEY_TABLE.size else (0, 0, 0, 0)
            if signature != _KEY_TABLE_SIGNATURE:
                raise description.error(f"has no key table at byte {offset}")
            if index not in found or sequence > found[index][0]:
                found[index] = sequence, offset, size
    if sum(size for _, _, size in found.values()) > len(data):
        raise description.error("has tables of keys that overlap")
    return ((index, at, size) for index, (_, at, size) in sorted(found.items()))


def _objects(description: Description, data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Kind, offset and size of what an object table names."""
    if at + _OBJECT_TABLE.size > len(data):
        raise description.error(f"ends before its table of objects at byte {at}")
    signature, count = _OBJECT_TABLE.unpack_from(data, at)
    first = at + _OBJECT_TABLE.size
    if signature != _OBJECT_TABLE_SIGNATURE or count > (len(data) - first) // _OBJECT.size:
        raise description.error(f"has no sound table of objects at byte {at}")
    for number in range(count):
        kind, _, offset, size, _ = _OBJECT.unpack_from(data, first + number * _OBJECT.size)
        yield kind, offset, size


def _keys(description: Description, table: bytes) -> Iterator[tuple[int, _Key]]:
    """The keys of one table by their offsets in it."""
    at = _KEY_TABLE.size
    # too little for an entry is slack
    while at + _KEY.size < len(table):
        kind, flags, size, parent_table, parent_at, _, order, name_size = _KEY.unpack_from(table, at)
        if size == 0:
            return
        if size < _KEY.size or size > len(table) - at:
            raise description.error(f"has a key of {size} bytes where {len(table) - at} are left")
        if kind != _FREE:
            body = table[at + _KEY.size : at + size]
            name = body[:name_size].rstrip(b"\0").decode("utf-8", "replace")
            element = Element(name)
            if kind != _NODE and not flags & _IN_A_FILE_OBJECT:
                element.text = _value(kind, body[name_size:])
            yield at, _Key((parent_table, parent_at), order, element, kind == _NODE)
        at += size


def _value(kind: int, raw: bytes) -> str:
    """A value as XML configurations write it; what is cut short, long or of another kind is empty: nothing here needs it."""
    if kind in (_STRING, _ARRAY):
        size = int.from_bytes(raw[:4], "little")
        return raw[4 : 4 + size].decode("utf-16-le", "replace").split("\0")[0] if kind == _STRING else ""
    if kind in (_INT, _UINT) and len(raw) >= 8:
        return str(int.from_bytes(raw[:8], "little", signed=kind == _INT))
    if kind == _BOOL and len(raw) >= 4:
        return "True" if any(raw[:4]) else "False"
    return ""


def _tree(description: Description, keys: dict[_Place, _Key]) -> Element:
    below: dict[_Place, list[tuple[int, _Place]]] = {}
    for place, key in keys.items():
        below.setdefault(key.parent, []).append((key.order, place))
    root = Element("store")
    level: list[tuple[_Place, Element]] = [(_ROOT, root)]
    reached = 0
    for _ in range(_DEEPEST):
        following: list[tuple[_Place, Element]] = []
        for parent, element in level:
            for _, place in sorted(below.get(parent, ())):
                reached += 1
                element.append(keys[place].element)
                if keys[place].is_node:
                    following.append((place, keys[place].element))
        level = following
    if level or reached < len(keys):
        raise description.error("has keys whose parents are not there, or that are their own ancestors")
    return root


def _pending(data: bytes, at: int) -> int:
    if at + _LOG.size > len(data):
        return 0
    signature, _, entries = _LOG.unpack_from(data, at)
    return entries if signature == _LOG_SIGNATURE else 0


def is_store(head: bytes) -> bool:
    """Whether a file's first bytes are a store's."""
    return head.startswith(SIGNATURE)
