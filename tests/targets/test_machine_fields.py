"""What of a machine reaches the hardware, what is lost and told, and that QEMU and libvirt take every combination."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from drivers.caps import GuestCaps
from p2v.core.run import find_program
from p2v.core.units import GIB, MIB
from p2v.machine import (
    Clock,
    DriveKind,
    Firmware,
    Machine,
    MachineDisk,
    MediumImage,
    Nic,
    NicModel,
    RemovableDrive,
    Smbios,
    Topology,
)
from p2v.targets.hardware import TargetDisk, TargetHardware, TargetMedium, losses, media_images, target_hardware
from p2v.targets.libvirt import domain_xml
from p2v.targets.qemu import Wiring, qemu_arguments
from tests.targets.samples import HOSTILE, hardware
from tests.targets.test_libvirt import TCG, VALIDATOR, valid
from tests.targets.test_qemu import QEMU, options_seen, runs, written

VIRTIO = GuestCaps(("virtio-blk",), ("virtio",), "bios", "x86_64", rng=True, balloon=True)
OLD = GuestCaps(
    ("ide",), ("rtl8139",), "bios", "i386", local_time=True, machine="pc", cpus_at_most=1, memory_at_most_bytes=512 * MIB,
    keeps_cards=True,
)  # fmt: skip
GENERATION = "6f1d2c3b-4a59-4877-9665-544332211001"
FULL = Machine(
    "db1",
    (MachineDisk(Path("db1.vmdk")),),
    nics=(Nic("00:0c:29:00:00:01", "VM Network", "vmxnet3"), Nic("00:0c:29:00:00:02", "dmz", "e1000", connected=False)),
    cpus=8,
    memory_bytes=4 * GIB,
    firmware=Firmware.UEFI,
    uuid="564d308b-9a22-1821-0f1b-2f3a4b5c6d7e",
    topology=Topology(2, 2, 2),
    generation_id=GENERATION,
    secure_boot=True,
    tpm=True,
    clock=Clock.LOCAL_TIME,
    smbios=Smbios("Dell, Inc.", "PowerEdge R720", "2", "VMware-56 4d", "SKU", "F", "B1,2", "B-9", "C1", "IT-4711"),
    removable=(RemovableDrive(DriveKind.CDROM, "tools.iso"), RemovableDrive(DriveKind.FLOPPY)),
)


def made(machine: Machine = FULL, caps: GuestCaps = VIRTIO) -> TargetHardware:
    return target_hardware(machine, caps, (TargetDisk(Path("db1.qcow2")),))


def lost(machine: Machine = FULL, caps: GuestCaps = VIRTIO) -> list[str]:
    return [finding.id for finding in losses(machine, caps, made(machine, caps))]


def test_what_a_machine_had_it_has_on_kvm() -> None:
    hardware = made()
    assert (hardware.cpus, hardware.topology, hardware.uuid) == (8, FULL.topology, FULL.uuid)
    assert (hardware.firmware, hardware.secure_boot, hardware.tpm) == (Firmware.UEFI, True, True)
    assert (hardware.generation_id, hardware.clock, hardware.cdroms, hardware.floppies) == (GENERATION, Clock.LOCAL_TIME, 1, 0)
    assert [nic.mac for nic in hardware.nics] == ["00:0c:29:00:00:01", "00:0c:29:00:00:02"]
    assert [nic.model for nic in hardware.nics] == [NicModel.VIRTIO, NicModel.VIRTIO]


def test_what_is_lost_is_told() -> None:
    assert lost() == ["hardware.medium", "hardware.link"]
    two = RemovableDrive(DriveKind.CDROM)
    assert "hardware.drives" in lost(dataclasses.replace(FULL, removable=(two, two)))
    assert "hardware.drives" in lost(dataclasses.replace(FULL, removable=(RemovableDrive(DriveKind.FLOPPY, "a.img"),)))


IMAGE = MediumImage(Path("/srv/tools.iso"), 4096, 1)
FLOPPY = MediumImage(Path("/srv/boot.flp"), 1440 * 1024, 1)
LOADED = dataclasses.replace(
    FULL,
    secure_boot=False,
    tpm=False,
    firmware=Firmware.BIOS,
    removable=(
        RemovableDrive(DriveKind.CDROM),
        RemovableDrive(DriveKind.CDROM, "tools.iso", path=IMAGE.path, image=IMAGE),
        RemovableDrive(DriveKind.FLOPPY, "boot.flp", path=FLOPPY.path, image=FLOPPY),
    ),
)


def test_a_medium_that_comes_along_is_in_the_drive_there_is() -> None:
    hardware = made(LOADED)
    assert hardware.media == (TargetMedium(DriveKind.CDROM, 0, Path("db1-cdrom1.iso")),)
    assert media_images(LOADED, hardware) == (IMAGE,)
    # no floppy controller: the machine is a q35
    assert [f.message for f in losses(LOADED, VIRTIO, hardware) if f.id == "hardware.medium"] == [
        "a medium is in a drive (boot.flp); it does not travel"
    ]
    old = made(LOADED, OLD)
    assert [medium.path.name for medium in old.media] == ["db1-cdrom1.iso", "db1-floppy1.img"]
    assert media_images(LOADED, old) == (IMAGE, FLOPPY)
    assert "hardware.medium" not in lost(LOADED, OLD)


def test_a_medium_that_could_come_along_names_the_option() -> None:
    drive = RemovableDrive(DriveKind.CDROM, "tools.iso", path=IMAGE.path)
    (finding,) = [f for f in losses(dataclasses.replace(FULL, removable=(drive,)), VIRTIO, made()) if f.id == "hardware.medium"]
    assert "--with-media" in finding.hint
    (finding,) = [f for f in losses(FULL, VIRTIO, made()) if f.id == "hardware.medium"]
    assert finding.hint == ""


def test_a_machine_with_nothing_to_lose_gets_no_word() -> None:
    assert lost(Machine("web1", FULL.disks)) == []


def test_an_old_guest_gets_no_more_than_it_stands_and_the_cards_it_had() -> None:
    hardware = made(dataclasses.replace(FULL, firmware=Firmware.BIOS, secure_boot=False), OLD)
    assert (hardware.cpus, hardware.topology, hardware.memory_bytes) == (1, None, 512 * MIB)
    assert (hardware.machine, hardware.floppies, hardware.cdroms) == ("pc", 1, 1)
    assert [nic.model for nic in hardware.nics] == [NicModel.VMXNET3, NicModel.E1000]
    assert {"hardware.cpus", "hardware.memory"} <= set(lost(FULL, OLD))


@pytest.mark.parametrize(("disks", "drives"), [(1, 1), (3, 1), (4, 0)])
def test_a_cd_rom_drive_finds_its_place_behind_ide_disks_or_is_told_to_be_lost(disks: int, drives: int) -> None:
    caps = dataclasses.replace(OLD, cpus_at_most=None)
    machine = dataclasses.replace(FULL, removable=(RemovableDrive(DriveKind.CDROM),), firmware=Firmware.BIOS, tpm=False)
    hardware = target_hardware(machine, caps, [TargetDisk(Path(f"db1-{index}.qcow2")) for index in range(disks)])
    assert hardware.cdroms == drives
    found = [finding.id for finding in losses(machine, caps, hardware)]
    assert ("hardware.drives" in found) is (drives == 0)


@pytest.mark.parametrize(
    ("said", "model"),
    [
        ("vlance", NicModel.PCNET),
        ("Am79C973", NicModel.PCNET),
        ("82540EM", NicModel.E1000),
        ("tulip", NicModel.TULIP),
        ("ne2k_pci", NicModel.NE2000),
        ("netvsc", NicModel.RTL8139),
        ("", NicModel.RTL8139),
    ],
)
def test_a_card_that_kvm_has_stays_what_it_was(said: str, model: NicModel) -> None:
    machine = dataclasses.replace(FULL, nics=(Nic("00:0c:29:00:00:01", "lan", said),))
    assert made(machine, OLD).nics[0].model is model
    assert ("hardware.card" in lost(machine, OLD)) is (said == "netvsc")


def test_secure_boot_needs_uefi() -> None:
    machine = dataclasses.replace(FULL, firmware=Firmware.BIOS)
    assert not made(machine).secure_boot
    assert "hardware.secure-boot" in lost(machine)


def test_what_smbios_told_reaches_the_script_whole(tmp_path: Path) -> None:
    seen = options_seen(tmp_path, written(tmp_path, made(dataclasses.replace(FULL, tpm=False, firmware=Firmware.BIOS))))
    told = [seen[at + 1] for at, word in enumerate(seen) if word == "-smbios"]
    assert told == [
        "type=1,manufacturer=Dell,, Inc.,product=PowerEdge R720,version=2,serial=VMware-56 4d,sku=SKU,family=F",
        "type=2,serial=B1,,2,asset=B-9",
        "type=3,serial=C1,asset=IT-4711",
    ]


def test_a_machine_that_smbios_told_nothing_is_told_what_qemu_says(tmp_path: Path) -> None:
    plain = made(dataclasses.replace(FULL, smbios=Smbios(), tpm=False, firmware=Firmware.BIOS))
    assert "-smbios" not in options_seen(tmp_path, written(tmp_path, plain))
    assert "sysinfo" not in domain_xml(plain, tmp_path)


def test_other_architectures_get_what_their_machine_has() -> None:
    caps = GuestCaps(("virtio-blk",), ("virtio",), "uefi", "aarch64")
    hardware = made(caps=caps)
    assert (hardware.secure_boot, hardware.tpm, hardware.generation_id, hardware.cdroms) == (False, True, None, 0)
    assert {"hardware.secure-boot", "hardware.drives"} <= set(lost(caps=caps))
    assert "hardware.tpm" not in lost(caps=caps)
    assert hardware.smbios == FULL.smbios
    power = GuestCaps(("virtio-blk",), ("virtio",), "bios", "ppc64le")
    bare = dataclasses.replace(FULL, firmware=Firmware.BIOS)
    assert (made(bare, power).smbios, made(bare, power).tpm) == (Smbios(), False)
    assert "hardware.tpm" in lost(bare, power)
    assert "hardware.smbios" in lost(bare, power)


MACHINES = {
    "loaded": (LOADED, VIRTIO),
    "loaded and old": (LOADED, OLD),
    "everything": (dataclasses.replace(FULL, secure_boot=False, tpm=False, firmware=Firmware.BIOS), VIRTIO),
    "old": (FULL, OLD),
    "every card": (
        dataclasses.replace(FULL, nics=tuple(Nic(None, "lan", model.value) for model in NicModel), firmware=Firmware.BIOS),
        dataclasses.replace(OLD, cpus_at_most=None),
    ),
    "sata": (dataclasses.replace(FULL, firmware=Firmware.BIOS), dataclasses.replace(VIRTIO, disk_buses=("sata",))),
    "scsi": (dataclasses.replace(FULL, firmware=Firmware.BIOS), dataclasses.replace(VIRTIO, disk_buses=("virtio-scsi",))),
}


@pytest.mark.parametrize("name", MACHINES)
def test_qemu_takes_it(tmp_path: Path, name: str) -> None:
    machine, caps = MACHINES[name]
    small = dataclasses.replace(made(dataclasses.replace(machine, tpm=False), caps), cpus=1, topology=None)
    hardware = dataclasses.replace(small, memory_bytes=64 * MIB)
    for medium in hardware.media:
        (tmp_path / medium.path).write_bytes(bytes(1440 * 1024))
    assert runs(["sh", str(written(tmp_path, hardware))], tmp_path)


def test_qemu_takes_media_that_a_boot_check_must_not_write_to(tmp_path: Path) -> None:
    small = dataclasses.replace(made(LOADED, OLD), cpus=1, topology=None, memory_bytes=64 * MIB)
    written(tmp_path, small)
    for medium in small.media:
        (tmp_path / medium.path).write_bytes(bytes(1440 * 1024))
        (tmp_path / medium.path).chmod(0o444)
    command = qemu_arguments(small, TCG, Wiring(keeps_media=True), tmp_path)
    assert sum("read-only=on" in word for word in command) == 2
    assert runs([*command, "-display", "none"], tmp_path)


@VALIDATOR
@pytest.mark.parametrize("name", [*MACHINES, "secure"])
def test_libvirt_takes_it(tmp_path: Path, name: str) -> None:
    machine, caps = MACHINES.get(name, (FULL, VIRTIO))
    assert valid(tmp_path, domain_xml(made(machine, caps), tmp_path))


def test_the_scripts_tpm_is_an_emulator_with_a_state_of_its_own(tmp_path: Path) -> None:
    hardware = dataclasses.replace(made(), firmware=Firmware.BIOS, secure_boot=False)
    fake = tmp_path / "swtpm"
    listen = "import socket; socket.socket(socket.AF_UNIX).bind('socket')"
    fake.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > emulator\n{sys.executable} -c "{listen}"\n', "utf-8")
    fake.chmod(0o755)
    seen = options_seen(tmp_path, written(tmp_path, hardware), PATH=f"{tmp_path}:/usr/bin:/bin")
    assert "tpm-crb,tpmdev=tpm0" in seen
    assert (tmp_path / "db1.tpm").stat().st_mode & 0o777 == 0o700
    # it is started in its folder: a name with a comma would be several options to it
    emulator = (tmp_path / "db1.tpm" / "emulator").read_text("utf-8").splitlines()
    assert {"dir=.", "type=unixio,path=socket", "--terminate"} <= set(emulator)
    assert "socket,id=tpm,path=./db1.tpm/socket" in seen


@QEMU
@pytest.mark.skipif(find_program("swtpm") is None, reason="swtpm is not installed")
def test_a_real_tpm_serves_a_machine_whatever_its_name_and_starts_again(tmp_path: Path) -> None:
    script = written(tmp_path, hardware(HOSTILE, tpm=True))
    for _ in range(2):
        assert runs([str(script)], tmp_path)
        (tmp_path / "monitor").unlink(missing_ok=True)
    assert (tmp_path / f"{HOSTILE}.tpm" / "tpm2-00.permall").exists()
