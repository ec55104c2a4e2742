"""The first start in a Windows guest's plan: only where there is something to do, as a service in every set that can be started."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drivers.changes import CarryFile, WriteFile
from drivers.facts import Disk, GuestFacts, OperatingSystem, ReadBy
from drivers.plan import PlanOptions
from drivers.planning import plan_guest
from drivers.windows import c_regf as c
from drivers.windows.driver_choice import DriverChoice
from drivers.windows.facts import SYSTEM, WindowsFacts
from drivers.windows.firstboot.planning import contribute
from drivers.windows.firstboot.program import PROGRAMS
from drivers.windows.hive_edit import edit
from drivers.windows.offer import DriverOffer
from tests.drivers.windows.guest_disk import software_tree, system_tree
from tests.drivers.windows.test_firstboot_texts import LIST, MAC, PRODUCT, STATIC
from tests.drivers.windows.test_virtio_drivers import DATABASE, files, offer, read
from tests.fixtures.hives import Tree, make_hive, sz
from tests.fixtures.virtio_win import DRIVERS, Medium, medium

GUID = "{11111111-2222-3333-4444-555555555551}"
SERVICE = "Services\\p2v-firstboot"
CARD: Tree = {
    "ControlSet001\\Control\\Class\\{4d36e972-e325-11ce-bfc1-08002be10318}\\0007": {
        "NetCfgInstanceId": sz(GUID), "MatchingDeviceId": sz("PCI\\VEN_15AD&DEV_07B0"),
    },
    f"ControlSet001\\Services\\Tcpip\\Parameters\\Interfaces\\{GUID}": STATIC,
}  # fmt: skip


@pytest.fixture(scope="module")
def made() -> Medium:
    return medium(DRIVERS[:6])


def guest(more: Tree | None = None, *, sets: tuple[int, ...] = (1, 2)) -> dict[str, bytes]:
    return files(system_tree(sets=sets, more={**DATABASE, **(more or {})}))


def facts(windows: WindowsFacts, disks: int = 1) -> GuestFacts:
    system = OperatingSystem("windows", "win2k19", "10.0.17763", "Windows Server 2019", windows.arch, "windows")
    return GuestFacts(ReadBy.HOST, tuple(Disk(n, 1 << 30, "mbr") for n in range(disks)), (), system, windows=windows)


def offered(made: Medium, windows: WindowsFacts) -> DriverOffer:
    found = offer(made, windows)
    assert isinstance(found.choice, DriverChoice)
    return found


def list_of(changes: tuple[object, ...]) -> list[str]:
    """The names of the planned steps."""
    (text,) = [each.content for each in changes if isinstance(each, WriteFile) and each.path.endswith("/steps.txt")]
    return [line.split(" ")[0] for line in text.splitlines()[1:] if not line.startswith("#")]


def test_steps_stand_in_the_order_in_which_one_needs_the_other(made: Medium) -> None:
    windows = read(guest(CARD))
    found = contribute(facts(windows, disks=2), windows, PlanOptions(nic_macs=(MAC,), drivers=offered(made, windows)))
    assert list_of(found.changes) == ["drivers", "network", "disks"]
    names = {change.path.rpartition("/")[2] for change in found.changes}
    assert names == {"firstboot.exe", "steps.txt", "drivers.cmd", "network.ps1", "disks.ps1"}
    folders = {change.path.rpartition("/")[0] for change in found.changes}
    (folder,) = folders
    assert folder.startswith("/Windows/p2v/firstboot-")


def test_the_service_stands_in_every_set_that_can_be_started(made: Medium) -> None:
    before = guest(sets=(1, 2, 3))
    windows = read(before)
    assert windows.control_sets.bootable == (1, 3)
    options = PlanOptions(drivers=offered(made, windows))
    found = contribute(facts(windows), windows, options)
    path = windows.registry[SYSTEM].path
    after = read({**before, path: edit(before[path], (), found.edits[SYSTEM])})
    (carried,) = [change for change in found.changes if isinstance(change, CarryFile)]
    image = carried.path.removeprefix("/Windows/").replace("/", "\\")
    for number in (1, 3):
        key = f"ControlSet{number:03d}\\{SERVICE}"
        system = after.registry[SYSTEM]
        assert [system.number(key, name) for name in ("Type", "Start", "ErrorControl")] == [0x10, 2, 1]
        value = system.value(key, "ImagePath")
        assert value is not None
        assert (value.type, value.text()) == (c.REG_EXPAND_SZ, f'"%SystemRoot%\\{image}"')
        assert system.text(key, "ObjectName") == "LocalSystem"
        assert system.text(key, "DisplayName")
    assert after.registry[SYSTEM].key(f"ControlSet002\\{SERVICE}") is None
    again = contribute(facts(after), after, options)
    assert again.edits[SYSTEM] == ()
    assert again.changes == found.changes


def test_other_steps_have_a_folder_of_their_own(made: Medium) -> None:
    windows = read(guest(CARD))
    drivers = offered(made, windows)
    one, other = (
        contribute(facts(windows), windows, PlanOptions(nic_macs=macs, drivers=drivers)).changes[0].path
        for macs in ((MAC,), ("52:54:00:00:00:01",))
    )
    assert one != other


def test_where_there_is_nothing_to_do_there_is_no_service() -> None:
    windows = read(guest())
    found = contribute(facts(windows), windows, PlanOptions())
    assert (dict(found.edits), found.changes, found.warnings) == ({}, (), ())
    alpha = replace(windows, arch="alpha")
    assert contribute(facts(alpha, disks=3), alpha, PlanOptions()).changes == ()


def test_tools_are_uninstalled_when_that_is_asked_for() -> None:
    tools = {f"{LIST}\\{PRODUCT}": {"DisplayName": sz("Parallels Tools")}}
    software = make_hive(software_tree(more=tools), name="SOFTWARE")
    windows = read({**guest(), "/Windows/System32/config/SOFTWARE": software})
    assert contribute(facts(windows), windows, PlanOptions()).changes == ()
    assert list_of(contribute(facts(windows), windows, PlanOptions(purge_tools=True)).changes) == ["uninstall-1"]


def test_tools_that_cannot_be_uninstalled_are_told_and_not_tried() -> None:
    tools = {f"Wow6432Node\\{LIST}\\{PRODUCT}": {"DisplayName": sz("VMware Tools")}}
    software = make_hive(software_tree(more=tools), name="SOFTWARE")
    windows = read({**guest(), "/Windows/System32/config/SOFTWARE": software})
    found = contribute(facts(windows), windows, PlanOptions(purge_tools=True))
    assert (found.changes, [finding.id for finding in found.warnings]) == ((), ["windows.tools-stay"])
    assert contribute(facts(windows), windows, PlanOptions()).warnings == ()


@pytest.mark.parametrize("arch, build", [("x86_64", "x64"), ("i386", "x86"), ("aarch64", "x86")])
def test_the_program_is_the_one_for_the_processor(arch: str, build: str) -> None:
    windows = replace(read(guest()), arch=arch)
    (carried,) = [
        change for change in contribute(facts(windows, disks=2), windows, PlanOptions()).changes if isinstance(change, CarryFile)
    ]
    program = PROGRAMS["firstboot"][build]
    assert (carried.source, carried.size, carried.sha256) == (program.source, program.size, program.sha256)


def test_windows_without_pnputil_gets_the_installer_as_well(made: Medium) -> None:
    windows = read(guest())
    options = PlanOptions(drivers=offered(made, windows))
    old = replace(windows, arch="i386", version=replace(windows.version, major=5, minor=1, build=2600))
    carried = [change.path.rpartition("/")[2] for change in contribute(facts(old), old, options).changes]
    assert carried == ["firstboot.exe", "pnpinstall.exe", "steps.txt", "drivers.cmd"]


def test_it_is_part_of_the_whole_plan(made: Medium) -> None:
    windows = read(guest(CARD))
    plan = plan_guest(facts(windows, disks=2), PlanOptions(nic_macs=(MAC,), drivers=offered(made, windows)))
    assert list_of(plan.changes) == ["drivers", "network", "disks"]
    hives = [change for change in plan.changes if change.path == windows.registry[SYSTEM].path]
    assert len(hives) == 1
    without = plan_guest(facts(windows), PlanOptions(nic_macs=(), drivers=None))
    assert "windows.addresses-left" in {finding.id for finding in without.warnings}
