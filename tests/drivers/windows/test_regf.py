"""Our reader of hives, against hivex and libregf over hives that hivex wrote, and over layouts that hivex does not write."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hivex
import pyregf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.windows import c_regf as c
from drivers.windows.regf import Hive, Value
from tests.drivers.windows.hive_writer import HiveWriter, Node
from tests.fixtures.hives import (
    Data,
    binary,
    dword,
    empty_hive,
    expand_sz,
    make_hive,
    multi_sz,
    qword,
    security_descriptor,
    sz,
)

Contents = dict[tuple[str, ...], list[tuple[str, int, bytes]]]


def by_us(data: bytes) -> Contents:
    """Every key with its values, by the reader under test."""
    hive = Hive(data)
    found = {path: [(v.name, v.type, v.data) for v in key.values()] for path, key in hive.walk()}
    assert hive.remarks == []
    return found


def by_hivex(path: Path) -> Contents:
    """The same by hivex."""
    hive = hivex.Hivex(str(path))

    def visit(node: int, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        values = [(hive.value_key(v), *hive.value_value(v)) for v in hive.node_values(node)]
        yield names, values
        for child in hive.node_children(node):
            yield from visit(child, (*names, hive.node_name(child)))

    return {names: [(name, kind, bytes(data)) for name, kind, data in values] for names, values in visit(hive.root(), ())}


def by_libregf(data: bytes) -> Contents:
    """The same by libregf."""
    file = pyregf.file()
    file.open_file_object(io.BytesIO(data))

    def visit(key: Any, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        yield names, [(value.name or "", value.type, value.data or b"") for value in key.values]
        for child in key.sub_keys:
            yield from visit(child, (*names, child.name))

    return dict(visit(file.get_root_key(), ()))


# no backslash: a path has them between names; hivex takes names as UTF-8 without NUL; libregf reads Latin-1 as Windows-1252
_LEFT_OUT = "\\\0" + "".join(map(chr, range(0x80, 0xA0)))
_NAMES = st.text(st.characters(codec="utf-8", exclude_characters=_LEFT_OUT), min_size=1, max_size=12)
_VALUES = st.dictionaries(
    st.one_of(st.just(""), _NAMES),
    st.builds(Data, st.integers(0, 15), st.one_of(st.binary(max_size=12), st.binary(min_size=100, max_size=300))),
    max_size=4,
)


_TEXTS = frozenset({c.REG_SZ, c.REG_EXPAND_SZ, c.REG_MULTI_SZ, c.REG_LINK})


def _distinct(names: list[str]) -> list[str]:
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(c.upper(name).lower(), name)
    return list(found.values())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(_NAMES, max_size=8).map(_distinct), st.data(), st.sampled_from([3, 4, 5, 6]))
def test_three_readers_agree_about_hives_that_hivex_wrote(
    tmp_path: Path, names: list[str], data: st.DataObject, minor: int
) -> None:
    tree: dict[str, dict[str, Data]] = {"": data.draw(_VALUES)}
    for number, name in enumerate(names):
        above = "" if number % 3 == 0 else f"{names[number - 1]}\\"
        tree[above + name] = {
            key: value for key, value in data.draw(_VALUES).items() if c.upper(key) == key or key.islower()
        }
    raw = make_hive(tree, minor=minor)
    path = tmp_path / "hive"
    path.write_bytes(raw)
    ours = by_us(raw)
    assert ours == by_hivex(path)
    theirs = by_libregf(raw)
    assert _names_and_types(ours) == _names_and_types(theirs)
    for key_path, values in ours.items():
        # libregf 20260526 gives other bytes than hivex and the format's description for one to three bytes kept in place
        # and leaves out what is behind the end of a text whose bytes are odd in number
        pairs = [pair for pair in zip(values, theirs[key_path], strict=True) if len(pair[0][2]) not in (1, 2, 3)]
        pairs = [(one, other) for one, other in pairs if one[1] not in _TEXTS or len(one[2]) % 2 == 0]
        assert [one for one, _ in pairs] == [other for _, other in pairs]


def _names_and_types(contents: Contents) -> dict[tuple[str, ...], list[tuple[str, int]]]:
    return {path: [(name, kind) for name, kind, _ in values] for path, values in contents.items()}


def test_an_empty_hive_has_a_root_and_nothing_else() -> None:
    hive = Hive(empty_hive())
    assert [path for path, _ in hive.walk()] == [()]
    assert hive.root.security() == security_descriptor()
    assert hive.root.flags & c.KEY_HIVE_ENTRY


def test_values_are_understood_by_their_type() -> None:
    raw = make_hive(
        {"A": {"s": sz("one"), "e": expand_sz("%SystemRoot%"), "m": multi_sz("a", "b"), "d": dword(7), "q": qword(1 << 40),
               "b": binary(b"\1\2\3\4\5"), "big": Data(c.REG_DWORD_BIG_ENDIAN, b"\0\0\1\0"), "short": Data(c.REG_DWORD, b"\1")}}
    )  # fmt: skip
    key = Hive(raw).key("a")
    assert key is not None
    assert {v.name: v.text() for v in key.values() if v.text() is not None} == {"s": "one", "e": "%SystemRoot%"}
    assert {v.name: v.number() for v in key.values() if v.number() is not None} == {"d": 7, "q": 1 << 40, "big": 256}
    assert [v.texts() for v in key.values() if v.texts() is not None] == [("a", "b")]


def test_texts_end_where_windows_ends_them() -> None:
    odd = "ab".encode("utf-16-le") + b"c"
    assert Value("", c.REG_SZ, odd).text() == "ab"
    assert Value("", c.REG_SZ, "a\0b\0".encode("utf-16-le")).text() == "a"
    assert Value("", c.REG_SZ, b"\0\xd8").text() == "\ud800"
    assert Value("", c.REG_MULTI_SZ, "a\0\0b\0\0".encode("utf-16-le")).texts() == ("a",)
    assert Value("", c.REG_MULTI_SZ, b"").texts() == ()


@pytest.mark.parametrize("kind", [b"li", b"lf", b"lh"])
@pytest.mark.parametrize("per_leaf", [0, 3])
def test_every_kind_of_list_is_read(kind: bytes, per_leaf: int) -> None:
    children = [Node(f"Key{n:02d}", [("n", 4, struct.pack("<I", n))]) for n in range(10)]
    raw = HiveWriter(minor=3 if kind == b"lf" else 5).hive(Node("ROOT", subkeys=children, kind=kind, per_leaf=per_leaf))
    assert by_us(raw) == by_libregf(raw)
    hive = Hive(raw)
    key = hive.key("KEY07")
    assert key is not None
    assert [value.number() for value in key.values()] == [7]
    assert hive.key("Key10") is None
    assert hive.key("Key01\\below") is None


def test_class_names_times_and_wide_names_are_read() -> None:
    written = 133000000000000000
    child = Node("日本", class_name="Klasse", written=written, values=[("Größe", 1, b""), ("ключ", 3, b"12345")])
    hive = Hive(HiveWriter().hive(Node("ROOT", subkeys=[child])))
    key = hive.root.subkey("日本")
    assert key is not None
    assert (key.class_name().decode("utf-16-le"), key.written) == ("Klasse", written)
    assert [(v.name, v.data) for v in key.values()] == [("Größe", b""), ("ключ", b"12345")]
    assert key.value("КЛЮЧ") is not None
    assert hive.root.class_name() == b""


@pytest.mark.parametrize("size", [16344, 16345, 16349, 3 * 16344, 100_000])
@pytest.mark.parametrize("minor", [3, 5])
def test_big_values_are_put_together_from_their_segments(tmp_path: Path, size: int, minor: int) -> None:
    data = random.Random(size).randbytes(size)
    raw = HiveWriter(minor).hive(Node("ROOT", [("big", 3, data)]))
    value = Hive(raw).root.value("big")
    assert value is not None
    assert value.data == data
    (tmp_path / "hive").write_bytes(raw)
    if size != 16345:  # both others lose a last segment of one to four bytes
        assert by_hivex(tmp_path / "hive") == by_us(raw)
        assert by_libregf(raw) == by_us(raw)


def test_a_big_value_without_segments_is_left_out_as_windows_could_not_read_it() -> None:
    # hivex writes one cell of any size, whatever the version: from 1.4 on Windows looks for segments
    raw = make_hive({"A": {"big": binary(bytes(20000)), "small": dword(1)}})
    hive = Hive(raw)
    key = hive.key("A")
    assert key is not None
    assert [value.name for value in key.values()] == ["small"]
    assert len(hive.remarks) == 1


def test_names_that_no_path_can_have_are_told_as_they_are() -> None:
    names = ["with\0nul", "with\nnewline", "lone\ud800half", "back\\slash"]
    raw = HiveWriter().hive(Node("ROOT", subkeys=[Node(name) for name in names], values=[(n, 1, b"") for n in names]))
    hive = Hive(raw)
    assert sorted(key.name for key in hive.root.subkeys()) == sorted(names)
    assert [value.name for value in hive.root.values()] == names
    assert hive.key("back\\slash") is None


def test_a_predefined_handle_has_no_values() -> None:
    # its count of values is the handle
    raw = bytearray(HiveWriter().hive(Node("ROOT", subkeys=[Node("Perf", [("a", 4, b"1234")], flags=c.KEY_PREDEF_HANDLE)])))
    key = Hive(bytes(raw)).key("Perf")
    assert key is not None
    assert list(key.values()) == []


def test_values_cost_what_they_hold_in_a_hive_of_many_bins() -> None:
    tree = {f"Key{n:03d}\\Below": {"text": sz(f"value {n}" * 20)} for n in range(400)}
    raw = make_hive(tree)
    assert len(raw) > 100_000
    assert len(by_us(raw)) == 801
    assert by_us(raw) == by_libregf(raw)
