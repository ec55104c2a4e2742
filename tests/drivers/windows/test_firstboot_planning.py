"""The first start in a Windows guest's plan: only where there is something to do, as a service in every set that can be started."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drivers.changes import CarryFile, WriteFile
from drivers.facts import Disk, GuestFacts, OperatingSystem, ReadBy
from drivers.plan import PlanOptions
from drivers.planning import plan_guest
from drivers.windows import c_regf as c
from drivers.windows.contribution import WindowsContribution
from drivers.windows.driver_choice import DriverChoice
from drivers.windows.facts import SYSTEM, WindowsFacts, WindowsVersion
from drivers.windows.firstboot.planning import contribute
from drivers.windows.firstboot.program import PROGRAMS
from drivers.windows.hive_edit import edit
from drivers.windows.offer import DriverOffer
from drivers.windows.uninstalling import Uninstall
from tests.drivers.windows.guest_disk import software_tree, system_tree
from tests.drivers.windows.test_firstboot_texts import MAC
from tests.drivers.windows.test_network import STATIC, adapter_keys
from tests.drivers.windows.test_virtio_drivers import DATABASE, files, offer, read
from tests.fixtures.hives import Tree, dword, make_hive, sz
from tests.fixtures.virtio_win import DRIVERS, Medium, medium

SERVICE = "Services\\p2v-firstboot"
CARD = adapter_keys(STATIC)
MSI = "Microsoft\\Windows\\CurrentVersion\\Uninstall\\{2A6E1C55-0000-4C5B-8D5B-5E0E0F1A0003}"


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
    program = Uninstall("a", "A", "a.exe", "native", "k", "A is")
    found = contribute(windows, PlanOptions(nic_macs=(MAC,), drivers=offered(made, windows)), [program])
    assert list_of(found.changes) == ["drivers", "ghosts", "network", "uninstall-1"]
    names = {change.path.rpartition("/")[2] for change in found.changes}
    assert names == {
        "firstboot.exe", "pnpremove.exe", "steps.txt", "drivers.cmd", "ghosts.cmd", "network.ps1", "uninstall-1.cmd",
    }  # fmt: skip
    folders = {change.path.rpartition("/")[0] for change in found.changes}
    (folder,) = folders
    assert folder.startswith("/Windows/p2v/firstboot-")


def test_the_service_stands_in_every_set_that_can_be_started(made: Medium) -> None:
    before = guest(sets=(1, 2, 3))
    windows = read(before)
    assert windows.control_sets.bootable == (1, 3)
    options = PlanOptions(drivers=offered(made, windows))
    found = contribute(windows, options)
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
    again = contribute(after, options)
    assert again.edits[SYSTEM] == ()
    assert again.changes == found.changes


def test_other_steps_have_a_folder_of_their_own(made: Medium) -> None:
    windows = read(guest(CARD))
    drivers = offered(made, windows)
    one, other = (
        contribute(windows, PlanOptions(nic_macs=macs, drivers=drivers)).changes[0].path
        for macs in ((MAC,), ("52:54:00:00:00:01",))
    )
    assert one != other


def test_where_there_is_nothing_to_do_there_is_no_service() -> None:
    windows = read(guest())
    found = contribute(windows, PlanOptions())
    assert (dict(found.edits), found.changes, found.warnings) == ({}, (), ())


@pytest.mark.parametrize("change", [{"arch": "alpha"}, {"version": WindowsVersion(4, 0, 1381)}])
def test_where_the_service_cannot_run_there_is_none(change: dict[str, object]) -> None:
    windows = replace(read(guest(CARD)), **change)  # type: ignore[arg-type]
    program = Uninstall("a", "A", "a.exe", "native", "k", "A is")
    assert contribute(windows, PlanOptions(nic_macs=(MAC,)), [program]) == WindowsContribution()


def test_adapters_that_are_gone_are_removed_also_where_no_card_gets_an_address() -> None:
    automatic = read(guest(adapter_keys({"EnableDHCP": dword(1)})))
    assert list_of(contribute(automatic, PlanOptions(nic_macs=(MAC,))).changes) == ["ghosts"]


def test_adapters_that_nothing_can_remove_are_told() -> None:
    windows = read(guest(CARD))
    early = replace(windows, arch="aarch64", version=replace(windows.version, build=18363))
    found = contribute(early, PlanOptions(nic_macs=(MAC,)))
    assert list_of(found.changes) == ["network"]
    assert [finding.id for finding in found.warnings] == ["windows.ghosts-stay"]
    late = replace(early, version=replace(windows.version, build=22621))
    assert contribute(late, PlanOptions(nic_macs=(MAC,))).warnings == ()


def test_tools_are_uninstalled_when_that_is_asked_for_and_the_plan_says_either_way() -> None:
    tools = {MSI: {"DisplayName": sz("Parallels Tools"), "WindowsInstaller": dword(1)}}
    software = make_hive(software_tree(more=tools), name="SOFTWARE")
    windows = read({**guest(), "/Windows/System32/config/SOFTWARE": software})
    without, purged = (plan_guest(facts(windows), PlanOptions(purge_tools=asked)) for asked in (False, True))
    assert not any("/p2v/" in change.path for change in without.changes)
    assert list_of(purged.changes) == ["uninstall-1"]
    (offered_it,) = [each for each in without.warnings if each.id == "windows.leftover"]
    (does_it,) = [each for each in purged.warnings if each.id == "windows.leftover"]
    assert "--purge-tools" in offered_it.hint
    assert "uninstalled by the guest itself" in does_it.message


@pytest.mark.parametrize("arch, build", [("x86_64", "x64"), ("i386", "x86"), ("aarch64", "x86")])
def test_the_program_is_the_one_for_the_processor(arch: str, build: str) -> None:
    windows = replace(read(guest(CARD)), arch=arch)
    found = contribute(windows, PlanOptions(nic_macs=(MAC,)))
    carried = [change for change in found.changes if isinstance(change, CarryFile)]
    programs = [PROGRAMS[change.path.rpartition("/")[2].removesuffix(".exe")][build] for change in carried]
    assert [(each.source, each.size, each.sha256) for each in carried] == [(p.source, p.size, p.sha256) for p in programs]
    assert carried[0].path.endswith("/firstboot.exe")


def test_windows_without_pnputil_gets_the_installer_as_well(made: Medium) -> None:
    windows = read(guest())
    options = PlanOptions(drivers=offered(made, windows))
    old = replace(windows, arch="i386", version=replace(windows.version, major=5, minor=1, build=2600))
    carried = [change.path.rpartition("/")[2] for change in contribute(old, options).changes]
    assert carried == ["firstboot.exe", "pnpinstall.exe", "steps.txt", "drivers.cmd"]


def test_it_is_part_of_the_whole_plan(made: Medium) -> None:
    windows = read(guest(CARD))
    plan = plan_guest(facts(windows, disks=2), PlanOptions(nic_macs=(MAC,), drivers=offered(made, windows)))
    assert list_of(plan.changes) == ["drivers", "ghosts", "network"]
    hives = [change for change in plan.changes if change.path == windows.registry[SYSTEM].path]
    assert len(hives) == 1
    ids = [finding.id for finding in plan.warnings]
    assert ids.count("windows.addresses") == 1
    assert not {"windows.addresses-unclear", "windows.cluster-disks"} & set(ids)


def test_addresses_that_nobody_is_clearly_to_have_are_told_once_and_left(made: Medium) -> None:
    windows = read(guest(CARD))
    plan = plan_guest(facts(windows), PlanOptions(nic_macs=(), drivers=offered(made, windows)))
    assert "network" not in list_of(plan.changes)
    assert [each.id for each in plan.warnings if "addresses" in each.id] == ["windows.addresses-unclear"]
