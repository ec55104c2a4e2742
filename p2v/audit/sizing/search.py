"""Branch and bound: goes through all packings of a small fleet, but for those that can be no better."""

from __future__ import annotations

from collections.abc import Sequence

from p2v.audit.sizing.bins import Bins, Item, has_room, shares


def searched(items: Sequence[Item], capacity: Item, known: Bins, bound: int, steps: int) -> tuple[Bins, bool]:
    """The best packing found in so many steps, and whether nothing better exists (because all was gone through).

    ``known``: a packing to do better than; ``bound``: no packing has fewer bins.
    """
    search = _Search(items, capacity, known, bound, steps)
    search.place(0, [], [], 0)
    return search.best, search.steps > 0


class _Search:
    """The state of one search: what it may still do, and the best it found."""

    def __init__(self, items: Sequence[Item], capacity: Item, known: Bins, bound: int, steps: int) -> None:
        parts = shares(items, capacity)
        self.order = sorted(range(len(items)), key=lambda at: (-max(parts[at], default=0.0), items[at], at))
        self.items = [items[number] for number in self.order]
        self.capacity = capacity
        self.best, self.bound, self.steps = known, bound, steps
        # what all items from one on need together
        self.rest = [[0] * len(capacity)]
        for item in reversed(self.items):
            self.rest.append([need + more for need, more in zip(item, self.rest[-1], strict=True)])
        self.rest.reverse()

    def place(self, at: int, free: list[list[int]], bins: Bins, first: int) -> None:
        """Place the items from ``at`` on; an item like the one before goes no further to the front than ``first``."""
        if self.steps <= 0 or len(self.best) <= self.bound:
            return
        self.steps -= 1
        if self._least(at, free) >= len(self.best):
            return
        if at == len(self.items):
            self.best = [[self.order[number] for number in each] for each in bins]
            return
        self._into_open(at, free, bins, first)
        if len(free) + 1 < len(self.best):
            free.append(list(self.capacity))
            bins.append([])
            self._into(at, free, bins, len(free) - 1)
            free.pop()
            bins.pop()

    def _into_open(self, at: int, free: list[list[int]], bins: Bins, first: int) -> None:
        seen: set[tuple[int, ...]] = set()
        for number in range(first, len(free)):
            room = tuple(free[number])
            # two bins with the same room are one choice
            if room not in seen and has_room(room, self.items[at]):
                seen.add(room)
                self._into(at, free, bins, number)

    def _into(self, at: int, free: list[list[int]], bins: Bins, number: int) -> None:
        item = self.items[at]
        same_next = at + 1 < len(self.items) and self.items[at + 1] == item
        for axis, need in enumerate(item):
            free[number][axis] -= need
        bins[number].append(at)
        self.place(at + 1, free, bins, number if same_next else 0)
        bins[number].pop()
        for axis, need in enumerate(item):
            free[number][axis] += need

    def _least(self, at: int, free: list[list[int]]) -> int:
        """How many bins it takes at least from here."""
        more = 0
        for axis, limit in enumerate(self.capacity):
            left = self.rest[at][axis] - sum(room[axis] for room in free)
            if left > 0 and limit:
                more = max(more, -(-left // limit))
        return len(free) + more
