"""IDE and SATA for guests that never met them: what is planned, and what is said where it cannot be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drivers.caps import GuestCaps
from drivers.windows.contribution import joined
from drivers.windows.facts import ControlSets, WindowsFacts
from drivers.windows.fallback import blockers, contribute, with_fallback
from tests.drivers.windows.guest_facts import FILES, facts, service, told
from tests.fixtures.hives import Data, Tree, binary, dword, sz

SET = "ControlSet001"
SERVICES, DATABASE = f"{SET}\\Services", f"{SET}\\Control\\CriticalDeviceDatabase"
HDC = "{4D36E96A-E325-11CE-BFC1-08002BE10318}"
RANK = binary(bytes.fromhex("01ff0000"))
CAPS = GuestCaps(("sata", "ide"), ("e1000",), "bios", "x86_64")


def known(prefix: str = SET) -> Tree:
    """Everything as it has to be, for Windows 7."""
    entry = {"Service": sz(""), "ClassGUID": sz(HDC)}
    drives = {
        "Primary_IDE_Channel": "atapi", "Secondary_IDE_Channel": "atapi", "*PNP0600": "atapi", "Internal_IDE_Channel": "atapi",
        "PCI#VEN_8086&DEV_7010": "IntelIde", "PCI#VEN_8086&DEV_7111": "intelide", "PCI#CC_0101": "pciide",
        "PCI#CC_010601": "msahci", "PCI#VEN_8086&DEV_2922": "msahci", "GenDisk": "disk",
    }  # fmt: skip
    services = {f"{prefix}\\Services\\{name}": service(0) for name in ("atapi", "IntelIde", "pciide", "msahci", "disk")}
    entries = {f"{prefix}\\Control\\CriticalDeviceDatabase\\{id_}": {**entry, "Service": sz(s)} for id_, s in drives.items()}
    return {f"{prefix}\\Control": {}, f"{prefix}\\Control\\CriticalDeviceDatabase": {}, **services, **entries}


def without(tree: Tree, *keys: str) -> Tree:
    assert all(key in tree for key in keys)
    return {key: values for key, values in tree.items() if key not in keys}


def modern(more: Tree | None = None) -> Tree:
    """Windows 8: DriverDatabase knows the controllers."""
    ids = "DriverDatabase\\DeviceIds\\PCI"
    services = {f"{SERVICES}\\{name}": service(0) for name in ("atapi", "intelide", "pciide", "storahci")}
    base: dict[str, dict[str, Data]] = {
        "DriverDatabase": {}, f"{ids}\\CC_010601": {"mshdc.inf": RANK}, f"{ids}\\VEN_8086&DEV_7010": {"mshdc.inf": RANK}
    }  # fmt: skip
    return {**base, **services, **(more or {})}


def ids_of(windows: WindowsFacts) -> set[str]:
    return {finding.id for finding in contribute(windows).warnings}


def test_where_everything_is_as_it_has_to_be_nothing_is_planned_whatever_the_case_of_names() -> None:
    assert told(contribute(facts(known()))) == {}
    assert told(contribute(facts(modern(), version=(6, 2)))) == {}


@pytest.mark.parametrize("name", ["atapi", "IntelIde", "pciide", "msahci"])
def test_a_driver_that_was_turned_off_starts_at_boot(name: str) -> None:
    off = {**known(), f"{SERVICES}\\{name}": service(3)}
    assert told(contribute(facts(off))) == {f"{SERVICES}\\{name}\\Start": 0}


def test_every_control_set_that_can_be_started_is_made_ready_and_no_other() -> None:
    sets = ControlSets(current=1, default=1, failed=2, last_known_good=3, present=(1, 2, 3))
    tree: Tree = {k: v for n in (1, 2, 3) for k, v in known(f"ControlSet00{n}").items()}
    off = {**tree, **{f"ControlSet00{n}\\Services\\msahci": service(4) for n in (1, 2, 3)}}
    assert set(told(contribute(facts(off, sets=sets)))) == {f"ControlSet00{n}\\Services\\msahci\\Start" for n in (1, 3)}


def test_a_service_that_is_gone_is_made_where_its_file_is_there() -> None:
    made = told(contribute(facts(without(known(), f"{SERVICES}\\atapi"))))
    assert made[f"{SERVICES}\\atapi"] == "new"
    values = {key.rpartition("\\")[2]: value for key, value in made.items() if key.startswith(f"{SERVICES}\\atapi\\")}
    assert values == {
        "Type": 1, "Start": 0, "ErrorControl": 1, "Tag": 25, "Group": "SCSI miniport", "ImagePath": "System32\\drivers\\atapi.sys"
    }  # fmt: skip


@pytest.mark.parametrize(
    "id_, driver",
    [
        ("PCI#VEN_8086&DEV_7010", "intelide"), ("PCI#VEN_8086&DEV_2922", "msahci"), ("PCI#CC_0101", "pciide"),
        ("PCI#CC_010601", "msahci"), ("Primary_IDE_Channel", "atapi"), ("Internal_IDE_Channel", "atapi"), ("*PNP0600", "atapi"),
    ],
)  # fmt: skip
def test_a_device_that_was_never_met_finds_its_driver(id_: str, driver: str) -> None:
    key = f"{DATABASE}\\{id_}"
    expected = {key: "new", f"{key}\\Service": driver, f"{key}\\ClassGUID": HDC}
    assert told(contribute(facts(without(known(), key)))) == expected


def test_an_entry_for_a_whole_class_of_devices_stays_where_its_driver_is_there_and_not_where_it_is_gone() -> None:
    key = f"{DATABASE}\\PCI#CC_010601"
    other = {**known(), key: {"Service": sz("maker"), "ClassGUID": sz(HDC)}}
    assert told(contribute(facts({**other, f"{SERVICES}\\maker": service(0)}))) == {}
    assert told(contribute(facts(other))) == {f"{key}\\Service": "msahci"}


def test_a_makers_driver_for_the_chip_that_qemus_controller_is_like_gives_way() -> None:
    key = f"{DATABASE}\\PCI#VEN_8086&DEV_2922&CC_0106"
    other = {**known(), key: {"Service": sz("iaStor"), "ClassGUID": sz(HDC)}}
    assert told(contribute(facts(other))) == {f"{key}\\Service": "msahci"}
    ids = "DriverDatabase\\DeviceIds\\PCI"
    tied: Tree = {
        f"{ids}\\VEN_8086&DEV_2922&CC_0106": {"oem3.inf": RANK, "mshdc.inf": RANK},
        f"{ids}\\VEN_8086&DEV_29221": {"oem4.inf": RANK},
    }
    planned = told(contribute(facts(modern(tied), version=(6, 3))))
    assert planned == {f"{ids}\\VEN_8086&DEV_2922&CC_0106\\oem3.inf": None}


def test_start_override_is_taken_out_where_it_keeps_a_driver_off_and_only_there() -> None:
    key = f"{SERVICES}\\storahci\\StartOverride"
    assert told(contribute(facts(modern({key: {"0": dword(3)}}), version=(10, 0)))) == {f"{key}\\0": None}
    assert told(contribute(facts(modern({key: {"0": dword(0)}}), version=(10, 0)))) == {}


def test_nt_4_has_services_only_and_windows_2000_is_told_of_its_devices() -> None:
    tree: Tree = {f"{SERVICES}\\atapi": service(4)}
    assert told(contribute(facts(tree, version=(4, 0), files=("atapi.sys",)))) == {f"{SERVICES}\\atapi\\Start": 0}
    planned = told(contribute(facts(tree, version=(5, 0), files=("atapi.sys", "intelide.sys", "pciidex.sys"))))
    assert planned[f"{DATABASE}\\PCI#VEN_8086&DEV_7010\\Service"] == "intelide"
    # it has no pciide.sys, which QEMU's controller does not need
    assert not any("pciide" in key.lower() or "CC_0101" in key for key in planned)


def test_a_bus_whose_drivers_cannot_be_had_is_said_and_not_offered() -> None:
    windows = facts(known(), files=tuple(name for name in FILES if name != "msahci.sys"))
    assert ids_of(windows) == {"windows.no-fallback"}
    assert "msahci.sys" in contribute(windows).warnings[0].message
    assert told(contribute(windows)) == {}
    assert with_fallback(CAPS, windows).disk_buses == ("ide",)
    assert list(blockers(CAPS, windows)) == []


def test_a_guest_without_any_driver_is_a_blocker_unless_it_is_given_virtios() -> None:
    windows = facts(known(), files=("other.sys",))
    assert [finding.id for finding in blockers(CAPS, windows)] == ["windows.no-disk-driver"]
    # what it would run on is said all the same
    assert with_fallback(CAPS, windows) == CAPS
    given = replace(CAPS, disk_buses=("virtio-blk", *CAPS.disk_buses))
    assert list(blockers(given, windows)) == []
    assert with_fallback(given, windows).disk_buses == ("virtio-blk",)


def test_where_the_drivers_folder_could_not_be_read_a_service_stands_for_its_file() -> None:
    windows = facts({**known(), f"{SERVICES}\\msahci": service(4)}, files=())
    assert told(contribute(windows)) == {f"{SERVICES}\\msahci\\Start": 0}
    assert with_fallback(CAPS, windows) == CAPS
    assert told(contribute(facts({}, files=()))) == {}


def test_a_driver_database_that_knows_no_such_controller_is_said() -> None:
    tree = without(modern(), "DriverDatabase\\DeviceIds\\PCI\\CC_010601")
    assert ids_of(facts(tree, version=(6, 2))) == {"windows.no-fallback"}
    other = {**tree, "DriverDatabase\\DeviceIds\\PCI\\CC_010601": {"oem1.inf": RANK}}
    assert ids_of(facts(other, version=(6, 2))) == {"windows.no-fallback"}


def test_arm64_has_no_ide() -> None:
    ids = "DriverDatabase\\DeviceIds\\PCI\\CC_010601"
    tree: Tree = {"DriverDatabase": {}, ids: {"mshdc.inf": RANK}, f"{SERVICES}\\storahci": service(3)}
    windows = facts(tree, version=(10, 0), arch="aarch64", files=("storahci.sys", "storport.sys"))
    assert told(contribute(windows)) == {f"{SERVICES}\\storahci\\Start": 0}
    assert ids_of(windows) == set()
    assert with_fallback(CAPS, windows).disk_buses == ("sata",)


def test_names_that_a_damaged_hive_has_twice_are_planned_for_once() -> None:
    tree = {**known(), f"{SERVICES}\\ATAPI": service(4), f"{SERVICES}\\msahci": service(1), f"{SERVICES}\\MSAHCI": service(2)}
    edits = joined([contribute(facts(tree))])
    assert told(edits) == {f"{SERVICES}\\msahci\\Start": 0}
