"""Hives that somebody spoilt: a finding in words, or a part left out with a remark; never a crash, and never for long."""

from __future__ import annotations

import random
import struct
import time
from collections import Counter

import pytest

from drivers.windows.hive_log import recover
from drivers.windows.regf import DEPTH_AT_MOST, BadHive, Hive
from tests.drivers.windows.hive_writer import NOWHERE, HiveWriter, Node, log_entry, new_log, old_log, with_sequences
from tests.fixtures.hives import dword, make_hive, multi_sz, seal, sz

_LIST_AT, _VALUES_AT, _SECURITY_AT, _CLASS_AT, _PARENT_AT = 28, 40, 44, 48, 16
_SUBKEYS_AT, _COUNT_AT = 20, 36


def exercise(data: bytes) -> Hive:
    """Read all there is."""
    hive = Hive(data)
    for _, key in hive.walk():
        list(key.values())
        for part in (key.class_name, key.security):
            try:
                part()
            except BadHive:
                continue
    return hive


def _sample() -> tuple[HiveWriter, Node]:
    writer = HiveWriter()
    root = Node("ROOT", [("v", 4, b"1234"), ("text", 1, b"0123456789")],
                [Node("a", [("x", 3, b"123456")], [Node("deep")], class_name="cls"), Node("b")])  # fmt: skip
    writer.put_all(root)
    return writer, root


def test_a_key_that_lists_its_parent_is_no_cycle() -> None:
    writer, root = _sample()
    inner = root.subkeys[0].subkeys[0]
    loop = writer.cell(struct.pack("<2sHII", b"lh", 1, root.subkeys[0].at, 0))
    writer.patch(inner.at, struct.pack("<I", 1), _SUBKEYS_AT)
    writer.patch(inner.at, struct.pack("<I", loop), _LIST_AT)
    hive = exercise(writer.data(root.at))
    assert [path for path, _ in hive.walk()] == [(), ("a",), ("a", "deep"), ("b",)]
    assert any("belongs to another key" in remark for remark in hive.remarks)


def test_a_key_listed_twice_counts_once() -> None:
    writer, root = _sample()
    a = root.subkeys[0].at
    twice = writer.cell(struct.pack("<2sHIIII", b"lh", 2, a, 0, a, 0))
    writer.patch(root.at, struct.pack("<I", twice), _LIST_AT)
    hive = exercise(writer.data(root.at))
    assert [key.name for key in hive.root.subkeys()] == ["a"]
    assert any("listed twice" in remark for remark in hive.remarks)


def test_keys_ten_thousand_deep_end_where_windows_ends() -> None:
    root = Node("ROOT")
    at = root
    for number in range(10_000):
        child = Node(f"k{number}")
        at.subkeys.append(child)
        at = child
    hive = Hive(HiveWriter().hive(root))
    assert max(len(path) for path, _ in hive.walk()) == DEPTH_AT_MOST
    assert hive.remarks == [f"keys more than {DEPTH_AT_MOST} deep are left out"]


@pytest.mark.parametrize(
    "field, wrong",
    [(_LIST_AT, 0x7FFFFFF0), (_LIST_AT, 4), (_VALUES_AT, 0x7FFFFFF0), (_COUNT_AT, 0x40000000), (_SUBKEYS_AT, 0xFFFF)],
)
def test_what_leads_nowhere_is_left_out_with_a_remark(field: int, wrong: int) -> None:
    writer, root = _sample()
    writer.patch(root.at, struct.pack("<I", wrong), field)
    hive = exercise(writer.data(root.at))
    assert hive.remarks
    assert hive.root.name == "ROOT"


@pytest.mark.parametrize("field", [_CLASS_AT, _SECURITY_AT])
def test_a_class_name_or_descriptor_that_leads_nowhere_is_said_by_who_reads_it(field: int) -> None:
    writer, root = _sample()
    key = root.subkeys[0]
    writer.patch(key.at, struct.pack("<I", 0x12345), field)
    found = Hive(writer.data(root.at)).key("a")
    assert found is not None
    with pytest.raises(BadHive):
        (found.class_name if field == _CLASS_AT else found.security)()


