"""Cells in the spellings that exports have."""

from __future__ import annotations

from datetime import date

import pytest

from p2v.audit.inventory import cells
from p2v.audit.inventory.cells import Cell
from p2v.core.units import MIB


@pytest.mark.parametrize(
    "cell, number",
    [
        (12.5, 12.5), ("12.5", 12.5), ("12,5", 12.5), ("1.234,5", 1234.5), ("1,234.5", 1234.5), ("1 234,5", 1234.5),
        ("1'234.5", 1234.5), ("0.123", 0.123), ("74 %", 74.0), ("-1", -1.0), ("", None), ("n/a", None), (None, None),
        (True, None), (float("nan"), None), (float("inf"), None), ("9" * 400, None), ("1e400", None), ("=1+1", None),
    ],
)  # fmt: skip
def test_number(cell: Cell, number: float | None) -> None:
    assert cells.number(cell) == number


@pytest.mark.parametrize(
    "cell, count",
    [("40.960", 40960), ("40,960", 40960), ("1.048.576", 1048576), (40960.0, 40960), ("-5", None), ("4096,0", 4096)],
)
def test_whole_numbers_have_groups_of_three_digits(cell: Cell, count: int | None) -> None:
    assert cells.count(cell) == count


def test_sizes_count_in_their_unit() -> None:
    assert cells.size("40.960", MIB) == 40960 * MIB
    assert cells.size(-1.0, MIB) is None
    assert cells.size(1e300, MIB) is None


@pytest.mark.parametrize(
    "cell, flag",
    [
        ("True", True), ("FALSE", False), ("Wahr", True), ("falsch", False), ("Yes", True), ("No", False), (1.0, True),
        (0.0, False), (True, True), ("", None), (None, None), ("perhaps", None), (2.0, None),
    ],
)  # fmt: skip
def test_flags(cell: Cell, flag: bool | None) -> None:
    assert cells.flag(cell) is flag


@pytest.mark.parametrize(
    "cell, day",
    [
        ("2026-11-20T10:00:00.000000Z", date(2026, 11, 20)), ("2026/11/20 10:00:00", date(2026, 11, 20)),
        ("20.11.2026 10:00", date(2026, 11, 20)), ("11/20/2026 10:00:00 AM", date(2026, 11, 20)),
        ("20/11/2026", date(2026, 11, 20)), ("03/04/2026", date(2026, 4, 3)), ("04/03/2026", date(2026, 4, 3)),
        (46346.5, date(2026, 11, 20)), (12.0, None), ("31.02.2026", None), ("", None), ("yesterday", None), (None, None),
        ("9999999999-01-01", None),
    ],
)  # fmt: skip
def test_days(cell: Cell, day: date | None) -> None:
    assert cells.day(cell) == day


def test_text_is_one_line_that_can_be_printed() -> None:
    assert cells.text("a\nb\x1b[31m\x00") == "a b\\x1b[31m\\x00"
    assert len(cells.text("x" * 1_000_000)) == cells.TEXT_AT_MOST
    assert cells.text(12345.0) == "12345"
