"""Local improvement: take a bin away and find room for what was in it, moving smaller items on."""

from __future__ import annotations

from collections.abc import Sequence

from p2v.audit.sizing.bins import Bins, Item, has_room, shares

# bins that are tried to be emptied before it is given up; looks at an item for each of them, about a tenth of a second
_VICTIMS = 12
_LOOKS = 120_000


def emptied(items: Sequence[Item], capacity: Item, bins: Bins, bound: int) -> Bins:
    """The same items in fewer bins where that was found, ``bound`` at the least; the bins that came in are left as they are."""
    sizes = _sizes(items, capacity)
    while len(bins) > bound:
        by_fill = sorted(range(len(bins)), key=lambda at: sum(sizes[number] for number in bins[at]))
        tried = (_without(items, capacity, bins, at, sizes) for at in by_fill[:_VICTIMS])
        fewer = next((made for made in tried if made is not None), None)
        if fewer is None:
            break
        bins = fewer
    return bins


def _sizes(items: Sequence[Item], capacity: Item) -> list[float]:
    parts = shares(items, capacity)
    weights = [sum(part[axis] for part in parts) for axis in range(len(capacity))]
    return [sum(weight * share for weight, share in zip(weights, part, strict=True)) for part in parts]


def _without(items: Sequence[Item], capacity: Item, bins: Bins, victim: int, sizes: Sequence[float]) -> Bins | None:
    """The bins without one of them, its items in the others; None where no way was found.

    An item that finds no room takes the place of a smaller one, which then looks for room itself. What looks for room grows
    smaller with each such exchange, so it ends.
    """
    rest = [list(each) for at, each in enumerate(bins) if at != victim]
    free = [_free(items, capacity, each) for each in rest]
    homeless = sorted(bins[victim], key=lambda number: sizes[number])
    for _ in range(8 + _LOOKS // len(items)):
        if not homeless:
            return rest
        number = homeless.pop()
        at = next((at for at, room in enumerate(free) if has_room(room, items[number])), None)
        if at is None:
            exchange = _exchange(items, rest, free, number, sizes)
            if exchange is None:
                return None
            at, out = exchange
            rest[at].remove(out)
            _move(free[at], items[out], 1)
            homeless.append(out)
            homeless.sort(key=lambda each: sizes[each])
        rest[at].append(number)
        _move(free[at], items[number], -1)
    return None


def _free(items: Sequence[Item], capacity: Item, numbers: Sequence[int]) -> list[int]:
    return [limit - sum(items[number][axis] for number in numbers) for axis, limit in enumerate(capacity)]


def _move(free: list[int], item: Item, sign: int) -> None:
    for axis, need in enumerate(item):
        free[axis] += sign * need


def _exchange(
    items: Sequence[Item], bins: Bins, free: Sequence[Sequence[int]], number: int, sizes: Sequence[float]
) -> tuple[int, int] | None:
    """The smallest item whose place would do, and its bin."""
    best: tuple[float, int, int] | None = None
    for at, (room, numbers) in enumerate(zip(free, bins, strict=True)):
        for out in numbers:
            if sizes[out] >= sizes[number] or (best is not None and sizes[out] >= best[0]):
                continue
            if has_room([have + given for have, given in zip(room, items[out], strict=True)], items[number]):
                best = (sizes[out], at, out)
    return None if best is None else best[1:]
