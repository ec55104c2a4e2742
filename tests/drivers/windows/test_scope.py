"""Which Windows guests are converted, and what is told of wishes that mean nothing for one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drivers.facts import GuestFacts
from drivers.plan import PlanOptions
from drivers.planning import plan_guest
from drivers.windows.facts import SOFTWARE, WindowsFacts
from drivers.windows.scope import blockers, warnings
from tests.drivers.windows.guest_disk import ntfs_disk, windows_files
from tests.drivers.windows.guest_facts import FILES
from tests.drivers.windows.test_reading import facts_of


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> GuestFacts:
    drivers = {f"/Windows/System32/drivers/{name}": b"" for name in FILES}
    return facts_of(ntfs_disk(tmp_path_factory.mktemp("scope") / "disk.img", windows_files() | drivers))


def windows_of(guest: GuestFacts) -> WindowsFacts:
    assert guest.windows is not None
    return guest.windows


def of_version(guest: GuestFacts, major: int, minor: int) -> GuestFacts:
    windows = windows_of(guest)
    return replace(guest, windows=replace(windows, version=replace(windows.version, major=major, minor=minor)))


def ids(guest: GuestFacts) -> list[str]:
    return [finding.id for finding in blockers(guest, windows_of(guest))]


@pytest.mark.parametrize("version", [(4, 0), (5, 0), (5, 1), (5, 2), (6, 0), (6, 1), (6, 2), (6, 3), (10, 0)])
def test_every_version_from_nt_4_on_is_converted(guest: GuestFacts, version: tuple[int, int]) -> None:
    assert ids(of_version(guest, *version)) == []


@pytest.mark.parametrize("version, expected", [
    ((3, 51), "windows.too-old"), ((3, 1), "windows.too-old"), ((0, 0), "windows.version-unknown"),
])  # fmt: skip
def test_what_nothing_is_known_of_is_a_blocker_of_the_whole_plan(
    guest: GuestFacts, version: tuple[int, int], expected: str
) -> None:
    made = plan_guest(of_version(guest, *version), PlanOptions())
    assert expected in {finding.id for finding in made.blockers}


def test_version_that_no_hive_could_tell_is_told_by_the_hive_alone(guest: GuestFacts) -> None:
    unknown = of_version(guest, 0, 0)
    hives = windows_of(unknown).registry
    unread = {**hives, SOFTWARE: replace(hives[SOFTWARE], state="unreadable", problem="gone")}
    assert ids(replace(unknown, windows=replace(windows_of(unknown), registry=unread))) == []


def test_uefi_of_32_bits_is_a_blocker_and_a_bios_is_none(guest: GuestFacts) -> None:
    small = replace(guest, windows=replace(windows_of(guest), arch="i386"))
    assert ids(replace(small, firmware="uefi")) == ["windows.uefi-32"]
    assert ids(replace(small, firmware="bios")) == []
    assert ids(replace(guest, firmware="uefi")) == []


def test_wishes_without_a_meaning_are_told_each_by_its_option() -> None:
    asked = PlanOptions(install_agent=True, rebuild_initramfs=True, compatible=True)
    told = [finding.message.split()[0] for finding in warnings(asked)]
    assert told == ["--install-agent", "--rebuild-initramfs", "--compatible"]
    assert [finding.id for finding in warnings(PlanOptions(new_identity=True))] == ["windows.same-identity"]
    assert list(warnings(PlanOptions(purge_tools=True))) == []
