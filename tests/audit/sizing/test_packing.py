"""Packings against going through everything by other means: never over capacity, never an item lost, bounds that hold."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2v.audit.sizing.bins import Item, first_fit
from p2v.audit.sizing.bounds import continuous_bound, l2_bound, vector_bounds
from p2v.audit.sizing.emptying import emptied
from p2v.audit.sizing.packing import Packing, pack
from p2v.audit.sizing.search import searched


def fewest(items: Sequence[Item], capacity: Item) -> int:
    """The fewest bins, by trying every subset as the last bin of every set: for nine items at most."""
    whole = (1 << len(items)) - 1
    fits = [
        all(sum(items[at][axis] for at in range(len(items)) if mask >> at & 1) <= limit for axis, limit in enumerate(capacity))
        for mask in range(whole + 1)
    ]  # fmt: skip
    least = [0] + [len(items)] * whole
    for mask in range(1, whole + 1):
        part = mask
        while part:
            if fits[part]:
                least[mask] = min(least[mask], least[mask ^ part] + 1)
            part = (part - 1) & mask
    return least[whole]


def check(packing: Packing, items: Sequence[Item], capacity: Item) -> None:
    """Every item once, no bin empty or over its capacity, and no result below the bound it states."""
    assert sorted(number for each in packing.bins for number in each) == list(range(len(items)))
    for each in packing.bins:
        assert each
        for axis, limit in enumerate(capacity):
            assert sum(items[number][axis] for number in each) <= limit
    assert packing.lower_bound <= len(packing.bins)
    assert packing.continuous_bound <= packing.l2_bound


@pytest.mark.parametrize("seed", range(60))
def test_a_small_fleet_takes_as_few_bins_as_any_packing(seed: int) -> None:
    chance = random.Random(seed)
    axes = chance.choice([1, 2, 3])
    capacity = tuple(chance.randint(10, 60) for _ in range(axes))
    items = [tuple(chance.randint(0, limit) // chance.choice([1, 1, 2, 3]) for limit in capacity) for _ in range(8)]
    packing = pack(items, capacity)
    check(packing, items, capacity)
    assert len(packing.bins) == fewest(items, capacity)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_bounds_and_packings_hold_for_whatever_items(data: st.DataObject) -> None:
    capacity = tuple(data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=3)))
    one = st.tuples(*(st.integers(0, limit) for limit in capacity))
    items = data.draw(st.lists(one, max_size=7))
    packing, best = pack(items, capacity), fewest(items, capacity)
    check(packing, items, capacity)
    assert packing.l2_bound <= best <= len(packing.bins)
    assert packing.lower_bound <= best
    # without a search, what is said stays true
    hasty = pack(items, capacity, search_steps=0)
    check(hasty, items, capacity)
    assert hasty.lower_bound <= best


@pytest.mark.parametrize("seed", range(40))
def test_the_search_alone_finds_the_fewest_bins_from_a_bad_beginning(seed: int) -> None:
    """Few sizes and equal items, where it leaves out what is symmetric; nothing but the trivial bound helps it."""
    chance = random.Random(1000 + seed)
    sizes = [(chance.randint(1, 12), chance.randint(1, 12)) for _ in range(3)]
    items = [chance.choice(sizes) for _ in range(9)]
    found, proven = searched(items, (13, 13), [[number] for number in range(9)], 1, 1_000_000)
    check(Packing(tuple(tuple(each) for each in found), 0, 0, 0, False), items, (13, 13))
    best = fewest(items, (13, 13))
    assert len(found) == best
    assert proven or best == 1


def test_a_search_that_runs_out_of_steps_claims_nothing() -> None:
    items = [(6, 1), (1, 6), (5, 5), (4, 7), (7, 4), (3, 3)]
    assert searched(items, (10, 10), [[number] for number in range(6)], 1, 5)[1] is False


def test_l2_sees_items_that_cannot_share_where_their_sum_would_fit_fewer_bins() -> None:
    # three items of more than half a bin: two bins by their sum, three in truth
    assert continuous_bound([6, 6, 6], 10) == 2
    assert l2_bound([6, 6, 6], 10) == 3
    # sixes leave four each; a five fits beside none of them
    assert l2_bound([6, 6, 5], 10) == 3
    assert l2_bound([5, 5, 5], 10) == 2
    assert l2_bound([], 10) == 0


def test_the_dimension_that_decides_is_named() -> None:
    assert vector_bounds([(1, 9), (1, 9), (1, 9)], (10, 10)) == (3, 3, 1)
    assert vector_bounds([(9, 1), (9, 1), (9, 1)], (10, 10)) == (3, 3, 0)


def test_emptying_a_bin_mends_what_first_fit_got_wrong() -> None:
    items = [(5,), (3,), (7,), (5,)]
    wasteful = first_fit(items, (10,), [0, 1, 2, 3])
    assert wasteful == [[0, 1], [2], [3]]
    # the three moves on to the seven, and the fives meet
    fewer = emptied(items, (10,), wasteful, 2)
    assert sorted(sorted(each) for each in fewer) == [[0, 3], [1, 2]]
    assert wasteful == [[0, 1], [2], [3]]


def test_items_that_need_nothing_still_stand_somewhere() -> None:
    packing = pack([(0, 0), (0, 0)], (5, 5))
    assert packing.bins == ((0, 1),)
    assert packing.lower_bound == 1


def test_no_items_take_no_bins() -> None:
    assert pack([], (5, 5)).bins == ()
    assert pack([], (5, 5)).lower_bound == 0


@pytest.mark.parametrize("item", [(11, 1), (1, 11), (-1, 1), (1,)])
def test_an_item_that_no_bin_holds_is_refused_not_dropped(item: Item) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        pack([(1, 1), item], (10, 10))


def test_the_same_fleet_is_packed_the_same_way_every_time() -> None:
    chance = random.Random(5)
    items = [(chance.randint(1, 40), chance.randint(1, 40)) for _ in range(120)]
    assert pack(items, (100, 100)) == pack(items, (100, 100))


def test_a_thousand_machines_are_packed_close_to_the_bound_and_soon() -> None:
    chance = random.Random(7)
    items = [
        (chance.choice([1, 2, 2, 4, 8]) * 250, chance.choice([2, 4, 4, 8, 16, 32]) * 1024 + 256) for _ in range(1000)
    ]
    began = time.process_time()
    packing = pack(items, (32_000, 460 * 1024))
    check(packing, items, (32_000, 460 * 1024))
    assert time.process_time() - began < 10
    assert len(packing.bins) - packing.lower_bound <= 1
