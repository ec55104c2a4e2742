"""Drivers in a Windows guest's plan: edits that fit its hives as they are, that hold once made, and no second time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.changes import EditHive
from drivers.plan import PlanOptions
from drivers.planning import plan_guest
from drivers.windows.driver_changes import members_of
from drivers.windows.driver_choice import choose_drivers
from drivers.windows.edits import DeleteValue, SetValue
from drivers.windows.facts import SYSTEM, WindowsFacts
from drivers.windows.hive_edit import edit
from drivers.windows.inf_targets import Architecture, Product, WindowsTarget
from drivers.windows.media import MediumMember
from drivers.windows.offer import DriverOffer, offer_for, target_of
from drivers.windows.placed import still_to_do
from drivers.windows.reading import read_windows
from drivers.windows.virtio_drivers import contribute
from drivers.windows.virtio_win import read_catalogue
from tests.drivers.memory_tree import InMemoryTree, Node
from tests.drivers.windows.guest_disk import ntfs_disk, software_tree, system_tree, windows_files
from tests.drivers.windows.test_reading import facts_of
from tests.fixtures.hives import Data, Tree, dword, make_hive, sz
from tests.fixtures.virtio_win import DRIVERS, Medium, medium, write_folder

DATABASE: Tree = {
    "DriverDatabase": {},
    "DriverDatabase\\DeviceIds\\PCI": {},
    "DriverDatabase\\DriverInfFiles": {},
    "DriverDatabase\\DriverPackages": {},
}
SOFTWARE_KEY = "Microsoft\\Windows\\CurrentVersion"
DEVICE_PATH = Data(2, "%SystemRoot%\\inf\0".encode("utf-16-le"))


@pytest.fixture(scope="module")
def made() -> Medium:
    return medium(DRIVERS[:6])


def files(system: Tree | None = None, software: Tree | None = None) -> dict[str, bytes]:
    more = {SOFTWARE_KEY: {"DevicePath": DEVICE_PATH}, **(software or {})}
    return windows_files(
        system=make_hive(system if system is not None else system_tree(sets=(1, 2), more=DATABASE)),
        software=make_hive(software_tree(more=more), name="SOFTWARE"),
    )


def read(guest: Mapping[str, bytes]) -> WindowsFacts:
    return read_windows(InMemoryTree(dict[str, Node](guest)), "/Windows").facts


def offer(made: Medium, windows: WindowsFacts) -> DriverOffer:
    catalogue = read_catalogue(InMemoryTree(made.files), "/medium", "folder")
    target = target_of(windows)
    assert target is not None
    choice = choose_drivers(catalogue, target)
    located = [MediumMember(path, path, None, len(made.files[path]), "") for path in members_of(choice, catalogue)]
    return DriverOffer(catalogue, choice, tuple(located))


def edited(guest: Mapping[str, bytes], made: Medium) -> dict[str, bytes]:
    """The guest's files once its hives were edited as planned, by the code that conversions use."""
    windows = read(guest)
    found = contribute(windows, offer(made, windows))
    paths = {name: windows.registry[name].path for name in found.edits}
    return {**guest, **{paths[name]: edit(guest[paths[name]], (), edits) for name, edits in found.edits.items()}}


def test_a_guest_is_told_to_drivers_as_it_is() -> None:
    windows = read(files())
    assert target_of(windows) == WindowsTarget(10, 0, 17763, Architecture.X64, Product.SERVER)
    controller = replace(windows, version=replace(windows.version, product_type="LanmanNT"))
    found = target_of(controller)
    assert found is not None
    assert found.product is Product.DOMAIN_CONTROLLER
    assert target_of(replace(windows, arch="alpha")) is None


def test_the_edits_fit_the_hives_and_what_they_leave_is_what_was_wanted(made: Medium) -> None:
    windows = read(edited(files(), made))
    system = windows.registry[SYSTEM]
    for number in (1, 2):
        for name in ("viostor", "vioscsi"):
            key = f"ControlSet{number:03d}\\Services\\{name}"
            assert (system.number(key, "Start"), system.text(key, "Group")) == (0, "SCSI miniport")
            assert system.text(key, "ImagePath") == f"System32\\drivers\\{name}.sys"
            assert system.number(f"{key}\\Parameters\\PnpInterface", "5") == 1
    label = "p2v-viostor.inf_amd64_0000000000000000"
    assert system.text("DriverDatabase\\DriverInfFiles\\p2v-viostor.inf", "Active") == label
    configuration = f"DriverDatabase\\DriverPackages\\{label}\\Configurations\\viostor_conf"
    assert system.text(configuration, "Service") == "viostor"
    path = windows.registry["SOFTWARE"].text(SOFTWARE_KEY, "DevicePath")
    assert path.startswith("%SystemRoot%\\inf;%SystemRoot%\\Drivers\\VirtIO\\viostor;")


