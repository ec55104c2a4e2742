"""Items and bins, as whole numbers, and the plain first fit."""

from __future__ import annotations

from collections.abc import Sequence

Item = tuple[int, ...]
"""What one item needs, a number for each dimension."""
Bins = list[list[int]]
"""The items of each bin, by their numbers."""


def shares(items: Sequence[Item], capacity: Item) -> list[tuple[float, ...]]:
    """What part of a bin each item takes, in each dimension."""
    return [tuple(need / limit if limit else 0.0 for need, limit in zip(item, capacity, strict=True)) for item in items]


def first_fit(items: Sequence[Item], capacity: Item, order: Sequence[int]) -> Bins:
    """Each item in turn into the first bin that has room for it, or into a new one."""
    free: list[list[int]] = []
    bins: Bins = []
    before: Item | None = None
    at = 0
    for number in order:
        item = items[number]
        if item != before:
            at = 0
        while at < len(free) and not has_room(free[at], item):
            at += 1
        if at == len(free):
            free.append(list(capacity))
            bins.append([])
        for axis, need in enumerate(item):
            free[at][axis] -= need
        bins[at].append(number)
        before = item
    return bins


def has_room(free: Sequence[int], item: Item) -> bool:
    """Whether an item fits into what is free."""
    for room, need in zip(free, item, strict=True):  # noqa: SIM110 - a generator takes three times as long, and this is all there is to it
        if need > room:
            return False
    return True
