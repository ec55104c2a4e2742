"""What a choice of drivers puts into a guest: files, services in every control set, entries that tie devices to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from drivers.changes import CARRIED_BYTES_AT_MOST, CarryFile
from drivers.windows.driver_changes import DriverChanges, GuestPlace, driver_changes, members_of
from drivers.windows.driver_choice import choose_drivers
from drivers.windows.inf_targets import Architecture, Product, WindowsTarget
from drivers.windows.media import MediumMember
from drivers.windows.virtio_win import read_catalogue
from tests.drivers.memory_tree import InMemoryTree
from tests.fixtures.virtio_win import DRIVERS, Driver, Medium, medium

VIOSTOR, VIOSCSI, NETKVM = DRIVERS[:3]
SERVER_2022 = WindowsTarget(10, 0, 20348, Architecture.X64, Product.SERVER)
WINDOWS_7 = WindowsTarget(6, 1, 7601, Architecture.X86, Product.WORKSTATION)
XP = WindowsTarget(5, 1, 2600, Architecture.X86, Product.WORKSTATION)
PLACE = GuestPlace("/Windows", "/Windows/System32/drivers", (1, 3), has_driver_database=True)
OLD_PLACE = replace(PLACE, has_driver_database=False)


def changes(made: Medium, target: WindowsTarget, place: GuestPlace = PLACE, *, iso: bool = False) -> DriverChanges:
    catalogue = read_catalogue(InMemoryTree(made.files), "/cd.iso", "iso" if iso else "folder")
    choice = choose_drivers(catalogue, target)
    located = [
        MediumMember("/cd.iso" if iso else f"/cd{path}", path, 4096 if iso else None, len(made.files[path]), f"sha256 of {path}")
        for path in members_of(choice, catalogue)
    ]
    return driver_changes(choice, catalogue, located, place)


def values(found: DriverChanges, key: str) -> dict[str, str | int | bytes]:
    """The values of a key, as what they mean."""
    said: dict[str, str | int | bytes] = {}
    for value in found.values:
        if value.key == key:
            assert value.name not in said, "a value twice"
            data = bytes.fromhex(value.data)
            is_text = value.type in (1, 2, 7)
            said[value.name] = data.decode("utf-16-le") if is_text else int.from_bytes(data, "little") if value.type == 4 else data
    return said


def carried(found: DriverChanges) -> Mapping[str, CarryFile]:
    assert len({file.path for file in found.files}) == len(found.files)
    return {file.path: file for file in found.files}


@pytest.fixture(scope="module")
def disks() -> Medium:
    return medium((VIOSTOR, VIOSCSI, NETKVM))


def test_every_package_has_a_folder_with_all_its_files(disks: Medium) -> None:
    found = carried(changes(disks, SERVER_2022))
    for name in ("viostor", "vioscsi", "netkvm"):
        for ending in ("inf", "cat", "sys"):
            assert f"/Windows/Drivers/VirtIO/{name}/{name}.{ending}" in found
    assert len(found) == 3 * 3 + 2
    file = found["/Windows/Drivers/VirtIO/netkvm/netkvm.sys"]
    assert file.source == "/cd/NetKVM/2k22/amd64/netkvm.sys"
    assert (file.sha256, file.member) == ("sha256 of /NetKVM/2k22/amd64/netkvm.sys", None)
    assert 0 < file.size < CARRIED_BYTES_AT_MOST


def test_files_of_a_cd_are_carried_as_its_members(disks: Medium) -> None:
    file = carried(changes(disks, SERVER_2022, iso=True))["/Windows/Drivers/VirtIO/netkvm/netkvm.sys"]
    assert file.source == "/cd.iso"
    assert file.member is not None
    assert (file.member.name, file.member.offset) == ("/NetKVM/2k22/amd64/netkvm.sys", 4096)


def test_the_drivers_of_disks_stand_where_the_loader_looks(disks: Medium) -> None:
    found = carried(changes(disks, SERVER_2022))
    for name in ("viostor", "vioscsi"):
        file = found[f"/Windows/System32/drivers/{name}.sys"]
        assert file.sha256 == found[f"/Windows/Drivers/VirtIO/{name}/{name}.sys"].sha256
    assert "/Windows/System32/drivers/netkvm.sys" not in found


@pytest.mark.parametrize("control_set", ["ControlSet001", "ControlSet003"])
@pytest.mark.parametrize("name, bus_type", [("viostor", 1), ("vioscsi", 10)])
def test_the_services_are_those_of_the_inf_files_in_every_control_set(
    control_set: str, name: str, bus_type: int, disks: Medium
) -> None:
    found = changes(disks, SERVER_2022)
    key = f"{control_set}\\Services\\{name}"
    assert values(found, key) == {
        "Type": 1, "Start": 0, "ErrorControl": 1, "Group": "SCSI miniport\0", "ImagePath": f"System32\\drivers\\{name}.sys\0",
    }  # fmt: skip
    assert values(found, f"{key}\\Parameters") == {"BusType": bus_type}
    assert values(found, f"{key}\\Parameters\\PnpInterface") == {"5": 1}
    assert f"{key}\\StartOverride" in [each.key for each in found.unwanted]


def test_the_path_of_a_service_has_its_type(disks: Medium) -> None:
    found = changes(disks, SERVER_2022)
    assert {value.type for value in found.values if value.name == "ImagePath"} == {2}


def test_without_a_driver_database_devices_are_critical_in_every_control_set(disks: Medium) -> None:
    found = changes(disks, WINDOWS_7, OLD_PLACE)
    assert not [value for value in found.values if value.key.startswith("DriverDatabase")]
    for control_set in ("ControlSet001", "ControlSet003"):
        for service, ids in (
            ("viostor", ("VEN_1AF4&DEV_1001&REV_00", "VEN_1AF4&DEV_1001", "VEN_1AF4&DEV_1042&REV_01", "VEN_1AF4&DEV_1042")),
            ("vioscsi", ("VEN_1AF4&DEV_1004&REV_00", "VEN_1AF4&DEV_1004", "VEN_1AF4&DEV_1048&REV_01", "VEN_1AF4&DEV_1048")),
        ):
            for id_ in ids:
                assert values(found, f"{control_set}\\Control\\CriticalDeviceDatabase\\PCI#{id_}") == {
                    "Service": f"{service}\0",
                    "ClassGUID": "{4D36E97B-E325-11CE-BFC1-08002BE10318}\0",
                }


def test_with_a_driver_database_the_devices_are_in_it_once(disks: Medium) -> None:
    found = changes(disks, SERVER_2022)
    assert not [value for value in found.values if "CriticalDeviceDatabase" in value.key]
    label = "p2v-viostor.inf_amd64_0000000000000000"
    assert values(found, r"DriverDatabase\DriverInfFiles\p2v-viostor.inf") == {
        "": f"{label}\0\0", "Active": f"{label}\0", "Configurations": "viostor_conf\0\0",
    }  # fmt: skip
    assert values(found, r"DriverDatabase\DeviceIds\PCI\VEN_1AF4&DEV_1042&REV_01") == {"p2v-viostor.inf": b"\x01\xff\0\0"}
    package = rf"DriverDatabase\DriverPackages\{label}"
    version = bytes.fromhex("00ff090000000000" + "7be9364d25e3ce11bfc108002be10318" + "00" * 24)
    assert values(found, package) == {"Version": version}
    assert values(found, rf"{package}\Configurations\viostor_conf") == {"ConfigFlags": 0, "Service": "viostor\0"}
    assert values(found, rf"{package}\Descriptors\PCI\VEN_1AF4&DEV_1001&REV_00") == {"Configuration": "viostor_conf\0"}


def test_a_driver_of_transitional_devices_alone_is_registered_for_those_alone() -> None:
    made = Medium()
    made.add(replace(VIOSTOR, ids=VIOSTOR.ids[:1]), "xp", "x86")
    keys = {value.key for value in changes(made, XP, OLD_PLACE).values}
    assert r"ControlSet001\Control\CriticalDeviceDatabase\PCI#VEN_1AF4&DEV_1001&REV_00" in keys
    assert not [key for key in keys if "DEV_1042" in key]


@pytest.mark.parametrize(
    "tags, expected",
    [
        ({}, (None, None)),
        ({1: {"atapi": 25, "storahci": 40}}, (41, 42)),
        ({1: {"atapi": 25, "viostor": 64}}, (64, 65)),
        ({1: {"vioscsi": 25, "viostor": 26}}, (26, 25)),
    ],
)
def test_the_tag_is_its_own_or_the_next_free_one(
    tags: Mapping[int, Mapping[str, int]], expected: tuple[int | None, int | None], disks: Medium
) -> None:
    found = changes(disks, SERVER_2022, replace(PLACE, tags=tags))
    tag = {name: values(found, rf"ControlSet001\Services\{name}").get("Tag") for name in ("viostor", "vioscsi")}
    assert (tag["viostor"], tag["vioscsi"]) == expected
    # each set has its own
    assert "Tag" not in values(found, r"ControlSet003\Services\viostor")


def test_folders_and_inf_files_are_spelt_as_windows_does(disks: Medium) -> None:
    found = changes(disks, SERVER_2022)
    assert found.folders[0] == r"%SystemRoot%\Drivers\VirtIO\viostor"
    assert found.inf_files == tuple(rf"%SystemRoot%\Drivers\VirtIO\{name}\{name}.inf" for name in ("viostor", "vioscsi", "netkvm"))


def test_packages_of_one_name_have_folders_of_their_own() -> None:
    made = Medium()
    other: Driver = replace(NETKVM, ids=DRIVERS[3].ids, service="other", folder="other")
    made.add(NETKVM, "2k22", "amd64")
    made.add(other, "2k22", "amd64")
    found = carried(changes(made, SERVER_2022))
    assert found["/Windows/Drivers/VirtIO/netkvm/netkvm.sys"].source == "/cd/NetKVM/2k22/amd64/netkvm.sys"
    assert found["/Windows/Drivers/VirtIO/netkvm-2/netkvm.sys"].source == "/cd/other/2k22/amd64/netkvm.sys"


def test_a_package_for_several_devices_is_carried_once() -> None:
    made = Medium()
    made.add(replace(VIOSTOR, ids=(*VIOSTOR.ids, *VIOSCSI.ids)), "2k22", "amd64")
    found = changes(made, SERVER_2022)
    assert len(found.inf_files) == 1
    keys = {value.key for value in found.values}
    for id_ in ("1001", "1042", "1004", "1048"):
        assert rf"DriverDatabase\DeviceIds\PCI\VEN_1AF4&DEV_{id_}" in keys


def test_nothing_chosen_is_nothing_changed() -> None:
    assert changes(Medium(), SERVER_2022) == DriverChanges((), (), (), (), (), ())


def test_every_change_has_its_reason(disks: Medium) -> None:
    found = changes(disks, SERVER_2022)
    reasons = [file.why for file in found.files] + [value.why for value in found.values] + [key.why for key in found.unwanted]
    assert all(reasons)
