"""Facts and what else is looked at, read in one child: the same as read apart, and never at the facts' cost."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from drivers import disk_sights, guest_sights, inspection
from drivers.facts import GuestFacts, ReadBy
from drivers.guest_sights import GuestSights
from p2v.audit import looking
from p2v.audit.looking import Looked, Looking
from p2v.core.acceleration import Acceleration
from p2v.core.disk import DiskReader
from p2v.core.errors import ReaderCrashed
from p2v.core.events import silent
from p2v.inspection import Reading, inspect
from p2v.machine import MachineDisk
from tests.audit.small_machines import linux_disk


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> tuple[MachineDisk, ...]:
    return (MachineDisk(linux_disk(tmp_path_factory.mktemp("disks") / "tiny.img"), "raw"),)


def read(disks: Sequence[MachineDisk], by: Looking) -> GuestFacts:
    return inspect(disks, Reading.HOST, _no_appliance, silent, by_host=by.facts).facts


def _no_appliance() -> Acceleration:
    raise AssertionError("an appliance was asked for")


def _alone(disks: Sequence[MachineDisk]) -> tuple[GuestFacts, Looked]:
    """Each by a child of its own."""
    facts = inspect(disks, Reading.HOST, _no_appliance, silent).facts
    return facts, Looking().seen(disks, facts)


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Who had a child made, as they come."""
    made: list[str] = []
    for module in (looking, inspection, disk_sights):
        before = module.confined

        def counted(*words: Any, of: str = module.__name__, call: Any = before, **others: Any) -> Any:
            made.append(of.rpartition(".")[2])
            return call(*words, **others)

        monkeypatch.setattr(module, "confined", counted)
    return made


def test_one_child_gives_what_two_give(disks: tuple[MachineDisk, ...], children: list[str]) -> None:
    apart = _alone(disks)
    assert children == ["inspection", "looking"]
    children.clear()

    by = Looking()
    facts = read(disks, by)
    looked = by.seen(disks, facts)
    assert children == ["looking"]
    assert (facts, looked) == apart
    assert looked.inside is not None
    assert looked.inside.is_seen
    assert looked.disks[0].partitions


@pytest.mark.parametrize("how", ["an error", "memory", "a crash"])
def test_looking_that_fails_costs_neither_the_facts_nor_what_the_disks_show(
    disks: tuple[MachineDisk, ...], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts, looked = _alone(disks)

    def fails(*_: object) -> GuestSights:
        if how == "a crash":
            os.abort()
        raise MemoryError if how == "memory" else RecursionError

    monkeypatch.setattr(guest_sights, "look_over", fails)
    by = Looking()
    assert read(disks, by) == facts
    # that nobody looked inside is a finding of its own
    assert by.seen(disks, facts) == Looked(looked.disks)


def test_facts_that_fail_fail_as_they_do_alone(
    disks: tuple[MachineDisk, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Sequence[DiskReader]) -> GuestFacts:
        raise KeyError("no such fact")

    monkeypatch.setattr(looking, "facts_and_tree", fails)
    monkeypatch.setattr(inspection, "facts_and_tree", fails)
    with pytest.raises(ReaderCrashed, match="no such fact"):
        read(disks, Looking())


def test_what_an_appliance_read_is_not_looked_into_from_here(disks: tuple[MachineDisk, ...]) -> None:
    by = Looking()
    facts = read(disks, by)
    deep = replace(facts, read_by=ReadBy.APPLIANCE)
    looked = by.seen(disks, deep)
    assert looked == Looking().seen(disks, deep)
    assert looked.inside is None
    assert looked.disks
