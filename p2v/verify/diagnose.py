"""From what was seen of a boot to a verdict: pure, so that it is tested on recorded logs.

``diagnose`` returns None as long as nothing is certain; at the end of the time it always has a verdict.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from p2v.verify.evidence import GuestReport, Reason, Verdict

_EVIDENCE_LINES = 6
_BOOTS_OF_A_LOOP = 4
_UP = ("multi-user.target", "graphical.target")
_FALLEN = ("emergency.target", "rescue.target")

_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]|[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\U0010ffff]")
_DISK = r"(?:vd|sd|hd|xvd)[a-z]+|nvme\d+n\d+"
_DISK_SEEN = re.compile(rf"\[({_DISK})\] (?:\d+ \d+-byte|Attached)|^\[[ \d.]+\]\s+({_DISK}):", re.MULTILINE)
_PARTITIONS_ROW = re.compile(rf"^\s*\d+\s+\d+\s+\d+\s+({_DISK})(?:p?\d+)?\s*$", re.MULTILINE)
_PANIC = re.compile(r"Kernel panic - not syncing: ?(.*)")
_NO_ROOT_PANIC = re.compile(r"VFS: (?:Unable to mount root fs|Cannot open root device)")
_INITRAMFS_SHELL = re.compile(r"^\(initramfs\)|^dracut:/#|^switch_root:/#", re.MULTILINE)
_DRACUT_GAVE_UP = re.compile(r"rdsosreport\.txt|dracut-emergency|Entering emergency mode\. Exit the shell")
_ROOT_WANTED = (
    re.compile(r"ALERT!\s+(\S+) does not exist"),
    re.compile(r"Warning: (/dev/\S+) does not exist"),
    re.compile(r"Timed out waiting for device (\S+)"),
)
_ROOT_UNUSABLE = re.compile(
    r"mounting (\S+) on /root failed|The root filesystem on (\S+) requires a manual fsck|"
    r"Failed to mount (?:/sysroot|sysroot\.mount)"
)
_EMERGENCY = re.compile(r"You are in emergency mode|Give root password for maintenance|Press Enter for maintenance")
_EMERGENCY_WORDS = re.compile(r"\[FAILED\]|\[ *TIME *\]|\[DEPEND\]|Timed out waiting for device|emergency mode")
_LOADER_PROMPT = re.compile(r"^grub(?: rescue)?>", re.MULTILINE)
_LOADER_ERROR = re.compile(r"^error: .*|^Entering rescue mode.*|^GRUB .*Error.*", re.MULTILINE)
_NOTHING_TO_BOOT = re.compile(
    r"No bootable device\.|No bootable option or device was found|No mapping found|^Shell>", re.MULTILINE
)
# what Windows' own boot code, loaders and kernel say in text mode when they stop (Microsoft's lists of their messages)
_WINDOWS_LOADER = re.compile(
    r"^.*(?:(?:BOOTMGR|NTLDR) is (?:missing|compressed)|NTDETECT failed|A disk read error occurred|Missing operating system|"
    r"Error loading operating system|Invalid partition table|Windows could not start because|Windows failed to start|"
    r"An operating system wasn't found).*",
    re.MULTILINE,
)
_WINDOWS_STOP = re.compile(r"^.*\*\*\* STOP: (0x[0-9A-Fa-f]{8}).*", re.MULTILINE)
_HANDED_OVER = re.compile(r"^Booting from 0000:7c00\s*\Z", re.MULTILINE)
_HANDED_OVER_SCREEN = re.compile(r"^Booting from Hard Disk\.\.\.\s*\Z", re.MULTILINE)
# A boot loader reads more of itself or says something at once; empty or foreign boot code just spins.
_BOOT_CODE_SECONDS = 10.0
_LOGIN = re.compile(r"^\S{1,64} login: ?", re.MULTILINE)
_KERNEL_START = re.compile(r"^\[ +0\.0+\] Linux version ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Observations:
    """All that is known of a boot at a moment.

    ``serial``: the console on the first serial port; ``firmware``: the BIOS's own log; ``screen``: the VGA text screen
    where there is one. ``partitions``: the answer of an initramfs shell to ``cat /proc/partitions``, None: not asked.
    ``silent_seconds``: since anything was written or read anywhere (counted slower while the guest computes).
    ``instrumented``: the console and a reporter were put into the guest. ``qemu_ended``: QEMU's last words when it is gone.
    ``runaway``: the guest floods its consoles.
    """

    serial: str = ""
    firmware: str = ""
    screen: str = ""
    report: GuestReport | None = None
    partitions: str | None = None
    instrumented: bool = True
    powered_off: bool = False
    disk_full: bool = False
    runaway: bool = False
    qemu_ended: str | None = None
    seconds: float = 0.0
    silent_seconds: float = 0.0
    login_seconds: float = 0.0
    """Since the login prompt appeared."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds: for everything, in silence, and for the reporter after a login prompt."""

    total: float
    silence: float
    report: float


