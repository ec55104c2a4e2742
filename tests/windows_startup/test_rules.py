"""What a simulated start finds besides where it stops: the order of drivers, doubts, other ways to a loader."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fixtures.hives import binary, dword, expand_sz, sz
from tests.windows_startup import devices, programs
from tests.windows_startup.devices import Device
from tests.windows_startup.editing import RemoveKey, Set
from tests.windows_startup.guests import Sample, on_virtio, sample
from tests.windows_startup.startup import start
from tests.windows_startup.verdict import Doubt, Reason


def doubts(found: Sample, controller: Device, card: Device | None = None) -> list[Doubt]:
    return [kind for kind, _ in found.start(controller, card).doubts]


def test_boot_drivers_load_by_group_and_within_one_by_tag() -> None:
    with sample("2016") as found:
        order = on_virtio(found).start(devices.VIRTIO_BLK).boot_drivers
    places = [order.index(name) for name in ("Wdf01000", "ACPI", "pci", "partmgr", "volmgr", "viostor", "LSI_SAS", "disk", "Tcpip")]
    assert places == sorted(places), order
    # ungrouped drivers come last
    assert order.index("volsnap") > order.index("Mup")


def test_driver_of_a_group_that_no_list_has_loads_after_all_groups() -> None:
    with sample("2016") as found:
        group = sz("No Group")
        late = found.with_hive("SYSTEM", [Set(f"{found.booted_set}\\Services\\LSI_SAS", "Group", group)])
        order = late.start(found.guest.machine.controller).boot_drivers
    assert order.index("LSI_SAS") > order.index("Mup")


def test_firmware_starts_what_its_variables_name_before_the_fallback() -> None:
    with sample("win10") as found:
        ready = on_virtio(found).with_files({"EFI/Boot/bootx64.efi": None}, found.boot)
        target = ready.target(devices.VIRTIO_BLK)
        assert start(ready.machine, target).reason is Reason.NO_EFI_LOADER
        named = replace(target, efi_entries=("EFI/Microsoft/Boot/bootmgfw.efi",))
        assert start(ready.machine, named).stop is None


def test_disk_of_a_bios_guest_starts_on_no_uefi() -> None:
    with sample("2016") as found:
        target = replace(found.at_home, uefi=True)
        assert start(found.machine, target).reason is Reason.NO_ESP


@pytest.mark.parametrize("service, expected", [("LSI_SAS", None), ("oldscsi", Reason.STORAGE_DRIVER_ABSENT)])
def test_device_that_is_known_keeps_its_driver_whatever_the_database_says(service: str, expected: Reason | None) -> None:
    with sample("2016") as found:
        controller = found.guest.machine.controller
        instance = f"{found.booted_set}\\Enum\\{controller.device_id}\\3&2b8e0b4b&0&88"
        edits = [RemoveKey("DriverDatabase\\DeviceIds\\PCI\\VEN_1000&DEV_0054")]
        known = found.with_hive("SYSTEM", [*edits, Set(instance, "Service", sz(service))])
        assert known.start(controller).reason is expected
        disabled = known.with_hive("SYSTEM", [Set(instance, "ConfigFlags", dword(1))])
        assert disabled.start(controller).reason is Reason.NO_STORAGE_DRIVER


def test_ids_match_whatever_their_case() -> None:
    with sample("win7") as found:
        key = f"{found.booted_set}\\Control\\CriticalDeviceDatabase\\pci#ven_1af4&dev_1001"
        ready = on_virtio(found)
        again = ready.with_hive("SYSTEM", [
            RemoveKey(f"{found.booted_set}\\Control\\CriticalDeviceDatabase\\PCI#VEN_1AF4&DEV_1001"),
            Set(key, "Service", sz("VIOSTOR")),
        ])  # fmt: skip
        assert again.start(devices.VIRTIO_BLK).stop is None


def test_driver_that_may_fail_and_has_no_file_is_a_doubt_and_no_stop() -> None:
    with sample("2012-r2-core") as found:
        without = found.with_files({found.path("system32/drivers/vmstorfl.sys"): None})
        assert doubts(without, found.guest.machine.controller) == [Doubt.IGNORED_DRIVER]


def test_drive_letter_of_another_place_is_a_doubt() -> None:
    with sample("win7") as found:
        other = found.with_hive("SYSTEM", [Set("MountedDevices", "\\DosDevices\\C:", binary(bytes(12)))])
        assert doubts(other, found.guest.machine.controller) == [Doubt.DRIVE_LETTER]


@pytest.mark.parametrize("policy, controller, offline", [
    (1, devices.VIRTIO_BLK, False),
    (2, devices.VIRTIO_BLK, True),
    (3, devices.VIRTIO_BLK, True),
    (2, devices.AHCI, False),
    (3, devices.AHCI, True),
    (3, devices.VMWARE_PVSCSI, False),
])  # fmt: skip
def test_san_policy_keeps_disks_on_a_bus_that_is_new_offline(policy: int, controller: Device, offline: bool) -> None:
    with sample("2019") as found:
        edits = [
            Set(f"{found.booted_set}\\Services\\partmgr\\Parameters", "SanPolicy", dword(policy)),
            Set(f"{found.booted_set}\\Services\\storahci\\StartOverride", "0", dword(0)),
        ]
        ready = on_virtio(found).with_hive("SYSTEM", edits)
        ended = ready.start(controller)
        assert ended.stop is None, ended
        assert ([kind for kind, _ in ended.doubts] == [Doubt.DATA_DISK_OFFLINE]) is offline


def test_network_card_needs_an_inf_file_where_plug_and_play_looks() -> None:
    inf = b"[Models]\r\n%netkvm% = kvmnet, PCI\\VEN_1AF4&DEV_1000&SUBSYS_00011AF4&REV_00\r\n"
    with sample("win7") as found:
        ready = on_virtio(found)
        assert doubts(ready, devices.VIRTIO_BLK, devices.VIRTIO_NET) == [Doubt.NO_NETWORK_DRIVER]
        somewhere = ready.with_files({found.path("Drivers/VirtIO/netkvm.inf"): inf})
        assert doubts(somewhere, devices.VIRTIO_BLK, devices.VIRTIO_NET) == [Doubt.NO_NETWORK_DRIVER]
        path = expand_sz("%SystemRoot%\\inf;%SystemRoot%\\Drivers\\VirtIO")
        told = somewhere.with_hive("SOFTWARE", [Set("Microsoft\\Windows\\CurrentVersion", "DevicePath", path)])
        assert doubts(told, devices.VIRTIO_BLK, devices.VIRTIO_NET) == []
        assert doubts(told, devices.VIRTIO_BLK, devices.RTL8139) == [Doubt.NO_NETWORK_DRIVER]
        wide = told.with_files({found.path("Drivers/VirtIO/netkvm.inf"): b"\xff\xfe" + inf.decode().encode("utf-16-le")})
        assert doubts(wide, devices.VIRTIO_BLK, devices.VIRTIO_NET) == []


@pytest.mark.parametrize("name, stops", [("2003", True), ("nt4-server", True), ("nt4-workstation", False), ("vista", False)])
def test_old_boot_code_counts_with_the_firmwares_heads(name: str, stops: bool) -> None:
    with sample(name) as found:
        heads = devices.seabios_heads(found.machine.disks[0].reader.virtual_size)
        elsewhere = start(found.machine, replace(found.at_home, heads=heads))
        assert heads == 64
        assert elsewhere.reason is (Reason.GEOMETRY if stops else None)
        assert start(found.machine, replace(found.at_home, heads=255)).stop is None
        corrected = found.with_bytes({found.system.offset + 26: bytes([heads])})
        assert not stops or start(corrected.machine, replace(found.at_home, heads=heads)).stop is None


@pytest.mark.parametrize("size, heads", [(1 << 30, 64), (2_114_445_312, 128), (4 << 30, 255), (1 << 40, 255)])
def test_larger_disks_have_more_heads(size: int, heads: int) -> None:
    assert devices.seabios_heads(size) == heads


@pytest.mark.parametrize("name, processors, intel, expected", [
    ("xp", 2, True, [Doubt.IDLE_PROCESSORS]),
    ("xp", 1, False, []),
    ("2003", 2, False, []),
    ("2003-x64", 2, False, [Doubt.PROCESSOR_DRIVER]),
    ("2003-x64", 2, True, []),
    ("2008-r2", 2, False, []),
])  # fmt: skip
def test_processors_that_nt_5_was_not_installed_on_are_a_doubt(
    name: str, processors: int, intel: bool, expected: list[Doubt]
) -> None:
    with sample(name) as found:
        ended = start(found.machine, replace(found.at_home, processors=processors, intel=intel))
        assert [kind for kind, _ in ended.doubts] == expected


@pytest.mark.parametrize("program", [b"", b"MZ", b"MZ".ljust(64, b"\xff"), b"\x7fELF".ljust(100, b"\0")])
def test_what_is_no_program_has_no_machine(program: bytes) -> None:
    assert programs.machine_of(program) is None
