"""Boots a throw-away overlay of a result on exactly its target hardware, cut off from every network, and watches.

The result itself is opened read-only below the overlay, so QEMU's image locks protect it and it is never written.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from converters.qemu_img import QemuImg
from drivers.facts import GuestFacts
from p2v.core.acceleration import Acceleration
from p2v.core.errors import ToolMissing
from p2v.core.events import Reporter, phase, silent
from p2v.core.firmware import FirmwareFiles, installed_firmware
from p2v.core.qemu import option_value
from p2v.core.run import Background, SystemRunner, background
from p2v.core.workspace import socket_folder, temporary_folder
from p2v.machine import Firmware
from p2v.targets.hardware import TargetHardware
from p2v.targets.qemu import Wiring, qemu_arguments
from p2v.verify.console import GrowingLog, ask_shell
from p2v.verify.diagnose import Observations, Patience, at_login, clean, diagnose, in_initramfs_shell
from p2v.verify.evidence import BootEvidence, Verdict
from p2v.verify.guest_report import parse_report
from p2v.verify.instrument import instrument_overlays
from p2v.verify.qmp import Monitor, MonitorFailed, connected

PATIENCE_TCG = Patience(total=300.0, silence=75.0, report=90.0)
PATIENCE_KVM = Patience(total=120.0, silence=40.0, report=45.0)

# Emulated AVX slows a boot by a third. It is left out for systems whose baseline does without it, by family.
_CPU_WITHOUT_AVX = "max,la57=off,avx=off,avx2=off"
_FAMILIES_WITHOUT_AVX = frozenset({"debian", "suse"})
_GLANCE_SECONDS = 0.5
_LOOK_SECONDS = 2.0
_MONITOR_SECONDS = 30.0
_SHELL_SECONDS = 20.0
_TAIL_LINES = 40


@dataclass(frozen=True, slots=True)
class EvidenceFiles:
    """Where evidence is kept: the screen as a PNG, and everything the guest said as a text."""

    screenshot: Path | None = None
    log: Path | None = None


@dataclass
class _Machine:
    """The running QEMU and the files it writes to."""

    qemu: Background
    monitor: Monitor
    scratch: Path
    console_socket: Path
    serial: GrowingLog
    firmware: GrowingLog
    reporter: GrowingLog
    started: float = field(default_factory=time.monotonic)


def verify(
    hardware: TargetHardware,
    folder: Path,
    facts: GuestFacts | None,
    acceleration: Acceleration,
    *,
    files: EvidenceFiles | None = None,
    report: Reporter = silent,
    timeout_seconds: float | None = None,
    scratch: Path | None = None,
) -> BootEvidence:
    """Boot a throw-away copy of a machine and say whether, and how, it came up.

    Relative disk paths of ``hardware`` are taken below ``folder``. ``facts``: of the guest as it is now on the disks;
    None boots it without a reporter inside. ``scratch``: where the overlay grows (a few hundred MiB).
    ``timeout_seconds``: for the boot, from QEMU's start on. Raises ToolMissing, ProgramFailed (qemu-img), never for a
    guest that does not boot.
    """
    patience = PATIENCE_KVM if acceleration.kvm else PATIENCE_TCG
    if timeout_seconds is not None:
        patience = replace(patience, total=timeout_seconds)
    nonce = secrets.token_hex(8)
    with temporary_folder(scratch) as work, socket_folder() as sockets:
        overlays = _overlays(hardware, folder, work)
        with phase(report, "instrument", "Preparing the boot check"):
            # the reporter speaks after a while in any case, and well before our own patience ends
            reason = instrument_overlays(overlays, facts, acceleration, nonce, int(patience.total / 3), report)
        with phase(report, "boot", "Booting a throw-away copy"):
            evidence = _boot(hardware, folder, overlays, acceleration, patience, nonce, reason, work, sockets, files)
    return evidence


def _overlays(hardware: TargetHardware, folder: Path, work: Path) -> tuple[Path, ...]:
    tool = QemuImg(SystemRunner())
    made = []
    for index, disk in enumerate(hardware.disks):
        backing = (folder / disk.path).absolute()
        overlay = work / f"overlay{index}.qcow2"
        tool.create_overlay(overlay, backing, disk.format, tool.info(backing, disk.format).virtual_size)
        made.append(overlay)
    return tuple(made)


def _boot(
    hardware: TargetHardware,
    folder: Path,
    overlays: Sequence[Path],
    acceleration: Acceleration,
    patience: Patience,
    nonce: str,
    not_instrumented: str,
    work: Path,
    sockets: Path,
    files: EvidenceFiles | None,
) -> BootEvidence:
    arguments = _command(hardware, folder, overlays, acceleration, work, sockets)
    seen = Observations(instrumented=not not_instrumented)
    log = work / "qemu-stderr"
    with background(arguments, stderr_file=log) as qemu:
        started = time.monotonic()
        try:
            with _connected(qemu, work, sockets) as machine:
                verdict, seen = _watch(machine, seen, patience, nonce)
                picture = _screenshot(machine, files)
        except MonitorFailed as error:
            # gone before there was a monitor to ask: its own words are the evidence
            qemu.wait(_LOOK_SECONDS)
            seen = replace(seen, qemu_ended=qemu.stderr_tail() or str(error))
            verdict, picture = diagnose(seen, patience) or _impossible(), None
    return BootEvidence(
        verdict=verdict,
        accelerator=acceleration.accelerator,
        seconds=round(time.monotonic() - started, 1),
        report=seen.report,
        not_instrumented=not_instrumented,
        serial_tail=tuple(line for line in seen.serial.splitlines() if line.strip())[-_TAIL_LINES:],
        screenshot=str(picture) if picture else None,
        log=_keep_log(files, seen, work / "serial0"),
    )


def _impossible() -> Verdict:
    raise AssertionError("a QEMU that ended is a verdict")


def _command(
    hardware: TargetHardware,
    folder: Path,
    overlays: Sequence[Path],
    acceleration: Acceleration,
    work: Path,
    sockets: Path,
) -> list[str]:
    def path(name: str) -> str:
        return option_value(str(work / name))

    console = option_value(str(sockets / "console"))
    rest = (
        *("-display", "none", "-qmp", f"unix:{option_value(str(sockets / 'monitor'))},server=on,wait=off"),
        # a guest that switches itself off stays to be looked at
        *("-action", "shutdown=pause,panic=none"),
        *("-chardev", f"socket,id=serial0,path={console},server=on,wait=off,logfile={path('serial0')}"),
        *("-serial", "chardev:serial0"),
        *("-chardev", f"file,id=serial1,path={path('serial1')}", "-serial", "chardev:serial1"),
        *("-chardev", f"file,id=firmware,path={path('firmware')}"),
        *("-device", "isa-debugcon,iobase=0x402,chardev=firmware"),
    )
    wiring = Wiring(
        blockdevs=tuple(_chain(hardware, folder, index, overlay) for index, overlay in enumerate(overlays)),
        netdev="user,restrict=on",
        firmware=_own_firmware(hardware, work),
        rest=rest,
    )
    return qemu_arguments(hardware, acceleration, wiring, folder)


def _chain(hardware: TargetHardware, folder: Path, index: int, overlay: Path) -> tuple[str, ...]:
    disk = hardware.disks[index]
    backing = (folder / disk.path).absolute()
    driver = "host_device" if backing.is_block_device() else "file"
    return (
        f"driver={disk.format},node-name=base{index},read-only=on,"
        f"file.driver={driver},file.filename={option_value(str(backing))}",
        # what the host loses in a crash is thrown away in any case
        f"driver=qcow2,node-name=disk{index},backing=base{index},discard=unmap,cache.no-flush=on,"
        f"file.driver=file,file.filename={option_value(str(overlay))}",
    )


def _own_firmware(hardware: TargetHardware, work: Path) -> FirmwareFiles | None:
    if hardware.firmware is not Firmware.UEFI:
        return None
    found = installed_firmware(secure_boot=hardware.secure_boot)
    if found is None:
        raise ToolMissing("UEFI firmware for virtual machines", "ovmf (dnf: edk2-ovmf)")
    variables = work / "variables.fd"
    shutil.copyfile(found.variables, variables)
    return replace(found, variables=variables)


@contextmanager
def _connected(qemu: Background, work: Path, sockets: Path) -> Iterator[_Machine]:
    deadline = time.monotonic() + _MONITOR_SECONDS
    path = sockets / "monitor"
    while not path.exists():
        if not qemu.running() or time.monotonic() > deadline:
            raise MonitorFailed("it did not start")
        time.sleep(0.05)
    with connected(path) as monitor:
        yield _Machine(
            qemu=qemu,
            monitor=monitor,
            scratch=work,
            console_socket=sockets / "console",
            serial=GrowingLog(work / "serial0"),
            firmware=GrowingLog(work / "firmware"),
            reporter=GrowingLog(work / "serial1"),
        )


def _watch(machine: _Machine, seen: Observations, patience: Patience, nonce: str) -> tuple[Verdict, Observations]:
    """Look until the verdict is certain. What changes on any console or disk is progress."""
    moved, last_progress, last_look, login = 0, machine.started, 0.0, None
    while True:
        now = time.monotonic()
        grown = [log.grew() for log in (machine.serial, machine.firmware, machine.reporter)]
        if any(grown):
            last_progress = now
            seen = _heard(machine, seen, nonce)
        if now - last_look >= _LOOK_SECONDS:
            last_look = now
            seen, moved_now = _looked(machine, seen)
            if moved_now != moved:
                moved, last_progress = moved_now, now
        if login is None and (at_login(seen.serial) or at_login(seen.screen)):
            login = now
        if seen.partitions is None and in_initramfs_shell(seen.serial):
            seen = replace(seen, partitions=clean(ask_shell(machine.console_socket, _LIST_DISKS, _SHELL_SECONDS)))
        seen = replace(
            seen,
            seconds=now - machine.started,
            silent_seconds=now - last_progress,
            login_seconds=0.0 if login is None else now - login,
        )
        if verdict := diagnose(seen, patience):
            return verdict, seen
        machine.qemu.wait(_GLANCE_SECONDS)


_LIST_DISKS = "cat /proc/partitions"


def _heard(machine: _Machine, seen: Observations, nonce: str) -> Observations:
    return replace(
        seen,
        serial=clean(machine.serial.text()),
        firmware=clean(machine.firmware.text()),
        report=parse_report(machine.reporter.text(), nonce),
        runaway=machine.serial.runaway or machine.firmware.runaway or machine.reporter.runaway,
    )


def _looked(machine: _Machine, seen: Observations) -> tuple[Observations, int]:
    """Ask QEMU itself: its state, its screen, and how many bytes its disks have moved."""
    try:
        status = machine.monitor.status()
        screen = clean(machine.monitor.text_screen(machine.scratch))
        moved = machine.monitor.bytes_moved()
    except (MonitorFailed, OSError) as error:
        machine.qemu.wait(_LOOK_SECONDS)
        return replace(seen, qemu_ended=machine.qemu.stderr_tail() or str(error)), 0
    return replace(seen, powered_off=status == "shutdown", disk_full=status == "io-error", screen=screen), moved


def _screenshot(machine: _Machine, files: EvidenceFiles | None) -> Path | None:
    if files is None or files.screenshot is None:
        return None
    taken = machine.scratch / "screen.png"
    with contextlib.suppress(MonitorFailed):
        machine.monitor.screenshot(taken)
        shutil.copyfile(taken, files.screenshot)
        return files.screenshot
    return None


def _keep_log(files: EvidenceFiles | None, seen: Observations, raw: Path) -> str | None:
    if files is None or files.log is None:
        return None
    parts = [("firmware", seen.firmware), ("screen", seen.screen), ("serial console", seen.serial)]
    text = "\n".join(f"=== {title} ===\n{content.rstrip()}\n" for title, content in parts if content.strip())
    files.log.write_text(text, "utf-8", "replace")
    return str(files.log)
