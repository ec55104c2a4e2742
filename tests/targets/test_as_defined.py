"""A libvirt definition read back is the hardware it was made from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from drivers.caps import GuestCaps
from p2v.core.units import GIB
from p2v.machine import Clock, DiskBus, DriveKind, Firmware, Machine, NicModel, Smbios, Topology
from p2v.sources import libvirt
from p2v.targets.as_defined import as_defined
from p2v.targets.hardware import TargetHardware, TargetMedium, TargetNic, target_hardware
from p2v.targets.libvirt import domain_xml
from tests.sources.readers import described
from tests.targets.samples import hardware

# The guest could have better than what is defined: what is defined counts.
ANYTHING = GuestCaps(("virtio-blk", "sata", "ide"), ("virtio", "e1000"), "bios", "x86_64", rng=True, balloon=True)
FULL = dataclasses.replace(
    hardware(firmware=Firmware.UEFI, secure_boot=True, tpm=True),
    cpus=8,
    topology=Topology(2, 2, 2),
    memory_bytes=3 * GIB,
    generation_id="43dc0cf8-809b-4adb-9bea-a9abb5f3d90e",
    clock=Clock.LOCAL_TIME,
    cdroms=1,
    smbios=Smbios("Dell, Inc.", "PowerEdge <R720>", "2", "7J0P6Z1", "SKU", "F", "B1", "B-9", "C1", 'IT "4711"'),
)
DEFINED = {
    "virtio": hardware(disks=3),
    "scsi": hardware(bus=DiskBus.VIRTIO_SCSI, disks=2),
    "sata": hardware(bus=DiskBus.SATA, disks=2),
    "ide": dataclasses.replace(hardware(bus=DiskBus.IDE, machine="pc", disks=3), cdroms=1, floppies=1),
    "old": hardware(machine="pc"),
    "full": FULL,
    "cards": dataclasses.replace(
        hardware(), nics=tuple(TargetNic(f"52:54:00:00:00:{n:02x}", model) for n, model in enumerate(NicModel))
    ),
}


def read_back(made: TargetHardware, folder: Path, text: str = "") -> Machine:
    for disk in made.disks:
        (folder / disk.path).write_bytes(b"")
    file = folder / "web1.xml"
    file.write_text(text or domain_xml(made, folder), "utf-8")
    return libvirt.read(described(file))


def defined(machine: Machine, made: TargetHardware) -> tuple[TargetHardware, tuple[str, ...]]:
    return as_defined(machine, target_hardware(machine, ANYTHING, made.disks))


@pytest.mark.parametrize("name", DEFINED)
def test_a_definition_read_back_is_the_hardware_it_was_made_from(tmp_path: Path, name: str) -> None:
    made = DEFINED[name]
    assert defined(read_back(made, tmp_path), made) == (made, ())


def test_what_is_in_its_drives_is_there(tmp_path: Path) -> None:
    drives = (TargetMedium(DriveKind.CDROM, 0, tmp_path / "a.iso"), TargetMedium(DriveKind.FLOPPY, 0, tmp_path / "b.img"))
    made = dataclasses.replace(hardware(machine="pc"), cdroms=1, floppies=1, media=drives)
    for drive in drives:
        drive.path.write_bytes(b"")
    assert defined(read_back(made, tmp_path), made) == (made, ())


def test_a_versioned_machine_type_is_its_family(tmp_path: Path) -> None:
    made = hardware(machine="pc")
    text = domain_xml(made, tmp_path).replace('machine="pc"', 'machine="pc-i440fx-99.1"')
    assert defined(read_back(made, tmp_path, text), made)[0].machine == "pc"
    text = domain_xml(made, tmp_path).replace('machine="pc"', 'machine="pc-q35-99.1"')
    assert defined(read_back(made, tmp_path, text), made)[0].machine == "q35"


def test_what_is_not_known_here_is_told_and_chosen(tmp_path: Path) -> None:
    made = hardware(bus=DiskBus.SATA)
    text = domain_xml(made, tmp_path).replace('bus="sata"', 'bus="usb"').replace('type="e1000e"', 'type="i82559er"')
    found, remarks = defined(read_back(made, tmp_path, text.replace('machine="q35"', 'machine="xenpv"')), made)
    assert (found.machine, found.disk_bus, found.nics[1].model) == ("q35", DiskBus.VIRTIO_BLK, NicModel.VIRTIO)
    assert [word for word, remark in zip(("xenpv", "usb", "i82559er"), remarks, strict=True) if word in remark] == [
        "xenpv", "usb", "i82559er",
    ]  # fmt: skip


def test_another_hypervisors_machine_gets_what_a_conversion_would_give_it(tmp_path: Path) -> None:
    made = hardware(bus=DiskBus.SATA)
    machine = read_back(made, tmp_path, domain_xml(made, tmp_path).replace('type="kvm"', 'type="vmware"'))
    chosen = target_hardware(machine, ANYTHING, made.disks)
    assert as_defined(machine, chosen) == (chosen, ())
    assert chosen.disk_bus is DiskBus.VIRTIO_BLK
