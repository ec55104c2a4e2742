"""Hives of sample guests before and after their whole plan, cell by cell: what no edit is about keeps its bytes and its place.

The cells are found by a few lines of this module, not by the reader or the editor under test (M. Suhanov, "Windows registry file
format specification", "Format of primary files").
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.changes import EditHive
from drivers.windows.edits import AddKey, DeleteKey, DeleteValue, HiveEdit, SetValue, ValueData
from drivers.windows.hive_edit import edit
from drivers.windows.regf import Hive, Key
from tests.drivers.windows.hive_writer import HiveWriter, Node
from tests.fixtures.hives import security_descriptor
from tests.fixtures.windows import WindowsGuest
from tests.fixtures.windows.rows import rows
from tests.windows_startup.guests import Sample, sample
from tests.windows_startup.planned import placed
from tests.windows_startup.test_whole_plan import CONVERTED
from tests.windows_startup.whole import Rewritten, expected_of, kinds, targets

_BINS_AT, _NOWHERE = 4096, 0xFFFFFFFF
_INLINE, _SEGMENT_BYTES = 0x80000000, 16344
_CLASS = "an old class"
_ENRICHED = ("services", "control", "tcpip", "disk", "criticaldevicedatabase")


class Raw:
    """A hive's bytes, and what its cells hold."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.minor = struct.unpack_from("<I", data, 24)[0]

    def cell(self, at: int) -> bytes:
        """A cell with its size."""
        size = -struct.unpack_from("<i", self.data, _BINS_AT + at)[0]
        assert size > 4, hex(at)
        return self.data[_BINS_AT + at : _BINS_AT + at + size]

    def word(self, at: int, offset: int) -> int:
        """A number in a cell; ``offset``: behind its size."""
        return int(struct.unpack_from("<I", self.data, _BINS_AT + at + 4 + offset)[0])

    def each_key(self) -> Iterator[tuple[str, int]]:
        """Paths in upper case, and where the keys' cells stand."""
        waiting = [("", struct.unpack_from("<I", self.data, 36)[0])]
        while waiting:
            path, at = waiting.pop()
            yield path, at
            for child in self._listed(self.word(at, 28)) if self.word(at, 20) else ():
                waiting.append((f"{path}\\{self._name(child, 2, 0x20, 72, 76)}".lstrip("\\").upper(), child))

    def values(self, key: int) -> Iterator[tuple[str, int]]:
        """Names in upper case, and where the values' cells stand."""
        for number in range(self.word(key, 36)):
            at = self.word(self.word(key, 40), 4 * number)
            length, flags = struct.unpack_from("<H", self.cell(at), 6)[0], struct.unpack_from("<H", self.cell(at), 20)[0]
            name = self.cell(at)[24 : 24 + length]
            yield name.decode("latin-1" if flags & 1 else "utf-16-le").upper(), at

    def of_value(self, at: int) -> Iterator[int]:
        """The cells of a value: its own, its data's, those of the parts of large data."""
        yield at
        size, place = self.word(at, 4), self.word(at, 8)
        if size & _INLINE or not size:
            return
        yield place
        if size > _SEGMENT_BYTES and self.minor > 3:
            listed = self.word(place, 4)
            count = struct.unpack_from("<H", self.cell(place), 6)[0]
            yield listed
            yield from (self.word(listed, 4 * number) for number in range(count))

    def class_and_security(self, key: int) -> tuple[bytes, bytes]:
        """What a key has of both."""
        at, length = self.word(key, 48), struct.unpack_from("<H", self.cell(key), 78)[0]
        name = self.cell(at)[4 : 4 + length] if at != _NOWHERE and length else b""
        security = self.word(key, 44)
        return name, self.cell(security)[24 : 24 + self.word(security, 16)]

    def _listed(self, at: int) -> Iterator[int]:
        kind, count = struct.unpack_from("<2sH", self.cell(at), 4)
        step = 8 if kind in (b"lf", b"lh") else 4
        for number in range(count):
            child = self.word(at, 4 + step * number)
            yield from self._listed(child) if kind == b"ri" else (child,)

    def _name(self, at: int, flags_at: int, is_latin: int, length_at: int, name_at: int) -> str:
        cell = self.cell(at)[4:]
        flags, length = struct.unpack_from("<H", cell, flags_at)[0], struct.unpack_from("<H", cell, length_at)[0]
        return cell[name_at : name_at + length].decode("latin-1" if flags & is_latin else "utf-16-le")


def untouched(before: bytes, after: bytes, edits: tuple[HiveEdit, ...]) -> int:
    """How many keys were found as they were; all that no edit is about must be, values of the others too."""
    old, new = Raw(before), Raw(after)
    found = dict(new.each_key())
    ours = {(each.key.upper(), each.name.upper()) for each in edits if isinstance(each, SetValue | DeleteValue)}
    about = {each.key.upper() for each in edits}
    about |= {each.key.upper().rpartition("\\")[0] for each in edits if isinstance(each, AddKey | DeleteKey)}
    count = 0
    for path, key in old.each_key():
        assert found[path] == key, path
        assert old.class_and_security(key) == new.class_and_security(key), path
        assert path in about or old.cell(key) == new.cell(key), path
        count += path not in about
        there = dict(new.values(key))
        for name, value in old.values(key):
            if (path, name) not in ours:
                assert there[name] == value, (path, name)
                assert [old.cell(at) for at in old.of_value(value)] == [new.cell(at) for at in new.of_value(value)], (path, name)
    added = {path: key for path, key in found.items() if path in {each.key.upper() for each in edits if isinstance(each, AddKey)}}
    assert set(found) == {path for path, _ in old.each_key()} | set(added)
    for path, key in added.items():
        assert new.class_and_security(key) == (b"", new.class_and_security(found[path.rpartition("\\")[0]])[1]), path
    return count