def test_the_middle_of_a_cell_is_no_cell() -> None:
    writer, root = _sample()
    # a whole key hidden inside the data of a value
    hidden = bytes(writer.bins[root.subkeys[1].at : root.subkeys[1].at + 88])
    at = writer.cell(bytes(4) + hidden) + 8
    writer.patch(root.at, struct.pack("<I", writer.cell(struct.pack("<2sHII", b"lh", 1, at, 0))), _LIST_AT)
    hive = exercise(writer.data(root.at))
    assert list(hive.root.subkeys()) == []
    assert any("there is no cell" in remark for remark in hive.remarks)


@pytest.mark.parametrize("size", [0, -4, 4, -12, 12, -1 << 31, (1 << 31) - 8, -8192])
def test_a_cell_of_a_wrong_size_ends_its_bin(size: int) -> None:
    writer, root = _sample()
    struct.pack_into("<i", writer.bins, root.subkeys[0].at, size)
    assert exercise(writer.data(root.at)).remarks


@pytest.mark.parametrize(
    "at, new, told",
    [
        (0, b"fger", "does not begin"),
        (20, struct.pack("<I", 2), "version"),
        (24, struct.pack("<I", 1), "version"),
        (24, struct.pack("<I", 99), "version"),
        (28, struct.pack("<I", 1), "primary file"),
        (40, struct.pack("<I", 0), "bins"),
        (40, struct.pack("<I", 0xFFFFF000), "bins"),
        (40, struct.pack("<I", 4097), "bins"),
        (36, struct.pack("<I", 0x24), "no cell"),
        (36, struct.pack("<I", 0xFFFFFFF0), "no cell"),
        (4096, b"nibh", "no bin"),
        (4104, struct.pack("<I", 0), "no bin"),
        (4104, struct.pack("<I", 0x10000), "no bin"),
    ],
)
def test_a_hive_of_which_nothing_can_be_told_is_refused(at: int, new: bytes, told: str) -> None:
    raw = bytearray(make_hive({"A": {"x": dword(1)}}))
    raw[at : at + len(new)] = new
    with pytest.raises(BadHive, match=told):
        Hive(bytes(raw))


@pytest.mark.parametrize("size", [0, 1, 511, 512, 4096, 4097, 8191])
def test_a_hive_that_is_cut_off_is_refused(size: int) -> None:
    whole = make_hive({})
    with pytest.raises(BadHive):
        Hive(whole[:size])
    with pytest.raises(BadHive):
        Hive(recover(whole[:size], ()).data)


def test_keys_that_share_one_long_list_are_not_read_a_million_times() -> None:
    writer = HiveWriter()
    children = [Node(f"k{n}") for n in range(1500)]
    root = Node("ROOT", subkeys=children)
    writer.put_all(root)
    value = writer.value("v", 4, b"1234")
    shared = writer.cell(struct.pack("<I", value) * 60_000)
    for child in children:
        writer.patch(child.at, struct.pack("<II", 60_000, shared), _COUNT_AT)
    started = time.process_time()
    with pytest.raises(BadHive, match="too many times"):
        exercise(writer.data(root.at))
    assert time.process_time() - started < 20


def test_an_index_that_names_one_leaf_thousands_of_times_reads_it_once() -> None:
    writer, root = _sample()
    leaf = writer.cell(struct.pack("<2sHII", b"lh", 1, root.subkeys[0].at, 0))
    many = writer.cell(struct.pack("<2sH", b"ri", 60_000) + struct.pack("<I", leaf) * 60_000)
    writer.patch(root.at, struct.pack("<I", many), _LIST_AT)
    assert [key.name for key in exercise(writer.data(root.at)).root.subkeys()] == ["a"]


def test_an_index_of_indexes_is_left_out() -> None:
    writer, root = _sample()
    at = writer.cell(bytes(8))
    writer.patch(at, struct.pack("<2sHI", b"ri", 1, at))
    writer.patch(root.at, struct.pack("<I", at), _LIST_AT)
    hive = exercise(writer.data(root.at))
    assert list(hive.root.subkeys()) == []
    assert hive.remarks


