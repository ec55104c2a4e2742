"""Machines for Windows as the boot check runs them, to the end of what their firmware does: there is nothing on their disks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.firmware import installed_firmware
from p2v.core.run import SystemRunner, find_program
from p2v.core.units import GIB
from p2v.targets.hardware import TargetHardware
from p2v.verify.boot import EvidenceFiles, verify
from p2v.verify.evidence import Reason
from tests.targets.windows_machines import GENERATIONS, hardware_of

TCG = Acceleration(Accelerator.TCG, "in a test")


def lacking(hardware: TargetHardware) -> str:
    if hardware.tpm and find_program("swtpm") is None:
        return "swtpm"
    is_there = installed_firmware(secure_boot=hardware.secure_boot) is not None
    return "" if is_there or hardware.firmware.value == "bios" else "UEFI firmware with keys"


@pytest.mark.boots
@pytest.mark.matrix
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["nt4", "2000", "xp", "2003", "vista", "7", "2008-r2", "2012-r2-dc", "11", "2025"])
def test_the_firmware_of_a_machine_for_windows_looks_for_something_to_start(tmp_path: Path, name: str) -> None:
    hardware = replace(hardware_of(GENERATIONS[name]), memory_bytes=GIB)
    if lacks := lacking(hardware):
        pytest.skip(f"{lacks} is not installed")
    SystemRunner().run(["qemu-img", "create", "-q", "-f", "qcow2", str(tmp_path / "win.qcow2"), "64M"], timeout=60)
    log = tmp_path / "log"
    evidence = verify(hardware, tmp_path, None, TCG, files=EvidenceFiles(tmp_path / "screen.png", log), timeout_seconds=300)
    assert evidence.verdict.reason is Reason.NO_BOOT_LOADER, evidence
    assert (tmp_path / "screen.png").read_bytes().startswith(b"\x89PNG")
