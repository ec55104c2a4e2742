"""Real boots of the sample guests: the right reason for each, and nothing written to any of them."""

from __future__ import annotations

import dataclasses
import os
import struct
import time
import uuid
from pathlib import Path

import pytest

from drivers.facts import GuestFacts, Mount
from p2v.acceleration import acceleration
from p2v.core.errors import ProgramFailed, ToolMissing
from p2v.core.firmware import installed_firmware
from p2v.core.run import SystemRunner, background
from p2v.machine import DiskBus, Firmware, UefiVariable
from p2v.nvram.edk2 import write_store
from p2v.nvram.variables import short_boot_entry
from p2v.verify import BootEvidence, EvidenceFiles, Reason, boot, verify
from tests.fixtures import guest
from tests.fixtures.guests import guest_disks
from tests.fixtures.variants import FAILED_UNIT
from tests.nvram import writer as nvram_writer
from tests.nvram.writer import GLOBAL
from tests.verify.guests import DEBIAN, machine_with

pytestmark = pytest.mark.boots

GRUB_BYTES = 1024 * 1024
LOADER = nvram_writer.loader("\\EFI\\debian\\shimx64.efi")


def booted(
    disk: Path, tmp_path: Path, facts: GuestFacts | None = DEBIAN, firmware: Firmware = Firmware.BIOS
) -> BootEvidence:
    """Boot a guest with evidence in ``tmp_path``, and see that its image and the scratch folder are as before."""
    hardware = dataclasses.replace(machine_with(disk, "test"), firmware=firmware)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    before = disk.stat()
    evidence = verify(
        hardware,
        tmp_path,
        facts,
        acceleration(),
        files=EvidenceFiles(tmp_path / "screen.png", tmp_path / "boot.log"),
        scratch=scratch,
    )
    after = disk.stat()
    assert (after.st_mtime_ns, after.st_blocks) == (before.st_mtime_ns, before.st_blocks)
    assert list(scratch.iterdir()) == []
    assert _qemus_of(scratch) == []
    return evidence


def _qemus_of(scratch: Path) -> list[str]:
    found = []
    for process in os.listdir("/proc"):
        if process.isdigit():
            try:
                command = Path("/proc", process, "cmdline").read_bytes()
            except OSError:
                continue
            if b"qemu" in command and os.fsencode(scratch) in command:
                found.append(process)
    return found


@pytest.mark.appliance
@pytest.mark.parametrize(
    ("name", "reason", "words"),
    [
        ("no-virtio", Reason.NO_ROOT_DRIVER, "no disk"),
        # the same shell in the initramfs is asked
        pytest.param("no-root", Reason.ROOT_MISSING, "vda", marks=pytest.mark.matrix),
        ("no-bootloader", Reason.NO_BOOT_LOADER, ""),
        ("panic", Reason.KERNEL_PANIC, "Attempted to kill init"),
        # five minutes until it is one
        pytest.param("hang", Reason.HANG, "init-bottom", marks=pytest.mark.matrix),
    ],
)
def test_a_guest_that_does_not_boot_is_told_why(tmp_path: Path, name: str, reason: Reason, words: str) -> None:
    evidence = booted(guest(name), tmp_path)
    assert (evidence.verdict.reason, evidence.not_instrumented) == (reason, "")
    assert words in evidence.verdict.sentence
    assert not evidence.booted
    if reason in (Reason.NO_ROOT_DRIVER, Reason.ROOT_MISSING):
        # the shell in the initramfs was asked, and answered
        assert any("/proc/partitions" in line for line in evidence.verdict.evidence)


@pytest.mark.appliance
@pytest.mark.parametrize(
    ("name", "failed"),
    [
        # tests/pipeline/test_convert.py has one that boots and in which nothing failed
        pytest.param("good-virtio", (), marks=pytest.mark.matrix),
        ("failed-unit", (FAILED_UNIT,)),
    ],
)
def test_a_guest_that_boots_says_what_came_up(tmp_path: Path, name: str, failed: tuple[str, ...]) -> None:
    evidence = booted(guest(name), tmp_path)
    assert (evidence.verdict.reason, evidence.degraded) == (Reason.BOOTED, failed)
    report = evidence.report
    assert report is not None
    assert report.root_device == "/dev/vda1"
    assert "multi-user.target" in report.active
    assert [i.mac for i in report.interfaces] == [machine_with(Path(), "test").nics[0].mac]
    assert report.uptime_seconds is not None
    assert report.kernel
    screenshot = Path(evidence.screenshot or "").read_bytes()
    assert screenshot.startswith(b"\x89PNG\r\n")
    assert "login:" in Path(evidence.log or "").read_text("utf-8")


