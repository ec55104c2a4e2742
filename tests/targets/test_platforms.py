"""Machines for other architectures than the PC's: their devices, QEMU's programs for them, and who may use KVM."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from drivers.caps import GuestCaps
from p2v.core import qemu
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.errors import ToolMissing, Usage
from p2v.core.firmware import FirmwareFiles
from p2v.core.qemu import cpu_model, guest_acceleration, qemu_programs, require_qemu
from p2v.core.run import PACKAGES, SystemRunner, background, find_program
from p2v.core.units import MIB
from p2v.machine import DiskBus, Firmware, Machine, MachineDisk, NicModel
from p2v.targets.hardware import TargetDisk, TargetHardware, bus_blockers, target_hardware
from p2v.targets.libvirt import domain_xml
from p2v.targets.platforms import PLATFORMS, Video
from p2v.targets.qemu import Wiring, hardware_options, qemu_arguments, qemu_script
from tests.drivers.linux.test_architectures import S, V, facts, grub, kernel, mainframe, plan

TCG = Acceleration(Accelerator.TCG, "in a test")
KVM = Acceleration(Accelerator.KVM, "in a test")
MACHINE = Machine("web1", (MachineDisk(Path("web1.vmdk")),), memory_bytes=700 * MIB)
UEFI_FILES = FirmwareFiles(Path("/fw/code"), Path("/fw/store"))
OTHERS = ("aarch64", "ppc64le", "s390x")
VALIDATOR = pytest.mark.skipif(find_program("virt-xml-validate") is None, reason="virt-xml-validate is not installed")


def made(arch: str, buses: tuple[str, ...] = ("virtio-blk",), nics: tuple[str, ...] = ("virtio",)) -> TargetHardware:
    firmware = "uefi" if arch == "aarch64" else "bios"
    caps = GuestCaps(buses, nics, firmware, arch, rng=True, balloon=True)
    return target_hardware(MACHINE, caps, (TargetDisk(Path("web1.qcow2")),))


def options(hardware: TargetHardware) -> list[str]:
    return [word for group in hardware_options(hardware, Wiring(firmware=UEFI_FILES)) for word in group]


@pytest.mark.parametrize(
    ("arch", "machine", "video", "memory_mib", "firmware"),
    [
        ("x86_64", "q35", Video.VGA, 700, Firmware.BIOS),
        ("i386", "q35", Video.VGA, 700, Firmware.BIOS),
        ("", "q35", Video.VGA, 700, Firmware.BIOS),
        ("aarch64", "virt", Video.VIRTIO, 700, Firmware.UEFI),
        ("ppc64le", "pseries", Video.VGA, 768, Firmware.BIOS),
        ("s390x", "s390-ccw-virtio", Video.NONE, 700, Firmware.BIOS),
    ],
)
def test_each_architecture_has_its_machine(
    arch: str, machine: str, video: Video, memory_mib: int, firmware: Firmware
) -> None:
    hardware = made(arch)
    assert (hardware.machine, hardware.video, hardware.memory_bytes, hardware.firmware) == (
        machine, video, memory_mib * MIB, firmware,
    )  # fmt: skip
    assert hardware.arch == (arch if arch in OTHERS else "x86_64")


def test_a_firmware_that_a_machine_cannot_have_is_refused() -> None:
    caps = GuestCaps(("virtio-blk",), ("virtio",), "bios", "s390x")
    with pytest.raises(Usage):
        target_hardware(dataclasses.replace(MACHINE, firmware=Firmware.UEFI), caps, (TargetDisk(Path("a")),))
    assert made("aarch64").firmware is Firmware.UEFI


@pytest.mark.parametrize("arch", OTHERS)
def test_what_a_machine_has_not_is_not_given(arch: str) -> None:
    hardware = made(arch, ("sata", "ide"), ("e1000e", "e1000"))
    assert hardware.disk_bus is DiskBus.VIRTIO_BLK
    assert hardware.nics[0].model is (NicModel.VIRTIO if arch == "s390x" else NicModel.E1000E)
    assert made(arch, (), ()).nics[0].model in PLATFORMS[arch].nic_models


@pytest.mark.parametrize(
    ("arch", "there", "absent"),
    [
        (
            "aarch64",
            ["virt,gic-version=max", "virtio-gpu-pci", "usb-kbd", "virtio-serial-pci", "virtio-balloon-pci"],
            ["VGA", "virtio-vga"],
        ),
        ("ppc64le", ["pseries", "VGA", "usb-kbd", "virtio-serial-pci"], ["virtio-gpu-pci"]),
        ("s390x", ["s390-ccw-virtio", "virtio-serial-ccw", "virtio-balloon-ccw"], ["VGA", "usb-kbd", "qemu-xhci"]),
    ],
)
def test_devices_are_those_of_the_machine(arch: str, there: list[str], absent: list[str]) -> None:
    seen = options(made(arch))
    assert set(there) <= set(seen)
    assert not set(absent) & set(seen)
    bus = PLATFORMS[arch].bus
    assert any(word.startswith(f"virtio-blk-{bus},") for word in seen)
    assert any(word.startswith(f"virtio-net-{bus},") for word in seen)
    assert any(word.startswith(f"virtio-rng-{bus},") for word in seen)
    scsi = options(dataclasses.replace(made(arch), disk_bus=DiskBus.VIRTIO_SCSI))
    assert f"virtio-scsi-{bus},id=scsi0" in scsi


def test_guest_that_knows_none_of_a_machines_buses_is_blocked_and_not_given_another() -> None:
    def ids(arch: str, *buses: str) -> list[str]:
        return [finding.id for finding in bus_blockers(GuestCaps(buses, (), "uefi", arch))]

    # Windows on ARM has drivers of its own for SATA, which KVM's machine has no disks on
    assert ids("aarch64", "sata") == ["hardware.disk-bus"]
    assert ids("aarch64", "virtio-blk", "sata") == []
    assert ids("x86_64", "ide") == ids("i386", "sata", "ide") == []
    assert ids("s390x", "sata") == ["hardware.disk-bus"]
    assert ids("s390x") == []


def test_only_uefi_machines_have_flash_with_a_store_of_their_own() -> None:
    assert any("unit=1" in word and "/fw/store" in word for word in options(made("aarch64")))
    assert not any("pflash" in word for arch in ("ppc64le", "s390x") for word in options(made(arch)))


@pytest.mark.parametrize(
    ("arch", "host", "accelerator"),
    [
        ("x86_64", "x86_64", Accelerator.KVM),
        ("i386", "x86_64", Accelerator.KVM),
        ("aarch64", "aarch64", Accelerator.KVM),
        ("ppc64le", "ppc64le", Accelerator.KVM),
        ("s390x", "s390x", Accelerator.KVM),
        ("aarch64", "x86_64", Accelerator.TCG),
        ("x86_64", "aarch64", Accelerator.TCG),
        ("ppc64le", "s390x", Accelerator.TCG),
        ("s390x", "x86_64", Accelerator.TCG),
    ],
)
def test_kvm_runs_guests_of_the_hosts_own_architecture_only(arch: str, host: str, accelerator: Accelerator) -> None:
    assert guest_acceleration(KVM, arch, host).accelerator is accelerator
    assert guest_acceleration(TCG, arch, host) == TCG


@pytest.mark.parametrize("arch", OTHERS)
def test_a_guest_of_another_architecture_is_emulated_by_a_cpu_of_that(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(qemu, "find_program", lambda name: Path("/bin", name))
    command = qemu_arguments(made(arch), KVM, Wiring())
    assert command[0] == f"/bin/{qemu.EMULATORS[arch].program}"
    assert command[1:5] == ["-accel", "tcg", "-cpu", cpu_model(Accelerator.TCG, arch)]
    assert ET.fromstring(domain_xml(made(arch), Path("/"), KVM)).get("type") == "qemu"
    monkeypatch.setattr("platform.machine", lambda: arch)
    assert qemu_arguments(made(arch), KVM, Wiring())[1:5] == ["-accel", "kvm", "-cpu", "host"]
    assert ET.fromstring(domain_xml(made(arch), Path("/"), KVM)).get("type") == "kvm"


def test_the_hosts_own_qemu_kvm_runs_no_guests_of_others() -> None:
    assert qemu_programs("aarch64", "x86_64") == ("qemu-system-aarch64",)
    assert qemu_programs("aarch64", "aarch64") == ("qemu-system-aarch64", "qemu-kvm")
    assert qemu_programs("x86_64", "x86_64") == ("qemu-system-x86_64", "qemu-kvm")


@pytest.mark.parametrize("arch", OTHERS)
def test_an_emulator_that_is_not_installed_is_named_with_its_package(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "find_program", lambda _: None)
    with pytest.raises(ToolMissing) as missing:
        require_qemu(arch)
    assert qemu.EMULATORS[arch].program in missing.value.sentence()
    assert "qemu-system-" in missing.value.hint()


@VALIDATOR
@pytest.mark.parametrize("bus", [DiskBus.VIRTIO_BLK, DiskBus.VIRTIO_SCSI])
@pytest.mark.parametrize("arch", OTHERS)
@pytest.mark.parametrize("acceleration", [TCG, None], ids=["tcg", "kvm"])
def test_libvirt_takes_the_domain(
    tmp_path: Path, arch: str, bus: DiskBus, acceleration: Acceleration | None
) -> None:
    xml = domain_xml(dataclasses.replace(made(arch), disk_bus=bus), tmp_path, acceleration)
    file = tmp_path / "domain.xml"
    file.write_text(xml, "utf-8")
    SystemRunner().run(["virt-xml-validate", str(file), "domain"], timeout=60)
    domain = ET.fromstring(xml)
    system = domain.find("os/type")
    assert system is not None
    assert (system.get("arch"), system.get("machine")) == (arch, PLATFORMS[arch].machines[0])
    assert (domain.find("features/apic") is None, domain.find("features/acpi") is None) == (True, arch != "aarch64")
    assert (domain.find("devices/graphics") is None) == (arch == "s390x")


@pytest.mark.parametrize("arch", OTHERS)
def test_the_script_is_sound_shell(tmp_path: Path, arch: str) -> None:
    script = tmp_path / "start"
    script.write_text(qemu_script(made(arch)), "utf-8")
    SystemRunner().run(["sh", "-n", str(script)], timeout=30)
    if find_program("shellcheck"):
        SystemRunner().run(["shellcheck", str(script)], timeout=60)


@pytest.mark.parametrize(("host", "status"), [("the guest's", 0), ("x86_64", 69)])
@pytest.mark.parametrize("arch", OTHERS)
def test_the_script_takes_the_hosts_own_qemu_where_the_host_is_alike(
    tmp_path: Path, arch: str, host: str, status: int
) -> None:
    script = tmp_path / "start"
    script.write_text(qemu_script(dataclasses.replace(made(arch), firmware=Firmware.BIOS), TCG), "utf-8")
    (tmp_path / "dirname").symlink_to(find_program("dirname") or "")
    fakes = {"uname": f"echo {host if status else arch}", "qemu-kvm": 'echo "$@" >arguments'}
    for name, said in fakes.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{said}\n", "utf-8")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": str(tmp_path)}
    ended = SystemRunner().run(["/bin/sh", str(script)], timeout=30, env=env, accept=(0, 69))
    assert ended.exit_status == status
    assert status == 0 or PACKAGES[qemu.EMULATORS[arch].program] in ended.stderr
    assert (tmp_path / "arguments").exists() == (status == 0)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (plan(facts({**kernel(), **grub()}, "aarch64", firmware="uefi")), ("virt", "virtio-blk-pci")),
        (plan(facts(mainframe(), "s390x")), ("s390-ccw-virtio", "virtio-blk-ccw")),
        (plan(facts(mainframe("root=/dev/sda1"), "s390x")), ("s390-ccw-virtio", "scsi-hd")),
    ],
    ids=[V, S, "kept name"],
)
def test_a_plan_becomes_hardware_of_its_architecture(found: object, expected: tuple[str, str]) -> None:
    hardware = target_hardware(MACHINE, found.caps, (TargetDisk(Path("a.qcow2")),))  # type: ignore[attr-defined]
    assert hardware.machine == expected[0]
    assert any(word.startswith(f"{expected[1]},") for word in options(hardware))


@pytest.mark.matrix
@pytest.mark.parametrize("bus", [DiskBus.VIRTIO_BLK, DiskBus.VIRTIO_SCSI])
@pytest.mark.parametrize("arch", OTHERS)
def test_qemu_takes_the_machine(tmp_path: Path, arch: str, bus: DiskBus) -> None:
    program = qemu.EMULATORS[arch].program
    if find_program(program) is None:
        pytest.skip(f"{program} is not installed (make setup-matrix)")
    hardware = dataclasses.replace(made(arch), disk_bus=bus, firmware=Firmware.BIOS)
    SystemRunner().run(["qemu-img", "create", "-q", "-f", "qcow2", f"{tmp_path}/web1.qcow2", "1M"], timeout=60)
    monitor = tmp_path / "monitor"
    rest = ("-S", "-display", "none", "-serial", "null", "-qmp", f"unix:{monitor},server=on,wait=off")
    with background(qemu_arguments(hardware, TCG, Wiring(rest=rest), tmp_path), stderr_file=tmp_path / "stderr") as running:
        for _ in range(6000):
            if running.wait(0.05) is not None:
                pytest.fail(running.stderr_tail())
            # its name is there a moment before anybody listens
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError), socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(300)
                connection.connect(str(monitor))
                assert b"QMP" in connection.recv(1000)
                return
    pytest.fail("it did not start")
