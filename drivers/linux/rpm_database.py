"""Names of the packages in an rpm database, in each of the forms it has had, without rpm.

Only what is small is read: SQLite's and Berkeley DB's index of names, and the beginning of each header where there is none
that is easy to read. Everything in them is somebody else's: each offset and count is checked, and the walks are bounded.

Formats: SQLite's "Database File Format" and its write-ahead log (rpm 4.16 on: Fedora 33, RHEL 9); Berkeley DB's page layout as
its db_page.h documents it (before that); rpm's ndb (SUSE), as ``lib/backend/ndb/rpmpkg.c`` of rpm documents it in its comments;
headers: LSB, "Package File Format".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice

from drivers.linux import sqlite_file
from drivers.tree import GuestTree
from p2v.core.units import KIB

FOLDERS = ("/var/lib/rpm", "/usr/lib/sysimage/rpm", "/usr/share/rpm")

PACKAGES_AT_MOST = 50_000
_NAME_AT_MOST = 256
_PAGES_AT_MOST = 50_000
_HEADER_PIECE = 4 * KIB

# rpm's ndb: all numbers little-endian
_NDB_PAGE, _NDB_BLOCK, _NDB_SLOT = 4096, 16, 16
_NDB_MAGIC, _NDB_SLOT_MAGIC, _NDB_BLOB_MAGIC = b"RpmP", b"Slot", b"BlbS"
_NDB_PAGES_AT_MOST = 4096

# Berkeley DB: DBMETA's magic, page types, and types of items
_BDB_MAGIC_AT, _BDB_PAGE_HEADER = 12, 26
_BDB_HASH, _BDB_BTREE = 0x061561, 0x053162
_HASH_PAGES, _LEAF_PAGE = frozenset({2, 13}), 5
_H_KEYDATA, _B_KEYDATA = 1, 1

_TAG_NAME, _TYPE_STRING = 1000, 6
_INDEX_ENTRY = 16
_ENTRIES_AT_MOST = 10_000


def installed_names(tree: GuestTree) -> frozenset[str]:
    """Names of the packages in the first database that there is; none where it cannot be read."""
    for folder in FOLDERS:
        for name, read in (("rpmdb.sqlite", _sqlite_names), ("Packages.db", _ndb_names), ("Name", _bdb_names)):
            path = f"{folder}/{name}"
            try:
                found = frozenset(text for data in islice(read(tree, path), PACKAGES_AT_MOST) if (text := _text(data)))
            except (FileNotFoundError, ValueError, struct.error):
                continue
            if found:
                return found
    return frozenset()


def name_in_header(data: bytes) -> bytes | None:
    """The package's name in the beginning of a header without its magic; None where it is not in that."""
    if len(data) < 8:
        return None
    entries, _ = struct.unpack(">II", data[:8])
    store = 8 + _INDEX_ENTRY * entries
    if entries > _ENTRIES_AT_MOST:
        return None
    for at in range(8, min(store, len(data) - _INDEX_ENTRY + 1), _INDEX_ENTRY):
        tag, kind, offset, _ = struct.unpack(">IIII", data[at : at + _INDEX_ENTRY])
        if tag == _TAG_NAME and kind == _TYPE_STRING:
            name, end, _ = data[store + offset : store + offset + _NAME_AT_MOST].partition(b"\0")
            return name if end else None
    return None


def _text(name: bytes) -> str:
    return name.decode("ascii", "replace") if len(name) <= _NAME_AT_MOST else ""


def _sqlite_names(tree: GuestTree, path: str) -> Iterator[bytes]:
    return sqlite_file.first_column(tree, path, "Name")


# --- ndb ---------------------------------------------------------------------------------------------------------------


def _ndb_names(tree: GuestTree, path: str) -> Iterator[bytes]:
    magic, version, _, pages = struct.unpack("<4sIII", tree.read_range(path, 16, 0))
    if magic != _NDB_MAGIC or version != 0:
        raise ValueError(f"{path}: no ndb of a known version")
    # the header takes the place of the first two slots
    for page in range(min(pages, _NDB_PAGES_AT_MOST)):
        data = tree.read_range(path, _NDB_PAGE, page * _NDB_PAGE)
        for at in range(2 * _NDB_SLOT if page == 0 else 0, len(data) - _NDB_SLOT + 1, _NDB_SLOT):
            slot, index, block, count = struct.unpack("<4sIII", data[at : at + _NDB_SLOT])
            if slot == _NDB_SLOT_MAGIC and index and count:
                yield from _ndb_name(tree, path, index, block * _NDB_BLOCK)


def _ndb_name(tree: GuestTree, path: str, index: int, offset: int) -> Iterator[bytes]:
    for length in (_HEADER_PIECE, 16 * _HEADER_PIECE):
        blob = tree.read_range(path, length, offset)
        if len(blob) < _NDB_BLOCK or blob[:4] != _NDB_BLOB_MAGIC or struct.unpack("<I", blob[4:8])[0] != index:
            return
        if (name := name_in_header(blob[_NDB_BLOCK:])) is not None:
            yield name
            return


# --- Berkeley DB -------------------------------------------------------------------------------------------------------


def _bdb_names(tree: GuestTree, path: str) -> Iterator[bytes]:
    """The keys of rpm's index of names, which was a hash first and a B-tree later; either byte order."""
    meta = tree.read_range(path, 72, 0)
    order = next((o for o in "<>" if struct.unpack_from(f"{o}I", meta, _BDB_MAGIC_AT)[0] in (_BDB_HASH, _BDB_BTREE)), "")
    if not order:
        raise ValueError(f"{path}: neither a hash nor a B-tree of Berkeley DB")
    (page_bytes,) = struct.unpack_from(f"{order}I", meta, 20)
    (last,) = struct.unpack_from(f"{order}I", meta, 32)
    if not 512 <= page_bytes <= 64 * KIB or page_bytes & (page_bytes - 1):
        raise ValueError(f"{path}: pages of {page_bytes} bytes")
    for number in range(1, min(last, _PAGES_AT_MOST) + 1):
        page = tree.read_range(path, page_bytes, number * page_bytes)
        if len(page) == page_bytes:
            yield from _bdb_keys(page, order)


def _bdb_keys(page: bytes, order: str) -> Iterator[bytes]:
    entries, _, _, kind = struct.unpack_from(f"{order}HHBB", page, 20)
    if kind not in _HASH_PAGES and kind != _LEAF_PAGE:
        return
    entries = min(entries, (len(page) - _BDB_PAGE_HEADER) // 2)
    offsets = struct.unpack_from(f"{order}{entries}H", page, _BDB_PAGE_HEADER)
    # keys and values take turns; an item of a hash ends where the one before it begins
    for index in range(0, entries - 1, 2):
        at = offsets[index]
        if kind == _LEAF_PAGE:
            if at + 3 <= len(page):
                length, type_ = struct.unpack_from(f"{order}HB", page, at)
                if type_ == _B_KEYDATA:
                    yield page[at + 3 : at + 3 + length]
        else:
            end = offsets[index - 1] if index else len(page)
            if at < end <= len(page) and page[at] == _H_KEYDATA:
                yield page[at + 1 : end]
