"""Vector bin packing: several first-fit-decreasing orders, filling bin by bin, emptying bins, and a whole search of small fleets.

All numbers are whole, so that nothing is over capacity by a rounding. Nothing is left to chance or to the clock: the same fleet
gives the same answer on every host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from p2v.audit.sizing.bins import Bins, Item, first_fit, shares
from p2v.audit.sizing.bounds import vector_bounds
from p2v.audit.sizing.emptying import emptied
from p2v.audit.sizing.filling import fillings
from p2v.audit.sizing.search import searched

_SEARCHED_ITEMS = 40
_SEARCH_STEPS = 100_000
# a first fit looks at every bin for every item: further orders are left out when that many looks were made
_LOOKS = 8_000_000
_FILLING_LOOKS = 1_000_000


@dataclass(frozen=True, slots=True)
class Packing:
    """Which items (by number) share a bin. ``searched``: all packings were gone through, so there is none with fewer bins.

    ``decides``: the dimension with the largest lower bound.
    """

    bins: tuple[tuple[int, ...], ...]
    continuous_bound: int
    l2_bound: int
    decides: int
    searched: bool

    @property
    def lower_bound(self) -> int:
        """What is proven: no packing has fewer bins."""
        return len(self.bins) if self.searched else max(self.continuous_bound, self.l2_bound)


def pack(items: Sequence[Item], capacity: Item, search_steps: int = _SEARCH_STEPS) -> Packing:
    """Pack all items. Raises ValueError for one that is larger than an empty bin, or has another number of dimensions."""
    for number, item in enumerate(items):
        if len(item) != len(capacity) or any(
            not 0 <= need <= limit for need, limit in zip(item, capacity, strict=True)
        ):
            raise ValueError(f"item {number} ({item}) does not fit into an empty bin of {capacity}")
    continuous, tight, decides = vector_bounds(items, capacity)
    bound = max(continuous, tight)
    bins = _best_of_many(items, capacity, bound)
    if len(bins) > bound:
        bins = emptied(items, capacity, bins, bound)
    proven = False
    if len(bins) > bound and len(items) <= _SEARCHED_ITEMS:
        bins, proven = searched(items, capacity, bins, bound, search_steps)
    made = tuple(tuple(sorted(each)) for each in bins)
    return Packing(made, continuous, tight, decides, proven)


def _best_of_many(items: Sequence[Item], capacity: Item, bound: int) -> Bins:
    best: Bins | None = None
    for bins in chain(_first_fits(items, capacity), fillings(items, capacity, _FILLING_LOOKS)):
        if best is None or len(bins) < len(best):
            best = bins
        if len(best) <= bound:
            break
    return best or []


def _first_fits(items: Sequence[Item], capacity: Item) -> Iterator[Bins]:
    looks = 0
    for order in _orders(items, capacity):
        bins = first_fit(items, capacity, order)
        yield bins
        looks += len(items) * len(bins)
        if looks > _LOOKS:
            break


def _orders(items: Sequence[Item], capacity: Item) -> Iterator[list[int]]:
    """Ways to sort items, the largest first; what "large" means with several dimensions is what they differ in."""
    parts = shares(items, capacity)
    axes = range(len(capacity))
    # a dimension in short supply counts for more (Panigrahy et al., Heuristics for Vector Bin Packing, 2011)
    weights = [sum(part[axis] for part in parts) for axis in axes]
    sizes: list[Callable[[tuple[float, ...]], float]] = [
        lambda part: sum(weight * share for weight, share in zip(weights, part, strict=True)),
        max,
        sum,
        lambda part: sum(share * share for share in part),
        *(_along(axis) for axis in axes),
        lambda part: max(part) - min(part),
    ]
    for size in sizes:
        # equal items stand together: first_fit goes on where the one before found room
        yield sorted(range(len(items)), key=lambda at: (-size(parts[at]), items[at], at))


def _along(axis: int) -> Callable[[tuple[float, ...]], float]:
    return lambda part: part[axis]
