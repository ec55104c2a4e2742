"""Which cells of a hive an edited one no longer has, and whether those are all of keys that the edits are about.

What is in cells that both have at the same place with the same bytes is the same in both, without its being read: a
hive of a hundred megabytes is compared as fast as its bytes are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from drivers.windows import c_regf as c
from drivers.windows.edits import AddKey, DeleteKey, HiveEdit
from drivers.windows.regf import Hive, Key, walk

_DESCRIPTOR_AT = 16

def only_touched(before: Hive, after: Hive, edits: Sequence[HiveEdit]) -> bool:
    """Whether every cell that is gone or differs belongs to a key that an edit is about, or to the key above it.

    False also where that cannot be told so easily.
    """
    if before.base.root_offset != after.base.root_offset or before.base.minor != after.base.minor:
        return False
    lost = _lost(before, after)
    return lost is not None and lost <= set(_cells(before, edits)) and _children_stay(before, after, edits)


def touched(edits: Iterable[HiveEdit]) -> tuple[str, ...]:
    """The paths of the keys that edits are about, and of those above keys that come or go, in upper case."""
    paths: dict[str, None] = {}
    for edit in edits:
        paths[c.upper(edit.key)] = None
        if isinstance(edit, AddKey | DeleteKey):
            paths[c.upper(edit.key.rpartition("\\")[0])] = None
    return tuple(paths)


def _lost(before: Hive, after: Hive) -> set[int] | None:
    """The allocated cells of the first hive that the second has not, or not so; None where its bins are others."""
    found: set[int] = set()
    for start, size in before.bins():
        if after.bin_bytes(start) == before.bin_bytes(start):
            continue
        if (start, size) != after.bin_at(start):
            return None
        others = set(after.cells_of(start))
        for at in before.cells_of(start):
            if at in others and _is_same(before.cell(at), after.cell(at)):
                continue
            if before.cell(at)[:2] == c.KEY_SECURITY_SIGNATURE:
                return None  # any key may be using it
            found.add(at)
    return found


def _is_same(old: memoryview, new: memoryview) -> bool:
    if old[:2] == new[:2] == c.KEY_SECURITY_SIGNATURE:
        # how many keys use a descriptor, and which others there are, says nothing of a key
        return old[_DESCRIPTOR_AT:] == new[_DESCRIPTOR_AT:]
    return old == new


def _cells(hive: Hive, edits: Sequence[HiveEdit]) -> Iterator[int]:
    for path in touched(edits):
        key = hive.key(path)
        if key is not None:
            yield from _of_key(hive, key)
    for edit in edits:
        gone = hive.key(edit.key) if isinstance(edit, DeleteKey) else None
        for _, key in walk(gone) if gone is not None else ():
            yield from _of_key(hive, key)


def _of_key(hive: Hive, key: Key) -> Iterator[int]:
    """All cells that a key consists of."""
    yield key.offset
    if key.class_name():
        yield key.class_offset
    if key.subkeys_offset != c.NOWHERE:
        yield key.subkeys_offset
        yield from hive.leaves(key.subkeys_offset)
    if key.value_list[0]:
        yield key.value_list[1]
    for at, value in hive.value_places(key):
        yield at
        size, place = struct.unpack_from("<II", hive.cell(at, c.KEY_VALUE.size), 4)
        if size and not size & c.DATA_IS_INLINE:
            yield place
            if len(value.data) > c.SEGMENT_BYTES and hive.base.minor >= c.BIG_DATA_SINCE_MINOR:
                _, count, listed = c.BIG_DATA.unpack_from(hive.cell(place, c.BIG_DATA.size))
                yield listed
                yield from (cell for (cell,) in struct.iter_unpack("<I", hive.cell(listed, 4 * count)[: 4 * count]))


def _children_stay(before: Hive, after: Hive, edits: Sequence[HiveEdit]) -> bool:
    """Whether keys below the touched ones are the same cells, so that their contents are what was compared."""
    for path in touched(edits):
        old, new = before.key(path), after.key(path)
        if old is None or new is None:
            continue
        known = {key.name: key.offset for key in old.subkeys()}
        if any(known.get(key.name, key.offset) != key.offset for key in new.subkeys()):
            return False
    return True
