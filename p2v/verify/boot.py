"""Boots a throw-away overlay of a result on exactly its target hardware, cut off from every network, and watches.

The result itself is opened read-only below the overlay, so QEMU's image locks protect it and it is never written.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from converters.qemu_img import QemuImg
from drivers.facts import GuestFacts
from drivers.keys import Key
from p2v.core.acceleration import Acceleration
from p2v.core.errors import ToolMissing
from p2v.core.events import Reporter, phase, silent
from p2v.core.firmware import FIRMWARE_PACKAGES, FirmwareFiles, installed_firmware
from p2v.core.qemu import guest_acceleration, option_value, require_qemu
from p2v.core.run import PACKAGES, Background, SystemRunner, background, find_program
from p2v.core.unix_sockets import listens
from p2v.core.workspace import socket_folder, temporary_folder
from p2v.machine import Firmware
from p2v.targets.hardware import TargetHardware
from p2v.targets.platforms import platform_of
from p2v.targets.qemu import Wiring, qemu_arguments
from p2v.verify.console import GrowingLog
from p2v.verify.diagnose import Observations, Patience, qemu_failed
from p2v.verify.evidence import BootEvidence
from p2v.verify.guest_report import CHANNEL
from p2v.verify.instrument import instrument_overlays
from p2v.verify.qmp import MonitorFailed, connected
from p2v.verify.watch import RunningMachine, Watch

PATIENCE_TCG = Patience(total=300.0, silence=75.0, report=90.0)
PATIENCE_KVM = Patience(total=120.0, silence=40.0, report=45.0)

# Emulated AVX slows a boot by a third. It is left out for systems whose baseline does without it, by family.
_CPU_WITHOUT_AVX = "max,la57=off,avx=off,avx2=off"
_FAMILIES_WITHOUT_AVX = frozenset({"debian", "suse"})
_LONGEST_STRETCH = 3.0
_MONITOR_SECONDS = 30.0
_LAST_WORDS_SECONDS = 2.0
_TAIL_LINES = 40


@dataclass(frozen=True, slots=True)
class EvidenceFiles:
    """Where evidence is kept: the screen as a PNG, and everything the guest said as a text."""

    screenshot: Path | None = None
    log: Path | None = None


@dataclass(frozen=True, slots=True)
class _Bench:
    """What is booted and where: absolute paths of the disks, the overlays over them, scratch for files and sockets."""

    hardware: TargetHardware
    folder: Path
    disks: tuple[Path, ...]
    overlays: tuple[Path, ...]
    acceleration: Acceleration
    cpu: str | None
    work: Path
    sockets: Path


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
    keys: Sequence[Key] = (),
) -> BootEvidence:
    """Boot a throw-away copy of a machine and say whether, and how, it came up.

    Relative paths of ``hardware`` are taken below ``folder``. ``facts``: of the guest as it is now on the disks;
    None boots it without a reporter inside. ``scratch``: where the overlay grows (a few hundred MiB).
    ``keys``: for the guest's encrypted disks, to write into it and to answer when it asks on its console.
    ``timeout_seconds``: for the boot, from QEMU's start on; else 120, without KVM 300, and more on a busy host.
    Raises ToolMissing, ProgramFailed (qemu-img; also for a disk that a running machine uses), never for a guest that
    does not boot.
    """
    require_tools(hardware)
    here = guest_acceleration(acceleration, hardware.arch)
    patience = patience_for(here, os.getloadavg()[0] / (os.cpu_count() or 1))
    if timeout_seconds is not None:
        patience = replace(patience, total=timeout_seconds)
    nonce = secrets.token_hex(8)
    with temporary_folder(scratch) as work, socket_folder() as sockets:
        bench = _Bench(
            hardware=hardware,
            folder=folder.absolute(),
            disks=tuple((folder / disk.path).absolute() for disk in hardware.disks),
            overlays=tuple(work / f"overlay{index}.qcow2" for index in range(len(hardware.disks))),
            acceleration=here,
            cpu=_cpu(hardware.arch, facts, here),
            work=work,
            sockets=sockets,
        )
        _make_overlays(bench)
        with phase(report, "instrument", "Preparing the boot check"):
            # the reporter speaks after a while in any case, and well before our own patience ends
            wait_seconds = int(patience.total / 3)
            reason = instrument_overlays(bench.overlays, facts, acceleration, nonce, wait_seconds, report, keys)
        with phase(report, "boot", "Booting a throw-away copy"):
            secrets_given = tuple(key.secret for key in keys)
            return _boot(bench, patience, nonce, reason, files or EvidenceFiles(), secrets_given)


def require_tools(hardware: TargetHardware) -> None:
    """Look for what booting a machine takes, before anything is done for it. Raises ToolMissing."""
    require_qemu(hardware.arch)
    if hardware.firmware is Firmware.UEFI:
        _firmware(hardware)
    if hardware.tpm and find_program("swtpm") is None:
        raise ToolMissing("swtpm", PACKAGES["swtpm"])


def patience_for(acceleration: Acceleration, load: float) -> Patience:
    """How long to wait, given the host's runnable processes per CPU: a guest on a busy host is slow, not broken."""
    usual = PATIENCE_KVM if acceleration.kvm else PATIENCE_TCG
    stretch = min(max(1.0, load), _LONGEST_STRETCH)
    return Patience(usual.total * stretch, usual.silence * stretch, usual.report * stretch)


def _cpu(arch: str, facts: GuestFacts | None, acceleration: Acceleration) -> str | None:
    family = facts.os.family if facts is not None and facts.os is not None else ""
    return _CPU_WITHOUT_AVX if arch == "x86_64" and not acceleration.kvm and family in _FAMILIES_WITHOUT_AVX else None


