"""Filling one bin after the other, each time with the item that suits best what is still free in it.

First fit places large items first and leaves bins that are full in one resource and empty in another. Here an item much of one
resource is followed by one of the other (Panigrahy et al., Heuristics for Vector Bin Packing, 2011: norm-based greedy and dot
product).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from p2v.audit.sizing.bins import Bins, Item, has_room, shares

_LARGEST = 10
_Score = Callable[[Sequence[float], Sequence[float]], float]
"""How well an item (its shares of a bin) suits what is free (the same); more is better."""


def fillings(items: Sequence[Item], capacity: Item, most_looks: int) -> Iterator[Bins]:
    """Packings in several ways, as long as they take no more than so many looks at items (about a third of a second a million).

    The first way is gone in any case, but for fleets so large and varied that it alone takes many times that.
    """
    looks = len(items) * len(set(items))
    if looks > most_looks * _LARGEST:
        return
    parts = shares(items, capacity)
    weights = [sum(part[axis] for part in parts) for axis in range(len(capacity))]
    even = [1.0] * len(capacity)
    for score in (_nearest(weights), _along(weights), _nearest(even), _along(even)):
        yield _filled(items, capacity, score)
        most_looks -= looks
        if most_looks < looks:
            return


def _nearest(weights: Sequence[float]) -> _Score:
    """What is left free afterwards is as small as can be."""

    def score(item: Sequence[float], free: Sequence[float]) -> float:
        return -sum(w * (room - need) ** 2 for w, room, need in zip(weights, free, item, strict=True))

    return score


def _along(weights: Sequence[float]) -> _Score:
    """The item needs most of what there is most of."""

    def score(item: Sequence[float], free: Sequence[float]) -> float:
        return sum(w * room * need for w, room, need in zip(weights, free, item, strict=True))

    return score


def _filled(items: Sequence[Item], capacity: Item, score: _Score) -> Bins:
    # equal items are one kind: looked at once, and taken one by one
    kinds: dict[Item, list[int]] = {}
    for number in reversed(range(len(items))):
        kinds.setdefault(items[number], []).append(number)
    parts = dict(zip(kinds, shares(list(kinds), capacity), strict=True))
    bins: Bins = []
    while kinds:
        free, made = list(capacity), []
        while fitting := [kind for kind in kinds if has_room(free, kind)]:
            room = shares([tuple(free)], capacity)[0]
            best = max(fitting, key=lambda kind: score(parts[kind], room))
            for axis, need in enumerate(best):
                free[axis] -= need
            made.append(kinds[best].pop())
            if not kinds[best]:
                del kinds[best]
        bins.append(made)
    return bins
