"""A page's budget is shared fairly."""

from __future__ import annotations

from p2v.pages.markup import Markup
from p2v.pages.shares import fair_share, fitting


def test_fair_shares() -> None:
    assert fair_share([], 100, 60) == 60
    assert fair_share([10, 20, 30], 60, 60) == 60
    assert fair_share([10, 100, 100], 100, 80) == 45
    assert fair_share([1000] * 10, 100, 80) == 10
    assert fair_share([1000], 100, 80) == 80


def test_parts_fit_until_one_does_not() -> None:
    parts = [Markup("x" * 10)] * 5
    assert len(fitting(parts, 35)) == 3
    assert len(fitting(parts, 50)) == 5
    assert len(fitting(parts, 9)) == 0
