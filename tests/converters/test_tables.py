"""Allocation tables read by pages, and their runs."""

from __future__ import annotations

import struct
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.source_file import open_source
from converters.tables import PAGE_ENTRIES, EntryPages
from p2v.core.errors import BadImage

STEP = 3


def step_of(entry: int) -> int:
    """Zero is a hole, all else blocks of three sectors."""
    return STEP if entry else 0


def runs_of(entries: list[int], first: int, last: int) -> list[tuple[int, int, int]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        path.write_bytes(bytes(8) + struct.pack(f">{len(entries)}I", *entries))
        file = open_source(path)
        try:
            return list(EntryPages(file, 4, "big", "a table").runs(8, len(entries), first, last, step_of))
        finally:
            file.close()


@given(st.lists(st.sampled_from([0, 0, 1, 4, 5, 7, 10, 13, 14, 17, 20]), min_size=1, max_size=60), st.data())
def test_runs_give_back_the_entries_and_are_as_long_as_can_be(entries: list[int], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(entries)))
    last = data.draw(st.integers(first, len(entries)))
    runs = runs_of(entries, first, last)
    given_back = [value + step_of(value) * number for _, count, value in runs for number in range(count)]
    assert given_back == entries[first:last]
    for (index, count, value), (following, _, next_value) in pairwise(runs):
        assert following == index + count
        assert next_value != value + step_of(value) * count


def test_runs_cross_pages_of_the_table() -> None:
    entries = [0] * PAGE_ENTRIES + [9] + [0] * (PAGE_ENTRIES + 10)
    runs = runs_of(entries, 0, len(entries))
    assert sum(count for _, count, _ in runs) == len(entries)
    assert [(index, count) for index, count, value in runs if value] == [(PAGE_ENTRIES, 1)]


@given(st.lists(st.tuples(st.sampled_from([0, 0, 1, 4, 7, 10]), st.sampled_from([0, 0, 5])), min_size=1), st.data())
def test_runs_of_pairs_give_back_the_pairs_and_are_as_long_as_can_be(
    pairs: list[tuple[int, int]], data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(pairs)))
    last = data.draw(st.integers(first, len(pairs)))
    # enough zeroes before them that they cross a page
    before = data.draw(st.sampled_from([0, PAGE_ENTRIES // 2 - 3]))
    pairs = [(0, 0)] * before + pairs
    runs = pair_runs_of(pairs, before + first, before + last)
    given_back = [(value + step_of(value) * n, second) for _, count, value, second in runs for n in range(count)]
    assert given_back == pairs[before + first : before + last]
    for (index, count, value, second), (following, _, *next_pair) in pairwise(runs):
        assert following == index + count
        crosses = following * 2 % PAGE_ENTRIES == 0
        assert crosses or next_pair != [value + step_of(value) * count, second]


def pair_runs_of(pairs: list[tuple[int, int]], first: int, last: int) -> list[tuple[int, int, int, int]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table"
        path.write_bytes(bytes(8) + b"".join(struct.pack(">QQ", *pair) for pair in pairs))
        file = open_source(path)
        try:
            pages = EntryPages(file, 8, "big", "a table")
            return list(pages.pair_runs(8, len(pairs), first, last, lambda entry, _: step_of(entry)))
        finally:
            file.close()


def test_table_past_the_end_is_a_bad_image(tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_bytes(bytes(100))
    file = open_source(path)
    try:
        with pytest.raises(BadImage, match="a table"):
            EntryPages(file, 8, "little", "a table").entry(0, 1 << 40, 5)
    finally:
        file.close()
