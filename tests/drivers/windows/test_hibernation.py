"""What is planned for a Windows that is asleep, and how its session is discarded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drivers.apply import apply_changes
from drivers.changes import DiscardHibernation, summary
from drivers.facts import GuestFacts
from drivers.plan import GuestPlan, PlanOptions
from drivers.plan_text import render
from drivers.planning import plan_guest
from p2v.core.errors import PlanStale
from tests.drivers.memory_guest import MemoryGuest, file
from tests.drivers.windows.guest_disk import ntfs_disk, windows_files
from tests.drivers.windows.guest_facts import FILES
from tests.drivers.windows.test_reading import facts_of

ASKED = PlanOptions(discard_hibernation=True)
FILE = "/hiberfil.sys"


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> GuestFacts:
    files = {f"/Windows/System32/drivers/{name}": b"" for name in FILES} | {"/hiberfil.sys": b"HIBR" + bytes(5000)}
    return facts_of(ntfs_disk(tmp_path_factory.mktemp("asleep") / "disk.img", windows_files() | files))


def blockers(plan: GuestPlan) -> dict[str, str]:
    return {finding.id: finding.hint for finding in plan.blockers}


def test_the_session_stays_and_blocks_the_guest_until_its_end_is_asked_for(guest: GuestFacts) -> None:
    plan = plan_guest(guest, PlanOptions())
    assert list(blockers(plan)) == ["windows.hibernated"]
    assert "--discard-hibernation" in blockers(plan)["windows.hibernated"]
    assert not any(isinstance(change, DiscardHibernation) for change in plan.changes)


def test_discarding_comes_before_every_other_change_and_is_told(guest: GuestFacts) -> None:
    plan = plan_guest(guest, ASKED)
    assert plan.blockers == ()
    first = plan.changes[0]
    assert first == DiscardHibernation(FILE, 5004, first.why)
    assert len(plan.changes) > 1
    assert "windows.session-lost" in {finding.id for finding in plan.warnings}
    assert f"- {FILE} (4.9 KiB)" in render(plan)


def test_file_system_that_waits_for_its_log_stays_a_blocker_and_says_why(guest: GuestFacts) -> None:
    assert guest.windows is not None
    dirty = replace(guest, windows=replace(guest.windows, dirty="its $LogFile has to be replayed"))
    found = blockers(plan_guest(dirty, ASKED))
    assert list(found) == ["windows.dirty-volume"]
    assert "--discard-hibernation is not enough" in found["windows.dirty-volume"]
    assert list(blockers(plan_guest(dirty, PlanOptions()))) == ["windows.hibernated", "windows.dirty-volume"]


def test_where_there_is_no_session_nothing_is_discarded_and_that_is_told(guest: GuestFacts) -> None:
    assert guest.windows is not None
    for state in ("none", "resuming"):
        awake = replace(guest, windows=replace(guest.windows, hibernation=state))
        plan = plan_guest(awake, ASKED)
        assert not any(isinstance(change, DiscardHibernation) for change in plan.changes)
        assert "windows.option" in {finding.id for finding in plan.warnings}


def change(size: int = 8) -> DiscardHibernation:
    return DiscardHibernation(FILE, size, "asked for")


@pytest.mark.parametrize("head", [b"hibr", b"HIBR", b"RSTR", bytes(4)])
def test_a_session_or_what_was_not_copied_of_one_is_removed_and_only_once(head: bytes) -> None:
    tree = MemoryGuest({FILE: file(head + b"rest")})
    (made,) = apply_changes(tree, [change()], {})
    assert (made.summary, made.skipped) == (summary(change()), False)
    assert not tree.exists(FILE)
    assert apply_changes(tree, [change()], {})[0].skipped


@pytest.mark.parametrize("content", [b"wake" + b"rest", b"hibr" + b"longer", b"data" + b"rest"])
def test_what_is_no_session_of_that_size_stays(content: bytes) -> None:
    tree = MemoryGuest({FILE: file(content)})
    with pytest.raises(PlanStale):
        apply_changes(tree, [change()], {})
    assert tree.exists(FILE)


def test_what_was_made_before_the_guest_was_mounted_counts_as_made() -> None:
    tree = MemoryGuest({})
    assert not apply_changes(tree, [change()], {}, made=(change(),))[0].skipped