def test_a_second_time_nothing_is_left_to_edit(made: Medium) -> None:
    after = edited(files(), made)
    windows = read(after)
    found = contribute(windows, offer(made, windows))
    assert all(not edits for edits in found.edits.values())


@pytest.mark.parametrize("own,told", [(b"an older one", ["driver.replaced"]), (None, [])])
def test_a_driver_of_the_guests_own_gives_way_and_that_is_said(made: Medium, own: bytes | None, told: list[str]) -> None:
    there = {"/Windows/System32/drivers/viostor.sys": own} if own is not None else {}
    windows = read({**files(), **there})
    found = contribute(windows, offer(made, windows))
    assert [finding.id for finding in found.warnings if finding.id.startswith("driver.re")] == told
    changes = still_to_do(found.changes, windows)
    made_of = [type(change).__name__ for change in changes if change.path.endswith("System32/drivers/viostor.sys")]
    assert made_of == [*(["DeleteFile"] if own else []), "CarryFile"]


def test_without_a_driver_database_devices_are_critical(made: Medium) -> None:
    after = edited(files(system_tree(sets=(1,), more={"ControlSet001\\Control\\CriticalDeviceDatabase\\x": {}})), made)
    key = "ControlSet001\\Control\\CriticalDeviceDatabase\\PCI#VEN_1AF4&DEV_1042&REV_01"
    assert read(after).registry[SYSTEM].text(key, "Service") == "viostor"


def test_what_is_there_is_expected_and_what_is_right_stays(made: Medium) -> None:
    old = {"Start": dword(3), "Type": dword(1), "Group": sz("scsi miniport"), "Tag": dword(7)}
    tree = system_tree(more={
        **DATABASE,
        "ControlSet001\\Services\\VioStor": old,
        "ControlSet001\\Services\\VioStor\\StartOverride": {"0": dword(3)},
    })  # fmt: skip
    windows = read(files(tree))
    of_driver = [
        each for each in contribute(windows, offer(made, windows)).edits[SYSTEM] if each.key.lower().endswith("services\\viostor")
    ]
    set_values = {each.name: each for each in of_driver if isinstance(each, SetValue)}
    assert "Type" not in set_values
    assert "Tag" not in set_values
    start = set_values["Start"].before
    assert start is not None
    assert (start.kind, start.data) == (4, "03000000")
    overrides = [each for each in contribute(windows, offer(made, windows)).edits[SYSTEM] if isinstance(each, DeleteValue)]
    assert [(each.key.lower(), each.name) for each in overrides] == [("controlset001\\services\\viostor\\startoverride", "0")]
    after = read(edited(files(tree), made)).registry[SYSTEM]
    assert after.number("ControlSet001\\Services\\viostor", "Start") == 0
    assert after.value("ControlSet001\\Services\\viostor\\StartOverride", "0") is None


def test_a_guest_without_a_device_path_gets_none(made: Medium) -> None:
    guest = files()
    guest["/Windows/System32/config/SOFTWARE"] = make_hive(software_tree(), name="SOFTWARE")
    windows = read(guest)
    assert contribute(windows, offer(made, windows)).edits["SOFTWARE"] == ()


def test_without_a_medium_that_is_said() -> None:
    found = contribute(read(files()), None)
    assert [finding.id for finding in found.warnings] == ["windows.no-drivers"]
    assert (found.changes, dict(found.edits)) == ((), {})


def test_a_plan_has_the_drivers_and_the_hardware_they_are_for(made: Medium, tmp_path: Path) -> None:
    facts = facts_of(ntfs_disk(tmp_path / "disk.raw", files()))
    assert facts.windows is not None
    offered = offer_for(facts.windows, write_folder(made.files, tmp_path / "medium"), secure_boot=False)
    plan = plan_guest(facts, PlanOptions(drivers=offered))
    assert plan.caps.disk_buses[:2] == ("virtio-blk", "virtio-scsi")
    assert plan.caps.nic_models[0] == "virtio"
    assert (plan.caps.rng, plan.caps.balloon) == (True, True)
    hives = [change.path for change in plan.changes if isinstance(change, EditHive)]
    assert hives == ["/Windows/System32/config/SYSTEM", "/Windows/System32/config/SOFTWARE"]
    assert "/Windows/System32/drivers/viostor.sys" in [change.path for change in plan.changes]
    bare = plan_guest(facts, PlanOptions())
    assert "virtio" not in bare.caps.nic_models