@pytest.mark.parametrize("guest", rows(CONVERTED, ("nt4-server", "2003", "win7", "win10")))
def test_what_no_edit_of_a_whole_plan_is_about_keeps_its_bytes(guest: WindowsGuest) -> None:
    with sample(guest.name) as found:
        made = Rewritten.of(found)
        for change in made.plan.changes:
            if isinstance(change, EditHive) and not change.logs:
                partition, path = placed(found, change.path)
                before, after = found.read(path, partition), made.whole.read(path, partition)
                assert untouched(before, after, change.edits) > 10


def _enriched(found: Sample) -> bytes:
    """The guest's SYSTEM with what hivex does not write: classes, large values, a second descriptor, lists of every kind."""
    writer = HiveWriter(minor=found.guest.version.hive_minor)
    root = _node(Hive(found.read(found.path("system32/config/SYSTEM"))).root)
    large = [("Large", 3, bytes(range(256)) * 160), ("Huge", 3, bytes(range(255)) * 4000)] if writer.minor > 4 else []
    chosen = [node for node in _all(root) if node.name.lower() in _ENRICHED]
    for number, node in enumerate(chosen):
        node.class_name = _CLASS
        node.values += large if node.name.lower() == "disk" else []
        node.kind = (b"lf", b"lh")[number % 2] if writer.minor > 4 else b"lf" if writer.minor > 3 else b"li"
        node.per_leaf = 7 if node.subkeys else 0
    writer.put_all(root)
    _give_another_descriptor(writer, chosen, len(list(_all(root))))
    return writer.data(root.at)


def _give_another_descriptor(writer: HiveWriter, nodes: list[Node], keys: int) -> None:
    """Of the same length, with one right less."""
    first, other = writer.security, security_descriptor().replace(struct.pack("<I", 0x000F003F), struct.pack("<I", 0x00020019), 1)
    own = writer.cell(struct.pack("<2sHIIII", b"sk", 0, first, first, len(nodes), len(other)) + other)
    writer.patch(first, struct.pack("<III", own, own, keys - len(nodes)), 4)
    for node in nodes:
        writer.patch(node.at, struct.pack("<I", own), 44)


def _node(key: Key) -> Node:
    values = [(value.name, value.type, value.data) for value in key.values()]
    return Node(key.name, values, [_node(child) for child in key.subkeys()])


def _all(node: Node) -> Iterator[Node]:
    yield node
    for child in node.subkeys:
        yield from _all(child)


@pytest.mark.parametrize("name", ["nt4-server", "win2000-server", "2003", "2016"])
def test_classes_large_values_and_descriptors_stay_while_a_hive_grows(name: str, tmp_path: Path) -> None:
    with sample(name) as found:
        rich = found.with_files({found.path("system32/config/SYSTEM"): _enriched(found)})
        made = Rewritten.of(rich)
        (change,) = (each for each in made.plan.changes if isinstance(each, EditHive) and each.path.lower().endswith("/system"))
        before, after = (each.read(each.path("system32/config/SYSTEM")) for each in (rich, made.whole))
        assert untouched(before, after, change.edits) > 50
        assert (len(after) > len(before)) == (name != "nt4-server")
        told = [Raw(after).class_and_security(key) for path, key in Raw(after).each_key() if path.endswith("\\SERVICES")]
        assert [each[0].decode("utf-16-le") for each in told] == [_CLASS] * len(rich.guest.sets.existing)
        assert len({each[1] for each in told}) == 1
        assert len({Raw(after).class_and_security(key)[1] for _, key in Raw(after).each_key()}) == 2
        assert list(kinds(made.whole, targets(rich, made.plan), expected_of(rich, made.plan))) == []
        (tmp_path / "SYSTEM").write_bytes(after)
        exported = subprocess.run(["hivexregedit", "--export", tmp_path / "SYSTEM", "\\"], capture_output=True, check=True).stdout
        assert exported.count(b"\n[") == len(list(Raw(after).each_key()))


@pytest.mark.parametrize("size", [16_344, 16_345, 200_000, 1 << 20])
def test_large_value_is_replaced_by_a_larger_one_and_its_neighbours_stay(size: int) -> None:
    values = [("Large", 3, bytes(30_000)), ("Other", 3, b"x" * 40_000)]
    before = HiveWriter().hive(Node("ROOT", subkeys=[Node("a", values, class_name=_CLASS), Node("b")]))
    data = bytes(range(251)) * (size // 251 + 1)
    change = SetValue("a", "Large", 3, data[:size].hex(), ValueData(3, bytes(30_000).hex()), "t")
    after = edit(before, (), [change])
    assert untouched(before, after, (change,)) == 2
    raw = Raw(after)
    (key,) = (at for path, at in raw.each_key() if path == "A")
    (value,) = (at for name, at in raw.values(key) if name == "LARGE")
    parts = list(raw.of_value(value))[1:]
    held = b"".join(raw.cell(at)[4 : 4 + _SEGMENT_BYTES] for at in (parts[2:] if len(parts) > 1 else parts))
    assert held[:size] == data[:size]
