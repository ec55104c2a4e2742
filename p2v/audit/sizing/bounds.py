"""How few bins any packing can do with: bounds from below, in whole numbers, so that they are true and not nearly true."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

from p2v.audit.sizing.bins import Item


def continuous_bound(sizes: Sequence[int], capacity: int) -> int:
    """As if items could be cut: their sum over the capacity, rounded up."""
    return -(-sum(sizes) // capacity) if capacity else 0


def l2_bound(sizes: Sequence[int], capacity: int) -> int:
    """Martello and Toth's L2 for one dimension (Knapsack Problems, 1990, section 8.3.2); never below ``continuous_bound``.

    For a threshold K: items above capacity - K share no bin with any item of at least K; those above half share none with one
    another; what the items from K to half do not find room for beside these takes more bins. The best K is among the sizes.
    """
    if not capacity:
        return 0
    ordered = sorted(sizes)
    sums = [0, *accumulate(ordered)]
    half = bisect_right(ordered, capacity // 2)  # the first item above half a bin
    best = 0
    for threshold in {0, *ordered[:half]}:
        above = bisect_right(ordered, capacity - threshold)
        above = max(above, half)
        small_from = bisect_left(ordered, threshold)
        alone, large = len(ordered) - above, above - half
        room = large * capacity - (sums[above] - sums[half])
        left = sums[half] - sums[small_from] - room
        best = max(best, alone + large + max(0, -(-left // capacity)))
    return best


def vector_bounds(items: Sequence[Item], capacity: Item) -> tuple[int, int, int]:
    """The continuous bound, the L2 bound, and the dimension that gives the larger one; each is the best over all dimensions."""
    columns = [[item[axis] for item in items] for axis in range(len(capacity))]
    plain = [continuous_bound(column, limit) for column, limit in zip(columns, capacity, strict=True)]
    tight = [l2_bound(column, limit) for column, limit in zip(columns, capacity, strict=True)]
    shares = [sum(column) / limit if limit else 0.0 for column, limit in zip(columns, capacity, strict=True)]
    decides = max(range(len(capacity)), key=lambda axis: (tight[axis], shares[axis]))
    # an item that needs nothing still stands somewhere
    least = 1 if items else 0
    return max(least, *plain), max(least, *tight), decides
