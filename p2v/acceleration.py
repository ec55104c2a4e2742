"""Whether KVM works on this host, found by running a tiny guest; the answer is remembered until the next boot.

/dev/kvm can exist, answer every ioctl and still hang each guest (nested and para-virtual hosts), so nothing
less than a guest that ran is believed.
"""

from __future__ import annotations

import contextlib
import enum
import os
import re
import tempfile
from dataclasses import dataclass
from json import JSONDecodeError, loads
from pathlib import Path

from p2v.core import jsonio, jsontext
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.errors import P2vError, ProgramFailed, ProgramTimedOut
from p2v.core.qemu import QEMU_PROGRAMS, cpu_model, find_qemu, option_value
from p2v.core.run import Runner, SystemRunner
from p2v.core.workspace import cache_folder

KVM_DEVICE = Path("/dev/kvm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# The tiny guest takes half a second without KVM, less with it; the rest is patience with a busy host.
KVM_SECONDS = 3.0
TCG_SECONDS = 15.0

_CACHE_SCHEMA = 1
_DETAIL_CHARACTERS = 200
_SIGNAL = 0x2A
# isa-debug-exit ends QEMU with (value << 1) | 1.
SUCCESS_STATUS = _SIGNAL << 1 | 1
# Real mode proves nothing: a host that cannot run guests may still emulate it, instruction by instruction. So the
# sector goes on to long mode with paging and counts to 2**26, which takes no time where a CPU does it.
_BOOT_SECTOR_CODE = bytes.fromhex(
    "fa 31c0 8ed8 8ec0"  # 7c00 cli; xor ax, ax; mov ds, ax; mov es, ax
    "bf0010 b90018 fc f3ab"  # mov di, 0x1000; mov cx, 0x1800; cld; rep stosw: room for three page tables
    "c70600100320 c70600200330 c70600308300"  # each names the next; the last maps the first 2 MiB onto itself
    "66b820000000 0f22e0"  # mov eax, 0x20; mov cr4, eax: PAE
    "66b800100000 0f22d8"  # mov eax, 0x1000; mov cr3, eax
    "66b9800000c0 0f32 80cc01 0f30"  # mov ecx, 0xc0000080; rdmsr; or ah, 1; wrmsr: long mode
    "0f20c0 660d01000080 0f22c0"  # mov eax, cr0; or eax, 0x80000001; mov cr0, eax: protection and paging
    "0f0116807c ea577c0800"  # lgdt [0x7c80]; jmp 8:0x7c57
    "b900000004 ffc9 75fc"  # 7c57 mov ecx, 0x4000000; 1: dec ecx; jnz 1b
    f"b0{_SIGNAL:02x} 66ba0105 ee"  # mov al, signal; mov dx, 0x501; out dx, al: isa-debug-exit's port
    "f4 ebfd 660f1f440000"  # 7c67 2: hlt; jmp 2b; padding
    "0000000000000000 00000000009a2000"  # 7c70 the descriptor table: nothing, 64-bit code
    "0f00 707c0000"  # 7c80 its limit and address
)
BOOT_SECTOR = _BOOT_SECTOR_CODE.ljust(510, b"\0") + b"\x55\xaa"
# SeaBIOS does not boot from an AHCI disk of a single sector.
_DISK_BYTES = 1024 * 1024


class KvmDevice(enum.Enum):
    """What opening /dev/kvm says."""

    MISSING = "missing"
    FORBIDDEN = "forbidden"
    PRESENT = "present"


class GuestRun(enum.Enum):
    """How the tiny guest fared."""

    WORKS = "works"
    HANGS = "hangs"
    FAILS = "fails"


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of the tiny guest; ``detail`` is QEMU's complaint where it failed, ``seconds`` the bound it had."""

    run: GuestRun
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the cache file holds: an answer, and all that it depends on."""

    schema: int
    boot_id: str
    qemu: str
    device: KvmDevice
    acceleration: Acceleration


def decide(qemu: str | None, device: KvmDevice, kvm: Trial | None, tcg: Trial | None) -> Acceleration:
    """The accelerator, from what was found; a trial is None where it was not made.

    ``qemu``: QEMU's path and version, None when there is none that starts.
    """
    if qemu is None:
        return Acceleration(Accelerator.TCG, f"{QEMU_PROGRAMS[0]} is not installed, or does not start", qemu_works=False)
    if device is KvmDevice.PRESENT and kvm is not None and kvm.run is GuestRun.WORKS:
        return Acceleration(Accelerator.KVM, "a tiny guest ran under KVM")
    reason = _why_not_kvm(device, kvm)
    if tcg is None or tcg.run is GuestRun.WORKS:
        return Acceleration(Accelerator.TCG, f"{reason}; a tiny guest ran without KVM" if tcg else reason)
    fault = f"hung for {tcg.seconds:g} seconds" if tcg.run is GuestRun.HANGS else f"failed: {tcg.detail}"
    return Acceleration(Accelerator.TCG, f"{reason}; without KVM it {fault}", qemu_works=False)


def _why_not_kvm(device: KvmDevice, kvm: Trial | None) -> str:
    if device is KvmDevice.MISSING:
        return f"there is no {KVM_DEVICE} (no virtualisation in the CPU or firmware, or the kvm module is not loaded)"
    if device is KvmDevice.FORBIDDEN:
        return f"no permission to open {KVM_DEVICE} (add the user to the group kvm)"
    if kvm is None:
        return "KVM was not tried"
    if kvm.run is GuestRun.HANGS:
        return f"{KVM_DEVICE} is there, but a tiny guest did not run within {kvm.seconds:g} seconds"
    return f"{KVM_DEVICE} is there, but a tiny guest failed: {kvm.detail}"


def acceleration(
    runner: Runner | None = None, *, cache: Path | None = None, device: Path = KVM_DEVICE, fresh: bool = False
) -> Acceleration:
    """Which accelerator works here; asks the host at most once per boot and QEMU version.

    ``cache``: the file that remembers; ``fresh``: try again whatever it says. Never raises for a missing QEMU.
    """
    runner = runner or SystemRunner()
    cache = cache or cache_folder() / "acceleration.json"
    qemu = qemu_version(runner)
    found = device_state(device)
    boot_id = _boot_id()
    if not fresh and qemu and (known := _recall(cache, boot_id, qemu, found)):
        return known
    kvm = tcg = None
    if qemu and found is KvmDevice.PRESENT:
        kvm = try_guest(runner, Accelerator.KVM, KVM_SECONDS)
    if qemu and (kvm is None or kvm.run is not GuestRun.WORKS):
        tcg = try_guest(runner, Accelerator.TCG, TCG_SECONDS)
    answer = decide(qemu, found, kvm, tcg)
    # a QEMU that does not work gets mended, and the next run should see it
    if qemu and boot_id and answer.qemu_works:
        _remember(cache, Remembered(_CACHE_SCHEMA, boot_id, qemu, found, answer))
    return answer


def try_guest(runner: Runner, accelerator: Accelerator, seconds: float) -> Trial:
    """Boot the boot sector that ends QEMU with a status of its own, for at most ``seconds``."""
    program = find_qemu()
    if program is None:
        return Trial(GuestRun.FAILS, seconds, "no QEMU")
    with tempfile.TemporaryDirectory(prefix="p2v-probe-") as folder:
        sector = Path(folder, "sector")
        sector.write_bytes(BOOT_SECTOR)
        os.truncate(sector, _DISK_BYTES)
        try:
            runner.run(probe_arguments(program, accelerator, sector), timeout=seconds, accept=(SUCCESS_STATUS,))
        except ProgramTimedOut:
            return Trial(GuestRun.HANGS, seconds)
        except ProgramFailed as error:
            last = error.stderr_tail.strip().rpartition("\n")[2][-_DETAIL_CHARACTERS:]
            return Trial(GuestRun.FAILS, seconds, f"QEMU ended with status {error.exit_status}: {last}".rstrip(": "))
    return Trial(GuestRun.WORKS, seconds)


def probe_arguments(program: str, accelerator: Accelerator, sector: Path) -> list[str]:
    """The QEMU command that runs the tiny guest."""
    return [
        program,
        *("-machine", "q35", "-accel", accelerator.value, "-cpu", cpu_model(accelerator), "-m", "16"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-drive", f"if=none,id=sector,format=raw,file={option_value(str(sector))}", "-device", "ide-hd,drive=sector"),
        *("-device", "isa-debug-exit"),
    ]


def qemu_version(runner: Runner) -> str | None:
    """QEMU's path and version (``/usr/bin/qemu-system-x86_64 7.2.22``), None when there is none that starts."""
    program = find_qemu()
    if program is None:
        return None
    try:
        text = runner.run([program, "--version"], timeout=20).stdout
    except P2vError:
        return None
    match = re.search(r"version (\S+)", text)
    return f"{program} {match[1] if match else 'unknown'}"


def device_state(device: Path = KVM_DEVICE) -> KvmDevice:
    """Whether the device is there and this user may open it."""
    if not device.exists():
        return KvmDevice.MISSING
    return KvmDevice.PRESENT if os.access(device, os.R_OK | os.W_OK) else KvmDevice.FORBIDDEN


def _write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def _recall(cache: Path, boot_id: str, qemu: str, device: KvmDevice) -> Acceleration | None:
    try:
        data = loads(cache.read_text("utf-8"))
        known = jsonio.decode(jsonio.converter(), data, Remembered)
    except (OSError, UnicodeDecodeError, JSONDecodeError, RecursionError, jsonio.BadDocument):
        return None  # missing, cut short or of another version: ask the host again
    same = (known.schema, known.boot_id, known.qemu, known.device) == (_CACHE_SCHEMA, boot_id, qemu, device)
    return known.acceleration if same and boot_id else None


def _remember(cache: Path, value: Remembered) -> None:
    # a cache that cannot be written costs the next run a few seconds, nothing more
    with contextlib.suppress(OSError):
        _write_atomically(cache, jsontext.pretty(jsonio.encode(jsonio.converter(), value)))
