"""Copies share what a storage gives while they come and go: never more than all of it, and hardly ever less."""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from p2v.batch.jobs import Budget, MachineJob, Share
from p2v.batch.lanes import Lanes, server_lane
from p2v.batch.scheduling import Holding, Setting, changed_limits
from p2v.core.units import MIB

TOTAL = 100 * MIB


def holding(*storages: str, limit: int = 1, begun: bool = True, own: int | None = None) -> Holding:
    options = () if own is None else (f"--limit={own}",)
    made = Holding.of(MachineJob("a", (Path("/a"),), Path("/b"), options=options), storages, limit)
    return made.after("phase-started", "copy") if begun else made


def changes(running: Mapping[str, Holding], budget: Budget, lanes: Lanes | None = None) -> Mapping[str, int]:
    return changed_limits(running, budget, Setting(lanes=lanes))


def test_one_alone_gets_all_but_a_small_part_for_each_place_that_is_free() -> None:
    budget = Budget(copies=2, bytes_per_second=TOTAL)
    assert changes({"a": holding("san")}, budget) == {"a": TOTAL - TOTAL // 40}
    assert changes({"a": holding("san")}, Budget(copies=1, bytes_per_second=TOTAL)) == {"a": TOTAL}
    # one that has not begun to copy keeps its small share
    both = {"a": holding("san"), "b": holding("san", limit=TOTAL // 40, begun=False)}
    assert changes(both, budget) == {"a": TOTAL - TOTAL // 40}


def test_a_slower_limit_comes_first_and_the_other_gets_it_when_it_was_heard() -> None:
    budget = Budget(copies=2, bytes_per_second=TOTAL)
    running = {"a": holding("san", limit=TOTAL - TOTAL // 40), "b": holding("san", limit=TOTAL // 40)}
    told = changes(running, budget)
    assert told == {"a": TOTAL // 2}
    running["a"] = running["a"].told(told["a"])
    assert changes(running, budget) == {}
    # a word about a limit that came before says nothing
    assert changes({**running, "a": running["a"].heard(TOTAL)}, budget) == {}
    running["a"] = running["a"].heard(TOTAL // 2)
    assert changes(running, budget) == {"b": TOTAL // 2}


def test_what_one_does_not_want_the_others_get() -> None:
    budget = Budget(copies=2, bytes_per_second=TOTAL)
    assert changes({"a": holding("san", own=MIB), "b": holding("san")}, budget) == {"a": MIB, "b": TOTAL - MIB}


def test_each_storage_and_server_has_its_own_rate() -> None:
    budget = Budget(
        copies=2,
        bytes_per_second=TOTAL,
        storages={Path("/usb"): Share(bytes_per_second=MIB), Path("/usb/2"): Share(copies=1)},
        hosts={"Filer": Share(copies=1, bytes_per_second=2 * MIB)},
    )
    lanes = Lanes.of(budget, {Path("/usb"): ("8:1",), Path("/usb/2"): ("8:1",)})
    assert lanes.over("8:1") == Share(1, MIB)
    assert lanes.over("8:2") == Share(None, TOTAL)
    # two mounts of a server are one; a server of which nothing is said has no bounds
    assert server_lane("filer") == server_lane("FILER")
    assert lanes.over(server_lane("filer")) == Share(1, 2 * MIB)
    assert lanes.over(server_lane("other")) == Share()
    running = {"a": holding("8:1", "8:2"), "b": holding("8:2", server_lane("filer"))}
    assert changes(running, budget, lanes) == {"a": MIB, "b": 2 * MIB}


def test_a_job_of_which_nobody_knows_the_storage_may_be_on_any() -> None:
    budget = Budget(copies=2, bytes_per_second=TOTAL)
    assert changes({"a": holding("san"), "b": holding()}, budget) == {"a": TOTAL // 2, "b": TOTAL // 2}


def test_without_rates_nobody_is_told_anything() -> None:
    assert changes({"a": holding("san")}, Budget(copies=2)) == {}


@dataclass
class Copies:
    """Copies that begin, plan, copy at the rate that they have heard of, and end; words take a while to be heard."""

    budget: Budget
    lanes: Lanes
    draw: random.Random
    running: dict[str, Holding] = field(default_factory=dict)
    rate: dict[str, int] = field(default_factory=dict)
    """What each really goes by."""
    queue: list[tuple[float, int, str, str, int]] = field(default_factory=list)
    number: int = 0
    now: float = 0.0
    settled: int = 0

    def later(self, seconds: float, name: str, what: str, value: int = 0) -> None:
        self.number += 1
        heapq.heappush(self.queue, (self.now + seconds, self.number, name, what, value))

    def begin(self, name: str) -> None:
        over_c = sum("c" in each.storages and each.copies for each in self.running.values())
        storages = tuple(self.draw.sample(["a", "b", "c"] if over_c < 2 else ["a", "b"], self.draw.randrange(1, 3)))
        own = self.draw.choice([None, None, None, 5 * MIB])
        made = holding(*storages, begun=False, own=own)
        first = Setting(lanes=self.lanes).rates(self.budget).first(storages, made.most)
        self.running[name] = holding(*storages, limit=first or 1, begun=False, own=own)
        self.rate[name] = first or 1
        self.later(self.draw.uniform(0.1, 5), name, "copy")

    def happen(self) -> None:
        self.now, _, name, what, value = heapq.heappop(self.queue)
        if name not in self.running:
            return
        if what == "copy":
            self.running[name] = self.running[name].after("phase-started", "copy")
            self.later(self.draw.uniform(0.5, 40), name, "end")
        elif what == "word":
            self.rate[name] = value
            self.later(self.draw.uniform(0, 0.5), name, "heard", value)
        elif what == "heard":
            self.running[name] = self.running[name].heard(value)
        else:
            del self.running[name], self.rate[name]

    def tell(self) -> None:
        for name, limit in changed_limits(self.running, self.budget, Setting(lanes=self.lanes)).items():
            self.running[name] = self.running[name].told(limit)
            # words come in the order in which they were sent
            before = max((at for at, _, to, what, _ in self.queue if to == name and what == "word"), default=self.now)
            self.later(before - self.now + self.draw.uniform(0, 0.5), name, "word", limit)

    def used(self, lane: str) -> int:
        return sum(rate for name, rate in self.rate.items() if lane in self.running[name].storages)

    def total(self, lane: str) -> int:
        return self.lanes.over(lane).bytes_per_second or 0

    def check(self) -> None:
        for lane in "abc":
            assert self.used(lane) <= self.total(lane)
        if any(each.unheard for each in self.running.values()) or any(what == "word" for *_, what, _ in self.queue):
            return
        if changed_limits(self.running, self.budget, Setting(lanes=self.lanes)):
            return
        self.settled += 1
        for name, each in self.running.items():
            # whoever copies has all that it wants, or one of its storages has nothing more to give
            if each.has_begun and self.rate[name] != each.most:
                assert any(self.used(lane) >= 0.9 * self.total(lane) for lane in each.storages)


@pytest.mark.parametrize("seed", range(20))
def test_copies_never_use_more_than_a_storage_has_and_leave_no_tenth_of_it_idle(seed: int) -> None:
    draw = random.Random(seed)
    budget = Budget(copies=draw.randrange(1, 9), bytes_per_second=TOTAL)
    said = {"b": Share(bytes_per_second=30 * MIB), "c": Share(copies=2, bytes_per_second=60 * MIB)}
    copies = Copies(budget, Lanes(Share(None, TOTAL), said), draw)
    for number in range(150):
        if len(copies.running) < budget.copies:
            copies.begin(str(number))
        for _ in range(draw.randrange(4)):
            copies.tell()
            copies.check()
            if copies.queue:
                copies.happen()
                copies.check()
    while copies.queue:
        copies.tell()
        copies.happen()
        copies.check()
    assert copies.settled > 10
