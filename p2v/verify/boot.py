"""Boots a throw-away overlay of a result on exactly its target hardware, cut off from every network, and watches.

The result itself is opened read-only below the overlay, so QEMU's image locks protect it and it is never written.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from collections.abc import Iterator
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
from p2v.verify.diagnose import Observations, Patience, at_login, clean, diagnose, in_initramfs_shell, qemu_failed
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
_LIST_DISKS = "cat /proc/partitions"


@dataclass(frozen=True, slots=True)
class EvidenceFiles:
    """Where evidence is kept: the screen as a PNG, and everything the guest said as a text."""

    screenshot: Path | None = None
    log: Path | None = None


@dataclass(frozen=True, slots=True)
class _Bench:
    """What is booted and where: absolute paths of the disks, the overlays over them, scratch for files and sockets."""

    hardware: TargetHardware
    disks: tuple[Path, ...]
    overlays: tuple[Path, ...]
    acceleration: Acceleration
    cpu: str | None
    work: Path
    sockets: Path


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
        bench = _Bench(
            hardware=hardware,
            disks=tuple((folder / disk.path).absolute() for disk in hardware.disks),
            overlays=tuple(work / f"overlay{index}.qcow2" for index in range(len(hardware.disks))),
            acceleration=acceleration,
            cpu=_cpu(facts, acceleration),
            work=work,
            sockets=sockets,
        )
        _make_overlays(bench)
        with phase(report, "instrument", "Preparing the boot check"):
            # the reporter speaks after a while in any case, and well before our own patience ends
            wait_seconds = int(patience.total / 3)
            reason = instrument_overlays(bench.overlays, facts, acceleration, nonce, wait_seconds, report)
        with phase(report, "boot", "Booting a throw-away copy"):
            return _boot(bench, patience, nonce, reason, files or EvidenceFiles())


def _cpu(facts: GuestFacts | None, acceleration: Acceleration) -> str | None:
    family = facts.os.family if facts is not None and facts.os is not None else ""
    return _CPU_WITHOUT_AVX if not acceleration.kvm and family in _FAMILIES_WITHOUT_AVX else None


def _make_overlays(bench: _Bench) -> None:
    tool = QemuImg(SystemRunner())
    for backing, overlay, disk in zip(bench.disks, bench.overlays, bench.hardware.disks, strict=True):
        tool.create_overlay(overlay, backing, disk.format, tool.info(backing, disk.format).virtual_size)


def _boot(bench: _Bench, patience: Patience, nonce: str, not_instrumented: str, files: EvidenceFiles) -> BootEvidence:
    seen = Observations(instrumented=not not_instrumented)
    with background(_command(bench), stderr_file=bench.work / "qemu-stderr") as qemu:
        started = time.monotonic()
        picture = None
        try:
            with _connected(qemu, bench) as machine:
                verdict, seen = _watch(machine, seen, patience, nonce)
                picture = _screenshot(machine, files)
        except MonitorFailed as error:
            # gone before there was a monitor to ask: its own words are the evidence
            qemu.wait(_LOOK_SECONDS)
            seen = replace(seen, qemu_ended=qemu.stderr_tail() or str(error))
            verdict = qemu_failed(seen)
        seconds = time.monotonic() - started
    return BootEvidence(
        verdict=verdict,
        accelerator=bench.acceleration.accelerator,
        seconds=round(seconds, 1),
        report=seen.report,
        not_instrumented=not_instrumented,
        serial_tail=tuple(line for line in seen.serial.splitlines() if line.strip())[-_TAIL_LINES:],
        screenshot=str(picture) if picture else None,
        log=_keep_log(files, seen),
    )


def _command(bench: _Bench) -> list[str]:
    def path(name: str) -> str:
        return option_value(str(bench.work / name))

    console = option_value(str(bench.sockets / "console"))
    rest = (
        *("-display", "none", "-qmp", f"unix:{option_value(str(bench.sockets / 'monitor'))},server=on,wait=off"),
        # a guest that switches itself off stays to be looked at
        *("-action", "shutdown=pause,panic=none"),
        *("-chardev", f"socket,id=serial0,path={console},server=on,wait=off,logfile={path('serial0')}"),
        *("-serial", "chardev:serial0"),
        *("-chardev", f"file,id=serial1,path={path('serial1')}", "-serial", "chardev:serial1"),
        *("-chardev", f"file,id=firmware,path={path('firmware')}"),
        *("-device", "isa-debugcon,iobase=0x402,chardev=firmware"),
    )
    wiring = Wiring(
        blockdevs=tuple(_chain(bench, index) for index in range(len(bench.disks))),
        netdev="user,restrict=on",
        firmware=_own_firmware(bench.hardware, bench.work),
        cpu=bench.cpu,
        rest=rest,
    )
    return qemu_arguments(bench.hardware, bench.acceleration, wiring)


def _chain(bench: _Bench, index: int) -> tuple[str, ...]:
    disk, backing, overlay = bench.hardware.disks[index], bench.disks[index], bench.overlays[index]
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
def _connected(qemu: Background, bench: _Bench) -> Iterator[_Machine]:
    deadline = time.monotonic() + _MONITOR_SECONDS
    path = bench.sockets / "monitor"
    while not path.exists():
        if not qemu.running() or time.monotonic() > deadline:
            raise MonitorFailed("it did not start")
        time.sleep(0.05)
    with connected(path) as monitor:
        yield _Machine(
            qemu=qemu,
            monitor=monitor,
            scratch=bench.work,
            console_socket=bench.sockets / "console",
            serial=GrowingLog(bench.work / "serial0"),
            firmware=GrowingLog(bench.work / "firmware"),
            reporter=GrowingLog(bench.work / "serial1"),
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


def _screenshot(machine: _Machine, files: EvidenceFiles) -> Path | None:
    if files.screenshot is None:
        return None
    taken = machine.scratch / "screen.png"
    with contextlib.suppress(MonitorFailed):
        machine.monitor.screenshot(taken)
        shutil.copyfile(taken, files.screenshot)
        return files.screenshot
    return None


def _keep_log(files: EvidenceFiles, seen: Observations) -> str | None:
    if files.log is None:
        return None
    parts = [("firmware", seen.firmware), ("screen", seen.screen), ("serial console", seen.serial)]
    text = "\n".join(f"=== {title} ===\n{content.rstrip()}\n" for title, content in parts if content.strip())
    files.log.write_text(text, "utf-8", "replace")
    return str(files.log)