def _make_overlays(bench: _Bench) -> None:
    tool = QemuImg(SystemRunner())
    for backing, overlay, disk in zip(bench.disks, bench.overlays, bench.hardware.disks, strict=True):
        tool.create_overlay(overlay, backing, disk.format, tool.info(backing, disk.format).virtual_size)


def _boot(
    bench: _Bench,
    patience: Patience,
    nonce: str,
    not_instrumented: str,
    files: EvidenceFiles,
    passphrases: tuple[str, ...],
) -> BootEvidence:
    seen = Observations(instrumented=not not_instrumented)
    with (
        _tpm(bench) as tpm,
        background(_command(bench, tpm), stderr_file=bench.work / "qemu-stderr", ends_with_us=True) as qemu,
    ):
        started = time.monotonic()
        picture = None
        try:
            with _connected(qemu, bench) as machine:
                verdict, seen = Watch(machine, patience, nonce, seen, passphrases).until_certain()
                picture = _screenshot(machine, files)
        except MonitorFailed as error:
            # gone before there was a monitor to ask: its own words are the evidence
            qemu.wait(_LAST_WORDS_SECONDS)
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


@contextmanager
def _tpm(bench: _Bench) -> Iterator[str]:
    """An emulated TPM with an empty state, which is thrown away; its socket, empty where the machine has none."""
    if not bench.hardware.tpm:
        yield ""
        return
    state, sockets = bench.work / "tpm", bench.sockets / "tpm"
    state.mkdir(mode=0o700)
    command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--ctrl", f"type=unixio,path={sockets}"]
    with background(command, stderr_file=bench.work / "swtpm-stderr", ends_with_us=True) as emulator:
        deadline = time.monotonic() + _MONITOR_SECONDS
        while not listens(sockets) and emulator.running() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield str(sockets)


def _command(bench: _Bench, tpm: str = "") -> list[str]:
    def path(name: str) -> str:
        return option_value(str(bench.work / name))

    console = option_value(str(bench.sockets / "console"))
    rest = (
        *("-display", "none", "-qmp", f"unix:{option_value(str(bench.sockets / 'monitor'))},server=on,wait=off"),
        # a guest that switches itself off stays to be looked at
        *("-action", "shutdown=pause,panic=none"),
        *("-chardev", f"socket,id=serial0,path={console},server=on,wait=off,logfile={path('serial0')}"),
        *("-serial", "chardev:serial0"),
        *("-chardev", f"file,id=report,path={path('report')}", *_report_line(bench.hardware)),
        *_firmware_log(bench.hardware, path("firmware")),
    )
    wiring = Wiring(
        blockdevs=tuple(_chain(bench, index) for index in range(len(bench.disks))),
        netdev="user,restrict=on",
        tpm=tpm,
        firmware=_own_firmware(bench.hardware, bench.folder, bench.work),
        keeps_media=True,
        cpu=bench.cpu,
        rest=rest,
    )
    return qemu_arguments(bench.hardware, bench.acceleration, wiring, bench.folder)


def _report_line(hardware: TargetHardware) -> tuple[str, ...]:
    if hardware.arch == "x86_64":
        return ("-serial", "chardev:report")
    return ("-device", f"virtserialport,chardev=report,name={CHANNEL}")


def _firmware_log(hardware: TargetHardware, path: str) -> tuple[str, ...]:
    """Where a PC's firmware writes; elsewhere it speaks on the serial line."""
    if hardware.arch != "x86_64":
        return ()
    return ("-chardev", f"file,id=firmware,path={path}", "-device", "isa-debugcon,iobase=0x402,chardev=firmware")


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


def _own_firmware(hardware: TargetHardware, folder: Path, work: Path) -> FirmwareFiles | None:
    """The firmware, and a copy of the machine's variables or of the firmware's template."""
    if hardware.firmware is not Firmware.UEFI:
        return None
    own = folder / hardware.variables if hardware.variables is not None else None
    found = _firmware(hardware, own.stat().st_size if own is not None else None)
    variables = work / "variables.fd"
    shutil.copyfile(own or found.variables, variables)
    # the machine's own may be read-only; the copy is written to
    variables.chmod(0o600)
    return replace(found, variables=variables)


def _firmware(hardware: TargetHardware, store_bytes: int | None = None) -> FirmwareFiles:
    found = installed_firmware(secure_boot=hardware.secure_boot, arch=hardware.arch, store_bytes=store_bytes)
    if found is None:
        package = FIRMWARE_PACKAGES.get(hardware.arch, "none is known")
        kind = f"{hardware.arch}, with a store of {store_bytes} bytes" if store_bytes is not None else hardware.arch
        raise ToolMissing(f"UEFI firmware for virtual machines ({kind})", package)
    return found


@contextmanager
def _connected(qemu: Background, bench: _Bench) -> Iterator[RunningMachine]:
    deadline = time.monotonic() + _MONITOR_SECONDS
    path = bench.sockets / "monitor"
    while not path.exists():
        if not qemu.running() or time.monotonic() > deadline:
            raise MonitorFailed("it did not start")
        time.sleep(0.05)
    with connected(path) as monitor:
        yield RunningMachine(
            qemu=qemu,
            monitor=monitor,
            scratch=bench.work,
            console_socket=bench.sockets / "console",
            serial=GrowingLog(bench.work / "serial0"),
            firmware=GrowingLog(bench.work / "firmware"),
            has_text_screen=platform_of(bench.hardware.arch).has_text_screen,
            reporter=GrowingLog(bench.work / "report"),
        )


def _screenshot(machine: RunningMachine, files: EvidenceFiles) -> Path | None:
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
