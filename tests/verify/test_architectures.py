"""The boot check of guests for other architectures: where they speak, what they report on, what booting them takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from drivers.facts import BootLoader, GuestFacts
from p2v.core import qemu
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.errors import ToolMissing
from p2v.core.firmware import FirmwareFiles
from p2v.machine import Firmware
from p2v.targets.hardware import TargetHardware
from p2v.verify import boot, require_tools, verify
from p2v.verify.guest_report import CHANNEL, SCRIPT_PATH, reporter_script
from p2v.verify.instrument import instrument
from tests.verify.guests import DEBIAN, machine_with
from tests.verify.test_guest_report import GRUB, NONCE, MemoryGuest

TCG = Acceleration(Accelerator.TCG, "in a test")
MENU = DEBIAN.boot_loader.config


def facts(arch: str, loader: str = "grub2") -> GuestFacts:
    assert DEBIAN.os is not None
    config = "/etc/zipl.conf" if loader == "zipl" else MENU
    return dataclasses.replace(
        DEBIAN, os=dataclasses.replace(DEBIAN.os, arch=arch), boot_loader=BootLoader(loader, config)
    )


def machine(arch: str, firmware: Firmware = Firmware.BIOS) -> TargetHardware:
    return dataclasses.replace(machine_with(Path("disk.raw"), "test"), arch=arch, firmware=firmware)


@pytest.mark.parametrize(
    ("arch", "console"),
    [("x86_64", "ttyS0,115200"), ("i386", "ttyS0,115200"), ("aarch64", "ttyAMA0,115200"), ("ppc64le", "hvc0")],
)
def test_a_guest_speaks_on_the_serial_line_of_its_machine(arch: str, console: str) -> None:
    guest = MemoryGuest(**{MENU: GRUB})
    instrument(guest, facts(arch), NONCE, 60)
    assert f"console=tty0 console={console}\n".encode() in guest.files[MENU]


def test_what_zipl_started_from_is_not_edited_for_a_boot_check() -> None:
    config, entry = "/etc/zipl.conf", "/boot/loader/entries/a.conf"
    guest = MemoryGuest(**{config: "[a]\nparameters = quiet\n", entry: "options root=UUID=1 quiet\n"})
    instrument(guest, facts("s390x", "zipl"), NONCE, 60)
    assert guest.files[config] == b"[a]\nparameters = quiet\n"
    assert guest.files[entry] == b"options root=UUID=1 quiet\n"
    assert CHANNEL.encode() in guest.files[SCRIPT_PATH]


def test_the_report_goes_over_a_second_serial_port_or_a_channel() -> None:
    assert "port=/dev/ttyS1\n" in reporter_script(NONCE, 5)
    for arch in ("aarch64", "ppc64le", "s390x"):
        assert f"port=/dev/virtio-ports/{CHANNEL}\n" in reporter_script(NONCE, 5, arch)


@pytest.mark.parametrize("arch", ["aarch64", "ppc64le", "s390x"])
def test_a_machine_that_is_no_pc_has_the_channel_and_no_pc_devices(
    arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu, "find_program", lambda name: Path("/bin", name))
    bench = boot._Bench(machine(arch), tmp_path, (tmp_path / "d",), (tmp_path / "o",), TCG, None, tmp_path, tmp_path)
    command = boot._command(bench)
    assert command[0] == f"/bin/{qemu.EMULATORS[arch].program}"
    assert f"virtserialport,chardev=report,name={CHANNEL}" in command
    assert not any("isa-" in word for word in command)
    assert command.count("-serial") == 1


@pytest.mark.parametrize("own", [False, True])
def test_a_pc_with_secure_boot_and_a_tpm_has_a_guarded_store_and_the_emulator(
    own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, template, store = tmp_path / "code.fd", tmp_path / "template.fd", tmp_path / "web_VARS.fd"
    code.write_bytes(b"code")
    template.write_bytes(b"the template")
    store.write_bytes(b"the machine's")
    store.chmod(0o400)
    asked: list[dict[str, object]] = []

    def firmware(**wanted: object) -> FirmwareFiles:
        asked.append(wanted)
        return FirmwareFiles(code, template, secure_boot=True)

    monkeypatch.setattr(boot, "installed_firmware", firmware)
    work = tmp_path / "work"
    work.mkdir()
    made = dataclasses.replace(
        machine("x86_64"), firmware=Firmware.UEFI, secure_boot=True, tpm=True, variables=Path("web_VARS.fd") if own else None
    )
    bench = boot._Bench(made, tmp_path, (tmp_path / "d",), (tmp_path / "o",), TCG, None, work, tmp_path)
    command = boot._command(bench, "/run/tpm")
    assert "q35,smm=on" in command
    assert "driver=cfi.pflash01,property=secure,value=on" in command
    assert f"if=pflash,unit=0,format=raw,readonly=on,file={code}" in command
    assert f"if=pflash,unit=1,format=raw,file={work}/variables.fd" in command
    assert {"socket,id=tpm,path=/run/tpm", "emulator,id=tpm0,chardev=tpm", "tpm-crb,tpmdev=tpm0"} <= set(command)
    # a copy that the guest may write to, of the machine's own where it has one
    copy = work / "variables.fd"
    assert copy.read_bytes() == (store if own else template).read_bytes()
    assert copy.stat().st_mode & 0o200
    assert asked == [{"secure_boot": True, "arch": "x86_64", "store_bytes": 13 if own else None}]


@pytest.mark.parametrize("arch", ["x86_64", "aarch64", "ppc64le", "s390x"])
def test_without_its_emulator_nothing_is_done(arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "find_program", lambda _: None)
    monkeypatch.setattr(boot, "_make_overlays", lambda _: pytest.fail("it began"))
    with pytest.raises(ToolMissing) as missing:
        verify(machine(arch), tmp_path, facts(arch), TCG)
    assert missing.value.sentence().startswith(f"{qemu.EMULATORS[arch].program} is not available")


def test_without_its_firmware_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "find_program", lambda name: Path("/bin", name))
    monkeypatch.setattr(boot, "installed_firmware", lambda **_: None)
    require_tools(machine("s390x"))
    with pytest.raises(ToolMissing) as missing:
        require_tools(machine("aarch64", Firmware.UEFI))
    assert "qemu-efi-aarch64" in missing.value.hint()


@pytest.mark.parametrize(("arch", "cpu"), [("x86_64", "max,la57=off,avx=off,avx2=off"), ("aarch64", None)])
def test_what_is_left_out_of_an_emulated_cpu_is_a_pcs(arch: str, cpu: str | None) -> None:
    assert boot._cpu(arch, facts(arch), TCG) == cpu
