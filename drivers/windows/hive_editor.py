"""Writes to a hive in memory: values and keys, as Windows lays them out. To be used inside ``confined``.

Why not hivex: 1.3.23 writes a value of any size into one cell, where Windows looks for segments (``db``) from 1.4 on; it hashes
the bytes of UTF-8 where a name is not ASCII, and sorts by ``strcasecmp``, so that Windows does not find what it looks for;
and it needs a file to write to, which a confined child cannot have. It remains the second opinion in the tests.

New cells come from bins that are added at the end; what is no longer used becomes a free cell. Times stay as they are, and a new
key takes that of the key above it, so that the same edits give the same bytes.

Source: see ``c_regf``; lists are kept at the lengths that Windows uses at most (511 elements of eight bytes fill a page).
"""

from __future__ import annotations

import struct

from drivers.windows import c_regf as c
from drivers.windows.hive_log import finish
from drivers.windows.regf import DEPTH_AT_MOST, HIVE_BYTES_AT_MOST, BadHive, Hive, Key, walk
from p2v.core.units import MIB, round_up

LEAF_ELEMENTS_AT_MOST = 511
NAME_CHARACTERS_AT_MOST = 255
VALUE_NAME_CHARACTERS_AT_MOST = 16383
_ROOM_BYTES = 8 * MIB
_SLACK_ELEMENTS = 16
# where fields stand in their records
_NK_SUBKEYS, _NK_LIST, _NK_VALUES, _NK_VALUE_LIST, _NK_LONGEST_SUBKEY = 20, 28, 36, 40, 52
_NK_LONGEST_VALUE, _NK_LARGEST_DATA = 60, 64
_SK_FLINK, _SK_BLINK, _SK_COUNT = 4, 8, 12

_Element = tuple[str, int]
"""A key's name in upper case, and where the key stands."""