# What a kernel goes on saying by itself, for minutes after everything else has stopped (seen under emulation).
_CLOCK_WATCH = re.compile(r"\[ *\d+\.\d+\] (clocksource|hrtimer|perf|random|tsc|sched_clock): ")


def diagnose(seen: Observations, patience: Patience) -> Verdict | None:
    """The verdict, or None while the boot may still go either way."""
    for rule in _RULES:
        if verdict := rule(seen):
            return verdict
    return _login(seen, patience) if at_login(seen.serial) or at_login(seen.screen) else _over(seen, patience)


def clean(text: str) -> str:
    """A guest's text without terminal sequences and control characters."""
    return _CONTROL.sub("", text.replace("\r", ""))


def in_initramfs_shell(serial: str) -> bool:
    """Whether the initramfs gave up and a shell waits at the console."""
    return bool(_INITRAMFS_SHELL.search(serial) or _DRACUT_GAVE_UP.search(serial))


def at_login(text: str) -> bool:
    """Whether there is a login prompt on a console or screen."""
    return bool(_LOGIN.search(text))


def qemu_failed(seen: Observations) -> Verdict:
    """The verdict on a QEMU that is gone."""
    lines = tuple((seen.qemu_ended or "").splitlines()[-_EVIDENCE_LINES:])
    return Verdict(Reason.QEMU_FAILED, "QEMU ended by itself" + (f": {lines[-1]}" if lines else ""), lines)


def _reported(seen: Observations) -> Verdict | None:
    report = seen.report
    if report is None:
        return None
    fallen = [target for target in _FALLEN if target in report.active]
    if fallen or report.state == "maintenance":
        lines = report.failed_units or _matching(_EMERGENCY_WORDS, seen.serial)
        failed = f"; failed units: {', '.join(report.failed_units)}" if report.failed_units else ""
        return Verdict(Reason.EMERGENCY_MODE, f"the system ended in emergency mode{failed}", lines)
    up = [target for target in _UP if target in report.active]
    if not up:
        jobs = ", ".join(report.pending_jobs[:3]) or "none is named"
        return Verdict(Reason.NOT_FINISHED, f"start-up did not end; jobs still waiting: {jobs}", report.pending_jobs)
    after = f" after {report.uptime_seconds:.0f} seconds" if report.uptime_seconds is not None else ""
    but = f", with failed units: {', '.join(report.failed_units)}" if report.failed_units else ""
    return Verdict(Reason.BOOTED, f"{up[-1]} was reached{after}{but}", (f"system state: {report.state}",))


def _host(seen: Observations) -> Verdict | None:
    if seen.disk_full:
        return Verdict(Reason.QEMU_FAILED, "the scratch folder is full: the guest's writes have no room there")
    return qemu_failed(seen) if seen.qemu_ended is not None else None


def _panicked(seen: Observations) -> Verdict | None:
    match = _PANIC.search(seen.serial) or _PANIC.search(seen.screen)
    if match is None:
        return None
    lines = _around(match)
    if _NO_ROOT_PANIC.search(match[0]):
        return _no_root(seen, lines)
    return Verdict(Reason.KERNEL_PANIC, f"the kernel panicked: {match[1].strip()}", lines)


def _stuck_in_initramfs(seen: Observations) -> Verdict | None:
    if not in_initramfs_shell(seen.serial):
        return None
    if match := _ROOT_UNUSABLE.search(seen.serial):
        return Verdict(Reason.ROOT_UNUSABLE, "the root file system is there, but it cannot be used", _around(match))
    return _no_root(seen, ())


def _no_root(seen: Observations, lines: tuple[str, ...]) -> Verdict:
    found = [m for pattern in _ROOT_WANTED for m in pattern.finditer(seen.serial)]
    wanted = found[-1][1] if found else "its root file system"
    lines = (_line_of(found[-1]), *lines) if found else lines
    if seen.partitions:
        listed = [row.split()[-1] for row in seen.partitions.splitlines() if _PARTITIONS_ROW.match(row)]
        lines = (*lines, f"/proc/partitions there: {', '.join(listed) or 'no disk'}")
    disks = _disks_seen(seen)
    if not disks:
        sentence = f"the initramfs saw no disk, so it has no driver for this bus; it waited for {wanted}"
        return Verdict(Reason.NO_ROOT_DRIVER, sentence, lines)
    sentence = f"the initramfs waited for {wanted}, which does not exist; the disks it saw: {', '.join(disks)}"
    return Verdict(Reason.ROOT_MISSING, sentence, lines)


def _disks_seen(seen: Observations) -> list[str]:
    if seen.partitions:
        return sorted({m[1] for m in _PARTITIONS_ROW.finditer(seen.partitions)})
    return sorted({m[1] or m[2] for m in _DISK_SEEN.finditer(seen.serial)})


