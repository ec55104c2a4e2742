"""What KVM offers a guest: the machine, limited by what the guest can use."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from drivers.caps import GuestCaps
from drivers.plan import PlanOptions
from p2v.core import jsonio
from p2v.core.errors import Usage
from p2v.core.units import MIB
from p2v.documents import Inspection
from p2v.machine import Clock, DiskBus, Firmware, Machine, MachineDisk, Nic, NicModel, Smbios
from p2v.planning import plan_found
from p2v.targets.hardware import TargetDisk, TargetHardware, stable_mac, target_hardware
from tests.drivers.linux.guest import facts_of, files

CAPS = GuestCaps(("virtio-blk", "virtio-scsi", "sata"), ("virtio", "e1000"), "bios", "x86_64", rng=True, balloon=True)
MACHINE = Machine("web1", (MachineDisk(Path("web1.vmdk")),), cpus=3, memory_bytes=1500 * MIB + 1)
DISKS = (TargetDisk(Path("web1.qcow2")),)


def test_sizes_are_the_machines_and_buses_the_guests() -> None:
    made = target_hardware(MACHINE, CAPS, DISKS)
    assert (made.cpus, made.memory_bytes) == (3, 1501 * MIB)
    assert (made.machine, made.disk_bus, made.nics[0].model) == ("q35", DiskBus.VIRTIO_BLK, NicModel.VIRTIO)
    assert (made.rng, made.balloon, made.clock, made.firmware) == (True, True, Clock.UTC, Firmware.BIOS)


def test_a_guest_that_knows_only_ide_gets_the_machine_that_has_ide() -> None:
    made = target_hardware(MACHINE, dataclasses.replace(CAPS, disk_buses=("ide",)), DISKS)
    assert (made.machine, made.disk_bus) == ("pc", DiskBus.IDE)


def test_more_disks_than_ide_holds_are_refused() -> None:
    with pytest.raises(Usage):
        target_hardware(MACHINE, dataclasses.replace(CAPS, disk_buses=("ide",)), DISKS * 5)


def test_a_guest_without_known_drivers_gets_what_every_system_knows() -> None:
    made = target_hardware(MACHINE, dataclasses.replace(CAPS, disk_buses=(), nic_models=()), DISKS)
    assert (made.disk_bus, made.nics[0].model) == (DiskBus.SATA, NicModel.E1000)


def test_windows_keeps_local_time() -> None:
    assert target_hardware(MACHINE, dataclasses.replace(CAPS, local_time=True), DISKS).clock is Clock.LOCAL_TIME


@pytest.mark.parametrize(
    ("stated", "assumed", "expected"),
    [
        (None, (), Firmware.BIOS),
        (Firmware.UEFI, (), Firmware.UEFI),
        (Firmware.UEFI, ("firmware",), Firmware.BIOS),
    ],
)
def test_the_firmware_is_the_machines_where_its_source_states_it(
    stated: Firmware | None, assumed: tuple[str, ...], expected: Firmware
) -> None:
    machine = dataclasses.replace(MACHINE, firmware=stated, assumed=assumed)
    assert target_hardware(machine, CAPS, DISKS).firmware is expected


def test_known_macs_are_kept_and_unknown_ones_are_the_same_on_every_run() -> None:
    machine = dataclasses.replace(MACHINE, nics=(Nic("00:0C:29:AA:BB:CC", "dmz"), Nic(), Nic()))
    first, second = (target_hardware(machine, CAPS, DISKS) for _ in range(2))
    assert first == second
    assert (first.nics[0].mac, first.nics[0].network) == ("00:0c:29:aa:bb:cc", "dmz")
    generated = {nic.mac for nic in first.nics[1:]}
    assert len(generated) == 2
    assert all(mac.startswith("52:54:00:") for mac in generated)
    assert stable_mac("web1", 1) != stable_mac("web2", 1)


def test_the_uuid_is_the_machines_or_a_stable_one() -> None:
    known = "11111111-2222-4333-8444-555555555555"
    assert target_hardware(dataclasses.replace(MACHINE, uuid=known), CAPS, DISKS).uuid == known
    assert target_hardware(MACHINE, CAPS, DISKS).uuid == target_hardware(MACHINE, CAPS, DISKS).uuid


def test_a_name_that_is_no_text_still_has_a_mac_and_a_uuid() -> None:
    assert target_hardware(dataclasses.replace(MACHINE, name="web\udcff"), CAPS, DISKS).uuid


def test_serial_numbers_are_cut_to_what_a_virtual_disk_holds() -> None:
    disk = dataclasses.replace(DISKS[0], serial=" 6000c29,3f/0123456789abcdef0123 ")
    assert target_hardware(MACHINE, CAPS, (disk,)).disks[0].serial == "6000c29_3f_012345678"


def test_hardware_survives_json() -> None:
    made = target_hardware(MACHINE, CAPS, DISKS)
    conv = jsonio.converter()
    assert jsonio.decode(conv, jsonio.encode(conv, made), TargetHardware) == made


@pytest.mark.parametrize("own", [None, "11111111-2222-4333-8444-555555555555"])
def test_a_copy_with_a_new_identity_has_a_uuid_of_its_own_on_every_run(own: str | None) -> None:
    # systemd makes the machine id of a virtual machine from it
    found, machine = Inspection((), facts_of(files())), dataclasses.replace(MACHINE, uuid=own)
    plain = plan_found(machine, found).hardware.uuid
    copies = {plan_found(machine, found, PlanOptions(new_identity=True)).hardware.uuid for _ in range(2)}
    assert len(copies) == 1
    assert copies.isdisjoint({plain, own})
    other = dataclasses.replace(machine, name="web2")
    assert plan_found(other, found, PlanOptions(new_identity=True)).hardware.uuid not in copies


def test_a_copy_with_a_new_identity_has_another_generation_id_where_its_machine_has_one() -> None:
    own, found = "11111111-2222-4333-8444-555555555555", Inspection((), facts_of(files()))
    machine = dataclasses.replace(MACHINE, generation_id=own)
    assert plan_found(machine, found).hardware.generation_id == own
    copies = {plan_found(machine, found, PlanOptions(new_identity=True)).hardware.generation_id for _ in range(2)}
    assert len(copies) == 1
    assert copies.isdisjoint({own, None})
    assert plan_found(MACHINE, found, PlanOptions(new_identity=True)).hardware.generation_id is None


def test_a_copy_has_none_of_the_machines_numbers() -> None:
    told = Smbios("Dell Inc.", "PowerEdge", "2", "7J0P6Z1", "SKU", "F", "B1", "B-9", "C1", "IT-4711")
    found = Inspection((), facts_of(files()))
    machine = dataclasses.replace(MACHINE, smbios=told)
    assert plan_found(machine, found).hardware.smbios == told
    copy = plan_found(machine, found, PlanOptions(new_identity=True)).hardware.smbios
    assert copy == Smbios("Dell Inc.", "PowerEdge", "2", sku="SKU", family="F")


@pytest.mark.parametrize(
    ("nic", "told"),
    [
        (Nic("00:0c:29:00:00:01"), True),
        (Nic(), False),
        (Nic("52:54:00:00:00:01", source_mac="00:0c:29:00:00:01"), False),
    ],
)
def test_a_copy_that_keeps_its_sources_mac_is_told(nic: Nic, told: bool) -> None:
    machine = dataclasses.replace(MACHINE, nics=(nic,))
    document = plan_found(machine, Inspection((), facts_of(files())), PlanOptions(new_identity=True))
    assert ("machine.mac-kept" in {finding.id for finding in document.plan.warnings}) is told