class HiveEditor:
    """A hive that is written to. ``hive`` always shows it as it is; keys and values of it are read anew after a change."""

    def __init__(self, data: bytes, added_bytes: int = 0) -> None:
        """``added_bytes``: how much data is going to be added. Raises BadHive."""
        end = c.BASE_BLOCK_BYTES + Hive(data).base.bins_bytes
        self._end = end - c.BASE_BLOCK_BYTES
        self._behind = data[end:]
        room = min(_ROOM_BYTES + 2 * added_bytes, max(0, HIVE_BYTES_AT_MOST - end))
        self._raw = bytearray(data[:end]) + bytes(room - room % c.BIN_UNIT_BYTES)
        self._bins = memoryview(self._raw)[c.BASE_BLOCK_BYTES :]
        self.hive = Hive(memoryview(self._raw)[:end])
        self._free, self._free_end = self._end, self._end
        self._sequence = max(self.hive.base.primary_sequence, self.hive.base.secondary_sequence)

    def data(self) -> bytes:
        """The file as it is now: clean, one write further than it was, and no shorter."""
        block = bytearray(self._raw[: c.BASE_BLOCK_BYTES])
        struct.pack_into("<I", block, 40, self._end)
        finish(block, self._sequence)
        grown = self._end - self.hive.base.bins_bytes
        return bytes(block) + bytes(self._bins[: self._end]) + self._behind[grown:]

    # --- values ------------------------------------------------------------------------------------------

    def set_value(self, path: str, name: str, kind: int, data: bytes) -> None:
        """Give a value of a key its type and data; it is made where it is not there. Raises BadHive."""
        key = self._key(path)
        places = dict(self.hive.value_places(key))
        encoded, is_compressed = _encoded(name, VALUE_NAME_CHARACTERS_AT_MOST)
        place, size = self._placed(data)
        known = next((at for at, value in places.items() if c.upper(value.name) == c.upper(name)), None)
        if known is not None:
            self._free_data(known)
            struct.pack_into("<III", self._bins, known + 4 + 4, size, place, kind)
        else:
            record = c.KEY_VALUE.pack(c.KEY_VALUE_SIGNATURE, len(encoded), size, place, kind, int(is_compressed), 0)
            self._add_to_values(key, self._new(record + encoded))
        self._raise(key.offset, _NK_LONGEST_VALUE, len(name.encode("utf-16-le", "surrogatepass")))
        self._raise(key.offset, _NK_LARGEST_DATA, len(data))

    def delete_value(self, path: str, name: str) -> None:
        """Remove a value of a key. Raises BadHive."""
        key = self._key(path)
        listed = self.hive.value_offsets(key)
        gone = next((at for at, v in self.hive.value_places(key) if c.upper(v.name) == c.upper(name)), None)
        if gone is None:
            raise BadHive(f"there is no value to remove in {path[:200]}")
        self._free_data(gone)
        self._release(gone)
        rest = [at for at in listed if at != gone]
        at = self._get(key.offset, _NK_VALUE_LIST)
        if rest:
            struct.pack_into(f"<{len(rest)}I", self._bins, at + 4, *rest)
        else:
            self._release(at)
            self._put(key.offset, _NK_VALUE_LIST, c.NOWHERE)
        self._put(key.offset, _NK_VALUES, len(rest))

    def _add_to_values(self, key: Key, place: int) -> None:
        listed = [*self.hive.value_offsets(key), place]
        old = self._get(key.offset, _NK_VALUE_LIST) if len(listed) > 1 else c.NOWHERE
        data = struct.pack(f"<{len(listed)}I", *listed)
        if old != c.NOWHERE and len(self.hive.cell(old)) >= len(data):
            self._bins[old + 4 : old + 4 + len(data)] = data
        else:
            self._put(key.offset, _NK_VALUE_LIST, self._new(data, len(data) + 4 * _SLACK_ELEMENTS))
            if old != c.NOWHERE:
                self._release(old)
        self._put(key.offset, _NK_VALUES, len(listed))

    def _placed(self, data: bytes) -> tuple[int, int]:
        """Where data stands (or itself), and the size as a value's record has it."""
        if len(data) <= c.INLINE_BYTES_AT_MOST:
            return int.from_bytes(data.ljust(4, b"\0"), "little"), len(data) | c.DATA_IS_INLINE
        if len(data) <= c.SEGMENT_BYTES or self.hive.base.minor < c.BIG_DATA_SINCE_MINOR:
            return self._new(data), len(data)
        segments = [self._new(data[at : at + c.SEGMENT_BYTES]) for at in range(0, len(data), c.SEGMENT_BYTES)]
        listed = self._new(struct.pack(f"<{len(segments)}I", *segments))
        return self._new(c.BIG_DATA.pack(c.BIG_DATA_SIGNATURE, len(segments), listed)), len(data)

    def _free_data(self, value_at: int) -> None:
        size, place = struct.unpack_from("<II", self._bins, value_at + 4 + 4)
        if not size or size & c.DATA_IS_INLINE:
            return
        if size > c.SEGMENT_BYTES and self.hive.base.minor >= c.BIG_DATA_SINCE_MINOR:
            _, count, listed = c.BIG_DATA.unpack_from(self.hive.cell(place, c.BIG_DATA.size))
            for (segment,) in struct.iter_unpack("<I", self.hive.cell(listed, 4 * count)[: 4 * count]):
                self._release(segment)
            self._release(listed)
        self._release(place)

    # --- keys --------------------------------------------------------------------------------------------

    def add_key(self, path: str) -> None:
        """Make a key below one that is there. Raises BadHive."""
        above_path, _, name = path.rpartition("\\")
        above = self._key(above_path)
        if above.subkey(name) is not None or above.depth + 1 > DEPTH_AT_MOST:
            raise BadHive(f"there is no place for a key {path[:200]}")
        encoded, is_compressed = _encoded(name, NAME_CHARACTERS_AT_MOST)
        security = above.security_offset
        record = c.KEY_NODE.pack(
            c.KEY_NODE_SIGNATURE, c.KEY_COMP_NAME if is_compressed else 0, above.written, 0, above.offset, 0, 0, c.NOWHERE,
            c.NOWHERE, 0, c.NOWHERE, security, c.NOWHERE, 0, 0, 0, 0, 0, len(encoded), 0,
        )  # fmt: skip
        at = self._new(record + encoded)
        if security != c.NOWHERE:
            self._put(security, _SK_COUNT, self._get(security, _SK_COUNT) + 1)
        self._insert(above, name, at)
        length = len(name.encode("utf-16-le", "surrogatepass"))
        # from Vista on the upper half holds flags
        (longest,) = struct.unpack_from("<H", self._bins, above.offset + 4 + _NK_LONGEST_SUBKEY)
        struct.pack_into("<H", self._bins, above.offset + 4 + _NK_LONGEST_SUBKEY, max(longest, length))

    def delete_key(self, path: str) -> None:
        """Remove a key with everything below it. Raises BadHive."""
        above = self._key(path.rpartition("\\")[0])
        key = self._key(path)
        gone = [each for _, each in walk(key)]
        for each in gone:
            self._release_key(each)
        leaves = [[element for element in leaf if element[1] != key.offset] for leaf in self._leaves(above)]
        self._write_leaves(above, [leaf for leaf in leaves if leaf])
        for at in dict.fromkeys(each.security_offset for each in gone if each.security_offset != c.NOWHERE):
            self._let_go_of_security(at, sum(each.security_offset == at for each in gone))

    def _release_key(self, key: Key) -> None:
        for at, _ in self.hive.value_places(key):
            self._free_data(at)
            self._release(at)
        if self._get(key.offset, _NK_VALUES):
            self._release(self._get(key.offset, _NK_VALUE_LIST))
        self._release_lists(key)
        if key.class_name():
            self._release(key.class_offset)
        self._release(key.offset)

    def _let_go_of_security(self, at: int, keys: int) -> None:
        count = self._get(at, _SK_COUNT) - keys
        # its count may be wrong, and then others still have it
        if count > 0 or any(key.security_offset == at for _, key in self.hive.walk()):
            self._put(at, _SK_COUNT, max(1, count))
            return
        following, before = self._get(at, _SK_FLINK), self._get(at, _SK_BLINK)
        self._put(before, _SK_FLINK, following)
        self._put(following, _SK_BLINK, before)
        self._release(at)

    def _insert(self, above: Key, name: str, at: int) -> None:
        element = (c.upper(name), at)
        leaves = self._leaves(above) or [[]]
        number = next((n for n in reversed(range(len(leaves))) if leaves[n] and _order(leaves[n][0]) <= _order(element)), 0)
        leaves[number] = sorted([*leaves[number], element], key=_order)
        full = leaves[number]
        if len(full) > LEAF_ELEMENTS_AT_MOST:
            half = len(full) // 2
            leaves[number : number + 1] = [full[:half], full[half:]]
        self._write_leaves(above, leaves)

    def _leaves(self, key: Key) -> list[list[_Element]]:
        """The subkeys of a key, leaf by leaf."""
        if key.subkeys_offset == c.NOWHERE:
            return []
        found = []
        for leaf in self.hive.leaves(key.subkeys_offset):
            _, element, count = self.hive.leaf(leaf)
            cell = self.hive.cell(leaf, 4 + element * count)
            places = [struct.unpack_from("<I", cell, at)[0] for at in range(4, 4 + element * count, element)]
            # a key that was released a moment ago has no name any more
            found.append([(self._name_at(place), place) for place in places])
        return found

    def _name_at(self, place: int) -> str:
        try:
            return c.upper(Key(self.hive, place, 0).name)
        except BadHive:
            return ""

    def _write_leaves(self, key: Key, leaves: list[list[_Element]]) -> None:
        """Write the whole list of a key's subkeys anew, in place where it fits."""
        old_root = key.subkeys_offset
        old = list(self.hive.leaves(old_root)) if old_root != c.NOWHERE else []
        kind = self._kind_of_leaf()
        places = []
        for number, leaf in enumerate(leaves):
            data = c.LIST_HEADER.pack(kind, len(leaf)) + b"".join(self._element(kind, *each) for each in leaf)
            places.append(self._rewritten(old[number] if number < len(old) else None, data))
        for unused in [at for at in old if at not in places]:
            self._release(unused)
        was_index = old_root != c.NOWHERE and old_root not in old
        if len(places) > 1:
            data = c.LIST_HEADER.pack(c.INDEX_ROOT, len(places)) + struct.pack(f"<{len(places)}I", *places)
            listed = self._rewritten(old_root if was_index else None, data)
        else:
            listed = places[0] if places else c.NOWHERE
        if was_index and listed != old_root:
            self._release(old_root)
        self._put(key.offset, _NK_LIST, listed)
        self._put(key.offset, _NK_SUBKEYS, sum(map(len, leaves)))

    def _rewritten(self, at: int | None, data: bytes) -> int:
        """A cell with this data: the one that is there when it is large enough."""
        if at is not None and len(self.hive.cell(at)) >= len(data):
            self._bins[at + 4 : at + 4 + len(data)] = data
            return at
        return self._new(data, len(data) + 8 * _SLACK_ELEMENTS)

    def _kind_of_leaf(self) -> bytes:
        minor = self.hive.base.minor
        return c.HASH_LEAF if minor >= 5 else c.FAST_LEAF if minor >= 3 else c.INDEX_LEAF

    def _element(self, kind: bytes, _: str, place: int) -> bytes:
        name = Key(self.hive, place, 0).name
        if kind == c.HASH_LEAF:
            return struct.pack("<II", place, c.name_hash(name))
        return struct.pack("<I", place) + (c.name_hint(name) if kind == c.FAST_LEAF else b"")

    def _release_lists(self, key: Key) -> None:
        if key.subkeys_offset == c.NOWHERE:
            return
        for at in dict.fromkeys((*self.hive.leaves(key.subkeys_offset), key.subkeys_offset)):
            self._release(at)

    # --- cells -------------------------------------------------------------------------------------------

    def _key(self, path: str) -> Key:
        key = self.hive.key(path)
        if key is None:
            raise BadHive(f"there is no key {path[:200]}")
        return key

    def _get(self, cell: int, field: int) -> int:
        number: int = struct.unpack_from("<I", self.hive.cell(cell, field + 4), field)[0]
        return number

    def _put(self, cell: int, field: int, number: int) -> None:
        self.hive.cell(cell, field + 4)
        struct.pack_into("<I", self._bins, cell + 4 + field, number)

    def _raise(self, cell: int, field: int, number: int) -> None:
        self._put(cell, field, max(number, self._get(cell, field)))

    def _release(self, at: int) -> None:
        """Make a cell free."""
        size = len(self.hive.cell(at)) + 4
        struct.pack_into("<i", self._bins, at, size)
        self.hive.changed(at)

    def _new(self, data: bytes, room: int = 0) -> int:
        """A cell with this data, and room for so many bytes."""
        size = round_up(max(len(data), room) + 4, c.CELL_UNIT_BYTES)
        if self._free + size > self._free_end:
            self._add_bin(size)
        at = self._free
        self._free += size
        struct.pack_into("<i", self._bins, at, -size)
        self._bins[at + 4 : at + 4 + len(data)] = data
        if self._free < self._free_end:
            struct.pack_into("<i", self._bins, self._free, self._free_end - self._free)
        self.hive.changed(at)
        return at

    def _add_bin(self, cell_bytes: int) -> None:
        length = round_up(cell_bytes + c.BIN_HEADER_BYTES, c.BIN_UNIT_BYTES)
        start = self._end
        if start + length > len(self._bins):
            raise BadHive("it would grow by more than there is room for")
        c.BIN_HEADER.pack_into(self._bins, start, c.BIN_SIGNATURE, start, length, 0, 0, 0)
        self._end += length
        self._free, self._free_end = start + c.BIN_HEADER_BYTES, self._end
        struct.pack_into("<i", self._bins, self._free, self._free_end - self._free)
        self.hive.grown(self._bins[: self._end], start, length)


def _order(element: _Element) -> bytes:
    """What Windows sorts keys by: the codes of the letters of their names in upper case."""
    return element[0].encode("utf-16-be", "surrogatepass")


def _encoded(name: str, characters_at_most: int) -> tuple[bytes, bool]:
    """A name as its record has it, and whether it is in Latin-1."""
    wide = name.encode("utf-16-le", "surrogatepass")
    if len(wide) > 2 * characters_at_most:
        raise BadHive(f"a name of {len(wide) // 2} characters is longer than Windows has them")
    return (name.encode("latin-1"), True) if all(letter < "\u0100" for letter in name) else (wide, False)
