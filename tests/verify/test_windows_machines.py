"""Machines for Windows as the boot check runs them, to the end of what their firmware does: there is nothing on their disks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.firmware import installed_firmware
from p2v.core.run import SystemRunner, find_program
from p2v.core.units import GIB
from p2v.machine import Firmware
from p2v.targets.hardware import TargetHardware
from p2v.verify.boot import EvidenceFiles, verify
from p2v.verify.evidence import Reason
from tests.targets.windows_machines import GENERATIONS, hardware_of

TCG = Acceleration(Accelerator.TCG, "in a test")


def lacking(hardware: TargetHardware) -> str:
    if hardware.tpm and find_program("swtpm") is None:
        return "swtpm"
    is_there = hardware.firmware is Firmware.BIOS or installed_firmware(secure_boot=hardware.secure_boot) is not None
    return "" if is_there else "UEFI firmware with keys"


# SeaBIOS takes a second; UEFI with secure boot, in system management mode, minutes without KVM
_BY_UEFI = (pytest.param(name, marks=pytest.mark.matrix) for name in ("2012-r2-dc", "11", "2025"))


@pytest.mark.boots
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["nt4", "2000", "xp", "2003", "vista", "7", "2008-r2", *_BY_UEFI])
def test_the_firmware_of_a_machine_for_windows_looks_for_something_to_start(tmp_path: Path, name: str) -> None:
    # without cards: with nothing on the disk the firmware would try them next, which takes minutes
    hardware = replace(hardware_of(GENERATIONS[name]), memory_bytes=GIB, nics=())
    if lacks := lacking(hardware):
        pytest.skip(f"{lacks} is not installed")
    SystemRunner().run(["qemu-img", "create", "-q", "-f", "qcow2", str(tmp_path / "win.qcow2"), "64M"], timeout=60)
    files = EvidenceFiles(tmp_path / "screen.png", tmp_path / "log")
    evidence = verify(hardware, tmp_path, None, TCG, files=files, timeout_seconds=300)
    assert evidence.verdict.reason is Reason.NO_BOOT_LOADER, evidence
    assert (tmp_path / "screen.png").read_bytes().startswith(b"\x89PNG")