@pytest.mark.parametrize(
    "size, place",
    [(0x80000005, 0), (0xFFFFFFFF, 0), (20_000, NOWHERE), (1 << 30, 0x20), (16_000, 0x20)],
)
def test_a_value_whose_data_cannot_be_is_left_out(size: int, place: int) -> None:
    writer = HiveWriter()
    root = Node("ROOT", [("good", 4, b"1234")])
    writer.put_all(root)
    bad = writer.value("bad", 3, b"123456")
    writer.patch(bad, struct.pack("<II", size, place), 4)
    good = writer.value("good", 4, b"1234")
    writer.patch(root.at, struct.pack("<II", 2, writer.cell(struct.pack("<II", bad, good))), _COUNT_AT)
    hive = exercise(writer.data(root.at))
    assert [value.name for value in hive.root.values()] == ["good"]
    assert len(hive.remarks) == 1


def test_remarks_are_few_and_short() -> None:
    writer = HiveWriter()
    root = Node("ROOT", subkeys=[Node(str(n) + "x" * 30_000) for n in range(100)])
    writer.put_all(root)
    for child in root.subkeys:
        writer.patch(child.at, struct.pack("<II", 7, 0x777), _COUNT_AT)
    hive = exercise(writer.data(root.at))
    assert 1 < len(hive.remarks) <= 20
    assert all(len(remark) < 500 for remark in hive.remarks)


def _seeds() -> list[bytes]:
    made = make_hive({"Select": {"Current": dword(1)}, "ControlSet001\\Services\\disk": {"Start": dword(0), "T": multi_sz("a")},
                      "日本\\ü": {"": sz("text" * 100)}})  # fmt: skip
    root = Node("ROOT", [("big", 3, bytes(40_000))],
                [Node(f"k{n}", kind=kind, per_leaf=2, subkeys=[Node(f"s{i}") for i in range(5)], class_name="c")
                 for n, kind in enumerate((b"li", b"lf", b"lh"))])  # fmt: skip
    return [made, HiveWriter().hive(root)]


@pytest.mark.parametrize("seed", range(6))
def test_hives_with_bytes_changed_anywhere_are_read_or_refused(seed: int) -> None:
    noise, outcomes = random.Random(seed), Counter[str]()
    for raw in _seeds():
        for _ in range(150):
            data = bytearray(raw)
            for _ in range(noise.choice((1, 1, 2, 8))):
                at = noise.randrange(len(data)) if noise.random() < 0.2 else noise.randrange(4096, min(len(data), 6500))
                offset = struct.pack("<I", noise.randrange(20_000))
                new = noise.choice((noise.randbytes(1), b"\0\0\0\0", b"\xff\xff\xff\xff", offset))
                data[at : at + len(new)] = new
            seal(data)
            try:
                outcomes["partly" if exercise(bytes(data)).remarks else "read"] += 1
            except BadHive:
                outcomes["refused"] += 1
    # most bytes are nothing that a hive could not do without
    assert outcomes["read"] > outcomes["partly"] > outcomes["refused"] > 0


@pytest.mark.parametrize("seed", range(4))
def test_logs_with_bytes_changed_anywhere_are_applied_or_refused(seed: int) -> None:
    noise = random.Random(seed)
    hive = with_sequences(_seeds()[0], 9, 8)
    bins = len(hive) - 4096
    pages = {0: hive[4096:8192]}
    logs = [
        old_log(hive, pages, bins_bytes=bins, sequence=9),
        new_log(hive, [log_entry(pages, sequence=9, bins_bytes=bins)], sequence=9),
    ]
    for log in logs:
        outcomes = Counter[str]()
        for _ in range(200):
            data = bytearray(log)
            for _ in range(noise.choice((1, 2, 4))):
                data[noise.randrange(len(data)) if noise.random() < 0.3 else noise.randrange(600)] = noise.randrange(256)
            seal(data)
            try:
                recovered = recover(hive, [bytes(data)])
                exercise(recovered.data)
            except BadHive:
                outcomes["refused"] += 1
            else:
                assert recovered.applied == (0,)
                outcomes["applied"] += 1
        assert min(outcomes["applied"], outcomes["refused"]) > 10
