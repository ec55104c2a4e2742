"""A Windows guest's whole plan: what its planners say together, and what it can use afterwards."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drivers.changes import EditHive
from drivers.facts import GuestFacts
from drivers.plan import GuestPlan, PlanOptions
from drivers.planning import plan_guest
from drivers.windows.facts import WindowsFacts
from tests.drivers.windows.guest_disk import ntfs_disk, windows_files
from tests.drivers.windows.guest_facts import FILES, facts, service
from tests.drivers.windows.test_reading import facts_of
from tests.fixtures.hives import Tree, multi_sz, sz

SERVICES = "ControlSet001\\Services"
HAL = "ControlSet001\\Control\\Class\\{4D36E966-E325-11CE-BFC1-08002BE10318}\\0000"


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> GuestFacts:
    drivers = {f"/Windows/System32/drivers/{name}": b"" for name in FILES}
    return facts_of(ntfs_disk(tmp_path_factory.mktemp("planning") / "disk.img", windows_files() | drivers))


def plan(guest: GuestFacts, windows: WindowsFacts) -> GuestPlan:
    return plan_guest(replace(guest, windows=windows), PlanOptions())


def ids(plan: GuestPlan) -> tuple[set[str], set[str]]:
    return {each.id for each in plan.warnings}, {each.id for each in plan.blockers}


def test_the_drivers_folder_is_read_of_the_disk(guest: GuestFacts) -> None:
    assert guest.windows is not None
    assert guest.windows.driver_files == tuple(sorted(FILES))


def test_a_hive_is_edited_by_one_change_whose_reason_is_a_line(guest: GuestFacts) -> None:
    names = {f"{SERVICES}\\{name}": service(0) for name in ("vmci", "xenbus", "prl_tg", "VBoxGuest", "HpCISSs2")}
    (change,) = plan(guest, facts(names, files=())).changes
    assert isinstance(change, EditHive)
    assert len({each.why for each in change.edits}) == 5
    assert change.why.startswith(f"{change.edits[0].why}; ")
    assert change.why.endswith("; and 3 more, each beside its value")
    assert len(change.why) < 160


def test_leftovers_filters_and_processors_are_in_the_plan(guest: GuestFacts) -> None:
    tree: Tree = {
        f"{SERVICES}\\vmci": service(0),
        f"{SERVICES}\\intelppm": service(1),
        "ControlSet001\\Control\\Class\\{4d36e967-e325-11ce-bfc1-08002be10318}": {"UpperFilters": multi_sz("gone")},
        HAL: {"MatchingDeviceId": sz("acpipic_up")},
    }
    listed: Tree = {"Microsoft\\Windows\\CurrentVersion\\Uninstall\\x": {"DisplayName": sz("VMware Tools")}}
    made = plan(guest, facts(tree, listed, version=(5, 2)))
    (change,) = made.changes
    assert isinstance(change, EditHive)
    keys = {edit.key for edit in change.edits}
    assert {f"{SERVICES}\\vmci", f"{SERVICES}\\intelppm", f"{SERVICES}\\atapi"} <= keys
    assert ids(made)[0] >= {"windows.leftover", "windows.hal-one-processor"}
    assert made.caps.cpus_at_most == 1


def test_a_guest_that_no_disk_is_left_for_is_blocked_and_its_hardware_is_shown(guest: GuestFacts) -> None:
    made = plan(guest, facts({}, files=("other.sys",)))
    assert "windows.no-disk-driver" in ids(made)[1]
    assert "windows.no-fallback" in ids(made)[0]
    assert made.caps.disk_buses == ("sata", "ide")
    assert "windows.no-disk-driver" not in ids(plan(guest, facts({})))[1]


def test_a_bus_without_its_drivers_is_not_among_what_can_be_used(guest: GuestFacts) -> None:
    without = tuple(name for name in FILES if name != "msahci.sys")
    assert plan(guest, facts({}, files=without)).caps.disk_buses == ("ide",)


def test_nothing_is_planned_of_a_hive_that_cannot_be_read(guest: GuestFacts) -> None:
    windows = facts({f"{SERVICES}\\vmci": service(0)}, files=("other.sys",))
    hives = {name: replace(hive, state="unreadable", problem="torn", keys={}) for name, hive in windows.registry.items()}
    made = plan(guest, replace(windows, registry=hives))
    assert made.changes == ()
    assert "windows.hive-unreadable" in ids(made)[1]
    assert "windows.no-disk-driver" not in ids(made)[1]