def _emergency(seen: Observations) -> Verdict | None:
    if not _EMERGENCY.search(seen.serial):
        return None
    # the initramfs of dracut speaks the same words a moment before its shell's own
    if _DRACUT_GAVE_UP.search(seen.serial):
        return None
    lines = _matching(_EMERGENCY_WORDS, seen.serial)
    cause = next((line for line in lines if "FAILED" in line or "Timed out" in line), "")
    return Verdict(Reason.EMERGENCY_MODE, "the system ended in emergency mode" + (f": {cause}" if cause else ""), lines)


def _loader(seen: Observations) -> Verdict | None:
    for text in (seen.screen, seen.serial):
        if _LOADER_PROMPT.search(text) and not _KERNEL_START.search(seen.serial):
            errors = _matching(_LOADER_ERROR, text)
            return Verdict(
                Reason.BOOT_LOADER_FAILED,
                "the boot loader started and stopped at its prompt" + (f": {errors[0]}" if errors else ""),
                errors or ("a GRUB prompt",),
            )
    for text in (seen.firmware, seen.serial, seen.screen):
        if match := _NOTHING_TO_BOOT.search(text):
            return Verdict(Reason.NO_BOOT_LOADER, "the firmware found nothing to boot on the disk", (_line_of(match),))
    handed_over = _HANDED_OVER.search(seen.firmware) and _HANDED_OVER_SCREEN.search(seen.screen)
    if handed_over and not seen.serial.strip() and seen.silent_seconds >= _BOOT_CODE_SECONDS:
        lines = (_line_of(handed_over), "nothing was read from the disk or shown after that")
        return Verdict(Reason.NO_BOOT_LOADER, "the disk's boot code was started and did nothing", lines)
    return None


def _windows(seen: Observations) -> Verdict | None:
    # a guest that tells of itself is none
    for text in () if seen.instrumented else (seen.screen, seen.serial):
        if match := _WINDOWS_STOP.search(text):
            return Verdict(Reason.KERNEL_PANIC, f"Windows stopped with {match[1]}", (_line_of(match),))
        if match := _WINDOWS_LOADER.search(text):
            return Verdict(Reason.BOOT_LOADER_FAILED, f"Windows' boot code stopped: {_line_of(match)}", (_line_of(match),))
    return None


def _went_away(seen: Observations) -> Verdict | None:
    if seen.powered_off:
        return Verdict(Reason.POWERED_OFF, "the guest switched itself off", _tail(seen.serial))
    boots = len(_KERNEL_START.findall(seen.serial))
    if boots >= _BOOTS_OF_A_LOOP:
        return Verdict(Reason.REBOOT_LOOP, f"the guest restarted {boots - 1} times", _tail(seen.serial))
    return None


_RULES: tuple[Callable[[Observations], Verdict | None], ...] = (
    _reported,
    _panicked,
    _stuck_in_initramfs,
    _emergency,
    _loader,
    _windows,
    _went_away,
    _host,
)


def _login(seen: Observations, patience: Patience) -> Verdict | None:
    # the reporter says more than a prompt does: give it its time
    if seen.instrumented and seen.login_seconds < patience.report and seen.seconds < patience.total:
        return None
    match = _LOGIN.search(seen.serial) or _LOGIN.search(seen.screen)
    return Verdict(Reason.BOOTED, "a login prompt appeared", (_line_of(match),) if match else ())


def _over(seen: Observations, patience: Patience) -> Verdict | None:
    late = seen.seconds >= patience.total
    quiet = seen.silent_seconds >= patience.silence
    if not (late or quiet or seen.runaway):
        return None
    last = _tail(seen.serial) or _tail(seen.screen)
    said = f"; the last line: {last[-1]}" if last else ""
    if seen.runaway:
        return Verdict(Reason.TIMED_OUT, "the guest flooded its console", last)
    if not seen.instrumented and not seen.serial.strip():
        # a graphical or unknown system that works looks the same from outside as one that does not
        if not late:
            return None
        return Verdict(
            Reason.NO_EVIDENCE, "whether it came up was not proven: nothing in the guest could tell; look at the screenshot", last
        )
    if quiet:
        return Verdict(Reason.HANG, f"nothing happened any more{said}", last)
    return Verdict(Reason.TIMED_OUT, f"the boot was not over after {seen.seconds:.0f} seconds{said}", last)


def _line_of(match: re.Match[str]) -> str:
    start = match.string.rfind("\n", 0, match.start()) + 1
    end = match.string.find("\n", match.end())
    return match.string[start : end if end >= 0 else None].strip()


def _around(match: re.Match[str]) -> tuple[str, ...]:
    before = match.string[: match.start()].splitlines()[-2:-1]
    return tuple(line.strip() for line in (*before, _line_of(match)) if line.strip())


def _matching(pattern: re.Pattern[str], text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if pattern.search(line))[:_EVIDENCE_LINES]


def _tail(text: str, lines: int = 3) -> tuple[str, ...]:
    """The last lines that tell something; a kernel that only watches its clock would hide them."""
    said = [line.strip() for line in text.splitlines() if line.strip()]
    return tuple([line for line in said if not _CLOCK_WATCH.match(line)] or said)[-lines:]
