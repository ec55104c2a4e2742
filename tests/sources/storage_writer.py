"""Writes HyperVStorage files (.vmcx) of XML configurations, by the published description; as far as it goes, as Hyper-V does.

A second view of the format beside ``p2v.sources.hyperv_storage``: tables of 4096 bytes that entries fill exactly, values of
2048 bytes and more in objects of their own, tables of objects that go on elsewhere, checksums everywhere.
"""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, fromstring

PAGE = 4096
KEYS, FILE, TABLE, FREE_OBJECT = 2, 3, 1, 4
_TYPES = {"string": 6, "integer": 3, "bytes": 7, "bool": 8, None: 9}
_ENTRY_HEADER, _TABLE_HEADER = 21, 10


@dataclass
class _Laid:
    """Key tables in the making."""

    tables: list[bytearray] = field(default_factory=list)
    files: list[bytes] = field(default_factory=list)

    def add(self, entry: bytes) -> tuple[int, int]:
        """Put an entry in; the index of its table and its place there."""
        if not self.tables or PAGE - len(self.tables[-1]) < len(entry):
            self.close()
            self.tables.append(bytearray(_TABLE_HEADER))
        table = self.tables[-1]
        at = len(table)
        table += entry
        if 0 < PAGE - len(table) <= _ENTRY_HEADER:
            # too little for a free entry: the last one takes it
            table += bytes(PAGE - len(table))
            struct.pack_into("<I", table, at + 2, PAGE - at)
        return len(self.tables), at

    def close(self) -> None:
        """Fill the last table with a free entry."""
        if self.tables and (left := PAGE - len(self.tables[-1])):
            self.tables[-1] += struct.pack("<BBIHIIIB", 1, 0, left, 0, 0, 0, 0, 0) + b"\xee" * (left - _ENTRY_HEADER)

    def file(self, data: bytes) -> int:
        """Where a large value goes; files lie right behind the first table of objects."""
        at = 3 * PAGE + sum(len(each) for each in self.files)
        self.files.append(data + bytes(-len(data) % PAGE))
        return at


def store(
    configuration: str, *, objects: int = 200, version: int = 0x0400, pending: int = 0, newer: int = 1, older_version: int = 0x0400
) -> bytes:
    """The store of an XML configuration. ``objects``: entries in a table of objects; ``newer``: which header counts."""
    laid = _Laid()
    root = fromstring(configuration.replace('encoding="UTF-16"', ""))
    waiting: list[tuple[tuple[int, int], int, Element]] = [((0, 0), 1, root)]
    while waiting:
        parent, order, element = waiting.pop(0)
        place = laid.add(_entry(laid, parent, order, element))
        waiting += [(place, number + 1, each) for number, each in enumerate(element)]
    laid.close()
    return _assembled(laid, objects, [older_version, version] if newer else [version, older_version], pending, newer)


def _entry(laid: _Laid, parent: tuple[int, int], order: int, element: Element) -> bytes:
    kind = _TYPES[element.get("type")]
    name = element.tag.encode() + b"\0"
    value, flags = _value(kind, element), 0
    if kind in (6, 7) and len(value) - 4 >= 2048:
        value, flags = struct.pack("<IQ", len(value) - 4, laid.file(value[4:])), 1
    size = _ENTRY_HEADER + len(name) + len(value)
    head = [kind, flags, size, *parent, 0, order, len(name)]
    head[5] = zlib.crc32(struct.pack("<BBIHIIIB", *head) + name + value)
    return struct.pack("<BBIHIIIB", *head) + name + value


def _value(kind: int, element: Element) -> bytes:
    text = element.text or ""
    match kind:
        case 9:
            return struct.pack("<QI", 0, len(element) + 1)
        case 3:
            return struct.pack("<q", int(text))
        case 8:
            return struct.pack("<i", text == "True")
        case 7:
            raw = base64.b64decode(text)
        case _:
            raw = text.encode("utf-16-le")
    return struct.pack("<I", len(raw)) + raw


def _assembled(laid: _Laid, objects: int, versions: list[int], pending: int, newer: int) -> bytes:
    entries: list[tuple[int, int, int]] = []
    body = bytearray()
    tables = [_sealed(table, number + 1) for number, table in enumerate(laid.tables)]
    for kind, part in [*((FILE, file) for file in laid.files), *((KEYS, table) for table in tables)]:
        entries.append((kind, 3 * PAGE + len(body), len(part)))
        body += part
    entries.insert(1, (FREE_OBJECT, 1 << 60, 1 << 30))
    first, more = _object_tables(entries, objects, 3 * PAGE + len(body))
    body += more
    log_at = 3 * PAGE + len(body)
    log = struct.pack("<IIIB", 0x01110003, 0, pending, 0).ljust(PAGE, b"\0")
    headers = b"".join(_header(versions[number], log_at, 8 if number == newer else 7) for number in (0, 1))
    return headers + first + bytes(body) + log


def _sealed(table: bytearray, index: int) -> bytes:
    header = struct.pack("<HHHI", 2, index, 3, 0)
    return struct.pack("<HHHI", 2, index, 3, zlib.crc32(header)) + bytes(table[_TABLE_HEADER:])


def _object_tables(entries: list[tuple[int, int, int]], objects: int, at: int) -> tuple[bytes, bytes]:
    """The first table of objects and those after it; the last entry of each leads to the next."""
    pieces = [entries[n : n + objects - 1] for n in range(0, len(entries), objects - 1)]
    made = []
    for number, piece in enumerate(pieces):
        last = (TABLE, at + number * PAGE, PAGE) if number + 1 < len(pieces) else (0, 0, 0)
        raw = struct.pack("<II", 0x01110001, objects)
        for kind, offset, size in [*piece, *[(0, 0, 0)] * (objects - 1 - len(piece)), last]:
            entry = struct.pack("<BIQIB", kind, 0, offset, size, 1)
            raw += entry[:1] + struct.pack("<I", zlib.crc32(entry)) + entry[5:]
        made.append(raw.ljust(PAGE, b"\0"))
    return made[0], b"".join(made[1:])


def _header(version: int, log_at: int, sequence: int) -> bytes:
    fields = [b"\x14\x20\x28\x01", 0, sequence, version, 0, 0, PAGE, log_at, PAGE, 46]
    raw = struct.pack("<4sIHIIIIQQI", *fields)
    return struct.pack("<4sIHIIIIQQI", fields[0], zlib.crc32(raw), *fields[2:]).ljust(PAGE, b"\0")