def test_a_boot_loader_without_its_files_stops_at_its_prompt(tmp_path: Path) -> None:
    disk = tmp_path / "grub-only.raw"
    with guest("good-virtio").open("rb") as original, disk.open("wb") as made:
        made.write(original.read(GRUB_BYTES))
        made.truncate(64 * GRUB_BYTES)
    evidence = booted(disk, tmp_path, facts=None)
    assert evidence.verdict.reason is Reason.BOOT_LOADER_FAILED
    assert evidence.not_instrumented


@pytest.mark.parametrize("firmware", Firmware)
def test_an_empty_disk_has_nothing_to_boot(tmp_path: Path, firmware: Firmware) -> None:
    if firmware is Firmware.UEFI and installed_firmware() is None:
        pytest.skip("no UEFI firmware is installed")
    evidence = booted(guest("empty-disk"), tmp_path, facts=None, firmware=firmware)
    assert evidence.verdict.reason is Reason.NO_BOOT_LOADER


@pytest.mark.appliance
@pytest.mark.matrix
@pytest.mark.skipif(installed_firmware() is None, reason="no UEFI firmware is installed")
def test_a_loader_that_only_the_machines_variables_name_is_started(tmp_path: Path) -> None:
    disk = guest_disks("uefi")[0]
    files = installed_firmware()
    assert files is not None
    entry = short_boot_entry(nvram_writer.entry("debian", nvram_writer.PCI_DISK + _esp(disk) + LOADER + nvram_writer.END))
    assert entry is not None
    boot_entry = UefiVariable("Boot0007", GLOBAL, 7, entry.hex())
    order = UefiVariable("BootOrder", GLOBAL, 7, "0700")
    store = tmp_path / "web_VARS.fd"
    store.write_bytes(write_store(files.variables.read_bytes(), (boot_entry, order)))
    hardware = dataclasses.replace(
        machine_with(disk, "test"), firmware=Firmware.UEFI, disk_bus=DiskBus.SATA, variables=Path("web_VARS.fd")
    )
    before = store.read_bytes()
    root = Mount("/", 0, 2)
    facts = dataclasses.replace(DEBIAN, root=root, mounts=(root,))
    evidence = verify(hardware, tmp_path, facts, acceleration())
    assert (evidence.verdict.reason, evidence.not_instrumented) == (Reason.BOOTED, "")
    assert store.read_bytes() == before
    # the same disk with the firmware's own template
    without = verify(dataclasses.replace(hardware, variables=None), tmp_path, None, acceleration())
    assert without.verdict.reason is Reason.NO_BOOT_LOADER


def _esp(disk: Path) -> bytes:
    """The device path's node of the disk's first GPT partition."""
    with disk.open("rb") as file:
        file.seek(1024)
        raw = file.read(128)
    first, last = struct.unpack_from("<QQ", raw, 32)
    return nvram_writer.partition(str(uuid.UUID(bytes_le=raw[16:32])), 1, first, last - first + 1)


def test_a_disk_that_a_running_machine_writes_to_is_not_booted(tmp_path: Path) -> None:
    disk = tmp_path / "busy.qcow2"
    SystemRunner().run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "64M"], timeout=60)
    holder = ["qemu-system-x86_64", "-S", "-nodefaults", "-display", "none", "-accel", "tcg"]
    holder += ["-drive", f"if=virtio,format=qcow2,file={disk}"]
    with background(holder) as running:
        # by its lock it is known to have it
        info = ["qemu-img", "info", "-f", "qcow2", str(disk)]
        while SystemRunner().run(info, timeout=600, accept=(0, 1)).exit_status == 0:
            assert running.running()
            time.sleep(0.05)
        with pytest.raises(ProgramFailed, match="another process"):
            verify(machine_with(disk, "busy", "qcow2"), tmp_path, None, acceleration())


def test_a_qemu_that_does_not_start_is_a_verdict_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot, "_cpu", lambda *_: "no-such-cpu")
    monkeypatch.setattr(boot, "instrument_overlays", lambda *_: "not in this test")
    evidence = booted(guest("empty-disk"), tmp_path)
    assert evidence.verdict.reason is Reason.QEMU_FAILED
    assert "no-such-cpu" in evidence.verdict.sentence


def test_uefi_without_firmware_on_the_host_is_a_missing_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot, "installed_firmware", lambda **_: None)
    with pytest.raises(ToolMissing):
        booted(guest("empty-disk"), tmp_path, facts=None, firmware=Firmware.UEFI)
