"""Writing to hives: against hivex and libregf as readers, against hivex as a writer, and by what Windows wants of lists."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path
from typing import Any

import hivex
import pyregf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.windows import c_regf as c
from drivers.windows import hive_editor
from drivers.windows.edits import AddKey, DeleteKey, DeleteValue, HiveEdit, SetValue, ValueData
from drivers.windows.hive_cells import only_touched
from drivers.windows.hive_contents import problems, subtree_digest
from drivers.windows.hive_edit import edit, patched, patches
from drivers.windows.regf import BadHive, Hive
from tests.drivers.windows.hive_writer import (
    HiveWriter,
    Node,
    log_entry,
    new_log,
    own_hive,
    pages_that_differ,
    with_sequences,
)
from tests.drivers.windows.test_regf import by_hivex, by_libregf, by_us
from tests.fixtures.hives import Data, binary, dword, multi_sz, security_descriptor, sz

_TREE = {
    "Select": {"Current": dword(1)},
    "ControlSet001\\Control\\CrashControl": {"AutoReboot": dword(1), "DumpFile": sz("%SystemRoot%\\MEMORY.DMP")},
    "ControlSet001\\Services\\disk": {"Start": dword(0), "Group": sz("SCSI miniport")},
    "ControlSet001\\Services\\Tcpip\\Parameters": {"Hostname": sz("web01"), "Größe": multi_sz("ä", "ö")},
    "ControlSet001\\Services\\日本": {"": sz("text")},
}
_CRASH = "ControlSet001\\Control\\CrashControl"
_SERVICES = "ControlSet001\\Services"


def data_of(value: Data) -> ValueData:
    """As a plan has it."""
    return ValueData(value.type, value.data.hex())


def set_value(key: str, name: str, value: Data, before: Data | None = None) -> SetValue:
    """An edit."""
    return SetValue(key, name, value.type, value.data.hex(), data_of(before) if before is not None else None, "as a test")


def made(raw: bytes, *edits: HiveEdit) -> bytes:
    """A hive with edits; everything else in it is as it was, and other readers see the same."""
    after = edit(raw, (), edits)
    assert problems(Hive(raw), Hive(after), edits) == ()
    assert patched(raw, patches(raw, after)) == after
    assert_lists_are_in_order(after)
    assert by_us(after) == by_libregf(after)
    base = c.BaseBlock.of(after)
    assert base is not None
    assert not base.is_dirty
    # applied twice it changes nothing but the count of writes
    assert edit(after, (), edits)[c.BASE_BLOCK_BYTES :] == after[c.BASE_BLOCK_BYTES :]
    return after


def assert_lists_are_in_order(raw: bytes) -> None:
    """Sorted by the codes of upper case, hashed and hinted right, counts and largest lengths right: how Windows searches."""
    hive = Hive(raw)
    for _, key in hive.walk():
        if key.subkeys_offset == c.NOWHERE:
            continue
        names = [child.name for child in key.subkeys()]
        assert [c.upper(n).encode("utf-16-be") for n in names] == sorted(c.upper(n).encode("utf-16-be") for n in names)
        for leaf in hive.leaves(key.subkeys_offset):
            kind, element, count = hive.leaf(leaf)
            for at in range(4, 4 + element * count, element):
                place, mark = struct.unpack_from("<I4s", hive.cell(leaf), at)
                child = next(child for child in key.subkeys() if child.offset == place)
                if kind == c.HASH_LEAF:
                    assert mark == struct.pack("<I", c.name_hash(child.name))
                elif kind == c.FAST_LEAF:
                    assert mark == c.name_hint(child.name)
    assert hive.remarks == []


@pytest.mark.parametrize("minor", [3, 4, 5])
def test_a_value_is_changed_in_place(minor: int) -> None:
    raw = own_hive(_TREE, minor=minor)
    after = made(raw, set_value(_CRASH, "autoreboot", dword(0), dword(1)))
    assert len(after) == len(raw)
    assert len(patches(raw, after)) <= 2
    key = Hive(after).key(_CRASH)
    assert key is not None
    assert [(v.name, v.number()) for v in key.values()][:1] == [("AutoReboot", 0)]


@pytest.mark.parametrize("minor", [3, 5])
@pytest.mark.parametrize("size", [0, 1, 4, 5, 100, 16344, 16345, 16349, 60_000])
def test_values_of_every_size_are_added_and_replaced(tmp_path: Path, size: int, minor: int) -> None:
    raw = own_hive(_TREE, minor=minor)
    value = binary(random.Random(size).randbytes(size))
    after = edit(raw, (), [set_value(_CRASH, "New", value)])
    assert problems(Hive(raw), Hive(after), [set_value(_CRASH, "New", value)]) == ()
    key = Hive(after).key(_CRASH)
    assert key is not None
    assert [v.name for v in key.values()] == ["AutoReboot", "DumpFile", "New"]
    if size not in (1, 16345):  # see test_regf
        assert by_us(after) == by_libregf(after)
        (tmp_path / "hive").write_bytes(after)
        assert by_hivex(tmp_path / "hive") == by_us(after)
    smaller = made(after, set_value(_CRASH, "New", sz("five"), value))
    assert len(smaller) <= len(after) + 4096


def test_a_new_service_is_made_key_by_key() -> None:
    raw = own_hive(_TREE)
    service = f"{_SERVICES}\\viostor"
    edits: list[HiveEdit] = [
        AddKey(service, "t"), set_value(service, "Start", dword(0)),
        set_value(service, "ImagePath", sz("system32\\drivers\\viostor.sys")),
        AddKey(f"{service}\\Parameters", "t"), AddKey(f"{service}\\Parameters\\PnpInterface", "t"),
        set_value(f"{service}\\Parameters\\PnpInterface", "5", dword(1)),
    ]  # fmt: skip
    after = made(raw, *edits)
    key = Hive(after).key(f"{service}\\Parameters\\PnpInterface")
    assert key is not None
    assert key.security() == security_descriptor()
    (value,) = key.values()
    assert (value.name, value.number()) == ("5", 1)
    names = [child.name for child in Hive(after).key(_SERVICES).subkeys()]  # type: ignore[union-attr]
    assert names == ["disk", "Tcpip", "viostor", "日本"]
    assert _references(after) == len(list(Hive(after).walk())) == _references(raw) + 3


def test_names_are_sorted_and_hashed_as_windows_does_it() -> None:
    # strcasecmp has the underscore before letters, Windows behind them; and neither hashes bytes of UTF-8
    raw = own_hive({"A": {}, "AB": {}})
    names = ["a_b", "A^", "aa", "Z", "Ärger", "äb", "ключ", "[x]", "_first"]
    after = made(raw, *(AddKey(name, "t") for name in names))
    found = [key.name for key in Hive(after).root.subkeys()]
    assert found == sorted(["A", "AB", *names], key=lambda name: c.upper(name).encode("utf-16-be"))
    assert found.index("a_b") > found.index("aa")


@pytest.mark.parametrize("minor, kind", [(2, c.INDEX_LEAF), (3, c.FAST_LEAF), (4, c.FAST_LEAF), (5, c.HASH_LEAF), (6, c.HASH_LEAF)])
def test_lists_are_of_the_kind_that_the_version_has(minor: int, kind: bytes) -> None:
    raw = HiveWriter(minor).hive(Node("ROOT", subkeys=[Node("a", kind=b"li"), Node("b")], kind=b"li"))
    after = edit(raw, (), [AddKey("c", "t"), AddKey("a\\x", "t")])
    hive = Hive(after)
    assert hive.leaf(hive.root.subkeys_offset)[0] == kind
    assert [path for path, _ in hive.walk()] == [(), ("a",), ("a", "x"), ("b",), ("c",)]


@pytest.mark.parametrize("count", [7, 8, 40])
def test_long_lists_are_divided(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hive_editor.LEAF_ELEMENTS_AT_MOST == 511
    monkeypatch.setattr(hive_editor, "LEAF_ELEMENTS_AT_MOST", 7)
    raw = own_hive({})
    names = [f"Key{n:05d}" for n in range(count)]
    random.Random(1).shuffle(names)
    after = made(raw, *(AddKey(name, "t") for name in names))
    hive = Hive(after)
    leaves = [hive.leaf(leaf)[2] for leaf in hive.leaves(hive.root.subkeys_offset)]
    assert (len(leaves) > 1) is (count > 7)
    assert max(leaves) <= 7
    assert sorted(key.name for key in hive.root.subkeys()) == sorted(names)
    digest = {key.name: subtree_digest(key) for key in hive.root.subkeys()}
    less = made(after, *(DeleteKey(name, digest[name], "t") for name in names[: count - 5]))
    assert len(list(Hive(less).root.subkeys())) == 5
    none = made(less, *(DeleteKey(name, digest[name], "t") for name in names[count - 5 :]))
    assert list(Hive(none).root.subkeys()) == []


def test_a_divided_list_grows_in_the_right_leaf() -> None:
    children = [Node(f"Key{n:02d}") for n in range(12)]
    raw = HiveWriter().hive(Node("ROOT", subkeys=children, per_leaf=4))
    after = made(raw, AddKey("Key05a", "t"), AddKey("Aaa", "t"), AddKey("Zzz", "t"))
    assert [key.name for key in Hive(after).root.subkeys()] == sorted(["Aaa", "Zzz", "Key05a", *(node.name for node in children)])


def test_keys_and_values_are_removed_with_all_that_is_theirs() -> None:
    raw = own_hive(_TREE)
    tcpip = Hive(raw).key(f"{_SERVICES}\\Tcpip")
    assert tcpip is not None
    after = made(
        raw,
        DeleteKey(f"{_SERVICES}\\tcpip", subtree_digest(tcpip), "t"),
        DeleteValue(_CRASH, "DumpFile", data_of(sz("%SystemRoot%\\MEMORY.DMP")), "t"),
        DeleteValue(_CRASH, "AutoReboot", data_of(dword(1)), "t"),
    )
    hive = Hive(after)
    assert hive.key(f"{_SERVICES}\\Tcpip") is None
    assert list(hive.key(_CRASH).values()) == []  # type: ignore[union-attr]
    # what was freed is free: nothing of it is an allocated cell any more
    assert _allocated(after) < _allocated(raw)
    again = made(after, set_value(_CRASH, "AutoReboot", dword(0)))
    assert _references(again) == len(list(Hive(again).walk()))


def _allocated(raw: bytes) -> int:
    return sum(1 for _ in _cells(raw))


def _cells(raw: bytes) -> Any:
    at = c.BASE_BLOCK_BYTES
    while at < len(raw):
        size = struct.unpack_from("<I", raw, at + 8)[0]
        end, at = at + size, at + c.BIN_HEADER_BYTES
        while at < end:
            (length,) = struct.unpack_from("<i", raw, at)
            if length < 0:
                yield raw[at + 4 : at - length]
            at += abs(length)
        assert at == end


def _references(raw: bytes) -> int:
    """How many keys the security descriptors say that they are used by."""
    return sum(struct.unpack_from("<I", cell, 12)[0] for cell in _cells(raw) if cell[:2] == b"sk")


def test_the_last_key_with_a_security_descriptor_takes_it_along() -> None:
    writer = HiveWriter()
    root = Node("ROOT", subkeys=[Node("own"), Node("shared")])
    writer.put_all(root)
    first, descriptor = writer.security, security_descriptor()
    own = writer.cell(struct.pack("<2sHIIII", b"sk", 0, first, first, 1, len(descriptor)) + descriptor)
    writer.patch(first, struct.pack("<III", own, own, 2), 4)
    writer.patch(root.subkeys[0].at, struct.pack("<I", own), 44)
    raw = writer.data(root.at)
    key = Hive(raw).key("own")
    assert key is not None
    after = made(raw, DeleteKey("own", subtree_digest(key), "t"))
    (left,) = [cell for cell in _cells(after) if cell[:2] == b"sk"]
    assert struct.unpack_from("<III", left, 4) == (first, first, 2)


def test_a_security_descriptor_that_counts_too_few_keys_stays() -> None:
    writer = HiveWriter()
    root = Node("ROOT", subkeys=[Node("a"), Node("b")])
    writer.put_all(root)
    writer.patch(writer.security, struct.pack("<I", 1), 12)
    raw = writer.data(root.at)
    key = Hive(raw).key("a")
    assert key is not None
    after = made(raw, DeleteKey("a", subtree_digest(key), "t"))
    assert Hive(after).root.security() == security_descriptor()


def test_what_is_found_otherwise_is_refused() -> None:
    raw = own_hive(_TREE)
    wrong: list[HiveEdit] = [
        set_value(_CRASH, "AutoReboot", dword(0), dword(7)),
        set_value(_CRASH, "AutoReboot", dword(0), None),
        set_value(_CRASH, "New", dword(0), dword(1)),
        set_value("Gone", "New", dword(0)),
        DeleteValue(_CRASH, "AutoReboot", data_of(dword(0)), "t"),
        AddKey("Gone\\Below", "t"),
        DeleteKey(_CRASH, "0" * 64, "t"),
    ]
    for each in wrong:
        with pytest.raises(BadHive, match="not as planned"):
            edit(raw, (), [each])


def test_names_longer_than_windows_has_them_are_refused() -> None:
    raw = own_hive(_TREE)
    for each in (AddKey("x" * 256, "t"), set_value(_CRASH, "x" * 16384, dword(0))):
        with pytest.raises(BadHive, match="longer"):
            edit(raw, (), [each])
    made(raw, AddKey("x" * 255, "t"))


def test_a_damaged_hive_is_not_edited() -> None:
    writer = HiveWriter()
    root = Node("ROOT", [("v", 4, b"1234")], [Node("a", [("x", 4, b"1234")])])
    writer.put_all(root)
    writer.patch(root.subkeys[0].at, struct.pack("<II", 9, 0x7777), 36)
    with pytest.raises(BadHive, match="no cell"):
        edit(writer.data(root.at), (), [set_value("a", "y", dword(1))])


def test_a_dirty_hive_is_replayed_first_and_is_beyond_its_logs_afterwards() -> None:
    old, new = own_hive(_TREE), own_hive({**_TREE, _CRASH: {"AutoReboot": dword(1), "Late": dword(9)}})
    hive = with_sequences(old, 9, 8)
    log = new_log(hive, [log_entry(pages_that_differ(old, new), sequence=8, bins_bytes=len(new) - 4096)], sequence=8)
    change = set_value(_CRASH, "AutoReboot", dword(0), dword(1))
    after = edit(hive, [log], [change])
    key = Hive(after).key(_CRASH)
    assert key is not None
    assert {v.name: v.number() for v in key.values()} == {"AutoReboot": 0, "Late": 9}
    primary, secondary = struct.unpack_from("<II", after, 4)
    assert primary == secondary > 9
    with pytest.raises(BadHive, match="no log"):
        edit(hive, [], [change])


def test_what_stands_behind_the_bins_does_not_make_a_hive_shorter() -> None:
    raw = own_hive(_TREE) + b"\xaa" * 20_000
    after = made(raw, set_value(_CRASH, "New", binary(bytes(9000))))
    assert len(after) == len(raw)
    assert after.endswith(b"\xaa" * 5000)
    assert made(raw, set_value(_CRASH, "AutoReboot", dword(0), dword(1))).endswith(b"\xaa" * 20_000)


def test_a_change_that_nobody_planned_is_told() -> None:
    raw = own_hive(_TREE)
    planned = [set_value(_CRASH, "AutoReboot", dword(0), dword(1))]
    others: list[HiveEdit] = [
        set_value(_SERVICES + "\\disk", "Start", dword(4), dword(0)), set_value(_CRASH, "New", dword(1)),
        AddKey("ControlSet002", "t"), DeleteValue("Select", "Current", data_of(dword(1)), "t"),
        DeleteKey("Select", subtree_digest(Hive(raw).key("Select")), "t"),  # type: ignore[arg-type]
    ]  # fmt: skip
    for other in others:
        after = edit(raw, (), [*planned, other])
        assert len(problems(Hive(raw), Hive(after), planned)) == 1, other
        assert problems(Hive(raw), Hive(after), [*planned, other]) == ()
    assert problems(Hive(raw), Hive(raw), planned) == (f"{_CRASH}: is not as planned",)


@pytest.mark.parametrize("field, new", [(4, b"\1" * 8), (44, None), (48, None)])
def test_another_time_class_or_security_descriptor_is_told(field: int, new: bytes | None) -> None:
    def written(changed: bool) -> bytes:
        writer = HiveWriter()
        root = Node("ROOT", subkeys=[Node("a", class_name="abc")])
        writer.put_all(root)
        other = writer.cell(struct.pack("<2sHIIII", b"sk", 0, 0, 0, 1, 20) + bytes(20))
        name = writer.cell("xyz".encode("utf-16-le"))
        if changed:
            writer.patch(root.subkeys[0].at, new or struct.pack("<I", other if field == 44 else name), field)
        return writer.data(root.at)

    assert len(problems(Hive(written(False)), Hive(written(True)), ())) == 1
    assert problems(Hive(written(False)), Hive(written(False)), ()) == ()


_NAMES = st.text(st.sampled_from("abzAZ_^[09 äÖ日"), min_size=1, max_size=6)
_STEPS = st.lists(st.tuples(_NAMES, _NAMES, st.binary(max_size=40)), min_size=1, max_size=25)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=_STEPS, minor=st.sampled_from((3, 5)))
def test_the_same_as_hivex_writes_is_written(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, bytes]], minor: int
) -> None:
    raw = own_hive(_TREE, minor=minor)
    path = tmp_path_factory.mktemp("hive") / "hive"
    path.write_bytes(raw)
    theirs = hivex.Hivex(str(path), write=True)
    edits: list[HiveEdit] = []
    seen: set[tuple[str, ...]] = set()
    for key, name, data in steps:
        if (c.upper(key),) not in seen:
            seen.add((c.upper(key),))
            edits.append(AddKey(key, "t"))
            theirs.node_add_child(theirs.root(), key)
        if (c.upper(key), c.upper(name)) not in seen:
            seen.add((c.upper(key), c.upper(name)))
            edits.append(SetValue(key, name, 3, data.hex(), None, "t"))
            node = next(n for n in theirs.node_children(theirs.root()) if c.upper(theirs.node_name(n)) == c.upper(key))
            theirs.node_set_value(node, {"key": name, "t": 3, "value": data})
    theirs.commit(None)
    ours = edit(raw, (), edits)
    assert_lists_are_in_order(ours)
    assert by_us(ours) == by_us(path.read_bytes()) == by_hivex(path)
    path.write_bytes(ours)
    assert by_hivex(path) == by_us(ours)


def test_libregf_finds_new_keys_by_path() -> None:
    after = made(own_hive(_TREE), AddKey(f"{_SERVICES}\\vioscsi", "t"), set_value(f"{_SERVICES}\\vioscsi", "Start", dword(0)))
    file = pyregf.file()
    file.open_file_object(io.BytesIO(after))
    assert file.get_key_by_path(f"\\{_SERVICES}\\vioscsi").get_value(0).data_as_integer == 0


def _swapped(raw: bytes, spoil: Any) -> bytes:
    copy = bytearray(raw)
    spoil(copy)
    return bytes(copy)


def test_cells_that_differ_are_traced_to_the_keys_that_edits_are_about() -> None:
    raw = own_hive(_TREE)
    tcpip = Hive(raw).key(f"{_SERVICES}\\Tcpip")
    assert tcpip is not None
    edits: list[HiveEdit] = [
        set_value(_CRASH, "AutoReboot", dword(0), dword(1)), set_value(_CRASH, "Big", binary(bytes(40_000))),
        AddKey(f"{_SERVICES}\\viostor", "t"), DeleteKey(f"{_SERVICES}\\Tcpip", subtree_digest(tcpip), "t"),
        DeleteValue("Select", "Current", data_of(dword(1)), "t"),
    ]  # fmt: skip
    after = edit(raw, (), edits)
    assert only_touched(Hive(raw), Hive(after), edits)
    for number in range(len(edits)):
        rest = edits[:number] + edits[number + 1 :]
        assert problems(Hive(raw), Hive(after), rest), edits[number]
    replaced = edit(after, (), [set_value(_CRASH, "Big", dword(1), binary(bytes(40_000)))])
    assert only_touched(Hive(after), Hive(replaced), [set_value(_CRASH, "Big", dword(1), binary(bytes(40_000)))])


@pytest.mark.parametrize("of", ["Start", "Group", "disk", "日本"])
def test_a_byte_of_another_key_that_differs_is_found(of: str) -> None:
    raw = own_hive(_TREE)
    change = set_value(_CRASH, "AutoReboot", dword(0), dword(1))
    after = edit(raw, (), [change])
    name = of.encode("latin-1") if of.isascii() else of.encode("utf-16-le")

    def spoil(copy: bytearray) -> None:
        # the last letter of a name, or with it the place of what belongs to it
        copy[copy.rindex(name) + len(name) - 1] ^= 1

    spoilt = _swapped(after, spoil)
    assert not only_touched(Hive(raw), Hive(spoilt), [change])
    assert problems(Hive(raw), Hive(spoilt), [change])


def test_a_security_descriptor_that_a_removed_key_shared_stays_as_it_is() -> None:
    writer = HiveWriter()
    root = Node("ROOT", subkeys=[Node("a"), Node("b")])
    writer.put_all(root)
    raw = writer.data(root.at)
    key = Hive(raw).key("a")
    assert key is not None
    edits = [DeleteKey("a", subtree_digest(key), "t")]
    after = edit(raw, (), edits)
    assert only_touched(Hive(raw), Hive(after), edits)

    def spoil(copy: bytearray) -> None:
        copy[copy.index(security_descriptor()) + 30] ^= 1

    assert problems(Hive(raw), Hive(_swapped(after, spoil)), edits)


def test_a_key_that_was_put_in_anothers_place_is_found() -> None:
    writer = HiveWriter()
    root = Node("ROOT", subkeys=[Node("a", [("x", 4, b"1234")])])
    writer.put_all(root)
    before = writer.data(root.at)
    # another key of the same name and parent, in new cells; the old one is still there, and nothing leads to it
    node = bytes(writer.bins[root.subkeys[0].at + 4 : root.subkeys[0].at + 4 + 77])
    other = writer.cell(node)
    value = writer.value("x", 4, b"9999")
    writer.patch(other, struct.pack("<I", writer.cell(struct.pack("<I", value))), 40)
    listed = struct.unpack_from("<I", writer.bins, root.at + 4 + 28)[0]
    writer.patch(listed, struct.pack("<I", other), 4)
    after = writer.data(root.at)
    edits = [AddKey("b", "t")]
    assert not only_touched(Hive(before), Hive(after), edits)
    assert any("values of A differ" in problem for problem in problems(Hive(before), Hive(after), edits))
